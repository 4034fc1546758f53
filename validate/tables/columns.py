"""Which columns a table has."""

from __future__ import annotations

from pathlib import Path

from ...hwmodels.plain_file import read_csv


def columns_of(path: Path) -> set[str]:
    """The columns of a CSV file's header. Raises BadInput for a file that is no text."""
    return set(read_csv(path).fieldnames)
