"""A sweep on a terminal: one row a point."""

from __future__ import annotations

from collections import Counter

from rich.console import Console
from rich.text import Text

from ..answer.evaluation import Evaluation, Sweep
from ..answer.leading_metric import HEADINGS, meets
from ..answer.number_text import number_text
from .terminal_evaluation import new_table, print_sentence, print_table

_SHOWN = (*HEADINGS, "layer")
_ROWS = 200


def print_sweep(sweep: Sweep, console: Console) -> None:
    """Print ``sweep``: the swept values and the metrics, or why a point has no answer."""
    print_sentence(sweep.sentence, console)
    answers = [point.evaluation for point in sweep.points[:_ROWS] if point.evaluation is not None]
    first = answers[0] if answers else next(point.evaluation for point in sweep.points if point.evaluation is not None)
    shown = [metric for metric in first.metrics if metric.key in _SHOWN]
    if any(metric.key == "layer" for metric in shown):  # a layer has few numbers: all of them
        shown = [metric for metric in first.metrics if metric.unit == "s"]
    limited = any(answer.limits for answer in answers)
    columns = [*sweep.axes, *(f">{HEADINGS.get(metric.key, metric.key)}" for metric in shown), *(["limits"] if limited else [])]
    table = new_table(*columns)
    for point in sweep.points[:_ROWS]:
        answer = point.evaluation
        if answer is None:
            table.add_row(*point.values, "refused" if shown else "")
        else:
            limits = [_limits(answer)] if limited else []
            table.add_row(*point.values, *(_cell(answer, metric.key) for metric in shown), *limits)
    print_table(sweep.name, table, console)
    for note in sweep.notes:
        console.print(Text(note, style="dim"), soft_wrap=True)
    if len(sweep.points) > _ROWS:
        console.print(Text(f"{len(sweep.points) - _ROWS} more points: --csv or --parquet has them all", style="dim"))
    for reason, count in Counter(sweep.refused).most_common():
        console.print(Text(f"refused ({count}): {reason}", style="dim"), soft_wrap=True)


def _cell(answer: Evaluation, key: str) -> str:
    found = next((metric for metric in answer.metrics if metric.key == key), None)
    return number_text(found.value, found.unit if found.unit == "s" else "") if found else ""


def _limits(answer: Evaluation) -> str:
    return "met" if meets(answer) else "missed: " + ", ".join(limit.key for limit in answer.limits if not limit.met)
