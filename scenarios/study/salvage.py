"""What a damaged store still holds, copied into a new one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...hwmodels.errors import BadInput
from .store import Store

_TABLES = {"shared": 2, "points": 5, "studies": 7, "members": 4}


def salvage(damaged: Path, sound: Path) -> tuple[int, int]:
    """Copy what can be read of ``damaged`` to the new store ``sound``: (points that are as they were written, points lost).

    Raises BadInput if ``damaged`` is no database at all, or ``sound`` is there already.
    """
    if sound.exists():
        raise BadInput(f"{sound}: is there already: name a new file to salvage to")
    base = sqlite3.connect(f"file:{damaged}?mode=ro", uri=True)
    try:
        rows = {table: list(_readable(base, table)) for table in _TABLES}
    finally:
        base.close()
    if not any(rows.values()):
        raise BadInput(f"{damaged}: nothing in it can be read")
    with Store(sound) as store:
        copy = sqlite3.connect(sound)
        with copy:
            for table, columns in _TABLES.items():
                copy.executemany(f"INSERT OR IGNORE INTO {table} VALUES ({', '.join('?' * columns)})", rows[table])
        copy.close()
        kept = sum(store.get(row[0]) is not None for row in rows["points"])
    return kept, len({row[2] for row in rows["members"]} | {row[0] for row in rows["points"]}) - kept


def _readable(base: sqlite3.Connection, table: str) -> Iterator[tuple[Any, ...]]:
    """Rows of a table, from both of its ends up to where it cannot be read."""
    seen = set()
    for order in ("ASC", "DESC"):
        column = {"shared": "digest", "points": "key", "studies": "number", "members": "study"}[table]
        try:
            for row in base.execute(f"SELECT * FROM {table} ORDER BY {column} {order}"):
                if row[:2] not in seen:
                    seen.add(row[:2])
                    yield row
        except sqlite3.Error:
            continue
