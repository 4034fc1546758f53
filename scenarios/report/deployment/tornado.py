"""How much the answer moves with every number of the hardware: the tornado of an explanation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...answer.evaluation import Evaluation, Sensitivity
from ..shell.bars import Bar, Span, bars
from ..shell.inputs import linked
from ..shell.page import Html, more, safe, section, table
from ..shell.panels import panels, switch
from ..shell.quantity import relative
from .metrics import distinct, key_words, leading, short_words

SHOWN_BARS = 14  # the strongest; all are in the table
SHOWN_METRICS = 5  # behind the switch, the headline ones first
NOTHING = 5e-4  # a relative change below this is none


def tornado(sensitivities: Sequence[Sensitivity], evaluation: Evaluation) -> Html:
    """One tornado for every metric that something moves, chosen by a switch; and the table with values and sources."""
    keys = list(dict.fromkeys(k for s in sensitivities for k in s.more))
    known = {m.key: m.words for m in evaluation.metrics}
    moved = [k for k in leading(keys) if any(_reach(s, k) >= NOTHING for s in sensitivities)]
    moved = distinct(moved, [effects for s in sensitivities for effects in (s.more, s.less)])[:SHOWN_METRICS]
    if not moved:
        return Html("")
    names = {k: known.get(k, key_words(k)[0]) for k in moved}
    step = sensitivities[0].step
    choice = switch("metric", [(f"tornado-{k}", short_words(k, names[k])) for k in moved])
    parts = [(f"tornado-{k}", f"<h3>{safe(names[k])}</h3>{_bars(sensitivities, k)}") for k in moved]
    lead = (
        f"What {100 * step:.0f} % more (dark) and less (pale) of each hardware number does to the answer, the strongest first."
    )
    listing = more("Every number and where it comes from", _table(sensitivities))
    body = f"{choice}{panels(parts, each_in_print=True)}{listing}"
    return section("sensitivity", "What the answer hangs on", lead, body)


def _reach(s: Sensitivity, key: str) -> float:
    return max(abs(s.more.get(key, 0.0)), abs(s.less.get(key, 0.0)))


def _effect(effects: Mapping[str, float], key: str) -> str:
    """The change in words; a dash where the number cannot be moved that way."""
    return relative(effects.get(key, 0.0)) if effects else "–"


def _bars(sensitivities: Sequence[Sensitivity], key: str) -> Html:
    strong = sorted((s for s in sensitivities if _reach(s, key) >= NOTHING), key=lambda s: -_reach(s, key))[:SHOWN_BARS]
    rows = []
    for s in strong:
        up, down = s.more.get(key, 0.0), s.less.get(key, 0.0)
        spans = (
            Span(0.0, down, "var(--nvlink)", f"{100 * s.step:.0f} % less: {relative(down)}", "ghost"),
            Span(0.0, up, "var(--nvlink)", f"{100 * s.step:.0f} % more: {relative(up)}"),
        )
        rows.append(Bar(s.words, spans, f"{_effect(s.more, key)} / {_effect(s.less, key)}", s.value))
    silent = len(sensitivities) - len(strong)
    words = f"{silent} other numbers move" if silent > 1 else "One other number moves"
    note = f"<p class=note>{words} it less, or not at all.</p>" if silent else ""
    return Html(f"{bars(rows, '%', 100.0, signed=True)}{note}")


def _table(sensitivities: Sequence[Sensitivity]) -> Html:
    rows = [(s.words, s.value, Html(f"<code>{safe(s.path)}</code>"), linked(s.source)) for s in sensitivities]
    return table(("number", "value", "path", "source"), rows, (0, 1, 2, 3))
