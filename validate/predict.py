"""Predict every row of a measurement table, and say how far off each group is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..hwmodels.calibration import load_calibration
from ..hwmodels.catalog import load_cluster
from ..hwmodels.errors import BadInput, Uncalibrated
from ..sim.ep.bound import program_seconds
from ..sim.ep.machine import machine_of
from ..sim.ep.protocols import describe
from .measurement import PROTOCOL_NAMES, Group, grouped, read_table, unpredictable
from .oddities import ODDITIES, oddity_of
from .plausible import check_duplicates, check_speed, link_floor_s

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class GroupError:
    """Error of one (system, protocol, op, nodes). Percentages of the measured time; bias is the mean signed error.

    ``odd_rows`` of the rows are known oddities (`oddities`); all errors count them but ``mape_without_odd_pct``.
    """

    system: str
    protocol: str
    op: str
    nodes: int
    rows: int
    mape_pct: float
    median_ape_pct: float
    p90_ape_pct: float
    bias_pct: float
    calibrated_on: str
    odd_rows: int = 0
    mape_without_odd_pct: float | None = None


@dataclass(frozen=True, slots=True)
class Validation:
    """Errors by group, every predicted row (the table's columns and ``predicted_us``), and reason -> rows skipped."""

    table: str
    engine: str
    groups: tuple[GroupError, ...]
    rows: tuple[dict[str, Any], ...]
    skipped: dict[str, int]
    notes: tuple[str, ...] = ()


def validate_table(path: Path, *, engine: str = "closed", progress: Progress | None = None) -> Validation:
    """Predict ``path`` with the closed form or, ``engine="events"``, event by event on seeded uniform draws.

    Raises BadInput for a malformed table or one of which no row can be predicted.
    """
    rows = read_table(path)
    check_duplicates(path, rows)
    skipped: Counter[str] = Counter()
    usable = []
    for row in rows:
        reason = unpredictable(row)
        if reason is None:
            usable.append(row)
        else:
            skipped[reason] += 1
    groups, predicted = [], []
    done = 0
    for group in grouped(usable):
        try:
            seconds, source = _predict(path, group, engine, progress and (lambda n, base=done: progress(base + n, len(usable))))
        except Uncalibrated as error:
            skipped[str(error)] += len(group.rows)
            continue
        done += len(group.rows)
        groups += _errors(group, seconds, source)
        predicted += [
            (r.line, {**r.values, "predicted_us": f"{1e6 * float(s):.3f}"}) for r, s in zip(group.rows, seconds, strict=True)
        ]
        if progress:
            progress(done, len(usable))
    if not predicted:
        raise BadInput(f"{path}: none of its {len(rows)} rows can be predicted: {'; '.join(skipped)}")
    predicted.sort(key=lambda pair: pair[0])
    groups.sort(key=lambda g: (g.system, g.protocol, g.op, g.nodes))
    notes = tuple(f"{o.name} ({n} rows): {o.why}" for o in ODDITIES if (n := sum(o.holds(r) for r in usable)))
    return Validation(path.name, engine, tuple(groups), tuple(r for _, r in predicted), dict(sorted(skipped.items())), notes)


def _predict(path: Path, group: Group, engine: str, step: Callable[[int], None] | None) -> tuple[NDArray[np.float64], str]:
    """Seconds of every row of a group, and the system its constants were fitted on."""
    cluster = load_cluster(load_calibration(group.system).cluster)
    machine = machine_of(cluster)
    shape = group.shape()
    described = describe(PROTOCOL_NAMES[group.protocol], group.op, group.scope, group.system, shape, machine, group.context())
    check_speed(path, group, link_floor_s(described.stages, shape, machine))
    if engine == "events":
        from .replay import replay

        return replay(group, cluster, step)
    return np.asarray(program_seconds(described.stages, shape, machine)), described.calibrated_on


def _errors(group: Group, seconds: NDArray[np.float64], source: str) -> list[GroupError]:
    signed = 100.0 * (seconds / group.measured_s - 1.0)
    nodes = np.array([r.nodes for r in group.rows])
    odd = np.array([oddity_of(r) is not None for r in group.rows])
    found = []
    for count in np.unique(nodes):
        mine = signed[nodes == count]
        size = np.abs(mine)
        strange = odd[nodes == count]
        without = float(size[~strange].mean()) if strange.any() and not strange.all() else None
        found.append(
            GroupError(
                system=group.system,
                protocol=group.protocol,
                op=group.op,
                nodes=int(count),
                rows=len(mine),
                mape_pct=float(size.mean()),
                median_ape_pct=float(np.median(size)),
                p90_ape_pct=float(np.quantile(size, 0.9)),
                bias_pct=float(mine.mean()),
                calibrated_on=source,
                odd_rows=int(strange.sum()),
                mape_without_odd_pct=without,
            )
        )
    return found
