"""What a model keeps in memory: weights at a width, experts that were pruned, KV cache by width and context."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from pydantic import Field

from ....hwmodels.backends import load_backend
from ....hwmodels.catalog import load_cluster, load_gpu
from ....hwmodels.errors import BadInput
from ....sim.ep.shape import Shape
from ....sim.inputs.serving import Backend, Workload
from ....sim.precision import Dtype
from ....sim.serving.steady import Setting, decode_worker
from ....sim.step.gpu_kernels import GpuKernels
from ....sim.step.kv_width import BF16_BITS, narrow_cache_seconds
from ....sim.step.memory import worker_memory
from ....sim.step.worker import Arrangement, Precision
from ..calculator import Calculator, ClusterName, Figure, GpuName, ModelChoice, model_of


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
        cache = self.sequences * model.kv_bytes(self.context, "bf16") * self.kv_bits / BF16_BITS if self.context else 0.0
        yield Figure("weights", "bytes of weights", "B", weights)
        yield Figure("params", "weights", "", params)
        table = 0 if model.tied_embeddings else model.vocab * model.hidden  # of the input table a token looks up one row
        yield Figure("active", "weights that a token's pass reads", "", model.active_params - table)
        yield Figure("experts", "experts of all layers", "", kept)
        yield Figure("kv", "bytes of KV cache and state", "B", cache)
        yield Figure(
            "kv_per_token", "bytes of KV cache a token", "B", model.kv_bytes_per_token("bf16") * self.kv_bits / BF16_BITS
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
        yield Figure("times", "times the tokens of a bf16 cache", "", BF16_BITS / (self.bits + self.overhead_bits))
        yield Figure("bits_for_claim", "bits a value that the claimed factor takes", "", BF16_BITS / self.claimed)


class KvWidth(Calculator):
    """Decoding with a cache of ``bits`` a value (scales counted) that takes ``operations`` a value to expand; against bf16.

    ``batch`` sequences of ``context`` tokens on ``tp`` GPUs; ``full``: as many as memory holds at each width instead.
    """

    kind: Literal["kv-width"] = "kv-width"
    model: ModelChoice
    cluster: ClusterName
    tp: int = Field(default=1, ge=1)
    backend: Backend = "vllm"
    weights: Dtype = "bf16"
    bits: float = Field(gt=0, le=16)
    operations: float = Field(default=0.0, ge=0)
    batch: float = Field(gt=0)
    context: int = Field(ge=2)
    full: bool = False

    def figures(self) -> Iterator[Figure]:
        model, cluster = model_of(self.model), load_cluster(self.cluster, 1)
        precision = Precision(self.weights, self.weights, "bf16", "bf16")
        load = Workload(input_tokens=self.context - 1, output_tokens=1)
        setting = Setting(model, cluster, precision, load_backend(self.backend), load)
        shape = Arrangement(float(self.tp), 1.0, 1.0, float(self.tp) if model.experts else 1.0)
        hbm = GpuKernels.of(cluster.node.gpu, cluster.calibration).hbm_bytes_per_s
        held = worker_memory(model, shape, precision, cluster, tokens_per_step=self.batch, context=float(self.context))
        wide = float(np.asarray(held.sequences))
        times = BF16_BITS / self.bits
        if self.full and wide < 1.0:
            raise BadInput(
                f"{self.tp} GPUs do not hold one sequence of {self.context} tokens in bf16: more tp, or less context"
            )
        before, after = (wide, wide * times) if self.full else (self.batch, self.batch)
        plain, step = (float(np.asarray(decode_worker(setting, shape, batch).tpot_s)) for batch in (before, after))
        cache = after * model.kv_bytes(self.context, "bf16") / self.tp
        narrow = float(narrow_cache_seconds(step, cache, self.bits, self.operations, cluster.node.gpu, hbm))
        yield Figure("throughput", "tokens a second over those with a bf16 cache", "", after / narrow / (before / plain))
        yield Figure("latency", "time of a step over that with a bf16 cache", "", narrow / plain)
        yield Figure("capacity", "tokens that fit, over a bf16 cache", "", times)
        yield Figure("held", "sequences that memory holds with a bf16 cache", "", wide)


KINDS = (ModelMemory, KvBits, KvWidth)
