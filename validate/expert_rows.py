"""Rows of a grouped-GEMM table by the expert block's closed form: DeepGEMM's kernels under even routing."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..hwmodels.calibration import constants_of, find_entry, load_calibration
from ..hwmodels.catalog import load_cluster
from ..hwmodels.errors import BadInput, Uncalibrated, UnknownName
from ..sim.ep.experts import Constants, ExpertShape
from ..sim.ep.machine import machine_of
from .fit_experts import KERNELS, Case, predict

COLUMNS = ("system", "kernel", "dtype", "routing", "tokens", "hidden", "inter", "top_k", "experts", "ep", "latency_us")
_NUMBERS = ("tokens", "hidden", "inter", "top_k", "experts", "ep", "latency_us")


@dataclass(frozen=True, slots=True)
class ExpertRow:
    """One timing and its prediction."""

    line: int
    values: dict[str, str]
    system: str
    kernel: str
    measured_us: float
    predicted_us: float
    calibrated_on: str


def read_expert_rows(path: Path) -> tuple[list[ExpertRow], dict[str, int]]:
    """Every row that has a description, predicted, and reason -> rows for the others. Raises BadInput for a bad number."""
    found: list[ExpertRow] = []
    skipped: dict[str, int] = {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        for record in reader:
            reason, row = _row(path, reader.line_num, record)
            if row is None:
                skipped[reason] = skipped.get(reason, 0) + 1
            else:
                found.append(row)
    return found, skipped


def _row(path: Path, line: int, record: dict[str, str]) -> tuple[str, ExpertRow | None]:
    kernel, system = record["kernel"], record["system"]
    if kernel not in KERNELS:
        return f"{kernel}: no description of this kernel", None
    if record["routing"] != "uniform":
        return f"{record['routing']} routing: the table does not say which rank's draw was timed", None
    values = {}
    for name in _NUMBERS:
        try:
            values[name] = float(record[name])
        except ValueError:
            raise BadInput(f"{path}: line {line}: {name}: wanted a number, got {record[name]!r}") from None
        if not values[name] > 0.0:
            raise BadInput(f"{path}: line {line}: {name}: wanted a number above zero, got {record[name]!r}")
    try:
        entry, source = find_entry(system, "expert-compute", KERNELS[kernel], "one-node")
    except (Uncalibrated, UnknownName) as error:
        return str(error), None
    local = max(1, int(values["experts"] / values["ep"]))
    pairs = int(values["tokens"] * values["top_k"] * local / values["experts"])
    rows = (pairs // local + (np.arange(local) < pairs % local)).astype(float)
    shape = ExpertShape(values["hidden"], values["inter"], "fp8", "fp8")
    case = Case(int(values["tokens"]), rows, shape, values["latency_us"] * 1e-6)
    machine = machine_of(load_cluster(load_calibration(system).cluster))
    predicted = 1e6 * float(predict([case], machine, constants_of(entry, Constants))[0])
    return "", ExpertRow(line, record, system, kernel, values["latency_us"], predicted, source)
