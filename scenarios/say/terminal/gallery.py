"""The gallery on a terminal: published against simulated, system by system, with error and verdict."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from ...published.row import Gallery
from ...published.words import error_text, figure_words, number, predicted_share, published_text, remark, summary
from .evaluation import new_table, print_table


def print_gallery(found: Gallery, console: Console) -> None:
    """Print ``found``; of one system its prose as well."""
    for entry in found.entries:
        if len(found.entries) == 1:
            console.print(Text(entry.prose), soft_wrap=True)
        table = new_table("figure", "published", "simulated", "error", "evidence", "verdict")
        for row in entry.rows:
            table.add_row(
                figure_words(row), published_text(row), number(row.simulated), error_text(row), row.evidence, row.verdict
            )
        print_table(f"{entry.system} ({entry.scenario})", table, console)
        for said in dict.fromkeys(remark(row) for row in entry.rows if remark(row)):
            console.print(Text(f"  {said}", style="dim"), soft_wrap=True)
    console.print(summary(found), soft_wrap=True)
    if told := predicted_share(found):
        console.print(told, soft_wrap=True)
