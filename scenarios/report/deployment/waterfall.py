"""Where a step's time goes: its parts in order, what each adds, what is hidden behind other work, and what bounds it."""

from __future__ import annotations

from collections import defaultdict

from ...answer.evaluation import Evaluation, PartTime, StepTime
from ...answer.words.number_text import digits
from ..shell.bars import Bar, Span, bars, stacked
from ..shell.page import Html, binary_bytes, decimal_bytes, more, safe, section, table
from ..shell.quantity import said, scale
from .parts import (
    bound_colour,
    bound_name,
    bound_words,
    group_colour,
    group_legend,
    group_words,
    listed,
    part_says,
    step_words,
    whole_steps,
)

GAP = 1e-3  # a share of the step below this needs no row of its own


def steps(evaluation: Evaluation, title: str = "Where a step's time goes") -> Html:
    """The waterfall of every pool's steps; the first is open, the others of the same pool are folded."""
    body = ""
    seen: set[str] = set()
    for name, step in whole_steps(evaluation):
        pool = name.rsplit("-", 1)[0]
        drawn = waterfall(step)
        body += more(step_words(step), drawn) if pool in seen else f"<h3>{safe(step_words(step))}</h3>{drawn}"
        seen.add(pool)
    if not body:
        return Html("")
    together = "" if evaluation.serving is None else ", all layers together"
    lead = f"Parts in the order they run{together}, on the busiest GPU. Pale: time that other work hides."
    keys = group_legend([step for _, step in whole_steps(evaluation)])
    return section("step", title, lead, f"{keys}{body}")


def waterfall(step: StepTime) -> Html:
    """One step: a bar for each part where the one before it ended, the total, and the table behind it."""
    rows: list[Bar] = []
    at = 0.0
    for part in listed(step.parts):
        says = part_says(part)
        colour = group_colour(part.group)
        spans = [Span(at, at + part.exposed_s, colour, says)]
        if (hidden := part.seconds - part.exposed_s) > GAP * step.seconds:
            spans.insert(0, Span(max(0.0, at - hidden), at, colour, says, "ghost"))
        at += part.exposed_s
        rows.append(Bar(part.name, tuple(spans), _amount(part.exposed_s, step), bound_name(part.bound), colour))
    if abs(rest := step.seconds - at) > GAP * step.seconds:
        span = Span(min(at, step.seconds), max(at, step.seconds), "var(--wait-3)", "time that no part explains")
        rows.append(Bar("not attributed" if rest > 0 else "parts overlap", (span,), _amount(rest, step)))
    whole = Span(0.0, step.seconds, "var(--ink)", step_words(step))
    rows.append(Bar("the layer" if step.phase == "layer" else "the step", (whole,), said(step.seconds, "s"), total=True))
    factor, unit = scale([step.seconds], "s")
    return Html(f"{bars(rows, unit, factor)}{more('The parts in numbers', _table(step))}")


def bounds(evaluation: Evaluation) -> Html:
    """The critical path of every pool's first step: the exposed time by the resource that bounds it, in order and in total."""
    body = ""
    for pool in evaluation.pools:
        for step in pool.steps[:1]:
            body += f"<h3>{safe(step_words(step))}: {safe(_verdict(step))}</h3>{_bounds(step)}"
    lead = "Only exposed time counts: more of the resource with the longest bar is where it pays most."
    return section("bounds", "What bounds the step", lead, body) if body else Html("")


def bound_seconds(step: StepTime) -> dict[str, float]:
    """Exposed seconds by bound, the longest first."""
    total: dict[str, float] = defaultdict(float)
    for part in step.parts:
        total[part.bound] += part.exposed_s
    return dict(sorted(((b, s) for b, s in total.items() if s > 0), key=lambda kv: -kv[1]))


def _verdict(step: StepTime) -> str:
    longest = next(iter(bound_seconds(step).items()), None)
    return f"{100 * longest[1] / step.seconds:.0f} % waits for {bound_words(longest[0])}" if longest and step.seconds else ""


def _bounds(step: StepTime) -> Html:
    """The parts in time, coloured by bound (neighbours of one bound are one box), and under them each bound's total."""
    runs: list[list[PartTime]] = []
    for part in (p for p in step.parts if p.exposed_s > 0):
        if runs and runs[-1][0].bound == part.bound:
            runs[-1].append(part)
        else:
            runs.append([part])
    parts = [(run[0].bound, sum(p.exposed_s for p in run), bound_colour(run[0].bound)) for run in runs]
    says = [
        f"{', '.join(p.name for p in run)}: {said(seconds, 's')}, {bound_words(bound)}"
        for run, (bound, seconds, _) in zip(runs, parts, strict=True)
    ]
    rows = [Bar("in order", stacked(parts, says), said(sum(seconds for _, seconds, _ in parts), "s"))]
    for bound, seconds in bound_seconds(step).items():
        mine = sorted((p for p in step.parts if p.bound == bound and p.exposed_s > 0), key=lambda p: -p.exposed_s)
        where = ", ".join(p.name for p in mine[:2]) + (f" and {len(mine) - 2} more" if len(mine) > 2 else "")
        colour = bound_colour(bound)
        span = Span(0.0, seconds, colour, f"{bound_words(bound)}: {said(seconds, 's')}")
        rows.append(Bar(bound_words(bound), (span,), _amount(seconds, step), where, colour))
    factor, unit = scale([step.seconds], "s")
    return bars(rows, unit, factor)


def _amount(seconds: float, step: StepTime) -> str:
    share = 100 * seconds / step.seconds if step.seconds else 0.0
    return f"{said(seconds, 's')} · {share:.0f} %" if seconds else "hidden"


def _table(step: StepTime) -> Html:
    rows: list[list[object]] = []
    for p in step.parts:
        rates = [f"{digits(p.flops / p.seconds / 1e12)} TF/s" if p.flops and p.seconds else "–"]
        rates.append(f"{decimal_bytes(p.hbm_bytes / p.seconds)}/s" if p.hbm_bytes and p.seconds else "–")
        hidden = said(p.seconds - p.exposed_s, "s") if p.seconds - p.exposed_s > GAP * p.seconds else "–"
        wire = decimal_bytes(p.wire_bytes) if p.wire_bytes else "–"
        hbm = binary_bytes(p.hbm_bytes) if p.hbm_bytes else "–"
        rows.append([p.name, group_words(p.group), said(p.exposed_s, "s"), hidden, *rates, hbm, wire, p.source])
    utilised = f"MFU {digits(100 * step.mfu)} %, MBU {digits(100 * step.mbu)} % of the peaks."
    head = ("part", "group", "exposed", "hidden", "math", "HBM rate", "HBM bytes", "sent", "law and constants")
    return Html(f"<p class=note>{safe(utilised)}</p>{table(head, rows, (0, 1, 8))}")
