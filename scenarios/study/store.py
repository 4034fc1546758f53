"""Where finished points are kept: one SQLite file, a row a point, written the moment its answer is there.

SQLite because it comes with Python, survives a killed process, lets others read while one writes, and needs no server; its
write-ahead log makes a kept point cost a tenth of a millisecond. Only the process that was asked for a study writes; workers
return records. A write-ahead log needs shared memory: two hosts must not write one store on a network file system.

Tables: ``points`` (key -> the record, compressed, with its digest), ``shared`` (what the records of a study have in common,
once), ``studies`` and ``members`` (which points a study has, in order).
"""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Self

from ...hwmodels.errors import BadInput

FORMAT = 1
_TABLES = """
CREATE TABLE IF NOT EXISTS format (number INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS shared (digest TEXT PRIMARY KEY, text BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS points (
    key TEXT PRIMARY KEY, record BLOB NOT NULL, digest BLOB NOT NULL, shared TEXT NOT NULL, made TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS studies (
    number INTEGER PRIMARY KEY, digest TEXT UNIQUE NOT NULL, name TEXT NOT NULL, command TEXT NOT NULL, axes TEXT NOT NULL,
    version TEXT NOT NULL, begun TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS members (
    study INTEGER NOT NULL, place INTEGER NOT NULL, key TEXT NOT NULL, "values" TEXT NOT NULL, PRIMARY KEY (study, place)
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Study:
    """One study that a store knows: ``points`` of which ``kept`` have their answer."""

    number: int
    name: str
    command: str
    axes: tuple[str, ...]
    version: str
    begun: str
    points: int
    kept: int


def default_store() -> Path:
    """``$EPICYCLE_STORE``, or ``epicycle/studies.sqlite`` in the user's cache folder."""
    if named := os.environ.get("EPICYCLE_STORE"):
        return Path(named)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "epicycle" / "studies.sqlite"


class Store:
    """The store in the file ``path``, made if it is not there; a context, at whose end it is closed.

    Raises BadInput where the file is no store or is damaged, OSError where it cannot be read or written, or the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._said():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._base = sqlite3.connect(path, timeout=60.0, isolation_level=None)
            self._base.execute("PRAGMA journal_mode = WAL")
            self._base.execute("PRAGMA synchronous = NORMAL")
            self._base.executescript(_TABLES)
            self._base.execute("INSERT INTO format SELECT ? WHERE NOT EXISTS (SELECT * FROM format)", (FORMAT,))
            (number,) = self._base.execute("SELECT number FROM format").fetchone()
        if number != FORMAT:
            raise BadInput(f"{path}: a store of format {number}, this version writes format {FORMAT}: name another --store")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._base.close()

    def get(self, key: str) -> tuple[bytes, bytes] | None:
        """(record, what it shares with others) kept under ``key``; None if there is none, or what is there is not what was
        written."""
        with self._said():
            found = self._base.execute(
                "SELECT record, points.digest, text FROM points JOIN shared ON shared.digest = points.shared WHERE key = ?",
                (key,),
            ).fetchone()
        if found is None:
            return None
        record, digest, shared = found
        try:
            texts = zlib.decompress(record), zlib.decompress(shared)
        except zlib.error:
            return None
        return texts if sha256(b"\0".join(texts)).digest() == digest else None

    def put(self, key: str, record: bytes, shared: bytes) -> None:
        """Keep ``record``, and once for all that have it, what it ``shared`` with others."""
        name = sha256(shared).hexdigest()
        now = datetime.now(UTC).isoformat(timespec="seconds")
        row = (key, zlib.compress(record), sha256(record + b"\0" + shared).digest(), name, now)
        with self._said(), self._written():
            self._base.execute("INSERT OR IGNORE INTO shared VALUES (?, ?)", (name, zlib.compress(shared)))
            self._base.execute("INSERT OR REPLACE INTO points VALUES (?, ?, ?, ?, ?)", row)

    def begin(
        self, name: str, command: str, axes: Sequence[str], version: str, members: Sequence[tuple[str, Sequence[str]]]
    ) -> int:
        """The number of the study that has these ``members`` (key, values), known from now on; the same again is the same."""
        whole = sha256(json.dumps([list(axes), [key for key, _ in members]]).encode()).hexdigest()
        begun = datetime.now(UTC).isoformat(timespec="seconds")
        with self._said(), self._written():
            self._base.execute(
                "INSERT OR IGNORE INTO studies (digest, name, command, axes, version, begun) VALUES (?, ?, ?, ?, ?, ?)",
                (whole, name, command, json.dumps(list(axes)), version, begun),
            )
            (number,) = self._base.execute("SELECT number FROM studies WHERE digest = ?", (whole,)).fetchone()
            rows = ((number, place, key, json.dumps(list(values))) for place, (key, values) in enumerate(members))
            self._base.executemany("INSERT OR IGNORE INTO members VALUES (?, ?, ?, ?)", rows)
        return int(number)

    def members(self, study: int) -> Iterator[tuple[str, tuple[str, ...]]]:
        """(key, values) of every point of a study, in order."""
        with self._said():
            for key, values in self._base.execute('SELECT key, "values" FROM members WHERE study = ? ORDER BY place', (study,)):
                yield key, tuple(json.loads(values))

    def studies(self) -> tuple[Study, ...]:
        """Every study, the latest first."""
        with self._said():
            rows = self._base.execute(
                "SELECT number, name, command, axes, version, begun, COUNT(*), COUNT(points.key) FROM studies "
                "JOIN members ON members.study = studies.number LEFT JOIN points ON points.key = members.key "
                "GROUP BY number ORDER BY number DESC"
            ).fetchall()
        return tuple(
            Study(n, name, c, tuple(json.loads(axes)), v, b, all_, kept) for n, name, c, axes, v, b, all_, kept in rows
        )

    def study(self, number: int) -> Study:
        """The study of that number. Raises BadInput."""
        found = next((s for s in self.studies() if s.number == number), None)
        if found is None:
            raise BadInput(f"{self.path}: there is no study {number}: `epicycle results` lists them")
        return found

    def prune(self, numbers: Iterable[int] = (), older_than_days: float | None = None) -> int:
        """Forget studies, and every point that no study has any more; how many points went."""
        chosen = set(numbers)
        if older_than_days is not None:
            since = (datetime.now(UTC) - timedelta(days=older_than_days)).isoformat(timespec="seconds")
            chosen |= {s.number for s in self.studies() if s.begun < since}
        with self._said():
            before = self._base.total_changes
            with self._written():
                for number in chosen:
                    self._base.execute("DELETE FROM members WHERE study = ?", (number,))
                    self._base.execute("DELETE FROM studies WHERE number = ?", (number,))
                before = self._base.total_changes
                self._base.execute("DELETE FROM points WHERE key NOT IN (SELECT key FROM members)")
                gone = self._base.total_changes - before
                self._base.execute("DELETE FROM shared WHERE digest NOT IN (SELECT shared FROM points)")
            self._base.execute("VACUUM")
        return gone

    @contextmanager
    def _written(self) -> Iterator[None]:
        """One transaction: all of it, or none."""
        self._base.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._base.in_transaction:
                self._base.execute("ROLLBACK")
            raise
        self._base.execute("COMMIT")

    @contextmanager
    def _said(self) -> Iterator[None]:
        """SQLite's faults in this project's words."""
        try:
            yield
        except sqlite3.Error as error:
            text = str(error)
            if "full" in text:
                raise OSError(
                    errno.ENOSPC, "the disk is full: what was kept before stays, and the same command goes on", str(self.path)
                ) from None
            if isinstance(error, sqlite3.OperationalError) and ("open" in text or "readonly" in text or "locked" in text):
                raise OSError(
                    errno.EACCES, f"the store cannot be written ({text}): name another --store", str(self.path)
                ) from None
            raise BadInput(
                f"{self.path}: not a sound store ({text}): what can still be read comes out with `epicycle results --store "
                f"{self.path} --salvage NEW.sqlite`; --store names another"
            ) from None
