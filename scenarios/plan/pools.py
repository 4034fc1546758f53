"""Workers put together: aggregated ones side by side, or a prefill and a decode pool of whole workers within the GPU budget.

Closed forms as in `sim.serving.deployment`, over whole tables. A decode pool runs with every worker's batch full; prompts queue
for the prefill pool, which must have time to spare; the requests in flight are those that decode, wait or are computed.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...hwmodels.backends import load_backend
from ...sim.inputs.serving import Workload
from ...sim.serving.deployment import handover_seconds, transfer_seconds
from ...sim.serving.queue import AT_RANDOM, ArrivalLaw, boarding_wait, queue_wait
from ...sim.serving.steady import Setting
from ...sim.step.worker import Arrangement
from ..ask.search import Search
from .widths import Floats
from .workers import Workers

Rows = NDArray[np.int64]
#: Prefill workers more than the fewest that carry the load: what shorter queues cost.
SPARE_PREFILL = (0, 1, 2)
#: Share of its prompts a second that a prefill pool which is too small for the decode pool is taken to run at.
_ALL_BUT_FULL = 0.98
#: Decode workers tried for each pair: all up to this many, and then those that fill the budget best.
ALL_COUNTS = 8


@dataclass(frozen=True, slots=True)
class Deployments:
    """One row a deployment. ``decode`` and ``prefill`` are rows of the workers' tables (prefill -1: aggregated workers).

    ``slots``: sequences of one attention group spoken for, decoding or still waiting for their first token.
    """

    decode: Rows
    prefill: Rows
    decode_count: Floats
    prefill_count: Floats
    gpus: Floats
    requests_per_s: Floats
    tpot_s: Floats
    ttft_s: Floats
    in_flight: Floats
    slots: Floats

    def __len__(self) -> int:
        return len(self.gpus)

    def take(self, rows: Rows | NDArray[np.bool_]) -> Deployments:
        """The table of these rows only."""
        return Deployments(*(getattr(self, f.name)[rows] for f in fields(self)))


def joined(tables: list[Deployments]) -> Deployments:
    """All rows of ``tables``, in order."""
    columns: Any = (np.concatenate([getattr(t, f.name) for t in tables]) for f in fields(Deployments))
    return Deployments(*columns)


def nothing() -> Deployments:
    """A table without rows."""
    none = np.zeros(0)
    return Deployments(none.astype(np.int64), none.astype(np.int64), *(none,) * 8)


def aggregated_pools(workload: Workload, workers: Workers, budget: int, search: Search) -> tuple[Deployments, int]:
    """As many of each worker as the budget or the load asks for; and how many there are that all GPUs are too few of."""
    most = np.floor(budget / np.maximum(workers.gpus, 1.0))
    in_worker = workers.batch * workers.dp
    count: Floats = most
    if workload.rate is not None:
        count = np.ceil(workload.rate / workers.requests_per_s - 1e-9)
    elif workload.concurrency is not None:
        count = np.minimum(most, np.floor(workload.concurrency / in_worker))
    if search.counts:
        count = np.where(np.isin(count, search.counts), count, _fixed(count, most, search.counts, workload))
    rows = np.flatnonzero((count >= 1) & (count <= most))
    too_few = int(np.sum(count > most))
    w, count = workers.take(rows), count[rows]
    per_s = np.minimum(w.requests_per_s * count, workload.rate or np.inf)
    in_flight, ttft = in_worker[rows] * count, w.ttft_s
    if workload.rate is not None:
        in_flight = per_s * (workload.mean_output * w.tpot_s + ttft)
    elif workload.concurrency is not None:  # every client waits for a first token or between tokens
        ttft = np.maximum(ttft, workload.concurrency / per_s - workload.mean_output * w.tpot_s)
        in_flight = np.full(len(rows), float(workload.concurrency))
    found = (rows, np.full(len(rows), -1), count, 0.0 * count, w.gpus * count, per_s, w.tpot_s, ttft, in_flight, w.batch)
    return Deployments(*found), too_few


def _fixed(count: Floats, most: Floats, counts: tuple[int, ...], workload: Workload) -> Floats:
    """Of the ``counts`` that are asked for, the least that carries the load, or the most there is room for; 0 if none."""
    found: Floats = np.zeros(len(count))
    for number in sorted(counts, reverse=workload.rate is not None):
        fits = (number <= most) & ((number >= count) if workload.rate is not None else True)
        found = np.where(fits, float(number), found)
    return found


def disaggregated_pools(
    setting: Setting, workload: Workload, prefill: Workers, decode: Workers, budget: int, search: Search
) -> Deployments:
    """Every prefill worker with every decode worker, in whole numbers that fit the budget.

    Of a pair's decode counts, all up to `ALL_COUNTS` and the largest that still leave room for the prompts' workers; of its
    prefill counts, the fewest that keep up and a few more.
    """
    p, d = np.divmod(np.arange(len(prefill) * len(decode)), max(1, len(decode)))
    same = np.array([kind.backend for kind in prefill.kinds])[prefill.kind] if len(prefill) else np.zeros(0, str)
    other = np.array([kind.backend for kind in decode.kinds])[decode.kind] if len(decode) else np.zeros(0, str)
    together = (same[p] == other[d]) & (prefill.gpus[p] + decode.gpus[d] <= budget)
    p, d = p[together], d[together]
    transfer = _transfer(setting, prefill, decode, p, d) + _handover(setting, decode)[d]
    tables = [nothing()]
    counts = _decode_counts(workload, prefill, decode, p, d, budget)
    if search.counts:
        counts = [np.full(len(p), float(number)) for number in search.counts]
    for decode_count in counts:
        rows = np.flatnonzero(decode_count >= 1)
        per_s = np.minimum(decode_count[rows] * decode.requests_per_s[d[rows]], workload.rate or np.inf)
        fewest = np.floor(per_s / prefill.requests_per_s[p[rows]]) + 1.0
        pairs = (workload, prefill, decode, p[rows], d[rows], decode_count[rows])
        spared = [fewest + spare for spare in SPARE_PREFILL]
        given = [np.full(len(rows), float(number)) for number in search.prefill_counts or ()]
        tables += [_pools(*pairs, number, transfer[rows], budget) for number in given or spared]
    return joined(tables)


def _pools(
    workload: Workload,
    prefill: Workers,
    decode: Workers,
    p: Rows,
    d: Rows,
    count: Floats,
    prefill_count: Floats,
    transfer: Floats,
    budget: int,
) -> Deployments:
    each = prefill.requests_per_s[p]
    per_s = np.minimum(count * decode.requests_per_s[d], workload.rate or np.inf)
    if workload.rate is None:
        per_s = np.minimum(per_s, _ALL_BUT_FULL * each * prefill_count)
    gpus = prefill_count * prefill.gpus[p] + count * decode.gpus[d]
    room = gpus <= budget
    p, d = p[room], d[room]
    count, prefill_count, gpus, per_s, each = (x[room] for x in (count, prefill_count, gpus, per_s, each))
    transfer, groups = transfer[room], decode.dp[d] * count
    law = ArrivalLaw(workload.variation) if workload.rate is not None else AT_RANDOM
    behind = queue_wait(prefill.prompt_s[p], prefill.dp[p] * prefill_count, per_s / (each * prefill_count), law)
    wait = np.asarray(behind) + boarding_wait(prefill.boarding_s[p], per_s, prefill_count, law)
    ttft = prefill.ttft_s[p] + transfer + wait
    tpot = decode.tpot_s[d]
    in_flight = per_s * (workload.mean_output * tpot + ttft)
    slots = np.maximum(np.floor(in_flight / groups), 1.0)
    holds = (slots <= decode.sequences[d]) & np.isfinite(ttft)
    if workload.concurrency is not None:
        holds &= in_flight <= workload.concurrency
        ttft = np.maximum(ttft, workload.concurrency / per_s - workload.mean_output * tpot)
        in_flight = np.full(len(p), float(workload.concurrency))
        slots = decode.batch[d]
    elif workload.rate is not None:
        slots = decode.batch[d]
    return Deployments(d, p, count, prefill_count, gpus, per_s, tpot, ttft, in_flight, slots).take(holds)


def _decode_counts(workload: Workload, prefill: Workers, decode: Workers, p: Rows, d: Rows, budget: int) -> list[Floats]:
    """Columns of decode workers to try for each pair; 0 where a pair has no such count."""
    most = np.floor((budget - prefill.gpus[p]) / decode.gpus[d])
    if workload.rate is not None:
        needed = np.ceil(workload.rate / decode.requests_per_s[d] - 1e-9)
        return [np.where(needed <= most, needed, 0.0)]
    # Prefill GPUs that one decode worker keeps busy say how many decode workers fill the budget.
    share = decode.requests_per_s[d] / prefill.requests_per_s[p] * prefill.gpus[p]
    full = np.clip(np.floor(budget / (decode.gpus[d] + share)), 1.0, most)
    counts = [np.where(n <= most, float(n), 0.0) for n in range(1, 1 + min(ALL_COUNTS, int(most.max(initial=0))))]
    return counts + [np.where(full - less > ALL_COUNTS, full - less, 0.0) for less in (0, 1, 2)]


def _transfer(setting: Setting, prefill: Workers, decode: Workers, p: Rows, d: Rows) -> Floats:
    one = np.ones(1)
    to, of = (Arrangement(w.tp[r], one, w.pp[r], one) for w, r in ((decode, d), (prefill, p)))
    return np.asarray(transfer_seconds(setting, of, to), float) + np.zeros(len(p))


def _handover(setting: Setting, decode: Workers) -> Floats:
    """[decode worker] what its engine adds to a first token."""
    each = [handover_seconds(replace(setting, backend=load_backend(kind.backend)), decode.tpot_s) for kind in decode.kinds]
    return np.stack(each)[decode.kind, np.arange(len(decode))] if each else np.zeros(len(decode))


def worth_pairing(workers: Workers, *, decode: bool) -> Rows:
    """Rows that no other worker of as many GPUs beats in everything that a deployment's numbers come from.

    Decode workers: time per token and requests a second. Prefill workers: requests a second, time of a lone prompt and of a
    step, and attention groups (the more serve a queue, the shorter it is). What else differs is the KV cache's way from pool to
    pool.
    """
    kept = []
    backend = np.array([kind.backend for kind in workers.kinds])[workers.kind] if len(workers) else np.zeros(0, str)
    for gpus in np.unique(workers.gpus):
        for name in np.unique(backend):
            rows = np.flatnonzero((workers.gpus == gpus) & (backend == name))
            w = workers.take(rows)
            costs = (w.tpot_s, -w.requests_per_s) if decode else (-w.requests_per_s, w.ttft_s, -w.dp, w.boarding_s)
            kept.append(rows[front(*costs)])
    return np.sort(np.concatenate(kept)) if kept else np.zeros(0, np.int64)


def front(*costs: Floats) -> Rows:
    """Rows that no other row beats or equals in every cost (the first of equals stays), in order of the first cost."""
    order = np.lexsort(costs[::-1])
    table = np.stack([c[order] for c in costs])
    if len(table) == 2:
        least = np.minimum.accumulate(table[1])
        return order[np.concatenate(([True], table[1, 1:] < least[:-1]))] if len(order) else order
    kept: list[int] = []
    for i in range(table.shape[1]):
        if not np.any(np.all(table[:, kept] <= table[:, i : i + 1], axis=0)):
            kept.append(i)
    return order[kept]
