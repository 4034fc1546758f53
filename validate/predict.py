"""Predict every row of a measurement table, and say how far off each group is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..hwmodels.calibration import Scope, find_entry, load_calibration
from ..hwmodels.catalog import load_cluster
from ..hwmodels.errors import BadInput, Uncalibrated
from ..hwmodels.interval import Interval
from ..sim.ep.bound import program_seconds
from ..sim.ep.machine import machine_of
from ..sim.ep.protocol import describe
from .binding import bound_resources
from .conformal import judged
from .fit import spread_rows
from .measurement import PROTOCOL_NAMES, Group, grouped, point_of, read_table, unpredictable
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
    unseen_rows: int = 0
    covered_90_pct: float | None = None  # of the unseen rows, those inside their 90 % interval
    covered_50_pct: float | None = None


@dataclass(frozen=True, slots=True)
class Validation:
    """Errors by group, every predicted row (the table's columns and ``predicted_us``), and reason -> rows skipped."""

    table: str
    engine: str
    groups: tuple[GroupError, ...]
    rows: tuple[dict[str, Any], ...]
    skipped: dict[str, int]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Predicted:
    """One row of any table, predicted. ``values``: its columns, to which the report's own are added if the table lacks them."""

    line: int
    values: dict[str, Any]
    key: tuple[str, str, str, int]  # system, protocol, op, nodes
    measured_us: float
    predicted_us: float
    calibrated_on: str
    odd: bool = False
    note: str = ""
    interval: Interval | None = None
    seen: bool = False  # the fit used this row
    bound: str = ""  # the resource that the closed form needs longest

    def record(self) -> dict[str, Any]:
        """The row as the report and the CSV want it."""
        system, protocol, op, nodes = self.key
        own = {"system": system, "protocol": protocol, "op": op, "nodes": nodes, "latency_us": f"{self.measured_us:.3f}"}
        said = {"reason": self.note} if self.note else {}
        said |= {"bound": self.bound} if self.bound else {}
        said |= {"group_op": op} if self.values.get("op", op) not in ("", op) else {}  # several kernels of one op in the table
        if self.interval is not None:
            bands = {"low90": self.interval.low90, "high90": self.interval.high90}
            said |= {f"predicted_{n}_us": f"{self.predicted_us * band:.3f}" for n, band in bands.items()}
        return (
            own
            | {k: v for k, v in self.values.items() if v != "" or k not in own}
            | said
            | {"predicted_us": f"{self.predicted_us:.3f}"}
        )


def validate_table(path: Path, *, engine: str = "closed", progress: Progress | None = None) -> Validation:
    """Predict ``path`` with the closed form or, ``engine="events"``, event by event on seeded uniform draws.

    Its header says which kind of table it is: EP timings (all engines), published figures, or kernels on one GPU or node.
    Raises BadInput for a malformed table or one of which no row can be predicted.
    """
    from .tables import other_table

    found = other_table(path)
    if found is None:
        found = _ep_rows(path, engine, progress)
    elif engine != "closed":
        raise BadInput(f"{path}: --engine {engine}: only EP timings have an event engine, this table the closed form")
    predicted, skipped, notes = found
    if not predicted:
        raise BadInput(f"{path}: none of its {sum(skipped.values())} rows can be predicted: {'; '.join(skipped)}")
    rows = tuple(p.record() for p in sorted(predicted, key=lambda p: p.line))
    return Validation(path.name, engine, errors_by_group(predicted), rows, dict(sorted(skipped.items())), notes)


def _ep_rows(path: Path, engine: str, progress: Progress | None) -> tuple[list[Predicted], dict[str, int], tuple[str, ...]]:
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
    predicted: list[Predicted] = []
    done = 0
    for group in grouped(usable):
        try:
            seconds, source, bounds = _predict(
                path, group, engine, progress and (lambda n, base=done: progress(base + n, len(usable)))
            )
        except Uncalibrated as error:
            skipped[str(error)] += len(group.rows)
            continue
        done += len(group.rows)
        entry, _ = find_entry(group.system, PROTOCOL_NAMES[group.protocol], group.op, _measured_scope(group))
        own = entry.fit.table == path.name and entry.fit.rows_available == len(group.rows) and source == group.system
        used = spread_rows(group) if own else None
        borrowed = "" if source == group.system else source
        points = [point_of(row) for row in group.rows]
        nodes = np.array([row.nodes for row in group.rows])
        sure = judged(entry.fit, seconds, group.measured_s, nodes, points, used, borrowed)
        for i, row in enumerate(group.rows):
            key = (row.system, row.protocol, row.op, row.nodes)
            odd = oddity_of(row) is not None
            times = (row.latency_us, 1e6 * float(seconds[i]))
            seen = used is not None and i in used
            bound = str(bounds[i])
            predicted.append(Predicted(row.line, dict(row.values), key, *times, source, odd, "", sure[i], seen, bound))
        if progress:
            progress(done, len(usable))
    notes = tuple(f"{o.name} ({n} rows): {o.why}" for o in ODDITIES if (n := sum(o.holds(r) for r in usable)))
    return predicted, skipped, notes


def _predict(
    path: Path, group: Group, engine: str, step: Callable[[int], None] | None
) -> tuple[NDArray[np.float64], str, NDArray[np.str_]]:
    """Seconds of every row of a group, the system its constants were fitted on, and what bounds each row."""
    cluster = load_cluster(load_calibration(group.system).cluster)
    machine = machine_of(cluster)
    shape = group.shape()
    described = describe(PROTOCOL_NAMES[group.protocol], group.op, group.scope, group.system, shape, machine, group.context())
    check_speed(path, group, link_floor_s(described.stages, shape, machine))
    if engine == "events":
        from .replay import replay

        seconds, source = replay(group, cluster, step)
    else:
        seconds, source = np.asarray(program_seconds(described.stages, shape, machine)), described.calibrated_on
    return seconds, source, bound_resources(described.stages, shape, machine)


def _measured_scope(group: Group) -> Scope:
    """Where `describe` finds the constants: the count exchange was timed across nodes only."""
    return "multi-node" if group.op.endswith("_notify") else group.scope


def _covered(rows: list[Predicted], low: str, high: str) -> float | None:
    inside = [
        getattr(r.interval, low) * r.predicted_us <= r.measured_us <= getattr(r.interval, high) * r.predicted_us for r in rows
    ]
    return 100.0 * sum(inside) / len(inside) if inside else None


def errors_by_group(predicted: list[Predicted]) -> tuple[GroupError, ...]:
    """The errors of every (system, protocol, op, nodes), sorted."""
    split: dict[tuple[str, str, str, int], list[Predicted]] = {}
    for row in predicted:
        split.setdefault(row.key, []).append(row)
    return tuple(_error(key, split[key]) for key in sorted(split))


def _error(key: tuple[str, str, str, int], rows: list[Predicted]) -> GroupError:
    signed = np.array([100.0 * (r.predicted_us / r.measured_us - 1.0) for r in rows])
    odd = np.array([r.odd for r in rows])
    unseen = [r for r in rows if r.interval is not None and not r.seen]
    size = np.abs(signed)
    system, protocol, op, nodes = key
    return GroupError(
        system=system,
        protocol=protocol,
        op=op,
        nodes=nodes,
        rows=len(rows),
        mape_pct=float(size.mean()),
        median_ape_pct=float(np.median(size)),
        p90_ape_pct=float(np.quantile(size, 0.9)),
        bias_pct=float(signed.mean()),
        calibrated_on=", ".join(sorted({r.calibrated_on for r in rows})),
        odd_rows=int(odd.sum()),
        mape_without_odd_pct=float(size[~odd].mean()) if odd.any() and not odd.all() else None,
        unseen_rows=len(unseen),
        covered_90_pct=_covered(unseen, "low90", "high90"),
        covered_50_pct=_covered(unseen, "low50", "high50"),
    )
