"""The studies of a store on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from ...study.store import Study
from .evaluation import new_table, print_table


def print_studies(studies: Sequence[Study], path: Path, console: Console) -> None:
    """What a store keeps, a line a study, the latest first."""
    if not studies:
        console.print(f"{path}: no study is kept yet: `epicycle sweep` keeps what it answers", soft_wrap=True)
        return
    table = new_table(">study", "name", ">points", ">answered", "begun", "command")
    for s in studies:
        table.add_row(str(s.number), s.name, f"{s.points:,}", f"{s.kept:,}", s.begun, s.command)
    print_table(f"kept in {path}", table, console)
