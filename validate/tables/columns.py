"""Which columns a table has."""

from __future__ import annotations

from pathlib import Path

from ...hwmodels.errors import BadInput


def columns_of(path: Path) -> set[str]:
    """The columns of a CSV file's header. Raises BadInput for a file that is no text."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            return set(file.readline().strip().split(","))
    except UnicodeDecodeError:
        raise BadInput(f"{path}: not a text file") from None
