"""The gallery answered: every variant that its rows need, on all cores where that is worth it, and the rows judged."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from itertools import pairwise

from ... import __version__
from ..answer.evaluation import SweepPoint
from ..ask.document import ScenarioError
from ..study.point import Task, read
from ..study.workers import Workers, by_itself
from .asked import Asked, Point, Variant, asked_of, names_or_files, tasks_of
from .row import Entry, Gallery, Row, judged

Progress = Callable[[int, int], None]

#: A metric's unit and the one that was published -> factor. Others have to be equal.
_SCALES: Mapping[tuple[str, str], float] = {
    ("s", "ms"): 1e3,
    ("s", "us"): 1e6,
    ("s", "min"): 1 / 60,
    ("B", "GB"): 1e-9,
    ("B", "kB"): 1e-3,
    ("B", "KiB"): 2.0**-10,
    ("B", "GiB"): 2.0**-30,
    ("B", "Gb"): 8e-9,
    ("B/s", "GB/s"): 1e-9,
    ("B/s", "Gb/s"): 8e-9,
    ("flop/s", "TFLOP/s"): 1e-12,
    ("tokens/s", "ktok/s"): 1e-3,
    ("", "%"): 100.0,
    ("", "B params"): 1e-9,
}


def gallery(name: str | None = None, progress: Progress | None = None, workers: Workers | None = None) -> Gallery:
    """All published systems, or the one called ``name`` (a file's path does as well). Raises BadInput."""
    asked = [asked_of(scenario) for scenario in names_or_files(name)]
    wanted = {variant for one in asked for point in one.points for variant in point.variants}
    answers = _answered(
        wanted, progress, workers or by_itself(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
    )
    entries = [
        Entry(one.name, one.published.system, one.published.section, " ".join(one.published.prose.split()), _rows(one, answers))
        for one in asked
    ]
    return Gallery(tuple(sorted(entries, key=lambda e: (e.section, e.scenario))), __version__)


def _answered(wanted: set[Variant], progress: Progress | None, workers: Workers) -> Mapping[Variant, SweepPoint]:
    tasks = list(tasks_of(wanted))
    variants: dict[str, list[Variant]] = {}
    for variant, task in tasks:
        variants.setdefault(task.key, []).append(variant)
    first: dict[str, Task] = {task.key: task for _, task in tasks}
    found: dict[Variant, SweepPoint] = {}
    for done, (task, (record, shared)) in enumerate(workers(first.values()), 1):
        found.update(dict.fromkeys(variants[task.key], read(record, shared)))
        if progress is not None:
            progress(done, len(first))
    return found


def _rows(one: Asked, answers: Mapping[Variant, SweepPoint]) -> tuple[Row, ...]:
    rows: list[Row] = []
    for point in one.points:
        expected = point.expected
        refusal, simulated, words = "", None, expected.words
        try:
            simulated, told = _simulated(point, answers)
            words = words or told
        except ScenarioError as error:
            refusal = str(error)
        error_pct, verdict = judged(expected, point.published, simulated)
        name = f"{one.name}:{expected.metric}" + (f"@{point.at}" if point.at else "")
        taken = sum(row.id == name or row.id.startswith(f"{name}#") for row in rows)
        fitted = expected.fitted
        rows.append(
            Row(
                id=f"{name}#{taken + 1}" if taken else name,
                scenario=one.name,
                system=one.published.system,
                section=one.published.section,
                metric=expected.metric,
                words=words or expected.metric,
                unit="%" if expected.as_ == "change" else expected.unit,
                at=point.at,
                over=expected.over.path if expected.over and point.at else "",
                published=point.published,
                between=expected.between,
                simulated=simulated,
                error_pct=error_pct,
                evidence=expected.evidence,
                tolerance_pct=expected.tolerance_pct,
                verdict=verdict,
                source=expected.source,
                corrected=expected.corrected.value if expected.corrected else None,
                why=expected.corrected.why if expected.corrected and verdict == "corrected" else "",
                fitted=""
                if fitted is None
                else f"{', '.join(fitted.parameters)}: fitted to {fitted.points} published points, explains {fitted.explains}",
                refusal=refusal,
                error_in="points" if expected.as_ == "change" else "%",
            )
        )
    return tuple(rows)


def _simulated(point: Point, answers: Mapping[Variant, SweepPoint]) -> tuple[float, str]:
    """The value in the published unit, and the metric's words. Raises ScenarioError where there is none."""
    expected = point.expected
    if expected.as_ == "crossing":
        return _crossing(point, answers), expected.words
    unit = expected.unit if expected.as_ in ("value", "difference", "mean") else None
    if expected.as_ == "mean":
        values = [_metric(answers[one], one, expected.metric, unit) for _, one, _ in point.along]
        return sum(value for value, _ in values) / len(values), values[0][1]
    value, words = _metric(answers[point.value], point.value, expected.metric, unit)
    if point.other is None or expected.relative_to is None:
        return value, words
    other, _ = _metric(answers[point.other], point.other, expected.relative_to.metric or expected.metric, unit)
    if expected.as_ == "difference":
        return value - other, words
    if other == 0.0:
        raise ScenarioError(f"{point.other.scenario}: {expected.metric} is 0, and nothing is a ratio of that")
    return (value / other, words) if expected.as_ == "ratio" else (100.0 * (value / other - 1.0), words)


def _crossing(point: Point, answers: Mapping[Variant, SweepPoint]) -> float:
    """The place on the axis where value and other are equal, straight between the two points that enclose it."""
    expected = point.expected
    assert expected.relative_to is not None and expected.over is not None
    key = expected.relative_to.metric or expected.metric
    gaps = [
        (float(at), _metric(answers[one], one, expected.metric, None)[0] / _metric(answers[two], two, key, None)[0] - 1.0)
        for at, one, two in point.along
        if two is not None
    ]
    for (before, low), (after, high) in pairwise(gaps):
        if low * high <= 0.0 and low != high:
            return before + (after - before) * low / (low - high)
    told = ", ".join(f"{100 * gap:+.3g} % at {at:g}" for at, gap in gaps)
    raise ScenarioError(f"{expected.metric}: no crossing along {expected.over.path}: {told}")


def _metric(answer: SweepPoint, variant: Variant, key: str, unit: str | None) -> tuple[float, str]:
    """``unit`` None: as it is."""
    if answer.evaluation is None:
        raise ScenarioError(answer.refusal)
    try:
        metric = answer.evaluation.metric(key)
    except KeyError:
        known = ", ".join(m.key for m in answer.evaluation.metrics)
        raise ScenarioError(f"{variant.scenario}: no metric {key!r}: there are {known}") from None
    if unit is None or unit == metric.unit:
        return metric.value, metric.words
    scale = _SCALES.get((metric.unit, unit))
    if scale is None:
        raise ScenarioError(f"{variant.scenario}: {key} is in {metric.unit or 'no unit'!r}, and cannot be read in {unit!r}")
    return metric.value * scale, metric.words
