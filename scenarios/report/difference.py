"""Two evaluations apart: what every part of the step contributed, what every changed input did, and both steps on one scale."""

from __future__ import annotations

from collections.abc import Sequence

from ...sim.page import Html, more, safe, section, table
from ..evaluation import Change, Comparison, Evaluation, StepTime
from .bars import Bar, Span, bars, stacked
from .metrics import key_words
from .panels import panels, switch
from .parts import PHASES, bound_name, group_colour, group_legend, listed, part_says, step_words
from .quantity import change, relative, said, scale

SHOWN_PARTS = 14  # of a difference; the rest moved less and are added up
SLOWER, FASTER = "var(--nic)", "var(--sm)"


def contributions(comparison: Comparison) -> Html:
    """For every step that both have: the difference of each part, one after the other, up to the whole difference."""
    body = ""
    for title, a, b in step_pairs(comparison.a, comparison.b):
        times = f"{said(a.seconds, 's')} to {said(b.seconds, 's')}, {_delta(b.seconds - a.seconds)}"
        body += f"<h3>{safe(title)}: {safe(times)}</h3>{_waterfall(a, b)}"
    lead = comparison.mechanism or "What each part adds to the step (copper) or takes from it (green), the largest first."
    return section("difference", "Where the difference comes from", lead, body) if body else Html("")


def step_pairs(a: Evaluation, b: Evaluation) -> list[tuple[str, StepTime, StepTime]]:
    """(title, step of A, step of B) for every role and phase that both have; a lone step of each is a pair as well."""
    first = {(p.role, s.phase): s for p in a.pools for s in p.steps}
    second = {(p.role, s.phase): s for p in b.pools for s in p.steps}
    both = [k for k in first if k in second]
    if both:
        return [(_step_title(k[1]), first[k], second[k]) for k in both]
    phases = {k[1]: s for k, s in second.items()}
    return [(_step_title(k[1]), s, phases[k[1]]) for k, s in first.items() if k[1] in phases]


def part_differences(a: StepTime, b: StepTime) -> list[tuple[str, str, float, str]]:
    """(part, group, exposed seconds of B less A, bound before and after), the largest difference first."""
    before = {p.name: p for p in a.parts}
    after = {p.name: p for p in b.parts}
    out = []
    for name in dict.fromkeys([*before, *after]):
        x, y = before.get(name), after.get(name)
        delta = (y.exposed_s if y else 0.0) - (x.exposed_s if x else 0.0)
        if x is None or y is None:
            some = x or y
            assert some is not None
            note = "only in B" if x is None else "only in A"
            out.append((name, some.group, delta, f"{note}; {bound_name(some.bound)}"))
        else:
            same = bound_name(x.bound) if x.bound == y.bound else f"{bound_name(x.bound)}, then {bound_name(y.bound)}"
            out.append((name, x.group, delta, same))
    return sorted(out, key=lambda d: -abs(d[2]))


def compositions(comparison: Comparison) -> Html:
    """Both steps as stacked bars on one scale."""
    body = ""
    pairs = step_pairs(comparison.a, comparison.b)
    for title, a, b in pairs:
        body += f"<h3>{safe(title)}</h3>{composition([('A', a), ('B', b)])}{more('Part by part', _part_table(a, b))}"
    keys = group_legend([s for _, a, b in pairs for s in (a, b)])
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
    keys = [k for k in dict.fromkeys(k for c in changes for k in c.effect) if any(c.effect.get(k) for c in changes)]
    known = {m.key: m.words for m in comparison.a.metrics}
    names = {k: known.get(k, key_words(k)[0]) for k in keys}
    choice = switch("metric", [(f"walk-{k}", names[k]) for k in keys])
    parts = [(f"walk-{k}", f"<h3>{safe(names[k])}</h3>{_walk_bars(comparison, changes, k)}") for k in keys]
    lead = "The inputs that differ, changed one after the other from A to B, and what each step of that walk does."
    rows = [(c.path, c.before, c.after, *(relative(c.effect.get(k, 0.0)) for k in keys)) for c in changes]
    listing = table(("input", "A", "B", *names.values()), rows, (0, 1, 2))
    drawn = f"{choice}{panels(parts, each_in_print=True)}" if parts else ""
    return section("walk", "What was changed, and what each change does", lead, f"{drawn}{listing}")


def _waterfall(a: StepTime, b: StepTime) -> Html:
    found = [d for d in part_differences(a, b) if d[2]]
    shown, rest = found[:SHOWN_PARTS], found[SHOWN_PARTS:]
    rows: list[Bar] = []
    at = 0.0
    for name, group, delta, note in shown:
        rows.append(_step_bar(name, at, delta, note, group_colour(group)))
        at += delta
    unnamed = (b.seconds - a.seconds) - sum(d[2] for d in found)
    small = sum(d[2] for d in rest) + (unnamed if abs(unnamed) > 1e-3 * abs(b.seconds - a.seconds) else 0.0)
    if small:
        words = f"{len(rest)} parts that moved less" if rest else "not attributed"
        rows.append(_step_bar(words, at, small, "", ""))
    whole = b.seconds - a.seconds
    rows.append(Bar("B less A", (Span(0.0, whole, "var(--ink)"),), _delta(whole), change(a.seconds, b.seconds), total=True))
    factor, unit = scale([whole, *(d[2] for d in shown)], "s")
    return bars(rows, unit, factor, signed=True)


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


def _part_table(a: StepTime, b: StepTime) -> Html:
    before, after = ({p.name: p for p in s.parts} for s in (a, b))
    rows = []
    for name in dict.fromkeys([*before, *after]):
        x, y = before.get(name), after.get(name)
        cells = [said(p.exposed_s, "s") if p else "–" for p in (x, y)]
        moved = change(x.exposed_s, y.exposed_s) if x and y else "–"
        rows.append((name, *cells, moved, bound_name(x.bound) if x else "–", bound_name(y.bound) if y else "–"))
    head = ("part", "A", "B", "change", "bound in A", "bound in B")
    return Html(f"<p class=note>A: {safe(step_words(a))}. B: {safe(step_words(b))}.</p>{table(head, rows, (0, 4, 5))}")


def _delta(seconds: float) -> str:
    return "no difference" if seconds == 0 else f"{'+' if seconds > 0 else '−'}{said(abs(seconds), 's')}"


def _step_title(phase: str) -> str:
    return PHASES.get(phase, phase)
