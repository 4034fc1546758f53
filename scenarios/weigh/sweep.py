"""The same question at every combination of some values: ``--over path=a,b,c``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from pathlib import Path

from ...hwmodels.errors import BadInput
from ..answer.evaluation import Sweep, SweepPoint
from ..answer.leading_metric import leading, meets
from ..answer.number_text import number_text
from ..ask.document import Document, ScenarioError
from ..ask.scenario import changed, read_scenario, scenario_document
from .evaluation_of import evaluation_of

MAX_POINTS = 10_000
OPTION = "--over"

Progress = Callable[[int, int], None]


def sweep(name_or_path: str | Path, overs: Iterable[str], sets: Sequence[str] = (), progress: Progress | None = None) -> Sweep:
    """The scenario with ``sets`` applied, answered at every combination of ``overs`` ("path=a,b,c").

    A combination that cannot be asked is a point with the reason. Raises BadInput for an ``--over`` that cannot be read, and if
    no combination at all can be asked.
    """
    axes = [axis(text) for text in overs]
    _check(axes)
    document = changed(scenario_document(name_or_path), sets)  # before the points: a swept value may lie inside what was set
    base = _named(document, name_or_path)
    combinations = list(product(*(values for _, values in axes)))
    points = []
    for done, values in enumerate(combinations):
        if progress is not None:
            progress(done, len(combinations))
        changes = [f"{path}={value}" for (path, _), value in zip(axes, values, strict=True)]
        points.append(_point(document, changes, values))
    if all(point.evaluation is None for point in points):
        why = points[0].refusal
        raise BadInput(f"{base}: none of {len(points)} points can be answered; the first: {why}")
    paths = tuple(path for path, _ in axes)
    first = next(point.evaluation for point in points if point.evaluation is not None)
    return Sweep(first.name, first.description, _sentence(paths, points), paths, tuple(points))


def axis(text: str) -> tuple[str, tuple[str, ...]]:
    """``"path=a,b,c"`` as the path and its values; commas inside brackets or quotes do not divide. Raises ScenarioError."""
    path, equals, listed = text.partition("=")
    values = _divided(listed)
    if not equals or not path.strip() or not all(values):
        raise ScenarioError(f"{OPTION} {text}: wanted path=a,b,c, for example --over deployment.decode.batch=64,128,256")
    if len(set(values)) < len(values):
        twice = next(value for value in values if values.count(value) > 1)
        raise ScenarioError(f"{OPTION} {text}: {twice} is there twice: give each value once")
    return path.strip(), values


def _divided(listed: str) -> tuple[str, ...]:
    values, depth, quote = [""], 0, ""
    for letter in listed:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter in "[{":
            depth += 1
        elif letter in "]}":
            depth -= 1
        if letter == "," and not quote and depth == 0:
            values.append("")
        else:
            values[-1] += letter
    return tuple(value.strip() for value in values)


def _check(axes: Sequence[tuple[str, tuple[str, ...]]]) -> None:
    if not axes:
        raise BadInput("a sweep needs something to sweep: --over path=a,b,c, for example --over deployment.decode.batch=64,128")
    paths = [path for path, _ in axes]
    for path in paths:
        if paths.count(path) > 1:
            raise BadInput(f"{OPTION} {path} is given twice: list all its values in one")
    count = math.prod(len(values) for _, values in axes)
    if count > MAX_POINTS:
        raise BadInput(f"{count:,} points are more than the {MAX_POINTS:,} of one sweep: give fewer values")


def _named(document: Document, name_or_path: str | Path) -> str:
    data = document.data
    return str(data["name"]) if isinstance(data, dict) and isinstance(data.get("name"), str) else str(name_or_path)


def _point(document: Document, changes: Sequence[str], values: tuple[str, ...]) -> SweepPoint:
    try:
        return SweepPoint(values, evaluation_of(read_scenario(changed(document, changes, OPTION))))
    except BadInput as error:
        text = str(error)
        for change in changes:  # the point's own row says what was set
            text = text.removeprefix(f"{OPTION} {change}: ")
        return SweepPoint(values, None, text)


def _sentence(axes: Sequence[str], points: Sequence[SweepPoint]) -> str:
    answers = [(point, point.evaluation) for point in points if point.evaluation is not None]
    refused = len(points) - len(answers)
    told = f"{len(points)} points over {' and '.join(axes)}" + (f", {refused} refused" if refused else "")
    fitting = [pair for pair in answers if meets(pair[1])]
    if not fitting:
        return f"{told}: none meets every limit."
    key = leading([evaluation for _, evaluation in fitting])
    if key is None:
        return f"{told}."
    lead = fitting[0][1].metric(key)
    best, answer = min(fitting, key=lambda pair: pair[1].metric(key).value * (-1 if lead.better == "high" else 1))
    where = ", ".join(f"{path}={value}" for path, value in zip(axes, best.values, strict=True))
    limits = "of those that meet every limit, " if any(evaluation.limits for _, evaluation in answers) else ""
    metric = answer.metric(key)
    return f"{told}: {limits}the {lead.better}est {lead.words} is {number_text(metric.value, metric.unit)}, at {where}."
