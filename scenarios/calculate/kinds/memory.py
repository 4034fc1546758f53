"""What a model keeps in memory: weights at a width, experts that were pruned, KV cache by width and context."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from ....hwmodels.catalog import load_gpu
from ....hwmodels.errors import BadInput
from ....sim.ep.shape import Shape
from ..calculator import Calculator, Figure, GpuName, ModelChoice, model_of

_BF16_BITS = 16.0


class ModelMemory(Calculator):
    """``experts_kept``: of all layers together (default: all). ``context`` and ``sequences`` at ``kv_bits`` a value."""

    kind: Literal["model-memory"] = "model-memory"
    model: ModelChoice
    bits_per_weight: float = Field(default=16.0, gt=0)
    experts_kept: int | None = Field(default=None, ge=1)
    context: int = Field(default=0, ge=0)
    sequences: int = Field(default=1, ge=1)
    kv_bits: float = Field(default=16.0, gt=0)
    gpu: GpuName | None = None
    ranks: int = Field(default=8, ge=1)

    def figures(self) -> Iterator[Figure]:
        model = model_of(self.model)
        all_experts = model.experts * model.moe_layers
        kept = all_experts if self.experts_kept is None else self.experts_kept
        if kept > all_experts:
            raise BadInput(f"experts_kept ({kept}) are more than the model has ({all_experts})")
        params = model.total_params - (all_experts - kept) * model.expert_params
        weights = params * self.bits_per_weight / 8
        cache = self.sequences * model.kv_bytes(self.context, "bf16") * self.kv_bits / _BF16_BITS if self.context else 0.0
        yield Figure("weights", "bytes of weights", "B", weights)
        yield Figure("params", "weights", "", params)
        table = 0 if model.tied_embeddings else model.vocab * model.hidden  # of the input table a token looks up one row
        yield Figure("active", "weights that a token's pass reads", "", model.active_params - table)
        yield Figure("experts", "experts of all layers", "", kept)
        yield Figure("kv", "bytes of KV cache and state", "B", cache)
        yield Figure(
            "kv_per_token", "bytes of KV cache a token", "B", model.kv_bytes_per_token("bf16") * self.kv_bits / _BF16_BITS
        )
        if self.gpu is not None:
            yield Figure("gpus", "GPUs whose memory holds both", "", (weights + cache) / load_gpu(self.gpu).hbm_capacity)
        if model.experts and kept // model.moe_layers >= max(self.ranks, model.top_k):
            layer = kept // model.moe_layers // self.ranks * self.ranks
            shape = Shape(1, model.hidden, model.top_k, layer, self.ranks, self.ranks, 2 * model.hidden)
            yield Figure("ranks_reached", "distinct ranks of a token, experts spread over them", "", float(shape.ranks_reached))


class KvBits(Calculator):
    """Times as many tokens as in bf16: ``bits`` a value and ``overhead_bits`` of scales and padding beside them.

    ``claimed``: a factor that somebody states, and the bits a value that it would take.
    """

    kind: Literal["kv-bits"] = "kv-bits"
    bits: float = Field(gt=0)
    overhead_bits: float = Field(default=0.0, ge=0)
    claimed: float = Field(default=1.0, gt=0)

    def figures(self) -> Iterator[Figure]:
        yield Figure("times", "times the tokens of a bf16 cache", "", _BF16_BITS / (self.bits + self.overhead_bits))
        yield Figure("bits_for_claim", "bits a value that the claimed factor takes", "", _BF16_BITS / self.claimed)


KINDS = (ModelMemory, KvBits)
