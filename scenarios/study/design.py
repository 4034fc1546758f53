"""Which points a study has: every combination, one change at a time, a Latin hypercube over ranges; and where more are due."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Literal

import numpy as np

from ...hwmodels.errors import BadInput
from ..answer.evaluation import SweepPoint
from ..answer.words.leading_metric import leading, meets
from ..ask.document import ScenarioError

OPTION = "--over"
Design = Literal["grid", "one-at-a-time", "latin-hypercube"]
Values = tuple[str, ...]
#: From this ratio of a range's ends on, steps inside it are equal factors and not equal differences.
_LOGARITHMIC = 4.0
_NUMBER = re.compile(r"\s*([-+]?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)\s*(.*?)\s*")


@dataclass(frozen=True, slots=True)
class Axis:
    """One swept path: its values, or the two ends of a range."""

    path: str
    values: Values = ()
    low: str = ""
    high: str = ""


def axis(text: str) -> Axis:
    """``"path=a,b,c"`` or ``"path=low..high"``; commas inside brackets or quotes do not divide. Raises ScenarioError."""
    path, equals, listed = text.partition("=")
    values = _divided(listed)
    if not equals or not path.strip() or not all(values):
        raise ScenarioError(f"{OPTION} {text}: wanted path=a,b,c, for example --over deployment.decode.batch=64,128,256")
    if len(values) == 1 and values[0].count("..") == 1 and not values[0].startswith(("{", "[", "'", '"', "./", "../")):
        low, _, high = (part.strip() for part in values[0].partition(".."))
        a, b = _quantity(low, text), _quantity(high, text)
        if a[1] != b[1] or not a[0] < b[0]:
            raise ScenarioError(f"{OPTION} {text}: wanted a range low..high of one unit, for example {path}=20 ms..60 ms")
        return Axis(path.strip(), (), low, high)
    if len(set(values)) < len(values):
        twice = next(value for value in values if values.count(value) > 1)
        raise ScenarioError(f"{OPTION} {text}: {twice} is there twice: give each value once")
    return Axis(path.strip(), values)


def grid(axes: Sequence[Axis]) -> Iterable[Values]:
    """Every combination, the last axis fastest."""
    _listed(axes, "grid")
    return product(*(a.values for a in axes))


def one_at_a_time(axes: Sequence[Axis]) -> Iterable[Values]:
    """The first value of every axis together, then each other value of each axis with the first ones of the rest."""
    _listed(axes, "one-at-a-time")
    base = tuple(a.values[0] for a in axes)
    yield base
    for i, a in enumerate(axes):
        for value in a.values[1:]:
            yield (*base[:i], value, *base[i + 1 :])


def latin_hypercube(axes: Sequence[Axis], samples: int, seed: int) -> Iterable[Values]:
    """``samples`` points: each range cut into as many equal parts, each part used once; listed values equally often.

    (McKay, Beckman and Conover 1979, Technometrics 21:239.) The same seed gives the same points.
    """
    draw = np.random.default_rng(seed)
    columns = []
    for a in axes:
        places = (draw.permutation(samples) + draw.random(samples)) / samples
        if a.values:
            columns.append([a.values[int(u * len(a.values))] for u in places])
        else:
            columns.append([between(a.low, a.high, float(u)) for u in places])
    seen: dict[Values, None] = dict.fromkeys(zip(*columns, strict=True))
    return list(seen)


def between(low: str, high: str, share: float) -> str:
    """The value ``share`` of the way from ``low`` to ``high``: by factors where they are far apart; whole if both are."""
    (a, unit), (b, _) = _quantity(low, low), _quantity(high, high)
    value = a * (b / a) ** share if a > 0 and b / a >= _LOGARITHMIC else a + (b - a) * share
    whole = all(re.fullmatch(r"[-+]?[0-9]+", text.strip()) for text in (low, high)) and not unit
    number = str(round(value)) if whole else f"{value:.6g}"
    return f"{number} {unit}".rstrip()


def bends(axes: Sequence[str], points: Sequence[SweepPoint], most: int) -> list[Values]:
    """At most ``most`` new points, in the middle of the gaps where the answer changes most, the sharpest first.

    A gap lies between two points that differ in one numeric axis, with none between them. A flip in it (a limit met or not, an
    arrangement, a refusal) comes before a bend: the change of the leading metric's slope, in logs.
    """
    known = {point.values for point in points}
    key = leading([p.evaluation for p in points if p.evaluation is not None])
    scored: list[tuple[float, float, Values]] = []
    for i in range(len(axes)):
        lines: dict[Values, list[SweepPoint]] = {}
        for point in points:
            if _is_number(point.values[i]):
                lines.setdefault((*point.values[:i], *point.values[i + 1 :]), []).append(point)
        for line in lines.values():
            line.sort(key=lambda p: _quantity(p.values[i], "")[0])
            for j in range(len(line) - 1):
                a, b = line[j], line[j + 1]
                middle = between(a.values[i], b.values[i], 0.5)
                values = (*a.values[:i], middle, *a.values[i + 1 :])
                if values not in known and middle not in (a.values[i], b.values[i]):
                    flip = 1.0 if _side(a) != _side(b) else 0.0
                    scored.append((flip, _bend(line, j, i, key), values))
    scored.sort(key=lambda s: (-s[0], -s[1], s[2]))
    flips = [values for flip, _, values in scored if flip]
    return (flips or [values for _, bend, values in scored if bend > 0.01])[:most]


def _bend(line: Sequence[SweepPoint], j: int, i: int, key: str | None) -> float:
    """How much the slope of the leading metric differs on the two sides of gap ``j``, times the gap's width (logs)."""
    logs = []
    for point in line[max(0, j - 1) : j + 3]:
        value = None if point.evaluation is None or key is None else point.evaluation.metric(key).value
        x = _quantity(point.values[i], "")[0]
        if value is None or value <= 0 or x <= 0:
            return 0.0
        logs.append((math.log(x), math.log(value)))
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairwise(logs) if b[0] > a[0]]
    width = logs[min(1, len(logs) - 1)][0] - logs[0][0] if len(logs) > 1 else 0.0
    return (max(slopes) - min(slopes)) * abs(width) if len(slopes) > 1 else 0.0


def _side(point: SweepPoint) -> tuple[object, ...]:
    answer = point.evaluation
    if answer is None:
        return ("refused",)
    return (meets(answer), answer.cluster, tuple(pool.arrangement.split(", batch")[0] for pool in answer.pools))


def _listed(axes: Sequence[Axis], design: str) -> None:
    for a in axes:
        if not a.values:
            raise BadInput(
                f"{OPTION} {a.path}={a.low}..{a.high}: a range has no values for --design {design}: list them, or take "
                "--design latin-hypercube"
            )


def _quantity(text: str, place: str) -> tuple[float, str]:
    found = _NUMBER.fullmatch(text)
    if found is None:
        raise ScenarioError(f"{OPTION} {place}: wanted a number with its unit, got {text!r}")
    return float(found[1]), found[2]


def _is_number(text: str) -> bool:
    return _NUMBER.fullmatch(text) is not None


def _divided(listed: str) -> Values:
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
