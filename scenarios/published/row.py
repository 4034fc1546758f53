"""The rows of the gallery: one published figure, what is simulated for it, and the verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..ask.expectation import Evidence, Expectation

Verdict = Literal["holds", "missed", "corrected", "no claim"]


@dataclass(frozen=True, slots=True)
class Row:
    """``published`` and ``simulated`` in ``unit``; ``error_pct`` relative to the published value, of a change in points.

    ``id``: scenario, metric and, of a series, the point. ``at``: the value on the axis ``over``. ``corrected``: what the
    published value has to be by its own inputs, and ``why``. ``between``: a published range. ``simulated`` is None
    without an answer; ``refusal`` says why.
    """

    id: str
    scenario: str
    system: str
    section: int
    metric: str
    words: str
    unit: str
    at: str
    over: str
    published: float | None
    simulated: float | None
    error_pct: float | None
    evidence: Evidence
    tolerance_pct: float
    verdict: Verdict
    source: str
    corrected: float | None = None
    why: str = ""
    fitted: str = ""
    refusal: str = ""
    error_in: Literal["%", "points"] = "%"
    between: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One scenario of the gallery: what it reproduces, in words, and its rows."""

    scenario: str
    system: str
    section: int
    prose: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Gallery:
    """All entries that were asked for, in the order of their sections."""

    entries: tuple[Entry, ...]
    version: str

    @property
    def rows(self) -> tuple[Row, ...]:
        return tuple(row for entry in self.entries for row in entry.rows)

    def count(self, verdict: Verdict, evidence: Evidence | None = None) -> int:
        """Rows of that verdict, and of that evidence if one is given."""
        return sum(row.verdict == verdict and evidence in (None, row.evidence) for row in self.rows)


def judged(expected: Expectation, published: float | None, simulated: float | None) -> tuple[float | None, Verdict]:
    """The error in per cent (of a change: in points) and the verdict.

    ``corrected`` only where the published figure misses and the corrected one holds: a correction that is not borne out by the
    simulation is a miss as well, and so is a claim without an answer.
    """
    if simulated is None:
        return None, "missed"
    if expected.between is not None:
        low, high = expected.between
        error = _error(expected, min(max(simulated, low), high), simulated)
        return error, "holds" if abs(error) <= expected.tolerance_pct else "missed"
    if published is None:
        return None, "no claim"
    error = _error(expected, published, simulated)
    if abs(error) <= expected.tolerance_pct:
        return error, "holds"
    if expected.corrected is not None and abs(_error(expected, expected.corrected.value, simulated)) <= expected.tolerance_pct:
        return error, "corrected"
    return error, "missed"


def _error(expected: Expectation, published: float, simulated: float) -> float:
    if expected.as_ == "change":
        return simulated - published
    if published == 0.0:
        return 0.0 if simulated == 0.0 else float("inf")
    return 100.0 * (simulated / published - 1.0)
