"""A sweep on a terminal: one row a point."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import Console

from ...answer.evaluation import Evaluation, Sweep
from ...answer.words.leading_metric import HEADINGS, meets
from ...answer.words.number_text import number_text
from .console import say
from .evaluation import new_table, print_sentence, print_table

_SHOWN = ("usd_per_hour", "tpot", "ttft", "output_tokens_per_s_gpu", "usd_per_mtok_output", "layer")
_ROWS = 200


def print_sweep(sweep: Sweep, console: Console) -> None:
    """Print ``sweep``: the swept values and the metrics, or why a point has no answer."""
    print_sentence(sweep.sentence, console)
    answers = [point.evaluation for point in sweep.points[:_ROWS] if point.evaluation is not None]
    first = answers[0] if answers else next(point.evaluation for point in sweep.points if point.evaluation is not None)
    shown = sorted((m for m in first.metrics if m.key in _SHOWN), key=lambda m: _SHOWN.index(m.key))
    if any(metric.key == "layer" for metric in shown):  # a layer has few numbers: all of them
        shown = [metric for metric in first.metrics if metric.unit == "s"]
    limited = any(answer.limits for answer in answers)
    placed = first.serving is not None
    last = Counter(axis.rsplit(".", 1)[-1] for axis in sweep.axes)
    axes = [name if last[name := axis.rsplit(".", 1)[-1]] == 1 else axis for axis in sweep.axes]
    columns = [
        *([">#", *axes, ">GPUs", "engine"] if placed else axes),
        *(f">{HEADINGS.get(metric.key, metric.key)}" for metric in shown),
        *(["limits"] if limited else []),
    ]
    table = new_table(*columns)
    arranged: dict[str, list[int]] = {}
    for number, point in enumerate(sweep.points[:_ROWS], 1):
        answer = point.evaluation
        values = [str(number), *point.values] if placed else [*point.values]
        if answer is None:
            table.add_row(*values, *(["", ""] if placed else []), "refused" if shown else "")
        else:
            limits = [_limits(answer)] if limited else []
            if answer.serving is not None:
                values += [str(answer.gpus), answer.serving.backend]
                arranged.setdefault("; ".join(f"{p.role} {p.arrangement}" for p in answer.pools), []).append(number)
            table.add_row(*values, *(_cell(answer, metric.key) for metric in shown), *limits)
    print_table(sweep.name, table, console)
    if arranged:
        listed = new_table("#", "arrangement")
        for arrangement, numbers in arranged.items():
            listed.add_row(ranges(numbers), arrangement)
        print_table("how they are arranged", listed, console)
    for note in sweep.notes:
        say(note, console, "dim")
    if len(sweep.points) > _ROWS:
        say(f"{len(sweep.points) - _ROWS} more points: --csv or --parquet has them all", console, "dim")
    for reason, count in Counter(sweep.refused).most_common():
        say(f"refused ({count}): {reason}", console, "dim")


def ranges(numbers: Sequence[int]) -> str:
    """Rising numbers with runs closed up: "1-3, 7"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def _cell(answer: Evaluation, key: str) -> str:
    found = next((metric for metric in answer.metrics if metric.key == key), None)
    return number_text(found.value, found.unit if found.unit == "s" else "") if found else ""


def _limits(answer: Evaluation) -> str:
    return "met" if meets(answer) else "missed: " + ", ".join(limit.key for limit in answer.limits if not limit.met)
