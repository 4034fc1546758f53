"""A serving question: the requests that arrive, what they may wait, and the engine instances that serve them."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ...hwmodels.units import Duration, PerSecond, Usd
from ..ep.protocols import DEFAULT
from ..precision import Dtype
from .deployment import Placement, Protocol
from .traffic import Routing

Backend = Literal["vllm", "sglang", "trtllm"]
#: How a whole deployment is put together, and which of its pools is asked about alone.
Mode = Literal["aggregated", "disaggregated"]
Alone = Literal["decode", "prefill"]
#: How prompts are dealt to the attention groups of a worker, which step together (`serving.prompts`).
Balance = Literal["round-robin", "wait", "perfect"]
Width = Annotated[int, Field(ge=1, le=4096)]
_Chance = Annotated[float, Field(gt=0, le=1)]
#: Of draft tokens: of each if those before it were accepted, or the share of steps that accept the first, the second and so on.
Acceptance = _Chance | Annotated[tuple[_Chance, ...], Field(min_length=1, max_length=8)]
Arrivals = Literal["even", "poisson", "bursty"]
Tokens = Annotated[int, Field(ge=1, le=1 << 24)]


#: Of bursty arrivals that do not say it: the Mooncake conversation trace's 9.2 (kvcache-ai/Mooncake 3b5a594). Azure's public
#: traces of 2023 have 1.2 (conversation) and 173 (code).
BURSTINESS = 9.0


class Workload(BaseModel):
    """Requests of one kind in steady state.

    ``input_tokens`` and ``output_tokens`` are the longest of a request; ``length_spread`` s draws each uniformly from
    ``[(1 - s) L, L]``. ``cached_input``: share of a prompt's tokens whose KV cache is already there. Load is a closed loop of
    ``concurrency`` requests in flight over the whole deployment, or ``rate`` requests a second; with neither, the largest
    number in flight that meets the limits. ``arrivals`` of a rate: ``even`` ones come at equal distances, ``poisson`` at
    random, ``bursty`` in bursts of about ``burstiness`` (variance of the times between them over their mean squared, default
    9). ``routing``: how the router spreads tokens over experts. ``rank_imbalance``: (max - mean) / mean rows of
    the ranks that persists beyond chance, as measured behind a load balancer. ``expert_spread``: standard deviation of the
    experts' popularity over its mean where nothing balances them: deployments of a public suite show 0.8.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    input_tokens: Tokens
    output_tokens: Tokens
    length_spread: Annotated[float, Field(ge=0, le=1)] = 0.0
    cached_input: Annotated[float, Field(ge=0, lt=1)] = 0.0
    concurrency: Annotated[int, Field(ge=1, le=1 << 24)] | None = None
    rate: PerSecond | None = None
    arrivals: Arrivals | None = Field(default=None, description="default: poisson, with a rate")
    burstiness: Annotated[float, Field(gt=1, le=1000)] | None = Field(
        default=None, description="default: 9, with bursty arrivals"
    )
    routing: Routing = Routing()
    rank_imbalance: Annotated[float, Field(ge=0, le=64)] = 0.0
    expert_spread: Annotated[float, Field(ge=0, le=4)] = 0.0

    @model_validator(mode="after")
    def _one_imbalance(self) -> Self:
        if self.expert_spread and (self.rank_imbalance or self.routing.kind != "uniform"):
            said = "rank_imbalance" if self.rank_imbalance else f"routing.kind={self.routing.kind}"
            raise ValueError(f"expert_spread and {said} both say how uneven the experts are: give one of them")
        return self

    @model_validator(mode="after")
    def _one_load(self) -> Self:
        if self.concurrency is not None and self.rate is not None:
            raise ValueError("workload has both concurrency and rate: a closed loop or an arrival rate, give one of them")
        if self.arrivals is not None and self.rate is None:
            raise ValueError("workload.arrivals goes with workload.rate: a closed loop's requests come as others leave")
        if self.burstiness is not None and self.arrivals != "bursty":
            raise ValueError(f"workload.burstiness goes with arrivals=bursty, arrivals is {self.arrivals or 'poisson'}")
        return self

    @property
    def variation(self) -> float:
        """Variance of the times between arrivals over their mean squared."""
        return {"even": 0.0, "bursty": self.burstiness or BURSTINESS}.get(self.arrivals or "poisson", 1.0)

    @property
    def mean_input(self) -> float:
        return self.input_tokens * (1.0 - self.length_spread / 2.0)

    @property
    def mean_output(self) -> float:
        return max(1.0, self.output_tokens * (1.0 - self.length_spread / 2.0))


class Bill(BaseModel):
    """How GPUs are paid for: ``rental`` (low end of the market), ``on-demand``, ``reserved``, ``three-years``, or ``owned``
    (written off, with their power and network); and what is paid every hour whatever runs, for what no price holds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    basis: Literal["rental", "on-demand", "reserved", "three-years", "owned"] = "rental"
    fixed_per_hour: Usd = 0.0


class Slo(BaseModel):
    """Time to first token and time per output token that a request may take on average; None: no limit.

    ``ttft_p99`` and the like: that 99 % of the requests keep, ``e2e`` from arrival to the last token. ``goodput``: share of the
    requests that keep both ``ttft`` and ``tpot``, each for itself (then these are no limits of the means). All of these are
    settled by requests played one by one. ``confidence``: the chance, known from the engine's measured deployments, with
    which the means have to be kept (default: more likely than not).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ttft: Duration | None = None
    tpot: Duration | None = None
    ttft_p50: Duration | None = None
    ttft_p90: Duration | None = None
    ttft_p95: Duration | None = None
    ttft_p99: Duration | None = None
    tpot_p50: Duration | None = None
    tpot_p90: Duration | None = None
    tpot_p95: Duration | None = None
    tpot_p99: Duration | None = None
    e2e_p50: Duration | None = None
    e2e_p90: Duration | None = None
    e2e_p95: Duration | None = None
    e2e_p99: Duration | None = None
    goodput: Annotated[float, Field(gt=0, le=1)] | None = None

    confidence: Annotated[float, Field(gt=0, lt=1)] | None = None

    @model_validator(mode="after")
    def _goodput_of_something(self) -> Self:
        if self.goodput is not None and self.ttft is None and self.tpot is None:
            raise ValueError("slo.goodput is a share of requests that keep slo.ttft and slo.tpot: give one of them, or both")
        if self.confidence is not None and self.ttft is None and self.tpot is None:
            raise ValueError("slo.confidence goes with slo.ttft or slo.tpot: there is no limit to be sure of")
        return self

    @property
    def sure(self) -> float:
        """The chance with which a limit has to be kept."""
        return 0.5 if self.confidence is None else self.confidence

    @property
    def tails(self) -> dict[str, float]:
        """The limits that no mean can settle, by their names."""
        given = {name: getattr(self, name) for name in type(self).model_fields if name not in ("ttft", "tpot", "confidence")}
        return {name: value for name, value in given.items() if value is not None}


class Worker(BaseModel):
    """One engine instance of ``tp * dp * pp`` GPUs, ``count`` of them alike. Widths as `step.worker.Arrangement`.

    ``batch``: sequences of one attention group that decode together at most (default: what memory holds, up to 1,024).
    ``chunk_tokens``: prompt tokens of one attention group in one step at most (chunked prefill). ``balance``: how prompts are
    dealt to attention groups that step together (default: the engine's); it needs some, ``dp`` above 1.
    ``placement``: which ranks the experts lie on, which matters where ``workload.routing`` says that some are chosen more
    often: ``contiguous`` in their order, ``balanced`` by their load (with copies, or rearranged without); default balanced
    where there are copies.
    ``dcp``: GPUs of an attention group over which the cache of every sequence is split while it decodes (MLA).
    ``transport``: what carries the exchange's messages between NVLink domains, by its name.
    ``cluster``: other hardware that prefill workers run on, by its name or file (default: the scenario's).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tp: Width = 1
    dp: Width = 1
    pp: Width = 1
    ep: Width = 1
    dcp: Width = 1
    count: Width = 1
    protocol: Protocol = DEFAULT
    transport: str | None = Field(default=None, description="default: the protocol's first that the NIC takes")
    comm_sms: Annotated[int, Field(ge=2, le=1024)] = 24
    redundant_experts: Annotated[int, Field(ge=0, le=65_536)] = 0
    placement: Placement | None = Field(
        default=None, description="default: by load where there are copies, else in expert order"
    )
    overlap: bool = Field(default=False, description="two-batch overlap: one half communicates while the other computes")
    cuda_graphs: bool = True
    batch: Annotated[int, Field(ge=1, le=1 << 20)] | None = None
    chunk_tokens: Annotated[int, Field(ge=16, le=1 << 20)] = 8192
    cluster: Annotated[str, Field(min_length=1)] | None = Field(default=None, description="default: the scenario's cluster")
    balance: Balance | None = None

    @model_validator(mode="after")
    def _groups_to_balance(self) -> Self:
        if self.balance is not None and self.dp == 1:
            raise ValueError(f"balance ({self.balance}) deals prompts to attention groups, dp=1 has one: remove it, or use dp")
        return self

    @model_validator(mode="after")
    def _cache_over_the_group(self) -> Self:
        if self.tp % self.dcp:
            whole = [n for n in range(1, self.tp + 1) if self.tp % n == 0]
            near = min(whole, key=lambda n: abs(n - self.dcp))
            raise ValueError(f"dcp ({self.dcp}) must divide tp ({self.tp}), the GPUs of one attention group: use dcp={near}")
        return self

    @model_validator(mode="after")
    def _experts_fill_the_worker(self) -> Self:
        if self.tp * self.dp % self.ep:
            whole = [n for n in range(1, self.tp * self.dp + 1) if self.tp * self.dp % n == 0]
            near = min(whole, key=lambda n: abs(n - self.ep))
            raise ValueError(f"ep ({self.ep}) must divide tp x dp ({self.tp} x {self.dp} = {self.tp * self.dp}): use ep={near}")
        return self

    @property
    def gpus(self) -> int:
        """GPUs of one instance."""
        return self.tp * self.dp * self.pp


def check_acceptance(acceptance: Acceptance, drafts: int) -> None:
    """Raises ValueError for a list that is no chance for each of ``drafts`` tokens, or whose later places count more often."""
    if not isinstance(acceptance, tuple):
        return
    if len(acceptance) != drafts:
        raise ValueError(
            f"acceptance has {len(acceptance)} places, mtp drafts {drafts}: give a list of {drafts}, or one number"
            if drafts
            else f"acceptance has {len(acceptance)} places, mtp drafts none: use mtp={len(acceptance)}, or remove acceptance"
        )
    if any(later > earlier for earlier, later in pairwise(acceptance)):
        raise ValueError(
            f"acceptance ({', '.join(f'{chance:g}' for chance in acceptance)}) grows: a draft counts only if those before it "
            "do, so give the share of steps that accept each place, largest first"
        )


class Serving(BaseModel):
    """A deployment: ``aggregated`` workers prefill and decode (``decode`` describes them, ``prefill`` is absent);
    ``disaggregated`` ones do one of the two, and the KV cache travels between them. ``decode`` and ``prefill`` ask about one of
    these pools alone (``prefill`` workers alone are a prefill pool).

    ``weights``, ``experts``, ``kv``, ``payload``: precisions, default as the model is stored (kv: bf16; payload: fp8, or bf16
    for bf16 experts). ``attention``: in which attention multiplies scores and values, bf16 or fp8 (default: fp8 with an fp8
    cache, as FlashAttention-3, FlashMLA and TensorRT-LLM do; a GPU without the rate multiplies in bf16, and so do kernels
    for MLA on Hopper but SGLang's). ``mtp``: draft tokens a step, each accepted with probability ``acceptance`` if those before
    it were; a list has the share of steps that accept the first, the second and so on (vLLM's per-position acceptance rates).
    ``memory_share``: the part of HBM an engine may fill. ``poll_steps``: steps between two looks for new requests;
    ``wait_steps``: for which prompts wait for others at most, until they fill the share ``wait_fill`` of ``chunk_tokens``
    (`serving.prompts.Scheduling`); both of aggregated deployments.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    backend: Backend = "sglang"
    mode: Mode | Alone = "aggregated"
    decode: Worker = Worker()
    prefill: Worker | None = None
    weights: Dtype | None = None
    experts: Dtype | None = None
    kv: Dtype | None = None
    payload: Dtype | None = None
    attention: Literal["bf16", "fp8"] | None = None
    mtp: Annotated[int, Field(ge=0, le=8)] = 0
    acceptance: Acceptance = 0.8
    memory_share: Annotated[float, Field(gt=0, le=1)] = 0.9
    poll_steps: Annotated[int, Field(ge=1, le=1000)] = 1
    wait_steps: Annotated[int, Field(ge=0, le=1000)] = 0
    wait_fill: Annotated[float, Field(gt=0, le=1)] = 1.0

    @model_validator(mode="after")
    def _a_chance_for_every_draft(self) -> Self:
        check_acceptance(self.acceptance, self.mtp)
        return self

    @model_validator(mode="after")
    def _steps_are_shared(self) -> Self:
        if self.mode == "disaggregated":
            for name in ("poll_steps", "wait_steps", "wait_fill"):
                if name in self.model_fields_set and getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(
                        f"{name} counts steps that decode: a disaggregated deployment's prompts run alone: remove it"
                    )
        return self

    @model_validator(mode="before")
    @classmethod
    def _prefill_alone(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("prefill") is not None and not {"mode", "decode"} & set(data):
            return {**data, "mode": "prefill"}
        return data

    @model_validator(mode="after")
    def _pools_match_the_mode(self) -> Self:
        if self.decode.cluster is not None:
            raise ValueError("decode workers run on the scenario's cluster: set that, or prefill.cluster for prompts")
        if self.prefill is not None and self.prefill.dcp > 1:
            raise ValueError(f"dcp ({self.prefill.dcp}) splits the cache of decoding sequences: remove prefill.dcp")
        if self.decode.dcp > 1 and self.backend == "trtllm":
            raise ValueError(f"trtllm has no decode context parallelism (dcp={self.decode.dcp}): use backend vllm or sglang")
        if self.mode == "prefill" and self.prefill is None:
            raise ValueError("a prefill pool alone needs prefill, the workers that compute prompts")
        if self.mode == "prefill" and "decode" in self.model_fields_set:
            raise ValueError("a prefill pool alone has no decode workers: remove decode, or use mode=disaggregated")
        if self.mode == "decode" and self.prefill is not None:
            raise ValueError("a decode pool alone has no prefill workers: remove prefill, or use mode=disaggregated")
        if self.mode == "disaggregated" and self.prefill is None:
            raise ValueError("a disaggregated deployment needs prefill, the workers that compute prompts")
        if self.mode == "aggregated" and self.prefill is not None:
            raise ValueError("an aggregated deployment has no prefill workers: remove prefill, or use mode=disaggregated")
        return self

    @property
    def gpus(self) -> int:
        """GPUs of all workers."""
        return sum(worker.gpus * worker.count for worker in self.workers.values())

    @property
    def workers(self) -> dict[str, Worker]:
        """The workers of each pool by its role, "decode" (aggregated ones, too) and "prefill"."""
        pools = {} if self.mode == "prefill" else {"decode": self.decode}
        return pools | ({"prefill": self.prefill} if self.prefill is not None else {})
