"""A run of requests on a terminal: the sentence, the distributions, the limits, what happened, who was slowest and why."""

from __future__ import annotations

import math

from rich.console import Console

from ....hwmodels.units import format_time
from ....sim.serving.requests.tally import PERCENTILES, name_of
from ...answer.request_run import RequestRun
from ...answer.words.number_text import number_text
from .console import say
from .evaluation import new_table, print_limits, print_sentence, print_table

_WORDS = {"ttft": "time to first token", "tpot": "time per output token", "itl": "between two tokens", "e2e": "arrival to end"}
_WORDS |= {"queue": "in the queue", "later_ttft": "… of later turns", "talk": "whole conversation"}
_SHOWN = 5


def print_run(run: RequestRun, console: Console) -> None:
    """Print ``run``."""
    print_sentence(run.sentence, console)
    names = [name_of(p) for p in PERCENTILES]
    table = new_table("distribution", ">mean", *(f">{name}" for name in names), ">closed form's mean")
    for key in ("ttft", "later_ttft", "queue", "tpot", "itl", "e2e", "talk"):
        d = run.distributions.get(key)
        if d is not None and d.count:
            closed = run.closed_form.get(key)
            values = [_sure(run, key, "mean", d.mean), *(_sure(run, key, name, d.percentile[name]) for name in names)]
            table.add_row(_WORDS[key], *values, format_time(closed) if closed is not None else "")
    print_table("requests (± 95 % confidence of the run)", table, console)
    rest = new_table("metric", ">value")
    for metric in run.evaluation.metrics:
        if metric.unit != "s":
            rest.add_row(metric.words, number_text(metric.value, metric.unit, metric.key))
    print_table(f"{run.evaluation.model} on {run.evaluation.cluster}, {run.evaluation.gpus} GPUs", rest, console)
    if run.evaluation.limits:
        print_limits(run.evaluation.limits, console)
    if run.happenings:
        events = new_table(">at", ">whole again", "what failed")
        for h in run.happenings[:20]:
            events.add_row(format_time(h.at_s), format_time(h.until_s), h.words)
        print_table(f"failures ({len(run.happenings)})", events, console)
    if run.slowest:
        _print_slowest(run, console)
    for note in run.evaluation.notes:
        say(note, console, "dim")
    if run.evaluation.why_wide:
        say(f"times are sure to their intervals only: {'; '.join(run.evaluation.why_wide)}", console, "dim")


def _print_slowest(run: RequestRun, console: Console) -> None:
    stages = list(run.slowest[0].stages)
    table = new_table(">request", ">arrived", ">first token", *(f">{stage}" for stage in stages), ">in", ">out")
    for slow in run.slowest[:_SHOWN]:
        spent = [format_time(s) if s > 0 else "" for s in slow.stages.values()]
        tokens = (str(slow.input_tokens), str(slow.output_tokens))
        table.add_row(str(slow.id), format_time(slow.arrival_s), format_time(slow.ttft_s), *spent, *tokens)
    print_table("slowest to their first token, and where their time went", table, console)


def _sure(run: RequestRun, key: str, name: str, value: float) -> str:
    d = run.distributions[key]
    if not math.isfinite(value):
        return ""
    if name not in d.high:
        return format_time(value)
    if value <= 0:
        return format_time(value)
    half = 0.5 * (d.high[name] - d.low[name])
    if half >= value:  # a share of more than the value says little
        return f"{format_time(value)} ({format_time(max(d.low[name], 0.0))} to {format_time(d.high[name])})"
    return f"{format_time(value)} ± {100 * half / value:.2g} %"
