"""What has to be answered for a scenario's expectations: every variant of it, and of those it is set against, once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ..ask.document import Document, ScenarioError
from ..ask.expectation import Expectation, Published, taken_off
from ..ask.gallery import published_names
from ..ask.scenario import changed, scenario_document
from ..study.key import Files, code_digest, point_key
from ..study.point import Task


@dataclass(frozen=True, slots=True)
class Variant:
    """A scenario (a name or a file) and the changes ("path=value") under which it is asked."""

    scenario: str
    sets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Point:
    """One value of an expectation: the variants whose metrics make it; ``at`` is its value on the axis, "" without one.

    ``along``: of a value of the whole axis, its places and the variants at each.
    """

    expected: Expectation
    published: float | None
    at: str
    value: Variant
    other: Variant | None
    along: tuple[tuple[str, Variant, Variant | None], ...] = ()

    @property
    def variants(self) -> tuple[Variant, ...]:
        """All that have to be answered for it."""
        pair = (self.value,) if self.other is None else (self.value, self.other)
        return pair + tuple(v for _, one, two in self.along for v in (one, two) if v is not None)


@dataclass(frozen=True, slots=True)
class Asked:
    """One scenario of the gallery and its points."""

    name: str
    scenario: str
    published: Published
    points: tuple[Point, ...]


def asked_of(scenario: str) -> Asked:
    """The expectations in a scenario's file. Raises ScenarioError where it has none."""
    document = scenario_document(scenario)
    _, published = taken_off(document)
    if published is None:
        raise ScenarioError(
            f"{document.source}: nothing is expected there (no key expect): there are {', '.join(published_names())}"
        )
    name = str(document.data.get("name", scenario)) if isinstance(document.data, dict) else scenario
    return Asked(name, scenario, published, tuple(_points(scenario, published)))


def tasks_of(variants: set[Variant]) -> Iterator[tuple[Variant, Task]]:
    """Each variant with what a worker needs to answer it, in a fixed order. Raises ScenarioError for a bad change."""
    files, known = Files(), dict[str, Document]()
    for variant in sorted(variants, key=lambda v: (v.scenario, v.sets)):
        if variant.scenario not in known:
            known[variant.scenario], _ = taken_off(scenario_document(variant.scenario))
        document = changed(known[variant.scenario], variant.sets)
        named = files.of(document.data)
        yield variant, Task(point_key(document, named), document, variant.sets, variant.sets, code_digest(), named)


def _points(scenario: str, published: Published) -> Iterator[Point]:
    for expected in published.expect:
        home = expected.scenario or scenario
        axis = expected.over
        values: tuple[str, ...] = tuple(_written(v) for v in axis.values) if axis is not None else ("",)
        points: list[Point] = []
        for place, at in enumerate(values):
            claimed = expected.published[place] if isinstance(expected.published, tuple) else expected.published
            here = (f"{axis.path}={at}",) if axis is not None else ()
            reference, other = expected.relative_to, None
            if reference is not None:
                elsewhere = reference.scenario or home
                # The other side moves along the axis as well, unless it is a scenario of its own or holds the axis itself.
                along = () if reference.scenario or any(s.startswith(f"{axis.path}=") for s in reference.set if axis) else here
                other = Variant(elsewhere, (*along, *reference.set))
            points.append(Point(expected, claimed, at, Variant(home, (*here, *expected.set)), other))
        if expected.of_axis:
            points = [replace(points[0], at="", along=tuple((p.at, p.value, p.other) for p in points))]
        yield from points


def _written(value: int | float | str) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def names_or_files(name: str | None) -> tuple[str, ...]:
    """The one asked for (a name or a file), or all that ship."""
    if name is None:
        return published_names()
    return (str(Path(name)) if name.endswith((".yaml", ".yml")) else name,)
