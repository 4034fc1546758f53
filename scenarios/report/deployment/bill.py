"""What a deployment costs: the lines of its bill per hour, and what each adds to a million output tokens."""

from __future__ import annotations

from collections.abc import Sequence

from ...answer.evaluation import Evaluation
from ..shell.bars import Bar, Span, bars, stacked
from ..shell.memory import SHADES
from ..shell.page import Html, section
from ..shell.quantity import change, said
from ..shell.words import legend

_TOKENS = 3600.0 / 1e6  # millions of tokens in an hour, of one token a second


def bill(evaluation: Evaluation) -> Html:
    """The lines one after the other, dearest first, up to the whole."""
    lines = sorted(((n, v) for n, v in evaluation.cost.items() if v), key=lambda kv: -kv[1])
    if evaluation.unpriced:
        return section("cost", "What it costs", f"No price: {evaluation.unpriced}.", Html(""))
    if not lines:
        return Html("")
    total = sum(v for _, v in lines)
    colours = line_colours([evaluation])
    mtok = _mtok_per_hour(evaluation)
    rows, at = [], 0.0
    for name, value in lines:
        each = f"{said(value / mtok, 'USD/Mtok')} output" if mtok else ""
        span = Span(at, at + value, colours[name], f"{name}: {said(value, 'USD/h')}")
        rows.append(Bar(name, (span,), f"{said(value, 'USD')} · {100 * value / total:.0f} %", each, colours[name]))
        at += value
    whole = f"{said(total / mtok, 'USD/Mtok')} output" if mtok else ""
    rows.append(Bar("an hour of it", (Span(0.0, total, "var(--ink)"),), said(total, "USD"), whole, total=True))
    lead = "US dollars an hour for the whole deployment, and what each line adds to a million output tokens at this load."
    return section("cost", "What it costs", lead, bars(rows, "USD per hour"))


def bills(evaluations: Sequence[Evaluation], names: Sequence[str]) -> Html:
    """The bills of several deployments on one scale."""
    unpriced = dict.fromkeys(e.unpriced for e in evaluations if e.unpriced)
    if unpriced:
        return section("cost", "What they cost", f"No price: {'; '.join(unpriced)}.", Html(""))
    if not any(any(e.cost.values()) for e in evaluations):
        return Html("")
    colours = line_colours(evaluations)
    rows = []
    first = sum(evaluations[0].cost.values())
    for name, evaluation in zip(names, evaluations, strict=True):
        parts = [(n, evaluation.cost[n], colours[n]) for n in colours if evaluation.cost.get(n)]
        total = sum(v for _, v, _ in parts)
        spans = stacked(parts, [f"{n}: {said(v, 'USD/h')}" for n, v, _ in parts])
        rows.append(Bar(name, spans, said(total, "USD"), "" if evaluation is evaluations[0] else change(first, total)))
    lead = "US dollars an hour for each whole deployment, on one scale."
    return section("cost", "What they cost", lead, f"{legend(colours.items())}{bars(rows, 'USD per hour')}")


def line_colours(evaluations: Sequence[Evaluation]) -> dict[str, str]:
    """A colour for every line of the bills, the same in all of them."""
    names = dict.fromkeys(n for e in evaluations for n, v in sorted(e.cost.items(), key=lambda kv: -kv[1]) if v)
    return {n: f"var({SHADES[i % len(SHADES)]})" for i, n in enumerate(names)}


def _mtok_per_hour(evaluation: Evaluation) -> float:
    """Millions of output tokens in an hour; 0.0 if the evaluation does not say."""
    rates = {m.key: m.value for m in evaluation.metrics}
    rate = rates.get("output_tokens_per_s") or rates.get("output_tokens_per_s_gpu", 0.0) * evaluation.gpus
    return rate * _TOKENS
