"""The deployments that a plan shows: the front first, then the best of the rest, each evaluated on its own.

A table ranks; what is shown is `evaluate`'s, the same numbers to the last digit that `explain` and a sweep give of the same
deployment. Deployments that differ only in a batch limit which does not bind are one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from ...sim.inputs.feasible import Unanswerable
from ..answer.evaluate import evaluate, in_words
from ..answer.evaluation import Candidate, Evaluation
from ..ask.search import Search
from .pools import Rows, front
from .table import Table
from .widths import Floats

Place = tuple[Table, int]
#: Deployments looked through for candidates beside the front, and evaluated until one meets the limits on its own.
_LOOKED_THROUGH, _TRIED = 500, 40
#: Metrics of an evaluation that a candidate repeats.
_VALUES = (
    *("tpot", "ttft", "requests_per_s", "output_tokens_per_s", "output_tokens_per_s_gpu", "input_tokens_per_s_gpu"),
    *("tokens_per_s_user", "concurrency", "usd_per_mtok_output", "usd_per_mtok", "usd_per_hour"),
)
#: How near to its limits a row is evaluated, too: what a table's straight lines between batches may be off.
_NEAR = 1.005


@dataclass(frozen=True, slots=True)
class Shown:
    """A candidate, the row it was made of, and its own evaluation."""

    table: Table
    row: int
    candidate: Candidate
    answer: Evaluation

    @property
    def rank(self) -> tuple[float, float, float, float]:
        """Cheapest first; of equal bills within the limits the quickest per token, as on the front; beyond them the nearest."""
        values = self.candidate.values
        usd = values["usd_per_mtok_output"]
        bill = usd if np.isfinite(usd) else self.candidate.gpus / values["output_tokens_per_s"]
        return float(f"{bill:.9g}"), max(1.0, worst_of(self.answer)), values["tpot"], values["ttft"]


def worst_of(answer: Evaluation) -> float:
    """The worst of got / wanted over an evaluation's limits; 0 without any."""
    return max((limit.got / limit.wanted for limit in answer.limits), default=0.0)


@dataclass(slots=True)
class Ranked:
    """The rows of all tables in the order of a plan, and the evaluations made of them. ``failed``: rows that meet the limits in
    their table and not on their own; ``gained``: the other way round."""

    tables: list[Table]
    failed: int = 0
    gained: int = 0
    _known: dict[tuple[int, int], Shown | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.of = np.concatenate([np.full(len(t.rows), i) for i, t in enumerate(self.tables)]).astype(int)
        self.at = np.concatenate([np.arange(len(t.rows)) for t in self.tables]).astype(int)
        priced = not any(t.unpriced for t in self.tables)
        # Equal bills differ by rounding only.
        self.bill = np.round(np.concatenate([t.burden(priced) for t in self.tables]), 9)
        self.misses = np.concatenate([t.misses() for t in self.tables])
        self.tpot, self.ttft = (np.concatenate([getattr(t.rows, c) for t in self.tables]) for c in ("tpot_s", "ttft_s"))
        beyond = np.where(self.misses <= _NEAR, 0.0, self.misses)
        # At one price within the limits, the quickest per token: what the front draws.
        missed = np.maximum(self.misses, 1.0)
        self.order = np.lexsort((self.ttft, self.tpot, missed, self.bill, beyond))[:_LOOKED_THROUGH].tolist()

    of: Rows = field(init=False)
    at: Rows = field(init=False)
    bill: Floats = field(init=False)
    misses: Floats = field(init=False)
    tpot: Floats = field(init=False)
    ttft: Floats = field(init=False)
    order: list[int] = field(init=False)

    def evaluated(self, row: int) -> Shown | None:
        """The row on its own; None where its table lets it be and its evaluation does not."""
        key = (int(self.of[row]), int(self.at[row]))
        if key not in self._known:
            self._known[key] = found = _evaluated(self.tables[key[0]], key[1])
            fine = found is not None and found.candidate.meets
            self.failed += bool(self.misses[row] <= 1.0) and not fine
            self.gained += bool(self.misses[row] > 1.0) and fine
        return self._known[key]

    def distinct(self, rows: Iterable[int]) -> Iterator[int]:
        """``rows`` without those that differ from an earlier one only in a batch that is not reached."""
        told = set()
        for row in rows:
            table, at = self.tables[self.of[row]], int(self.at[row])
            serving = table.serving(at)
            alike = serving.model_copy(update={"decode": serving.decode.model_copy(update={"batch": None})})
            key = (int(self.of[row]), repr(alike), f"{self.tpot[row]:.9g} {self.bill[row]:.9g}")
            if key not in told:
                told.add(key)
                yield row

    def settled(self, most: int = _TRIED) -> Shown | None:
        """The first that meets every limit on its own."""
        for tried, row in enumerate(self.distinct(self.order)):
            if tried >= most or self.misses[row] > _NEAR:
                return None
            found = self.evaluated(row)
            if found is not None and found.candidate.meets:
                return found
        return None


def candidates(ranked: Ranked, search: Search) -> list[Shown]:
    """At most ``search.keep`` deployments: the best that meets the limits, the front, then the best of the rest."""
    if not ranked.order:
        return []
    limit = ranked.tables[0].question.slo.ttft or np.inf
    in_time = np.flatnonzero(ranked.ttft <= limit * _NEAR)
    in_time = in_time[np.argsort(ranked.ttft[in_time], kind="stable")]
    edge = in_time[front(ranked.tpot[in_time], ranked.bill[in_time])]
    best = ranked.settled()
    picked = _spread(ranked, edge, max(1, search.keep * 2 // 3))
    found: list[Shown] = [best] if best is not None else []
    for row in ranked.distinct([*picked, *ranked.order]):
        if len(found) >= search.keep:
            break
        shown = ranked.evaluated(row)
        if shown is not None and not any(_twins(shown, other) for other in found):
            found.append(shown)
    return _in_order(found, limit)


def _twins(one: Shown, other: Shown) -> bool:
    """The same deployment but for a batch that neither reaches."""
    if one is other:
        return True
    if one.candidate.cluster != other.candidate.cluster or one.candidate.gpus != other.candidate.gpus:
        return False
    without = [s.candidate.arrangement.rsplit(", batch ", 1)[0] for s in (one, other)]
    alike = (f"{s.candidate.values[key]:.7g}" for key in ("tpot", "output_tokens_per_s") for s in (one, other))
    return without[0] == without[1] and next(alike) == next(alike) and next(alike) == next(alike)


def _in_order(found: list[Shown], ttft_limit: float) -> list[Shown]:
    """Marked where they are on the front of those whose first token comes in time: the best first, then the front from cheap
    to dear, then the rest; those that miss their limits last, from near to far."""
    in_time = [s for s in found if s.candidate.values["ttft"] <= ttft_limit]
    edge = front(np.array([s.candidate.values["tpot"] for s in in_time]), np.array([float(s.rank[0]) for s in in_time]))
    on_front = {id(in_time[i]) for i in edge.tolist()}
    good = [s for s in found if s.candidate.meets]
    best = min(good, key=lambda s: s.rank) if good else None

    def place(s: Shown) -> tuple[float, ...]:
        return (
            s is not best,
            not s.candidate.meets,
            id(s) not in on_front,
            0.0 if s.candidate.meets else worst_of(s.answer),
            *s.rank,
        )

    ordered = sorted(found, key=place)
    return [replace(s, candidate=replace(s.candidate, on_front=id(s) in on_front)) for s in ordered]


def _spread(ranked: Ranked, edge: Rows, most: int) -> list[int]:
    """At most ``most`` rows of the front, evenly along it: those that meet the limits from cheap to dear, then the others from
    near to far."""
    picked = edge[np.linspace(0, len(edge) - 1, min(len(edge), most)).round().astype(int)].tolist()
    return sorted(set(picked), key=lambda row: (max(1.0, ranked.misses[row]), ranked.bill[row]))


def _evaluated(table: Table, row: int) -> Shown | None:
    serving = table.serving(row)
    try:
        closed = evaluate(replace(table.question, serving=serving, seed=0))  # a plan's seed is that of the exchanges it plays
    except Unanswerable:  # at the very edge of what it carries the table says yes and the evaluation no
        return None
    answer = replace(closed, seed=table.question.seed)
    moe = table.setting.model.experts > 0
    words = f"{in_words(serving.decode, moe)}, batch {serving.decode.batch}"
    if serving.prefill is not None:
        words = f"prefill {in_words(serving.prefill, moe)}, decode {words}"
    values = {metric.key: metric.value for metric in answer.metrics if metric.key in _VALUES}
    meets = all(limit.met for limit in answer.limits)
    cluster, own = table.question.cluster, table.search.clusters
    elsewhere = next((ref for ref in own if ref in (cluster.name, cluster.file)), "")
    shown = Candidate(serving, cluster.label, answer.gpus, words, values, False, meets, hardware=elsewhere)
    return Shown(table, row, shown, answer)
