"""The deployments that a plan shows: the front first, then the best of the rest, each in words and numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..answer.evaluate import in_words
from ..answer.evaluation import Candidate
from ..ask.search import Search
from .pools import Rows, front
from .table import Table
from .widths import Floats

Place = tuple[Table, int]
#: Deployments looked through for candidates beside the front: enough to find `Search.keep` different ones.
_LOOKED_THROUGH = 500


@dataclass(frozen=True, slots=True)
class Shown:
    """A candidate and the row it was made of."""

    table: Table
    row: int
    candidate: Candidate


def candidates(tables: list[Table], search: Search) -> tuple[list[Shown], list[Place]]:
    """At most ``search.keep`` deployments, the front first; and the places of those that meet every limit, cheapest first.

    Where the GPUs of a cluster have no price, all are ranked by GPU time in place of dollars.
    """
    of = np.concatenate([np.full(len(t.rows), i) for i, t in enumerate(tables)])
    at = np.concatenate([np.arange(len(t.rows)) for t in tables])
    if not len(of):
        return [], []
    # Equal bills differ by rounding only: then the earlier first token wins, then the larger deployment.
    priced = not any(t.unpriced for t in tables)
    usd = np.round(np.concatenate([t.burden(priced) for t in tables]), 9)
    misses = np.concatenate([t.misses() for t in tables])
    tpot, ttft, per_s = (np.concatenate([getattr(t.rows, c) for t in tables]) for c in ("tpot_s", "ttft_s", "requests_per_s"))
    meets = misses <= 1.0
    order = np.lexsort((tpot, -per_s, ttft, usd, np.where(meets, 0.0, misses)))[:_LOOKED_THROUGH].tolist()
    in_time = np.flatnonzero(ttft <= (tables[0].question.slo.ttft or np.inf))
    in_time = in_time[np.lexsort((-per_s[in_time], ttft[in_time]))]
    edge = in_time[front(tpot[in_time], usd[in_time])]

    def shown(row: int) -> Shown:
        return of_row(tables[of[row]], int(at[row]), row in on_front, bool(meets[row]))

    on_front = set(edge.tolist())
    found = [shown(row) for row in _spread(edge, usd, misses, max(1, search.keep * 2 // 3))]
    told = {each.candidate.arrangement for each in found}
    for row in order:
        if len(found) >= search.keep:
            break
        if row in on_front and found:
            continue
        if (each := shown(row)).candidate.arrangement not in told:
            told.add(each.candidate.arrangement)
            found.append(each)
    return found, [(tables[of[row]], int(at[row])) for row in order if meets[row]]


def _spread(edge: Rows, usd: Floats, misses: Floats, most: int) -> list[int]:
    """At most ``most`` rows of the front, evenly along it, the cheapest that meets the limits among them and first of all.

    Then come the others that meet the limits, from cheap to dear, and those that do not, from near to far.
    """
    picked = set(edge[np.linspace(0, len(edge) - 1, min(len(edge), most)).round().astype(int)].tolist())
    good = edge[misses[edge] <= 1.0]
    if len(good):
        picked.add(int(good[np.argmin(usd[good])]))
    return sorted(picked, key=lambda row: (max(1.0, misses[row]), usd[row]))


def of_row(table: Table, row: int, on_front: bool, meets: bool) -> Shown:
    """Row ``row`` of ``table`` as a plan shows it."""
    serving, rows, workload = table.serving(row), table.rows, table.question.workload
    per_s, gpus = float(rows.requests_per_s[row]), int(rows.gpus[row])
    out = per_s * workload.mean_output
    values = {
        "tpot": float(rows.tpot_s[row]),
        "ttft": float(rows.ttft_s[row]),
        "requests_per_s": per_s,
        "output_tokens_per_s": out,
        "output_tokens_per_s_gpu": out / gpus,
        "input_tokens_per_s_gpu": per_s * workload.mean_input / gpus,
        "tokens_per_s_user": 1.0 / float(rows.tpot_s[row]),
        "concurrency": float(rows.in_flight[row]),
        "usd_per_mtok_output": float(table.usd_per_mtok_output[row]),
        "usd_per_mtok": float(table.usd_per_mtok_output[row])
        * workload.mean_output
        / (workload.mean_input + workload.mean_output),
        "usd_per_hour": float(table.usd_per_hour[row]),
    }
    moe = table.setting.model.experts > 0
    words = f"{in_words(serving.decode, moe)}, batch {serving.decode.batch}"
    if serving.prefill is not None:
        words = f"prefill {in_words(serving.prefill, moe)}, decode {words}"
    cluster, own = table.question.cluster, table.search.clusters
    elsewhere = next((ref for ref in own if ref in (cluster.name, cluster.file)), "")
    return Shown(table, row, Candidate(serving, cluster.label, gpus, words, values, on_front, meets, hardware=elsewhere))
