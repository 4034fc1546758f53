"""How this project reads a file that somebody names: a regular file, no larger than its kind may be, judged before it is read.

A device (``/dev/zero``) has no end and a pipe may never begin; neither is opened.
"""

from __future__ import annotations

import stat
from pathlib import Path

from .errors import BadInput

_MIB = 1 << 20


def read_bytes(path: Path, most: int, what: str, error: type[BadInput] = BadInput) -> bytes:
    """The bytes of ``path``, at most ``most``. ``what`` it should be: "a YAML file". Raises ``error`` if it is something else
    than a file, or larger; OSError if it cannot be read."""
    found = path.stat()
    if stat.S_ISDIR(found.st_mode):
        raise error(f"{path}: wanted {what}, this is a folder: name a file in it")
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
