"""Fit the fixed collectives' constants to NCCL timings inside one node.

Message sizes in the table are of the whole gathered buffer: every rank sends and receives ``(n - 1) / n`` of it (checked
against the NVLink rate at the largest message).
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from ...hwmodels.calibration import Entry, Fit
from ...hwmodels.constant import write_constant
from ...hwmodels.errors import BadInput
from ...hwmodels.laws.kernels import smooth_max
from ...sim.ep.protocols.collectives import FILL_BYTES
from ...sim.ep.stage import Machine
from ..tables.row_choice import MOST_ROWS
from .conformal import conformal_rows, regimes_of

#: (protocol, op) -> the table's collective.
COLLECTIVES = {
    ("all-gather", "dispatch"): "all_gather",
    ("all-gather", "combine"): "reduce_scatter",
    ("padded-all-to-all", "dispatch"): "all_to_all",
    ("padded-all-to-all", "combine"): "all_to_all",
}
_NIC_EFFICIENCY = 0.95
_FIELDS = ("launch", "launch_per_doubling", "step", "nvlink_efficiency", "sharpness")
_START = np.array([5e-6, 2e-6, 8e-6, 0.75, 2.0])
_LOW = np.array([1e-6, 0.0, 0.0, 0.3, 1.0])
_HIGH = np.array([30e-6, 10e-6, 60e-6, 0.95, 10.0])


def fit_collectives(path: Path, system: str, machine: Machine) -> list[Entry]:
    """Entries of every (protocol, op) in ``COLLECTIVES``. Raises BadInput if the table has no rows of ``system``."""
    with path.open(encoding="utf-8", newline="") as file:
        records = [r for r in csv.DictReader(file) if r["system"] == system]
    if not records:
        raise BadInput(f"{path}: no rows of {system}")
    return [_fit(path, [r for r in records if r["op"] == name], machine, *key) for key, name in COLLECTIVES.items()]


def seconds(
    ranks: NDArray[np.float64], message: NDArray[np.float64], values: NDArray[np.float64], machine: Machine
) -> NDArray[np.float64]:
    """The closed form of `sim.ep.collectives` on one node, for the fit."""
    launch, doubling, step, efficiency, sharpness = values
    wire = message * (ranks - 1) / ranks / (machine.nvlink_bytes_per_s * efficiency)
    return np.asarray(
        launch + doubling * np.log2(ranks) + smooth_max(float(sharpness), wire, step * message / (message + FILL_BYTES))
    )


def _fit(path: Path, rows: list[dict[str, str]], machine: Machine, protocol: str, op: str) -> Entry:
    ranks, message, measured = (np.array([float(r[c]) for r in rows]) for c in ("gpus", "message_bytes", "latency_us"))
    measured = measured * 1e-6
    used = np.arange(0, len(rows), max(1, -(-len(rows) // MOST_ROWS)))
    residuals: Callable[[NDArray[np.float64]], NDArray[np.float64]] = lambda x: np.log(  # noqa: E731
        seconds(ranks[used], message[used], x * _START, machine) / measured[used]
    )
    solution = least_squares(residuals, np.ones(5), bounds=(_LOW / _START, _HIGH / _START), loss="cauchy", f_scale=0.05)
    error = seconds(ranks, message, solution.x * _START, machine) / measured - 1
    rest = conformal_rows(len(rows), used)
    predicted = (1 + error[rest]) * measured[rest]
    record = Fit(
        table=path.name,
        library=rows[0]["library"],
        rows=len(used),
        rows_available=len(rows),
        mape_fit_pct=round(float(np.abs(error[used]).mean() * 100), 2),
        mape_rest_pct=round(float(np.abs(error[rest]).mean() * 100), 2),
        residual_log_sd=round(float(np.log1p(error[used]).std()), 4),
        seen={"ranks": (float(ranks.min()), float(ranks.max()))},
        intervals=regimes_of(predicted, measured[rest], np.ones(len(rest), np.int64)),
        method="Cauchy loss on log error over every third row (validate/fit/collectives.py); nic_efficiency assumed",
    )
    constants = {n: write_constant(n, float(v)) for n, v in zip(_FIELDS, solution.x * _START, strict=True)}
    return Entry(
        protocol=protocol, op=op, scope="one-node", constants=constants | {"nic_efficiency": _NIC_EFFICIENCY}, fit=record
    )
