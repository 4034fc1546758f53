"""How this project reads a file that somebody names: a regular file, no larger than its kind may be, judged before it is read.

A device (``/dev/zero``) has no end and a pipe may never begin; neither is opened.
"""

from __future__ import annotations

import csv
import errno
import io
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from .errors import BadInput

T = TypeVar("T")
_MIB = 1 << 20


def read_bytes(path: Path, most: int, what: str, error: type[BadInput] = BadInput) -> bytes:
    """The bytes of ``path``, at most ``most``. ``what`` it should be: "a YAML file". Raises ``error`` if it is something else
    than a file, or larger; OSError if it cannot be read."""
    found = path.stat()
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):
        raise error(f"{path}: wanted {what}, this is a device or a pipe: write what it gives to a file first")
    with path.open("rb") as file:
        raw = file.read(most + 1)  # a file may grow meanwhile
    if len(raw) > most:
        size = max(found.st_size, len(raw))
        raise error(f"{path}: {size:,} bytes is too large for {what} of ours (at most {most:,})")
    return raw


def read_text(path: Path, most: int, what: str, error: type[BadInput] = BadInput) -> str:
    """The same as text, a byte order mark left out. Raises ``error`` naming the line that is not UTF-8."""
    raw = read_bytes(path, most, what, error)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as wrong:
        line = raw.count(b"\n", 0, wrong.start) + 1
        raise error(f"{path}:{line}: not UTF-8 text (byte {wrong.start} is 0x{raw[wrong.start]:02x})") from None


#: The most a table of measurements or a recorded routing may hold.
MOST_TABLE_BYTES = 256 * _MIB


class Reader(Iterator[dict[str, str]]):
    """The rows of a CSV file as mappings, as `csv.DictReader` has them; what the csv module refuses is bad input."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._rows = csv.DictReader(io.StringIO(text, newline=""))

    @property
    def fieldnames(self) -> Sequence[str]:
        """The header; nothing where there is none."""
        return self._say(lambda: self._rows.fieldnames) or ()

    @property
    def line_num(self) -> int:
        """The line last read."""
        return self._rows.line_num

    def __next__(self) -> dict[str, str]:
        return self._say(lambda: next(self._rows))

    def _say(self, read: Callable[[], T]) -> T:
        try:
            return read()
        except csv.Error as wrong:
            raise BadInput(f"{self._path}: line {self._rows.line_num + 1}: {wrong}") from None


def read_csv(path: Path) -> Reader:
    """The rows of the CSV file ``path``. Raises BadInput where it is something else, OSError if it cannot be read."""
    return Reader(path, read_text(path, MOST_TABLE_BYTES, "a table"))
