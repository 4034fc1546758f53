"""One engine instance: how its GPUs share the model. Fields may be numpy arrays: one record, many candidate deployments.

A worker is ``tp * dp * pp`` GPUs. Attention is split over ``tp`` GPUs and replicated ``dp`` times, each group with its own
sequences (data-parallel attention); layers are split over ``pp`` stages; the experts of a layer lie on ``ep`` ranks, each
split over ``moe_tp = tp * dp / ep`` GPUs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..ep.compute.expert_share import Counted
from ..ep.protocol import find_protocol
from ..ep.protocols import DEFAULT
from ..inputs.model import MoeModel
from ..inputs.serving import Balance, Serving, Worker
from ..inputs.stored import Format, Kind, Stored, plain, stored_as
from ..precision import Dtype
from .part import Num


@dataclass(frozen=True, slots=True)
class Arrangement:
    """``protocol`` carries tokens to experts when ``dp > 1`` (a name in `ep.protocol`); with ``dp == 1`` every GPU
    already has all tokens and an all-reduce follows the experts. ``overlap``: two micro-batches hide communication behind
    compute. ``graphs``: kernels are replayed from CUDA graphs. ``redundant``: replicas of experts beyond the model's own.
    ``balance``: how prompts are dealt to the attention groups, None as the engine does.
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
    balance: Balance | None = None
    dcp: Num = 1.0  # GPUs of an attention group that each hold a share of every sequence's cache
    placement: str = ""  # of experts, where some are chosen more often: "" by load where there are replicas
    transport: str = ""  # of messages between domains: "" the protocol's first that the NIC takes

    @property
    def gpus(self) -> Num:
        return self.tp * self.dp * self.pp

    @property
    def moe_tp(self) -> Num:
        return self.tp * self.dp / self.ep


@dataclass(frozen=True, slots=True)
class Precision:
    """Stored and computed precisions: dense weights, expert weights, KV cache, and a dispatched row on the wire.

    ``attention``: in which scores and values are multiplied, None as the cache is kept (where the GPU has such a rate).
    ``stored``: the checkpoint's own formats, kind by kind, where they say more than the two precisions of weights.
    """

    weights: Dtype
    experts: Dtype
    kv: Dtype
    payload: Dtype
    stored: Stored | None = None
    attention: Dtype | None = None

    @property
    def products(self) -> Dtype:
        """The dtype of attention's products."""
        return self.attention or ("fp8" if self.kv == "fp8" else "bf16")

    def of(self, kind: Kind) -> Format:
        """The format of one kind of weights."""
        return (self.stored or stored_as(self.weights, self.experts)).of(kind)

    def weight_bytes(self, kind: Kind) -> float:
        """Bytes of one weight of that kind, its scales shared out."""
        return self.of(kind).bits / 8.0


@dataclass(frozen=True, slots=True)
class Skew:
    """How unevenly tokens fall on experts. ``alpha``: exponent of the experts' popularity (0: uniform), placed by load if
    there are replicas. ``rank_imbalance``: (max - mean) / mean rows of the ranks that stays beyond that and beyond chance, as
    a load balancer leaves it. ``counted``: how often each expert was chosen, instead of ``alpha``. ``routing``, ``groups``,
    ``groups_kept``: how the router spreads a token's experts (`ep.shape.Shape`). ``spread``: standard
    deviation of the experts' popularity over its mean where they lie as they come, which leaves the fullest of the ranks with
    more (`expert_block.rank_imbalance`); replicas even that out.
    """

    alpha: float = 0.0
    rank_imbalance: float = 0.0
    counted: Counted | None = None
    routing: str = "uniform"
    groups: float | None = None
    groups_kept: float | None = None
    spread: float = 0.0


EVEN = Skew()


@dataclass(frozen=True, slots=True)
class Batch:
    """What one attention group (one of ``dp``) runs in one step.

    ``decode`` sequences with ``context`` cached tokens each get ``speculated`` new rows each (1: no multi-token prediction);
    beside them ``prefill`` new prompt tokens, in prompts that each have on average ``cached`` tokens before the new ones and
    ``chunk`` new tokens in this step. ``fullest``: its rows over those of the mean group: all groups wait for the one with
    most, while experts and exchange see the tokens of all.
    """

    decode: Num
    context: Num
    prefill: Num = 0.0
    chunk: Num = 1.0
    cached: Num = 0.0
    speculated: Num = 1.0
    fullest: Num = 1.0

    @property
    def tokens(self) -> Num:
        """Rows of the GEMMs of one attention group."""
        return self.decode * self.speculated + self.prefill

    @property
    def mean_tokens(self) -> Num:
        """Rows of the mean attention group."""
        return self.tokens / self.fullest


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
        worker.balance,
        float(worker.dcp),
        worker.placement or "",
        worker.transport or "",
    )


def for_prompts(arrangement: Arrangement) -> Arrangement:
    """How prompts run on it: kernel by kernel, and through the exchange that its protocol leaves them to."""
    protocol = find_protocol(arrangement.protocol).prompts_by or arrangement.protocol
    transport = arrangement.transport if arrangement.transport in find_protocol(protocol).transports else ""
    return replace(arrangement, graphs=False, protocol=protocol, transport=transport)


def precision_of(model: MoeModel, serving: Serving) -> Precision:
    """The precisions asked for, else as the model is stored; the cache as its checkpoint asks, else bf16; the payload fp8
    unless the experts are bf16."""
    experts = serving.experts or model.expert_dtype
    payload = serving.payload or ("bf16" if experts == "bf16" else "fp8")
    stored = model.formats
    if serving.weights:
        stored = stored.model_copy(update=dict.fromkeys(("attention", "dense", "shared"), plain(serving.weights)))
    if serving.experts:
        stored = stored.model_copy(update={"experts": plain(serving.experts)})
    kv = serving.kv or stored.kv or "bf16"
    return Precision(serving.weights or model.weight_dtype, experts, kv, payload, stored, serving.attention)
