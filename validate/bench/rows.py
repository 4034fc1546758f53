"""Measurement rows on their way to a file: kept as they come, taken up again by a later run.

``FILE.csv`` holds every row with every column of the vocabulary; beside it, ``FILE.<table>.csv`` holds each table's rows with
that table's own columns first, so that fitting reads ours and others' alike. Rows are appended as they are measured: a run
that ends early keeps them, and one that resumes leaves out what is there.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ...hwmodels.errors import BadInput
from ..tables.vocabulary import EVERY, SEEN, TABLES, identity

#: A resumed run must be of the same of these, or its rows would not compare with those that are there.
SAME = ("gpu", "commit", "torch", "triton")


class Rows:
    """Rows on their way to ``out`` (None: kept in memory only)."""

    def __init__(self, out: Path | None, resume: bool = False, facts: Mapping[str, str] | None = None) -> None:
        """``resume``: go on with ``out`` if it is there.

        Raises BadInput if ``out`` has rows and is not to be resumed, is no file of rows, or has rows of another GPU, commit
        or library than ``facts``.
        """
        self.out = out
        self.rows: list[dict[str, Any]] = []
        self.dropped = 0  # half-written lines at the end of a resumed file
        if out is None:
            return
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.exists() and out.stat().st_size:
            self._take_up(out, resume, facts or {})
        else:
            _write(out, EVERY, [])

    def _take_up(self, out: Path, resume: bool, facts: Mapping[str, str]) -> None:
        lines = out.read_text().splitlines(keepends=True)
        if lines[0].strip().split(",") != list(EVERY):
            raise BadInput(f"{out}: is not a file of this bench's rows (other columns): give another name")
        if not resume and len(lines) > 1:
            raise BadInput(f"{out}: has {len(lines) - 1} rows already: --resume goes on with them, or give another name")
        # A run that was ended while it wrote leaves half a line: it was never a row.
        whole = [line for line in lines if line.endswith("\n")]
        self.dropped = len(lines) - len(whole)
        for row in csv.DictReader(whole):
            for name in SAME:
                if facts.get(name) and row[name] and row[name] != facts[name]:
                    raise BadInput(
                        f"{out}: its rows are of {name} {row[name]}, this run is of {facts[name]}: give another name"
                    )
            self.rows.append({name: value for name, value in row.items() if value != ""})
        for row in self.rows:
            for name in ("latency_us", "latency_low_us", "latency_high_us", "torch_us", "speedup", "share_of_ceiling"):
                if name in row:
                    row[name] = float(row[name])
        _write(out, EVERY, self.rows)
        for table, columns in TABLES.items():
            mine = [r for r in self.rows if r["table"] == table]
            if mine:
                _write(self._beside(table), (*columns, *SEEN), mine)

    def has(self, row: Mapping[str, Any]) -> bool:
        """Whether a row of the same measurement is there already."""
        return any(identity(known) == identity({"table": known["table"], **row}) for known in self.rows)

    def add(self, table: str, row: dict[str, Any]) -> None:
        """Keep and write one row. Raises ValueError for a column no table has."""
        unknown = sorted(set(row) - set(EVERY))
        if unknown:
            raise ValueError(f"row has columns no table knows: {unknown}")
        row = {"table": table, "role": "measured", **row}
        first = not any(r["table"] == table for r in self.rows)
        self.rows.append(row)
        if self.out is None:
            return
        _append(self.out, EVERY, row)
        columns = (*TABLES[table], *SEEN)
        if first:
            _write(self._beside(table), columns, [])
        _append(self._beside(table), columns, row)

    def _beside(self, table: str) -> Path:
        assert self.out is not None
        return self.out.with_name(f"{self.out.stem}.{table}.csv")


def _write(path: Path, columns: Iterable[str], rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerow(columns)
    for row in rows:
        _append(path, columns, row)


def _append(path: Path, columns: Iterable[str], row: Mapping[str, Any]) -> None:
    with path.open("a", newline="") as file:
        csv.writer(file, lineterminator="\n").writerow([_cell(row.get(column, "")) for column in columns])


def _cell(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value
