"""A comparison on a terminal: what differs, the numbers side by side, and the steps part by part."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console

from ....hwmodels.units import format_time
from ...answer.evaluation import Comparison
from ...answer.words.glossary import bound_words
from ...answer.words.leading_metric import HEADINGS, LEADING
from ...answer.words.number_text import number_text, percent
from ...weigh.compare import strongest
from ...weigh.headline import comparison_headline
from ...weigh.mechanism import StepChange, step_changes
from .console import say
from .evaluation import new_table, print_notes, print_sentence, print_table

_SMALL = 0.002  # parts that are smaller in both steps are left out
_STILL = 5e-5  # a difference below this share of the step is none
_EFFECTS = ("tpot", "ttft", *(key for key in LEADING if key != "tpot"))


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print ``comparison``."""
    print_sentence(comparison_headline(comparison), console)
    if not comparison.changes:
        return
    if most := strongest(comparison.changes, comparison.a):
        say(most, console)
    say(comparison.mechanism, console)
    _print_changes(comparison, console)
    _print_metrics(comparison, console)
    for step in step_changes(comparison.a, comparison.b):
        _print_parts(step, console)
    for note in (note for note in comparison.a.notes if note not in comparison.b.notes):
        say(f"A: {note}", console, "dim")
    print_notes(comparison.b, console)


def _print_changes(comparison: Comparison, console: Console) -> None:
    known = {key for change in comparison.changes for key in change.effect}
    keys = [key for key in _EFFECTS if key in known]
    title = "what differs" + (", applied one after the other" if len(comparison.changes) > 1 else "")
    table = new_table("input", "a", "b", *(f">{HEADINGS.get(key, key)}" for key in keys))
    for change in comparison.changes:
        effects = (percent(change.effect[key]) if key in change.effect else "" for key in keys)
        table.add_row(change.path, change.before, change.after, *effects)
    print_table(title, table, console)


def _print_metrics(comparison: Comparison, console: Console) -> None:
    table = new_table("metric", "a", "b", ">change")
    after = {metric.key: metric for metric in comparison.b.metrics}
    for name, before, after_ in _deployments(comparison):
        table.add_row(name, before, after_, "" if before == after_ else "other")
    for metric in comparison.a.metrics:
        other = after.pop(metric.key, None)
        change = percent(other.value / metric.value - 1) if other and metric.value else ""
        there = number_text(other.value, other.unit, other.key) if other else ""
        table.add_row(metric.words, number_text(metric.value, metric.unit, metric.key), there, change)
    for other in after.values():
        table.add_row(other.words, "", number_text(other.value, other.unit, other.key), "")
    print_table("answers", table, console)


def _deployments(comparison: Comparison) -> Iterator[tuple[str, str, str]]:
    a, b = comparison.a, comparison.b
    if a.serving is None or b.serving is None:
        return
    yield "GPUs", str(a.gpus), str(b.gpus)
    yield "engine", a.serving.backend, b.serving.backend
    at_a, at_b = ("; ".join(f"{p.role} {p.arrangement}" for p in each.pools) for each in (a, b))
    yield "arrangement", at_a, at_b


def _print_parts(step: StepChange, console: Console) -> None:
    before, after = step.before.seconds, step.after.seconds
    what = "layer" if step.phase == "layer" else f"{step.phase} step"
    title = f"{what}: {format_time(before)} -> {format_time(after)} ({percent(step.relative)})"
    table = new_table("part", ">a", ">b", ">difference", "bound by")
    for part in step.parts:
        if part.before_s < _SMALL * before and part.after_s < _SMALL * after:
            continue
        bounds = dict.fromkeys(bound_words(bound) for bound in (part.bound_before, part.bound_after) if bound)
        sign = "+" if part.moved_s > 0 else "-"
        moved = f"{sign}{format_time(abs(part.moved_s))}" if abs(part.moved_s) > _STILL * before else ""
        table.add_row(
            part.name,
            format_time(part.before_s) if part.bound_before else "",
            format_time(part.after_s) if part.bound_after else "",
            moved,
            ", then ".join(bounds),
        )
    print_table(title, table, console)
