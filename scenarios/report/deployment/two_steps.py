"""Two evaluations apart: what every part of the step contributed, what every changed input did, and both steps on one scale."""

from __future__ import annotations

from collections.abc import Sequence

from ...answer.evaluation import Change, Comparison, StepTime
from ...weigh.mechanism import PartChange, StepChange, step_changes
from ..shell.bars import Bar, Span, bars, stacked
from ..shell.page import Html, more, safe, section, table
from ..shell.panels import panels, switch
from ..shell.quantity import change, relative, said, scale
from .metrics import distinct, key_words, leading, short_words
from .parts import PHASES, bound_name, group_colour, group_legend, listed, part_says, step_words

SHOWN_PARTS = 14  # of a difference; the rest moved less and are added up
SMALL = 0.01  # of the largest difference: below it a part needs no row of its own
SHOWN_METRICS = 5  # of a walk, the headline ones first
SLOWER, FASTER = "var(--nic)", "var(--sm)"


def contributions(comparison: Comparison) -> Html:
    """For every step that both have: the difference of each part, one after the other, up to the whole difference."""
    body = ""
    for step in step_changes(comparison.a, comparison.b):
        times = f"{said(step.before.seconds, 's')} to {said(step.after.seconds, 's')}, {_delta(step.moved_s)}"
        body += f"<h3>{safe(_title(step))}: {safe(times)}</h3>{_waterfall(step)}"
    told = comparison.mechanism.replace(" -> ", " → ")
    lead = told or "What each part adds to the step (copper) or takes from it (green), the largest first."
    return section("difference", "Where the difference comes from", lead, body) if body else Html("")


def compositions(comparison: Comparison) -> Html:
    """Both steps as stacked bars on one scale."""
    body = ""
    steps = step_changes(comparison.a, comparison.b)
    for step in steps:
        drawn = composition([("A", step.before), ("B", step.after)])
        body += f"<h3>{safe(_title(step))}</h3>{drawn}{more('Part by part', _part_table(step))}"
    keys = group_legend([s for step in steps for s in (step.before, step.after)])
    return (
        section("steps", "Both steps on one scale", "Parts in the order they run; only exposed time.", f"{keys}{body}")
        if body
        else Html("")
    )


def composition(steps: Sequence[tuple[str, StepTime]]) -> Html:
    """One row a step: its parts' exposed times stacked, coloured by group; changes are against the first."""
    rows = []
    for name, step in steps:
        parts = [p for p in listed(step.parts) if p.exposed_s > 0]
        spans = stacked([(p.name, p.exposed_s, group_colour(p.group)) for p in parts], [part_says(p) for p in parts])
        against = "" if step is steps[0][1] else change(steps[0][1].seconds, step.seconds)
        rows.append(Bar(name, spans, said(step.seconds, "s"), against))
    factor, unit = scale([s.seconds for _, s in steps], "s")
    return bars(rows, unit, factor)


def walk(comparison: Comparison) -> Html:
    """The inputs that differ, in the order they were changed, and what each alone did to the headline numbers."""
    changes = comparison.changes
    if not changes:
        return Html("")
    moved = leading(k for c in changes for k, effect in c.effect.items() if effect)
    keys = distinct(moved, [c.effect for c in changes])[:SHOWN_METRICS]
    known = {m.key: m.words for m in comparison.a.metrics}
    names = {k: known.get(k, key_words(k)[0]) for k in keys}
    choice = switch("metric", [(f"walk-{k}", short_words(k, names[k])) for k in keys])
    parts = [(f"walk-{k}", f"<h3>{safe(names[k])}</h3>{_walk_bars(comparison, changes, k)}") for k in keys]
    lead = "The inputs that differ, changed one after the other from A to B, and what each step of that walk does."
    rows = [(c.path, c.before, c.after) for c in changes]
    listing = more("The inputs that differ", table(("input", "A", "B"), rows, (0, 1, 2)), open_=not parts)
    drawn = f"{choice}{panels(parts, each_in_print=True)}" if parts else ""
    return section("walk", "What was changed, and what each change does", lead, f"{drawn}{listing}")


def _waterfall(step: StepChange) -> Html:
    found = sorted((p for p in step.parts if p.moved_s), key=lambda p: -abs(p.moved_s))
    shown = [p for p in found[:SHOWN_PARTS] if abs(p.moved_s) >= SMALL * abs(found[0].moved_s)]
    rest = found[len(shown) :]
    rows: list[Bar] = []
    at = 0.0
    for part in shown:
        rows.append(_step_bar(part.name, at, part.moved_s, _bounds(part), group_colour(part.group)))
        at += part.moved_s
    unnamed = step.moved_s - sum(p.moved_s for p in found)
    small = sum(p.moved_s for p in rest) + (unnamed if abs(unnamed) > 1e-3 * abs(step.moved_s) else 0.0)
    if small:
        rows.append(_step_bar(_rest_words(len(rest)), at, small, "", ""))
    total = Span(0.0, step.moved_s, "var(--ink)")
    before, after = step.before.seconds, step.after.seconds
    rows.append(Bar("B less A", (total,), _delta(step.moved_s), change(before, after), total=True))
    factor, unit = scale([step.moved_s, *(p.moved_s for p in shown)], "s")
    return bars(rows, unit, factor, signed=True)


def _bounds(part: PartChange) -> str:
    """What bounds a part, in A and in B where they differ."""
    if not part.bound_before or not part.bound_after:
        return "only in B" if not part.bound_before else "only in A"
    before, after = bound_name(part.bound_before), bound_name(part.bound_after)
    return before if before == after else f"{before}, then {after}"


def _rest_words(parts: int) -> str:
    return f"{parts} parts that moved less" if parts > 1 else "one part that moved less" if parts else "not attributed"


def _step_bar(name: str, at: float, delta: float, note: str, colour: str) -> Bar:
    says = f"{name}: {_delta(delta)}"
    return Bar(name, (Span(at, at + delta, SLOWER if delta > 0 else FASTER, says),), _delta(delta), note, colour)


def _walk_bars(comparison: Comparison, changes: Sequence[Change], key: str) -> Html:
    rows: list[Bar] = []
    level = 1.0
    for c in changes:
        effect = c.effect.get(key, 0.0)
        after = level * (1 + effect)
        span = Span(level - 1, after - 1, "var(--nvlink)", f"{c.path}: {relative(effect)}")
        rows.append(Bar(c.path, (span,), relative(effect), f"{c.before} → {c.after}"))
        level = after
    values = [next((m.value for m in e.metrics if m.key == key), 0.0) for e in (comparison.a, comparison.b)]
    total = values[1] / values[0] - 1 if values[0] else level - 1
    rows.append(Bar("B against A", (Span(0.0, total, "var(--ink)"),), relative(total), "", total=True))
    return bars(rows, "%", 100.0, signed=True)


def _part_table(step: StepChange) -> Html:
    rows = []
    for p in step.parts:
        times = (said(p.before_s, "s") if p.bound_before else "–", said(p.after_s, "s") if p.bound_after else "–")
        moved = change(p.before_s, p.after_s) if p.bound_before and p.bound_after else "–"
        rows.append((p.name, *times, moved, bound_name(p.bound_before) or "–", bound_name(p.bound_after) or "–"))
    head = ("part", "A", "B", "change", "bound in A", "bound in B")
    words = f"A: {step_words(step.before)}. B: {step_words(step.after)}."
    return Html(f"<p class=note>{safe(words)}</p>{table(head, rows, (0, 4, 5))}")


def _delta(seconds: float) -> str:
    return "no difference" if seconds == 0 else f"{'+' if seconds > 0 else '−'}{said(abs(seconds), 's')}"


def _title(step: StepChange) -> str:
    return PHASES.get(step.phase, step.phase)
