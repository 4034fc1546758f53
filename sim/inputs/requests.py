"""How requests are played one by one: how many, from where, how engines and routers treat them, and what fails meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ...hwmodels.units import Bytes, BytesPerSecond, Duration

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1, le=1 << 40)]
Factor = Annotated[float, Field(gt=0, le=1e6)]


class Strict(BaseModel):
    """Unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TraceInput(Strict):
    """A trace file instead of drawn arrivals and lengths. ``rate_scale`` 2: twice as fast; lengths by their own scales."""

    file: Path
    rate_scale: Factor = 1.0
    input_scale: Factor = 1.0
    output_scale: Factor = 1.0


class Wave(Strict):
    """The day's wave of an arrival rate: ``1 + amplitude cos(2 pi (t - peak) / period)`` times its mean."""

    amplitude: Annotated[float, Field(gt=0, le=1)]
    period: Duration = 86_400.0
    peak: Duration = 43_200.0


class Conversations(Strict):
    """Every arrival is a conversation of ``turns`` (on average with ``spread_turns``, geometric). Its first prompt has the
    workload's ``input_tokens``, of which ``shared_prefix`` are the same in all; every later one has all before it and
    ``added_tokens`` more, and is answered with ``later_output`` tokens (default: as the first). ``think``: mean pause of the
    user before the next turn, exponential. A share ``tools`` of the turns end in a tool call instead, of mean ``tool_time``
    (log-normal, ``tool_sigma``), and a share ``agents`` of them start ``agents_each`` sub-agents side by side, whose first
    prompts are the workload's own, and wait for all.
    """

    turns: Annotated[int, Field(ge=1, le=500)] = 4
    spread_turns: bool = False
    added_tokens: Annotated[int, Field(ge=1, le=1 << 22)] = 256
    later_output: Annotated[int, Field(ge=1, le=1 << 22)] | None = None
    think: Duration = 10.0
    shared_prefix: Annotated[int, Field(ge=0, le=1 << 22)] = 0
    tools: Share = 0.0
    tool_time: Duration = 5.0
    tool_sigma: Annotated[float, Field(ge=0, le=4)] = 1.0
    agents: Share = 0.0
    agents_each: Annotated[int, Field(ge=1, le=64)] = 3


class Scheduling(Strict):
    """One engine's scheduler. ``prompts``: ``mixed`` into decode steps or ``first``, before them (default: as the engine does).
    ``block_tokens``: of a block of KV cache. ``admission``: room that a request needs before it starts: its ``prompt``, half of
    its output too (``half``), or the ``whole`` output, which is then never preempted. ``preemption``: a sequence that must give
    way is computed again or moved to the host. ``stream``: tokens between deliveries; ``poll``: time between looks at
    the queue.
    """

    prompts: Literal["mixed", "first"] | None = None
    block_tokens: Annotated[int, Field(ge=1, le=4096)] | None = Field(
        default=None, description="default: 16 with vllm, 32 with trtllm, 64 with sglang"
    )
    admission: Literal["prompt", "half", "whole"] | None = Field(
        default=None, description="default: prompt with vllm, half with sglang, whole with trtllm"
    )
    preemption: Literal["recompute", "swap"] = "recompute"
    prefix_cache: bool = True
    stream: Annotated[int, Field(ge=1, le=4096)] = 1
    poll: Duration = 0.0


class Router(Strict):
    """Which rank gets a request. ``waiting``: requests that one rank lets wait at most; ``patience``: how long one waits before
    it gives up. ``append``: later turns are computed on the decode worker that holds their conversation (PPD).
    """

    policy: Literal["round-robin", "least-requests", "least-tokens", "prefix", "sticky"] = "least-requests"
    decode_policy: Literal["round-robin", "least-requests", "least-tokens", "sticky"] = "least-requests"
    waiting: Annotated[int, Field(ge=0, le=1 << 30)] | None = None
    patience: Duration | None = None
    append: bool = False


class Transfer(Strict):
    """KV cache from prefill to decode workers: ``whole`` once the prompt is computed, or each ``layer`` as it is. ``reserve``:
    a decode rank keeps room before the prompt is computed (always, layer by layer). ``handover``: what connector, router and
    queues add to a cache's way (default: as fitted to the engine).
    """

    by: Literal["whole", "layer"] = "whole"
    reserve: bool = False
    handover: Duration | None = None


class MemoryTier(Strict):
    """A memory below HBM for evicted KV blocks: of each worker's host, or ``shared`` by all workers (CXL, a remote pool)."""

    name: str
    capacity: Bytes
    bandwidth: BytesPerSecond
    latency: Duration = 0.0
    shared: bool = False


class Tools(Strict):
    """What becomes of a conversation's cache while its tool runs: ``keep`` it until it is evicted, ``drop`` it, or ``pin`` it
    for ``ttl``.
    """

    cache: Literal["keep", "drop", "pin"] = "keep"
    ttl: Duration | None = None

    @model_validator(mode="after")
    def _pins_end(self) -> Self:
        if (self.cache == "pin") != (self.ttl is not None):
            raise ValueError("requests.tools: ttl goes with cache=pin, and cache=pin needs a ttl")
        return self


class Scaling(Strict):
    """Workers that are started where more than ``waiting`` requests a worker wait, and drained below ``busy`` of the slots,
    looked at every ``every``. Of a pool's workers ``spare`` are off at first; a start takes ``start_up``. A ``predictive``
    scaler also starts one where the load that its trend foresees for then fills more than ``full`` of the slots.
    """

    policy: Literal["reactive", "predictive"] = "reactive"
    full: Share = 0.8

    spare: Annotated[int, Field(ge=0, le=4096)] = 0
    prefill_spare: Annotated[int, Field(ge=0, le=4096)] = 0
    least: Annotated[int, Field(ge=1, le=4096)] = 1
    waiting: Annotated[float, Field(ge=0)] = 4.0
    busy: Share = 0.3
    every: Duration = 10.0
    start_up: Duration = 120.0


class Drift(Strict):
    """The experts' load drifts from balanced to ``imbalance`` ((max - mean) / mean of the ranks) within ``period``; a balancer
    that rebalances ``every`` so long stalls the worker for ``cost`` and starts it anew.
    """

    imbalance: Annotated[float, Field(gt=0, le=64)]
    period: Duration
    every: Duration | None = None
    cost: Duration = 0.0


class Requests(Strict):
    """``count`` requests, or those of ``duration`` (default: 10,000 requests). Those that arrive before ``warmup`` are played
    and not counted. ``input_sigma`` and ``output_sigma`` draw lengths log-normally around the workload's means. A request whose
    worker fails is tried again up to ``retries`` times after ``backoff``; with ``resume`` it keeps the tokens it had.
    ``replications``: runs with one seed after another, whose requests are weighed together; of a trace only failures differ.
    """

    count: Count | None = None
    duration: Duration | None = None
    replications: Annotated[int, Field(ge=1, le=10_000)] = 1
    warmup: Duration = 0.0
    trace: TraceInput | None = None
    wave: Wave | None = None
    input_sigma: Annotated[float, Field(ge=0, le=4)] = 0.0
    output_sigma: Annotated[float, Field(ge=0, le=4)] = 0.0
    conversations: Conversations | None = None
    scheduler: Scheduling = Scheduling()
    router: Router = Router()
    transfer: Transfer = Transfer()
    tiers: tuple[MemoryTier, ...] = ()
    tools: Tools = Tools()
    scaling: Scaling | None = None
    drift: Drift | None = None
    retries: Annotated[int, Field(ge=0, le=1000)] = 3
    backoff: Duration = 1.0
    resume: bool = False

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.trace is not None:
            for name, given in (("wave", self.wave), ("conversations", self.conversations)):
                if given is not None:
                    raise ValueError(f"requests has a trace, which has its own arrivals and lengths: remove {name}")
            if self.input_sigma or self.output_sigma:
                raise ValueError("requests has a trace, which has its own lengths: remove input_sigma and output_sigma")
        if self.count is not None and self.duration is not None:
            raise ValueError("requests has both count and duration: give one of them")
        return self


class Fault(Strict):
    """One failure at a given time: a ``gpu`` (or ``count`` of them at once), a ``node``, or a ``nic`` left with ``share``
    of its rate for ``lasts``. ``worker``: of the pool's, counted from 0.
    """

    at: Duration
    what: Literal["gpu", "node", "nic"] = "gpu"
    pool: Literal["decode", "prefill"] = "decode"
    worker: Annotated[int, Field(ge=0, le=4096)] = 0
    count: Annotated[int, Field(ge=1, le=4096)] = 1
    share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    lasts: Duration = 3600.0


class Faults(Strict):
    """Failures at given times (``at``) and by chance: GPU-hours, NIC-hours and node-hours between failures of each.

    Default of ``rates``: none. Llama 3's 419 unexpected interruptions in 54 days on 16,384 GPUs are one in 50,676 GPU-hours
    (arXiv 2407.21783, table 5). ``protocol``: the group of a lost rank ``stop``s and restarts, or is ``elastic``: it goes on
    with fewer. A loss is noticed after ``detect``; an elastic group then needs ``regroup``. A restart takes ``restart``, on a
    spare GPU if one of ``spares`` is left, else once the GPU is repaired, after ``repair``.
    A share ``precursors`` of GPU failures is
    announced ``warning`` before (ECC errors): the worker is drained then.
    """

    at: tuple[Fault, ...] = ()
    gpu_hours: Annotated[float, Field(gt=0)] | None = None
    nic_hours: Annotated[float, Field(gt=0)] | None = None
    node_hours: Annotated[float, Field(gt=0)] | None = None
    protocol: Literal["stop", "elastic"] = "stop"
    detect: Duration = 5.0
    regroup: Duration = 2.0
    restart: Duration = 150.0
    repair: Duration = 14_400.0
    spares: Annotated[int, Field(ge=0, le=100_000)] = 0
    precursors: Share = 0.0
    warning: Duration = 600.0
