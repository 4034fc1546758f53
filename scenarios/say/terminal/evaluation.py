"""One evaluation on a terminal: its numbers, what its steps are made of, limits, cost and memory. Others print parts of it."""

from __future__ import annotations

import math
from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from ....hwmodels.units import format_bytes, format_time
from ...answer.evaluation import Evaluation, Limit, Metric, Pool, StepTime
from ...answer.limits import met_words
from ...answer.words.glossary import bound_words
from ...answer.words.number_text import digits, number_text
from .console import say
from .text_table import TextTable

_SMALL = 0.005  # parts below this share of a step are one line


def print_sentence(words: str, console: Console) -> None:
    """Print the answer's sentence; text that came from a file is printed as it is, never as markup."""
    say(words, console, "bold")


def print_evaluation(evaluation: Evaluation, console: Console) -> None:
    """Print everything but the sentence."""
    print_metrics(evaluation, console)
    if evaluation.limits:
        print_limits(evaluation.limits, console)
    for pool in evaluation.pools:
        for step in pool.steps:
            print_step(pool, step, console)
    for pool in evaluation.pools:
        say(memory_line(pool), console)
    if evaluation.cost:
        bill = ", ".join(f"{name} {digits(usd)}" for name, usd in evaluation.cost.items() if usd)
        say(f"cost, USD per hour: {bill}", console)
    if evaluation.unpriced:
        say(f"cost: {evaluation.unpriced}", console)
    print_notes(evaluation, console)


def print_notes(evaluation: Evaluation, console: Console) -> None:
    """Print what else there is to know."""
    for note in evaluation.notes:
        say(note, console, "dim")
    if evaluation.why_wide:
        say(f"intervals are wider because {'; '.join(evaluation.why_wide)}", console, "dim")


def print_metrics(evaluation: Evaluation, console: Console) -> None:
    """Print every metric with its 90 % interval."""
    gpus = f"{evaluation.gpus} GPU{'s' if evaluation.gpus != 1 else ''}"
    table = new_table("metric", ">value", ">90 % of cases")
    for metric in evaluation.metrics:
        table.add_row(metric.words, number_text(metric.value, metric.unit, metric.key), interval(metric))
    print_table(f"{evaluation.model} on {evaluation.cluster}, {gpus}", table, console)


def interval(metric: Metric) -> str:
    """The 90 % interval in words; empty where nothing is known."""
    low, high = metric.low90, metric.high90
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)) or low == high:
        return ""
    return f"{number_text(low, metric.unit, metric.key)} to {number_text(high, metric.unit, metric.key)}"


def print_limits(limits: Iterable[Limit], console: Console) -> None:
    """Print each limit: what was wanted, what came, and the lever where it is missed."""
    table = new_table("limit", ">wanted", ">got", "met", "lever")
    for limit in limits:
        wanted, got = number_text(limit.wanted, limit.unit, limit.key), number_text(limit.got, limit.unit, limit.key)
        table.add_row(limit.words, wanted, got, met_words(limit), limit.lever)
    print_table("limits", table, console)


def print_step(pool: Pool, step: StepTime, console: Console) -> None:
    """Print what a step's time is made of, in order; small parts together."""
    where = f"{pool.role}, {pool.arrangement}: " if pool.role != step.phase else f"{pool.arrangement}: "
    told = (
        f"{where}{step.phase} step {format_time(step.seconds)}"
        if step.phase != "layer"
        else f"{where}{format_time(step.seconds)}"
    )
    size = f", {digits(step.tokens_per_gpu)} tokens per GPU" if step.tokens_per_gpu else ""
    peaks = f", MFU {digits(100 * step.mfu)} %, MBU {digits(100 * step.mbu)} %" if step.mfu or step.mbu else ""
    table = new_table("part", "kind", ">time", ">of the step", ">hidden", "bound by")
    small = [part for part in step.parts if part.exposed_s < _SMALL * step.seconds]
    shown = step.parts if len(small) < 2 else [part for part in step.parts if part not in small]
    for part in shown:
        hidden = part.seconds - part.exposed_s
        behind = format_time(hidden) if hidden > 1e-3 * part.seconds else ""
        share = f"{100 * part.exposed_s / step.seconds:.1f} %" if step.seconds else ""
        table.add_row(part.name, part.group, format_time(part.exposed_s), share, behind, bound_words(part.bound))
    if len(small) > 1:
        rest = sum(part.exposed_s for part in small)
        table.add_row(f"{len(small)} smaller parts", "", format_time(rest), f"{100 * rest / step.seconds:.1f} %", "", "")
    print_table(told + size + peaks, table, console)


def memory_line(pool: Pool) -> str:
    """What a GPU of the pool holds, and what is left."""
    used = sum(item.bytes for item in pool.memory)
    parts = ", ".join(f"{item.name} {format_bytes(item.bytes, binary=True)}" for item in pool.memory if item.bytes)
    free, whole = format_bytes(pool.hbm_bytes - used, binary=True), format_bytes(pool.hbm_bytes, binary=True)
    return f"memory per GPU ({pool.role}): {parts}; {free} of {whole} left"


def new_table(*columns: str) -> TextTable:
    """A plain table; a column whose name begins with ">" is aligned to the right."""
    return TextTable(*columns)


def print_table(title: str, table: TextTable, console: Console) -> None:
    """Print ``table`` under its title, with an empty line before it; "": the table alone."""
    if title:
        console.print()
        say(title, console, "bold")
    for line, heading in table.lines(console.width):
        console.print(Text(line, style="dim" if heading else ""), soft_wrap=True)
