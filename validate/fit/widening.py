"""Where the widths of `hwmodels.interval` come from: ``python -m epicycle.validate.fit.widening [TABLES]`` works them out.

*Borrowed*: every kernel that two of H100, B200 and GB200 have is predicted for one with the other's constants, on its own
datasheet; the median log(measured / predicted) of each is one shift, and `BORROWED_SD` their root mean square.

*Outside*: a kernel is refitted to the rows with small (or large) values of one quantity and predicts the others;
`OUTSIDE_SD` is what has to be added a root doubling for nine tenths of them to lie inside.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...hwmodels.calibration import load_calibration
from ...hwmodels.catalog import load_cluster
from ...hwmodels.errors import Uncalibrated
from ...hwmodels.interval import widened
from ...sim.ep.bound import program_seconds
from ...sim.ep.machine import machine_of
from ...sim.ep.protocol import describe
from ..tables.ep_rows import PROTOCOL_NAMES, Group, grouped, point_of, read_table
from .conformal import LEAST_ROWS, conformal_rows, regimes_of
from .fit import fit, rows_to_fit
from .shipped import MEASUREMENTS

Floats = NDArray[np.float64]

SOURCES = {"b200_sxm": ("h100_sxm",), "gb200": ("b200_sxm", "h100_sxm"), "h100_sxm": ("b200_sxm", "gb200")}
QUANTITIES = ("hidden", "ranks", "tokens")
LEAST_OUTSIDE = 5
STEP = 0.01  # of the standard deviations tried


@dataclass(frozen=True, slots=True)
class Shift:
    """One kernel of ``system`` with the constants of ``source``: the median log(measured / predicted)."""

    system: str
    source: str
    kernel: str
    log_ratio: float


@dataclass(frozen=True, slots=True)
class Outside:
    """Rows ``doublings`` (rounded) beyond what a refit saw of ``quantity``: ``log_ratio`` [row] and their limits [row, 4]."""

    quantity: str
    kernel: str
    doublings: int
    log_ratio: Floats
    limits: Floats


def shifts(groups: list[Group]) -> Iterator[Shift]:
    """Every kernel that two systems have fitted constants of, one predicted with the other's."""
    for group in groups:
        machine = machine_of(load_cluster(load_calibration(group.system).cluster))
        protocol = PROTOCOL_NAMES[group.protocol]
        for source in SOURCES.get(group.system, ()):
            try:
                found = describe(protocol, group.op, group.scope, source, group.shape(), machine, group.context())
            except Uncalibrated:
                continue
            if found.calibrated_on == source:
                ratio = np.log(group.measured_s / np.asarray(program_seconds(found.stages, group.shape(), machine)))
                yield Shift(group.system, source, f"{protocol} {group.op} ({group.scope})", float(np.median(ratio)))


def outside(groups: list[Group]) -> Iterator[Outside]:
    """Every kernel refitted to the lower and to the upper values of every quantity: all but the last; half of the tokens."""
    for group in groups:
        points = [point_of(row) for row in group.rows]
        for quantity in QUANTITIES:
            column = np.array([p[quantity] for p in points])
            values = np.unique(column)
            if len(values) < 2:
                continue
            low, high = (values[len(values) // 2],) * 2 if quantity == "tokens" else (values[-2], values[1])
            yield from _beyond(group, quantity, column <= low, np.log2(column / low))
            yield from _beyond(group, quantity, column >= high, np.log2(high / column))


def _beyond(group: Group, quantity: str, inside: NDArray[np.bool_], doublings: Floats) -> Iterator[Outside]:
    rows = np.flatnonzero(inside)
    if len(rows) < LEAST_ROWS:
        return
    used = rows[rows_to_fit(replace(group, rows=tuple(group.rows[i] for i in rows)))]
    machine = machine_of(load_cluster(load_calibration(group.system).cluster))
    predicted = fit(group, machine, "", used).predicted_s
    aside = np.intersect1d(conformal_rows(len(inside), used), rows)
    judges = aside if len(aside) >= LEAST_ROWS // 3 else rows
    nodes = np.array([row.nodes for row in group.rows])
    regimes = regimes_of(predicted[judges], group.measured_s[judges], nodes[judges])
    kernel = f"{group.protocol} {group.op} ({group.scope})"
    for count in range(1, 1 + int(np.round(doublings.max()))):
        far = np.flatnonzero(~inside & (np.round(doublings) == count))
        if len(far) >= LEAST_OUTSIDE:
            sure = [widened(regimes, float(predicted[i]), int(nodes[i]), 0.0) for i in far]
            limits = np.log([s.scaled(1.0) for s in sure])
            yield Outside(quantity, kernel, count, np.log(group.measured_s[far] / predicted[far]), limits)


def needed_sd(found: list[Outside]) -> float:
    """The log-normal error that has to be added for nine tenths of the rows, every kernel counted the same, to lie inside."""
    for sd in np.arange(0.0, 2.0, STEP):
        inside = []
        for part in found:
            middle = (part.limits[:, 1] + part.limits[:, 2]) / 2.0
            low, high = (
                middle + sign * np.hypot(part.limits[:, side] - middle, 1.6449 * sd) for side, sign in ((0, -1), (3, 1))
            )
            inside.append(np.mean((low <= part.log_ratio) & (part.log_ratio <= high)))
        if np.mean(inside) >= 0.9:
            return float(sd)
    return float("inf")


def main(arguments: list[str]) -> int:
    """Print both tables."""
    groups = list(grouped(read_table(Path(arguments[0]) / "ep_comm.csv" if arguments else MEASUREMENTS / "ep_comm.csv")))
    found = list(shifts(groups))
    for s in found:
        print(f"{s.system} with constants of {s.source}, {s.kernel}: measured / predicted {np.exp(s.log_ratio):.2f}")
    print(f"root mean square of {len(found)} log shifts: {np.sqrt(np.mean([s.log_ratio**2 for s in found])):.3f}")
    parts = list(outside(groups))
    for quantity in QUANTITIES:
        for count in sorted({p.doublings for p in parts if p.quantity == quantity}):
            mine = [p for p in parts if (p.quantity, p.doublings) == (quantity, count)]
            sd = needed_sd(mine)
            words = f"{quantity}, {count} doublings outside ({len(mine)} refits): 90 % need {sd:.2f}"
            print(f"{words}, {sd / count**0.5:.3f} a root doubling")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
