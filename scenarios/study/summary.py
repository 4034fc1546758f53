"""What a study says as a whole, gathered from its points one by one: the best, the front, the metrics, the refusals."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from ..answer.evaluation import Evaluation, Metric, Sweep, SweepPoint
from ..answer.words.leading_metric import HEADINGS, LEADING, meets
from ..answer.words.number_text import number_text

#: The two metrics of the front, the first pair that all answers have: what it costs, and what a user sees.
_PAIRS = (("usd_per_mtok_output", "tpot"), ("output_tokens_per_s_gpu", "tpot"))


class Summary:
    """Points are added in order. Of a point that is not the best so far, no more than two numbers are kept."""

    def __init__(self, axes: Sequence[str]) -> None:
        self.axes = tuple(axes)
        self.count = 0
        self.keys: dict[str, None] = {}
        self.refused: Counter[str] = Counter()
        self.first: Evaluation | None = None
        self._limited = False
        self._fitting = 0
        self._seen: dict[str, tuple[int, float, float]] = {}  # metric -> answers that have it, its least and its most
        self._best: dict[str, tuple[float, tuple[str, ...], Metric]] = {}
        self._front: list[tuple[int, dict[str, float]]] = []

    @classmethod
    def of(cls, axes: Sequence[str], points: Iterable[SweepPoint]) -> Summary:
        """The summary of ``points``."""
        found = cls(axes)
        for point in points:
            found.add(point)
        return found

    def add(self, point: SweepPoint) -> None:
        """One point more."""
        place, answer = self.count, point.evaluation
        self.count += 1
        if answer is None:
            self.refused[point.refusal] += 1
            return
        self.first = self.first or answer
        self.keys |= dict.fromkeys(metric.key for metric in answer.metrics)
        self._limited = self._limited or bool(answer.limits)
        if not meets(answer):
            return
        self._fitting += 1
        costs = {}
        for metric in answer.metrics:
            if not math.isfinite(metric.value):
                continue
            cost = -metric.value if metric.better == "high" else metric.value
            if metric.key in LEADING:
                count, least, most = self._seen.get(metric.key, (0, metric.value, metric.value))
                self._seen[metric.key] = (count + 1, min(least, metric.value), max(most, metric.value))
                if metric.key not in self._best or cost < self._best[metric.key][0]:
                    self._best[metric.key] = (cost, point.values, metric)
            if any(metric.key in pair for pair in _PAIRS):
                costs[metric.key] = cost
        self._front.append((place, costs))

    def sweep(self, points: Sequence[SweepPoint], before: str = "") -> Sweep:
        """The study of ``points``, which are those that were added; its sentence begins with what is said ``before``. At least
        one of them has an answer."""
        assert self.first is not None
        name, description = self.first.name, self.first.description
        keys, sentence = tuple(self.keys), before + self._sentence()
        return Sweep(name, description, sentence, self.axes, points, self._on_front(), keys, dict(self.refused))

    def _sentence(self) -> str:
        """The best point by the first leading metric that differs among those that meet every limit."""
        refused = self.refused.total()
        told = f"{self.count} points over {' and '.join(self.axes)}" + (f", {refused} refused" if refused else "")
        if not self._fitting:
            return f"{told}: none meets every limit."
        shared = [key for key in LEADING if key in self._seen and self._seen[key][0] == self._fitting]
        differing = [key for key in shared if self._seen[key][1] < self._seen[key][2]]
        key = next(iter(differing + shared), None)
        if key is None:
            return f"{told}."
        _, values, metric = self._best[key]
        where = ", ".join(f"{path}={value}" for path, value in zip(self.axes, values, strict=True))
        limits = f", {self._fitting} within every limit" if self._limited else ""
        value = number_text(metric.value, metric.unit if metric.unit == "s" or key not in HEADINGS else "", key)
        return f"{told}{limits}: the {metric.better}est {HEADINGS.get(key, metric.words)} is {value}, at {where}."

    def _on_front(self) -> tuple[int, ...]:
        """Places of the points that meet every limit and that no other one beats in both metrics."""
        pair = next((p for p in _PAIRS if self._front and all(key in costs for _, costs in self._front for key in p)), None)
        if pair is None:
            return ()
        found, best = [], math.inf
        for place, costs in sorted(self._front, key=lambda f: (f[1][pair[0]], f[1][pair[1]], f[0])):
            if costs[pair[1]] < best:
                best = costs[pair[1]]
                found.append(place)
        return tuple(sorted(found))
