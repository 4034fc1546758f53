"""What the compiled loop works on: requests, workers and their ranks as arrays of structures, and how they begin.

Times are integer picoseconds. A rank here is an attention group: what holds sequences and their KV cache, ``dp`` of them in a
worker, numbered through all workers. KV cache is counted in units of ``unit_tokens``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def _places(count: int) -> tuple[int, ...]:
    """0, 1, … as numpy's integers: numba compiles a function anew for every plain number that it is called with."""
    return tuple(np.arange(count))


#: Where a request is.
DORMANT, WAITING, LOADING, PREFILL, PENDING, MOVING, DECODE, PINNED, AWAY, FREE = _places(10)
#: How it ended.
SERVED, FAILED, REJECTED, EXPIRED = _places(4)
#: What a worker does. An aggregated one prefills and decodes.
AGGREGATED, PREFILLS, DECODES = _places(3)
#: Whether it does.
UP, STARTING, DRAINING, DOWN, OFF = _places(5)
#: Kinds of events; simultaneous ones happen in this order, then in the order they were planned.
STEP_ENDS, MOVED, ARRIVES, LOADED, UNPINS, STATE, SAMPLES, SCALES = _places(8)
#: What a planned change of a worker's state does (`faults` plans them).
STOP, START, STALL, LOSE_RANK, REGAIN_RANK, RETABLE, LINK, DRAIN, REBALANCE = _places(9)
#: Router policies.
ROUND_ROBIN, LEAST_REQUESTS, LEAST_TOKENS, PREFIX_AWARE, STICKY = _places(5)
#: Admission: room for the prompt, for the prompt and a share of the output, or for all of it.
PRIORITIES = 4
IDS = 16  # block names in one segment

REQUEST = np.dtype([
    ("id", "i8"), ("arrival", "i8"), ("entered", "i8"), ("input", "i8"), ("output", "i8"), ("cached", "i8"),
    ("made", "i8"), ("held", "i8"), ("todo", "i8"), ("piece", "i8"), ("hit", "i8"), ("loaded", "i8"),
    ("units", "i8"), ("entries", "i8"), ("far_units", "i8"), ("far_entries", "i8"), ("state", "i8"), ("epoch", "i8"),
    ("worker", "i8"), ("rank", "i8"), ("far", "i8"), ("home", "i8"), ("priority", "i8"),
    ("next", "i8"), ("prev", "i8"), ("due_next", "i8"), ("due_prev", "i8"), ("due", "i8"), ("since", "i8"), ("grow", "i8"),
    ("first", "i8"), ("last", "i8"), ("waited", "i8"), ("prefilled", "i8"), ("moved", "i8"), ("lost", "i8"), ("stall", "i8"),
    ("tries", "i8"), ("preempted", "i8"), ("swapped", "i8"), ("resumes", "i8"), ("wasted", "i8"),
    ("session", "i8"), ("turn", "i8"), ("succ", "i8"), ("sibling", "i8"), ("waits", "i8"), ("gap", "i8"), ("pin", "i8"),
    ("tool", "i8"), ("segment", "i8"), ("blocks", "i8"), ("shared", "i8"), ("group", "i8"), ("order", "i8"),
    ("flow", "i8"), ("bytes_left", "f8"), ("rate", "f8"), ("early", "i8"), ("append", "i8"), ("began", "i8"),
])  # fmt: skip

#: One arrival, as sources hand them over. Dependent ones (``waits`` > 0) follow their root within the same chunk;
#: ``after``: how many places further on the first of ``after_n`` successors stands, 0 for none.
ARRIVAL = np.dtype([
    ("id", "i8"), ("at", "i8"), ("input", "i8"), ("output", "i8"), ("cached", "i8"), ("priority", "i8"),
    ("session", "i8"), ("turn", "i8"), ("after", "i8"), ("after_n", "i8"), ("waits", "i8"), ("gap", "i8"), ("tool", "i8"),
    ("names", "i8"), ("blocks", "i8"), ("shared", "i8"), ("group", "i8"),
])  # fmt: skip

#: One finished request. ``waited``… are picoseconds spent: queued, computing its prompt, moving its cache, lost by preemption
#: or failure and computed again; what is left until the end it decoded. ``began``: its conversation, of which it is the
#: ``final`` turn or not.
FINISHED = np.dtype([
    ("id", "i8"), ("arrival", "i8"), ("first", "i8"), ("end", "i8"), ("input", "i8"), ("output", "i8"), ("made", "i8"),
    ("hit", "i8"), ("loaded", "i8"), ("waited", "i8"), ("prefilled", "i8"), ("moved", "i8"), ("lost", "i8"), ("stall", "i8"),
    ("tries", "i8"), ("preempted", "i8"), ("wasted", "i8"), ("status", "i8"), ("worker", "i8"), ("rank", "i8"), ("home", "i8"),
    ("session", "i8"), ("turn", "i8"), ("priority", "i8"), ("began", "i8"), ("final", "i8"),
])  # fmt: skip

WORKER = np.dtype([
    ("role", "i8"), ("first", "i8"), ("ranks", "i8"), ("state", "i8"), ("stepping", "i8"), ("epoch", "i8"),
    ("decodes", "i8"), ("table", "i8"), ("skewed", "i8"), ("pp", "i8"), ("slots", "i8"), ("budget", "i8"), ("mixes", "i8"),
    ("stalled", "i8"), ("began", "i8"), ("busy", "i8"), ("steps", "i8"), ("on", "i8"),
    ("up_since", "i8"), ("flops", "f8"), ("bytes", "f8"), ("tokens", "i8"), ("prompt_tokens", "i8"), ("host", "i8"),
    ("link_free", "i8"), ("gpus", "i8"), ("down", "i8"), ("down_since", "i8"), ("in_flight", "i8"), ("balanced", "i8"),
    ("woken", "i8"), ("last_step", "i8"), ("balanced_for", "i8"),
])  # fmt: skip

#: An attention group. ``number``: of its last step that brought tokens, at ``last``; ``joined``: how many decode since, and the
#: sum of the times when they began.
RANK = np.dtype([
    ("worker", "i8"), ("alive", "i8"), ("units", "i8"), ("free", "i8"), ("evictable", "i8"), ("decoding", "i8"),
    ("context", "f8"), ("prefilling", "i8"), ("waiting", "i8"), ("in_flight", "i8"), ("tokens", "i8"), ("pending", "i8"),
    ("pre_head", "i8"), ("pre_tail", "i8"), ("run_head", "i8"), ("run_tail", "i8"), ("pin_head", "i8"), ("pend_head", "i8"),
    ("pend_tail", "i8"), ("p", "i8"), ("pieces", "i8"), ("before", "f8"), ("loading", "i8"), ("coming", "i8"), ("caches", "i8"),
    ("number", "i8"), ("last", "i8"), ("joined", "i8"), ("join_sum", "f8"), ("stream_from", "i8"), ("stream_steps", "i8"),
    ("gathered_for", "i8"),
])  # fmt: skip

EVENT = np.dtype([("at", "i8"), ("kind", "i8"), ("seq", "i8"), ("a", "i8"), ("b", "i8")])
#: A planned change: ``what`` happens to ``worker`` (``rank``: of its own, or a table); ``until``: end of a stall; ``share``: of
#: a link's rate that is left.
CHANGE = np.dtype([("at", "i8"), ("what", "i8"), ("worker", "i8"), ("arg", "i8"), ("share", "f8")])
ENTRY = np.dtype([("name", "i8"), ("holder", "i8"), ("refs", "i8"), ("chain", "i8"), ("newer", "i8"), ("older", "i8")])
HOLDER = np.dtype([
    ("room", "i8"), ("below", "i8"), ("newest", "i8"), ("oldest", "i8"), ("rate", "f8"), ("latency", "f8"), ("link_free", "i8"),
    ("blocks", "i8"), ("moved", "f8"), ("link", "i8"),
])  # fmt: skip
SPAN = np.dtype([("worker", "i8"), ("start", "i8"), ("end", "i8"), ("decoding", "i8"), ("prompt", "i8"), ("waiting", "i8")])

#: Places in `World.n`, the loop's own counters.
(
    NOW, HEAP, SEQ, FREE_TOP, IN_FLIGHT, OUT, ENTRY_FREE, SEGMENT_FREE, FLOWS, NET_EPOCH, NET_AT, SPANS, WOKEN, ARRIVED,
    ENDED, AREA, AREA_AT, ROBIN, SERIES, EVICTED, SPILLED, HITS, LOOKED, PREEMPTED, STEPS, NEXT_ARRIVAL, ROBIN_FAR, PEAK,
    DELIVERED, PROMPTED, RECOMPUTED, MOVED_BYTES, STARTS, ENTRY_TOP,
    SEGMENT_TOP, CHANGED, LOST_KV,
    LOAD_BEFORE, LOAD_BEFORE_1, LOAD_BEFORE_2, LOAD_TREND, LOAD_TREND_1, LOAD_TREND_2,
) = _places(43)  # fmt: skip
COUNTERS = 48  # LOAD_BEFORE and LOAD_TREND: of three roles each, in thousandths of a request


#: Columns of the time series: sums over the workers of one role at a sample's time, or since the last one.
(
    S_AT, S_WAITING, S_PREFILLING, S_DECODING, S_USED, S_UNITS, S_UP, S_BUSY, S_TOKENS, S_PROMPT, S_ON, S_IN_FLIGHT,
) = _places(12)  # fmt: skip
SERIES_COLUMNS = 12


#: Draft tokens of a step at most.
MOST_DRAFTS = 8


class Rules(NamedTuple):
    """How engines and routers behave; all numbers, so that one compiled loop serves every scenario."""

    unit_tokens: int
    block_tokens: int  # of a named block of the prefix cache, whole units
    drafts: int
    chances: tuple[float, ...]  # [MOST_DRAFTS] that the draft of that place counts, which needs all before it
    seed: int
    admission: float  # share of the output that must have room beside the prompt
    watermark: float  # share of a rank's units kept free when a request is let in
    swap: int  # preempted sequences go to the host instead of being computed again
    prefix: int  # prompts look for their blocks in the cache
    router: int
    far_router: int
    most_waiting: int  # of one rank; beyond it arrivals are refused, -1: never
    patience: int  # ps in the queue after which a request gives up, -1: never
    layerwise: int
    layers: int
    early: int  # a decode rank's room is reserved before the prompt is computed
    append: int  # later turns are computed where the conversation's cache is, on the decode worker
    token_bytes: float  # KV cache of one token, all GPUs of a group
    move_latency: int
    handover_steps: float  # steps of the decode worker until a request whose cache came is taken up
    tool_policy: int  # 0: the cache stays until it is evicted, 1: dropped, 2: pinned for `ttl`, 3: moved to the tier below
    ttl: int
    closed: int  # requests in flight of a closed loop, 0: open
    retries: int
    backoff: int
    resume: int  # a retried request keeps its tokens
    host_rate: float  # bytes/s between one worker's GPUs and its host, for swapping
    sample: int
    until: int
    first_steps: float  # steps of an aggregated worker that pass before it sees a request
    first_token: int  # the server's own time, added to every first token
    stream: int  # tokens between deliveries to the client
    poll: int  # ps between looks at the queue, 0: every step
    poll_steps: int  # steps between looks at the queue
    wait_steps: int  # for which prompts wait for others at most, until they fill `wait_fill` of a step's tokens
    wait_fill: float
    balance_steps: int  # for which a group's prompts wait for the other groups' at most
    span_from: int
    span_to: int
    scale_every: int
    scale_up: float  # waiting requests per worker beyond which one is started
    scale_down: float  # busy share of the slots below which one is drained
    scale_least: int
    scale_ahead: int  # ps by which a predictive scaler looks ahead, 0: it reacts
    scale_full: float  # share of the slots that the load foreseen may fill
    start_up: int
    imbalance_period: int  # ps over which the experts' load drifts from balanced to skewed; 0: never
    keeps: int  # tokens' blocks of outputs are named too (sessions)


class World(NamedTuple):
    """Everything that changes."""

    reqs: Any
    free: NDArray[np.int64]
    n: Ints
    workers: Any
    ranks: Any
    queue: NDArray[np.int64]  # [rank, priority, (head, tail)]
    ring: NDArray[np.int64]  # [rank, step modulo its length]: first request that is due then
    events: Any
    out: Any
    itl: Ints  # [bin]
    entries: Any
    buckets: NDArray[np.int64]
    holders: Any
    segments: Ints  # [segment, IDS]
    segment_next: NDArray[np.int64]
    flows: NDArray[np.int64]  # requests whose cache is moving
    port: Floats  # bytes/s [rank]: into or out of it; the last is the fabric's core
    port_load: Floats  # [rank + 1, 2] scratch of the filling
    woken: NDArray[np.int64]
    series: Floats  # [sample, role, column]
    spans: Any
    changes: Any
    scratch: Floats
    group: NDArray[np.int64]  # slots of the conversation that is being taken in
    walked: NDArray[np.int64]  # entries of the blocks just walked
    hand: NDArray[np.int64]  # requests that were due in the step that ends
