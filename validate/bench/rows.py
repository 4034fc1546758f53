"""Measurement rows: the columns of the published tables, then what was seen and on what.

``FILE.csv`` holds every row with every column; beside it, ``FILE.<table>.csv`` holds each table's rows with that table's own
columns first (as in ``../shared/measurements``), so that fitting reads ours and others' alike. Rows are appended as they are
measured: a run that ends early keeps them.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

_EP_COMM = """system nodes gpus_per_node library protocol op payload_dtype routing tokens_per_rank hidden top_k experts
comm_sms latency_us role"""
_GROUPED = "system library kernel dtype routing tokens hidden inter top_k experts ep latency_us role"
_SEEN = """mode case latency_low_us latency_high_us runs bytes flops share_of_ceiling torch_us speedup error gpu driver torch
triton commit date"""
TABLES: dict[str, list[str]] = {
    "ep_comm": [*_EP_COMM.split()],
    "grouped_gemm": [*_GROUPED.split()],
    "gemm": ["system", "kernel", "dtype", "m", "n", "k", "latency_us", "role"],
}
SEEN = [*_SEEN.split()]
EVERY = ["table", *dict.fromkeys(column for columns in TABLES.values() for column in columns), *SEEN]


class Rows:
    """Rows on their way to ``out`` (None: kept in memory only)."""

    def __init__(self, out: Path | None) -> None:
        self.out = out
        self.rows: list[dict[str, Any]] = []
        if out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
            _begin(out, EVERY)

    def add(self, table: str, row: dict[str, Any]) -> None:
        """Keep and write one row. Raises ValueError for a column no table has."""
        unknown = sorted(set(row) - set(EVERY))
        if unknown:
            raise ValueError(f"row has columns no table knows: {unknown}")
        row = {"table": table, "role": "measured", **row}
        self.rows.append(row)
        if self.out is None:
            return
        _append(self.out, EVERY, row)
        beside = self.out.with_name(f"{self.out.stem}.{table}.csv")
        columns = [*TABLES[table], *SEEN]
        if sum(r["table"] == table for r in self.rows) == 1:
            _begin(beside, columns)
        _append(beside, columns, row)


def _begin(path: Path, columns: list[str]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerow(columns)


def _append(path: Path, columns: list[str], row: dict[str, Any]) -> None:
    with path.open("a", newline="") as file:
        csv.writer(file).writerow([_cell(row.get(column, "")) for column in columns])


def _cell(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value
