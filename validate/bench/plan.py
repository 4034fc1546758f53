"""How long a run will take: said before it starts, corrected as it goes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

#: Seconds of one case whatever its size (build, compile, check, capture) and of each 1e12 flop of its float64 reference and
#: timing together: 146 rows of the default shapes took 195 s on an H200 (2026-11-27), the largest layers some 12 s each.
CASE_S, PER_TFLOP_S, PER_GB_S = 0.8, 2.0, 0.6


def case_seconds(case: Any) -> float:
    """Rough time to check and time ``case`` on one data-centre GPU."""
    return float(CASE_S + PER_TFLOP_S * case.flops / 1e12 + PER_GB_S * case.bytes * case.repeat / 1e9)


class Progress:
    """What is left, from the estimate scaled by what the cases so far have really taken."""

    def __init__(self, cases: Sequence[Any]) -> None:
        self._left = [case_seconds(c) for c in cases]
        self._done, self._start = 0.0, time.monotonic()
        self.whole = sum(self._left)

    def first(self) -> str:
        return f"{len(self._left)} cases, about {minutes(self.whole)}"

    def next(self) -> str:
        """One case is finished: what is left, in words."""
        self._done += self._left.pop(0)
        pace = (time.monotonic() - self._start) / self._done
        return f"{len(self._left)} cases, {minutes(pace * sum(self._left))} left"


def minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
