"""Fit the expert block's constants to rows of a grouped-GEMM table (DeepGEMM contiguous and masked kernels)."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from ..hwmodels.calibration import Entry, Fit, write_constant
from ..hwmodels.errors import BadInput
from ..hwmodels.laws import smooth_max
from ..sim.ep.experts import Constants, ExpertShape, Kind, loads
from ..sim.ep.stage import Machine
from .spread import MOST_ROWS

KERNELS: dict[str, Kind] = {"deepgemm-contiguous": "contiguous", "deepgemm-masked": "masked"}
_START = {"launch": 20e-6, "tensor_efficiency": 0.6, "hbm_efficiency": 0.8, "token": 1e-9, "host": 1e-4}
_HIGH = {"launch": 60e-6, "tensor_efficiency": 0.95, "hbm_efficiency": 0.95, "token": 5e-8, "host": 1e-3}
_SHARPNESS = 4.0
_ROBUST = 0.05


@dataclass(frozen=True, slots=True)
class Case:
    """One timing of the expert block: rows dealt evenly over the experts (the table's "uniform")."""

    tokens: int
    rows: NDArray[np.float64]
    shape: ExpertShape
    seconds: float


def read_cases(path: Path, system: str, kernel: str) -> list[Case]:
    """The evenly routed rows of ``kernel`` on ``system``. Raises BadInput if there are none."""
    cases = []
    with path.open(encoding="utf-8", newline="") as file:
        for r in csv.DictReader(file):
            if (r["system"], r["kernel"], r["routing"]) != (system, kernel, "uniform"):
                continue
            local = int(r["experts"]) // int(r["ep"])
            pairs = int(r["tokens"]) * int(r["top_k"]) * local // int(r["experts"])
            rows = pairs // local + (np.arange(local) < pairs % local)
            shape = ExpertShape(float(r["hidden"]), float(r["inter"]), "fp8", "fp8")
            cases.append(Case(int(r["tokens"]), rows.astype(float), shape, float(r["latency_us"]) * 1e-6))
    if not cases:
        raise BadInput(f"{path}: no uniform {kernel} rows of {system}")
    return cases


def predict(cases: list[Case], machine: Machine, k: Constants) -> NDArray[np.float64]:
    """Seconds of every case."""
    found = []
    for case in cases:
        parts = dict(loads(case.rows, case.shape, machine, k, machine.sms))
        busy = smooth_max(k.sharpness, parts["tensor"], parts["hbm"], k.host)
        found.append(float(busy) + k.launch + k.token * case.tokens)
    return np.array(found)


def fit_experts(path: Path, system: str, machine: Machine) -> list[Entry]:
    """Entries ``expert-compute`` for every kernel of ``KERNELS`` the table times on ``system``."""
    entries = []
    for kernel, kind in KERNELS.items():
        cases = read_cases(path, system, kernel)
        step = max(1, -(-len(cases) // MOST_ROWS))
        used, rest = cases[::step], [c for i, c in enumerate(cases) if i % step]
        names = [n for n in _START if kind == "contiguous" or n not in ("token", "host")]
        fixed = {"token": 0.0, "host": 0.0, "sharpness": _SHARPNESS}
        measured = np.array([c.seconds for c in used])
        k = _search(used, machine, names, fixed)
        error = np.log(predict(used, machine, k) / measured)
        rest_error = np.abs(predict(rest, machine, k) / np.array([c.seconds for c in rest]) - 1) if rest else np.array([])
        record = Fit(
            table=path.name,
            library=kernel,
            rows=len(used),
            rows_available=len(cases),
            mape_fit_pct=round(float(np.abs(np.expm1(error)).mean() * 100), 2),
            mape_rest_pct=round(float(rest_error.mean() * 100), 2) if rest else None,
            residual_log_sd=round(float(error.std()), 4),
            method="Cauchy loss on log error over every n-th evenly routed row (validate/fit_experts.py)",
        )
        values = {n: write_constant(n, getattr(k, n)) for n in (*_START, "sharpness")}
        entries.append(Entry(protocol="expert-compute", op=kind, scope="one-node", constants=values, fit=record))
    return entries


def _search(cases: list[Case], machine: Machine, names: list[str], fixed: dict[str, float]) -> Constants:
    """The constants ``names`` that fit ``cases`` best; the others are ``fixed``."""
    start, high = (np.array([table[n] for n in names]) for table in (_START, _HIGH))
    measured = np.array([c.seconds for c in cases])

    def constants(scaled: NDArray[np.float64]) -> Constants:
        return Constants(**(fixed | dict(zip(names, (scaled * start).tolist(), strict=True))))

    def residuals(scaled: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.log(predict(cases, machine, constants(scaled)) / measured))

    bounds = (np.zeros(len(names)), high / start)
    return constants(least_squares(residuals, np.ones(len(names)), bounds=bounds, loss="cauchy", f_scale=_ROBUST).x)
