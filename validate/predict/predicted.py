"""Predicted rows of any table, and the errors of their groups: the records that a validation is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...hwmodels.interval import Interval

#: Predicted rows, reason -> rows skipped, notes: what a predictor of one kind of table gives.
Found = tuple[list["Predicted"], dict[str, int], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class GroupError:
    """Error of one (system, protocol, op, nodes). Percentages of the measured time; bias is the mean signed error.

    ``odd_rows`` of the rows come from suspect runs (`suspect_runs`); all errors count them but ``mape_without_odd_pct``.
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


def _covered(rows: list[Predicted], low: str, high: str) -> float | None:
    inside = [
        getattr(r.interval, low) * r.predicted_us <= r.measured_us <= getattr(r.interval, high) * r.predicted_us for r in rows
    ]
    return 100.0 * sum(inside) / len(inside) if inside else None
