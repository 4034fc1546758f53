"""One engine instance: how its GPUs share the model. Fields may be numpy arrays: one record, many candidate deployments.

A worker is ``tp * dp * pp`` GPUs. Attention is split over ``tp`` GPUs and replicated ``dp`` times, each group with its own
sequences (data-parallel attention); layers are split over ``pp`` stages; the experts of a layer lie on ``ep`` ranks, each
split over ``moe_tp = tp * dp / ep`` GPUs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..ep.protocol import find_protocol
from ..ep.protocols import DEFAULT
from ..inputs.model import MoeModel
from ..inputs.serving import Serving, Worker
from ..precision import Dtype
from .part import Num


@dataclass(frozen=True, slots=True)
class Arrangement:
    """``protocol`` carries tokens to experts when ``dp > 1`` (a name in `ep.protocol`); with ``dp == 1`` every GPU
    already has all tokens and an all-reduce follows the experts. ``overlap``: two micro-batches hide communication behind
    compute. ``graphs``: kernels are replayed from CUDA graphs. ``redundant``: replicas of experts beyond the model's own.
    """

    tp: Num
    dp: Num
    pp: Num
    ep: Num
    protocol: str = DEFAULT
    comm_sms: Num = 24.0
    redundant: Num = 0.0
    overlap: bool = False
    graphs: bool = True

    @property
    def gpus(self) -> Num:
        return self.tp * self.dp * self.pp

    @property
    def moe_tp(self) -> Num:
        return self.tp * self.dp / self.ep


@dataclass(frozen=True, slots=True)
class Precision:
    """Stored and computed precisions: dense weights, expert weights, KV cache, and a dispatched row on the wire."""

    weights: Dtype
    experts: Dtype
    kv: Dtype
    payload: Dtype


@dataclass(frozen=True, slots=True)
class Skew:
    """How unevenly tokens fall on experts. ``alpha``: exponent of the experts' popularity (0: uniform), placed by load if
    there are replicas. ``rank_imbalance``: (max - mean) / mean rows of the ranks that stays beyond that and beyond chance, as
    a load balancer leaves it.
    """

    alpha: float = 0.0
    rank_imbalance: float = 0.0


EVEN = Skew()


@dataclass(frozen=True, slots=True)
class Batch:
    """What one attention group (one of ``dp``) runs in one step.

    ``decode`` sequences with ``context`` cached tokens each get ``speculated`` new rows each (1: no multi-token prediction);
    beside them ``prefill`` new prompt tokens, in prompts that each have on average ``cached`` tokens before the new ones and
    ``chunk`` new tokens in this step.
    """

    decode: Num
    context: Num
    prefill: Num = 0.0
    chunk: Num = 1.0
    cached: Num = 0.0
    speculated: Num = 1.0

    @property
    def tokens(self) -> Num:
        """Rows of the GEMMs of one attention group."""
        return self.decode * self.speculated + self.prefill


def arrangement_of(worker: Worker) -> Arrangement:
    """One worker's widths as floats."""
    return Arrangement(
        float(worker.tp),
        float(worker.dp),
        float(worker.pp),
        float(worker.ep),
        worker.protocol,
        float(worker.comm_sms),
        float(worker.redundant_experts),
        worker.overlap,
        worker.cuda_graphs,
    )


def for_prompts(arrangement: Arrangement) -> Arrangement:
    """How prompts run on it: kernel by kernel, and through the exchange that its protocol leaves them to."""
    protocol = find_protocol(arrangement.protocol).prompts_by or arrangement.protocol
    return replace(arrangement, graphs=False, protocol=protocol)


def precision_of(model: MoeModel, serving: Serving) -> Precision:
    """The precisions asked for, else as the model is stored; the cache bf16, the payload fp8 unless the experts are bf16."""
    experts = serving.experts or model.expert_dtype
    payload = serving.payload or ("bf16" if experts == "bf16" else "fp8")
    return Precision(serving.weights or model.weight_dtype, experts, serving.kv or "bf16", payload)
