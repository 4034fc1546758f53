"""Timings that cannot be right: faster than the links allow, or contradicting each other at the same operating point."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...hwmodels.errors import BadInput
from ...sim.ep.bound import stage_loads
from ...sim.ep.shape import Shape
from ...sim.ep.stage import LINKS, Machine, Stage
from .ep_rows import Group, Row

#: A time may undercut the link's floor by this much before it is called impossible (expected rows, not the drawn ones).
SLACK = 0.8
#: Timings of one operating point that differ by more than this factor contradict each other.
CONTRADICTION = 1.5
_SET_ASIDE = ("latency_us", "role")


def link_floor_s(stages: tuple[Stage, ...], shape: Shape, machine: Machine) -> NDArray[np.float64]:
    """Seconds that the busiest link needs at its raw rate: no kernel can be quicker, whatever its constants."""
    floor = np.zeros_like(np.asarray(shape.tokens, float))
    for stage in stages:
        moves = tuple(
            replace(m, loads=tuple(replace(load, efficiency=1.0) for load in m.loads if load.resource in LINKS[:2]))
            for m in stage.moves
        )
        for seconds in stage_loads(replace(stage, moves=moves), shape, machine).values():
            floor = np.maximum(floor, seconds)
    return floor


def check_speed(table: Path, group: Group, floor_s: NDArray[np.float64]) -> None:
    """Raises BadInput naming the first row of ``group`` that is faster than the link."""
    measured = group.measured_s
    for row, seconds, least in zip(group.rows, measured, floor_s, strict=True):
        if seconds < SLACK * least:
            raise BadInput(
                f"{table}: line {row.line}: latency_us: {row.latency_us:g} us, but the bytes alone take {1e6 * least:.4g} us at"
                " the link's full rate: wanted microseconds of one kernel"
            )


def check_duplicates(table: Path, rows: list[Row]) -> None:
    """Raises BadInput naming the first two rows of one operating point that contradict each other."""
    for first, second in duplicates(rows):
        low, high = sorted((first.latency_us, second.latency_us))
        if high > CONTRADICTION * low:
            raise BadInput(
                f"{table}: line {second.line}: latency_us: {second.latency_us:g} us contradicts line {first.line} of the"
                f" same operating point ({first.latency_us:g} us): remove the wrong one"
            )


def duplicates(rows: list[Row]) -> Iterator[tuple[Row, Row]]:
    """Pairs (the first, a later) of rows that measured the same thing."""
    seen: defaultdict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        same = seen[tuple(text for name, text in row.values.items() if name not in _SET_ASIDE)]
        if same:
            yield same[0], row
        same.append(row)
