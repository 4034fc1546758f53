"""The answer first: one sentence, the numbers behind it, and the time of each op against the closed form."""

from __future__ import annotations

import numpy as np

from ....hwmodels.interval import UNKNOWN, Interval
from ....sim.layer.result import Answer, LayerResult, OpTime
from ..shell.page import Html, decimal_bytes, safe, table, us
from ..shell.words import bound_words, key, medium_words, op_colour, op_words, ops_in_order


def headline(answer: Answer) -> Html:
    """Name, sentence, headline numbers and the table of ops of the scenario's own protocol."""
    layer = answer.layers[0]
    notes = "".join(f"<p class=note>{safe(n)}</p>" for n in (*layer.notes, how_sure(layer)))
    described = f"<p>{safe(answer.description)}</p>" if answer.description else ""
    return Html(
        f"<header id=answer><h1>{safe(answer.name)}</h1>{described}<p class=answer>{safe(answer.sentence)}</p>"
        f"{_facts(answer, layer)}{op_table(layer)}{notes}</header>"
    )


def within(interval: Interval, time_us: float, level: int = 90) -> str:
    """The interval of ``time_us`` at 90 or 50 %: ``"581 to 611 us"``."""
    low90, low50, high50, high90 = interval.scaled(time_us)
    low, high = (low90, high90) if level == 90 else (low50, high50)
    return f"{us(low).removesuffix(' us')} to {us(high)}"


def how_sure(layer: LayerResult) -> str:
    """What the intervals are, and what made them wide."""
    text = (
        "Intervals are measured over predicted times of rows that no constant was fitted to; "
        "the layer's takes its ops to err independently, but for what widens several."
    )
    because: dict[str, list[str]] = {}
    for op, interval in layer.intervals.items():
        for reason in interval.why:
            because.setdefault(reason, []).append(op_words(op))
    said = "; ".join(f"{reason} ({', '.join(ops)})" for reason, ops in because.items())
    return f"{text} Wider because of {said}." if said else text


def moved_bytes(layer: LayerResult, medium: str, op: str | None = None) -> int:
    """Payload bytes over ``medium``, every rank and hop counted, of one op or of the layer."""
    return sum(int(t.bytes.sum()) for t in layer.traffic if t.medium == medium and op in (None, t.op))


def moved_rows(layer: LayerResult, medium: str, op: str | None = None) -> int:
    """Token copies (or messages) over ``medium``, of one op or of the layer."""
    return sum(int(t.rows.sum()) for t in layer.traffic if t.medium == medium and op in (None, t.op))


def effective_rate(layer: LayerResult, medium: str, op: str, ranks: int) -> float:
    """Mean payload rate of a rank over ``medium`` while ``op`` lasts, GB/s; 0.0 if the op moves or lasts nothing."""
    duration_us = layer.op_us(op)
    return moved_bytes(layer, medium, op) / ranks / (duration_us * 1e3) if duration_us > 0 else 0.0


def closed_form(layer: LayerResult) -> tuple[float, float] | None:
    """(event engine, closed form) us over the ops that have both; None if no op has."""
    both = {op for op in layer.closed_form_us if any(o.op == op for o in layer.ops)}
    return (sum(layer.op_us(op) for op in both), sum(layer.closed_form_us[op] for op in both)) if both else None


def difference(value: float, reference: float) -> str:
    """How far ``value`` lies from ``reference``: ``"+4.2 %"``."""
    return f"{100 * (value / reference - 1):+.1f} %" if reference > 0 else "–"


def _facts(answer: Answer, layer: LayerResult) -> Html:
    whole = layer.makespan_ps / 1e6
    sure = f"{within(layer.interval, whole)} nine times in ten, {within(layer.interval, whole, 50)} half of the time"
    facts = [("whole layer", us(whole), f"{layer.protocol}: {sure}")]
    for op in ("dispatch", "compute", "combine"):
        rates = [(medium_words(m), effective_rate(layer, m, op, answer.ranks)) for m in ("nvlink", "rdma")]
        small = ", ".join(f"{words} {rate:,.1f} GB/s" for words, rate in rates if rate > 0)
        facts.append((op, us(layer.op_us(op)), f"{small} per GPU" if small else ""))
    bounds = layer.bound_us()
    total = sum(bounds.values())
    if total > 0:
        first = next(iter(bounds))
        facts.append(("bound by", first, f"{100 * bounds[first] / total:.0f} % of the critical path: {bound_words(first)}"))
    moved = [(medium_words(m), moved_bytes(layer, m)) for m in ("nvlink", "rdma")]
    facts += [
        (f"over {words}", decimal_bytes(b), f"{decimal_bytes(b / answer.ranks)} per GPU, hops counted")
        for words, b in moved
        if b
    ]
    if forms := closed_form(layer):
        facts.append(("against closed form", difference(*forms), f"{us(forms[0])} played, {us(forms[1])} by formula"))
    return Html(
        "<dl class=facts>"
        + "".join(f"<div><dt>{safe(n)}</dt><dd>{safe(v)}<small>{safe(s)}</small></dd></div>" for n, v, s in facts)
        + "</dl>"
    )


def op_table(layer: LayerResult) -> Html:
    """Start, end, duration, its interval and spread over ranks of each op, with the closed form beside it."""
    rows: list[list[object]] = []
    for op in ops_in_order(o.op for o in layer.ops):
        mine = [o for o in layer.ops if o.op == op]
        duration, formula = layer.op_us(op), layer.closed_form_us.get(op)
        name = Html(f"{key(op_colour(op))}{safe(op_words(op))}")
        start, end = min(o.start_ps for o in mine) / 1e6, max(o.end_ps for o in mine) / 1e6
        share = f"{100 * duration * 1e6 / layer.makespan_ps:.0f} %" if layer.makespan_ps else "–"
        formulas = (us(formula), difference(duration, formula)) if formula is not None else ("–", "–")
        sure = within(layer.intervals.get(op, UNKNOWN), duration)
        rows.append([name, us(start), us(end), us(duration), sure, share, *_spread(mine), *formulas])
    head = (
        "op",
        "starts",
        "ends",
        "lasts",
        "90 % interval",
        "of layer",
        "fastest rank",
        "median",
        "slowest rank",
        "closed form",
        "difference",
    )
    return table(head, rows)


def _spread(ops: list[OpTime]) -> tuple[str, str, str]:
    ranks = np.sum([o.rank_ps for o in ops], axis=0) / 1e6  # [rank] us
    if not ranks.size:
        return ("–", "–", "–")
    slowest = int(ranks.argmax())
    return us(float(ranks.min())), us(float(np.median(ranks))), f"{us(float(ranks.max()))} (rank {slowest})"
