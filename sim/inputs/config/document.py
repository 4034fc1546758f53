"""A JSON file of a checkpoint, read whole only when it is small, a plain file, and gives every key once."""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ....hwmodels.errors import BadInput

#: Largest config file read. The longest published (quantisation rules layer by layer) take about 1 MiB.
MAX_BYTES = 16 * 2**20


def read_object(path: Path, most: int = MAX_BYTES) -> dict[str, Any]:
    """The object in ``path``. Raises BadInput in one line for what is no plain file, too large, no JSON, or repeats a key."""
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise BadInput(f"{path}: wanted a plain file, got a {_kind_of(found.st_mode)}")
        if found.st_size > most:
            raise BadInput(f"{path}: {found.st_size / 2**20:,.0f} MiB is no model config: at most {most >> 20} MiB are read")
        text = path.read_text(encoding="utf-8")
    except BadInput:
        raise
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:  # not UTF-8
        raise BadInput(f"{path}: not valid JSON: {clipped(str(error))}") from None

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table: dict[str, Any] = {}
        for key, value in pairs:
            if key in table:
                raise BadInput(f"{path}: {clipped(key)} is given twice, {shown(table[key])} and {shown(value)}: keep one")
            table[key] = value
        return table

    try:
        document = json.loads(text, object_pairs_hook=once)
    except BadInput:
        raise
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}: not valid JSON: {clipped(str(error))}") from None
    if not isinstance(document, dict):
        raise BadInput(f"{path}: wanted a JSON object, got {kind_of(document)}")
    return document


def kind_of(value: object) -> str:
    """A JSON value's kind in words."""
    words: Mapping[type, str] = {dict: "an object", list: "a list", str: "a string", bool: "a truth value", type(None): "null"}
    return words.get(type(value), "a number")


def shown(value: object) -> str:
    """A value as it may stand in an error line, whatever its length."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value) if abs(value) < 10**24 else "a number of more than 24 digits"
    return clipped(repr(value))


def clipped(text: str, most: int = 60) -> str:
    """``text`` on one line and no longer than ``most``."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def _kind_of(mode: int) -> str:
    kinds = ((stat.S_ISDIR, "folder"), (stat.S_ISFIFO, "pipe"), (stat.S_ISCHR, "device"), (stat.S_ISBLK, "device"))
    return next((word for test, word in kinds if test(mode)), "special file")
