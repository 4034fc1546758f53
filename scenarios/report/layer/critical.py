"""The critical path: which resource bounded each part of the time, in order and in total."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from ....sim.layer.result import Answer, LayerResult, PathSegment
from ..shell.page import Html, more, safe, section, table, us
from ..shell.words import bound_colour, bound_words, is_pale, key, legend, op_words

LISTED = 200  # segments listed one by one


def critical(answer: Answer) -> Html:
    """Strip, totals and the path in order, of the scenario's own protocol; the others' totals are folded."""
    first, *others = answer.layers
    body: str = _of_layer(first)
    for layer in others:
        body += more(f"The same for {layer.protocol} ({us(layer.makespan_ps / 1e6)})", _of_layer(layer))
    lead = "The end of the layer waited for this chain of stages. Shorten what bounds its longest part; nothing else helps yet."
    return section("critical", "What bounds the time", lead, body)


def merged(path: Sequence[PathSegment]) -> list[PathSegment]:
    """``path`` with successive segments of one rank, stage and bound joined."""
    out: list[PathSegment] = []
    for s in sorted(path, key=lambda s: s.start_ps):
        last = out[-1] if out else None
        if last and (last.rank, last.stage, last.bound) == (s.rank, s.stage, s.bound) and last.end_ps == s.start_ps:
            out[-1] = PathSegment(last.start_ps, s.end_ps, s.rank, s.stage, s.op, s.bound)
        else:
            out.append(s)
    return out


def _of_layer(layer: LayerResult) -> Html:
    path = merged(layer.critical_path)
    if not path or layer.makespan_ps <= 0:
        return Html("<p class=note>This run recorded no critical path.</p>")
    keys = legend((bound, bound_colour(bound)) for bound in layer.bound_us())
    return Html(f"{_strip(path, layer.makespan_ps)}{keys}{_totals(layer)}{_in_order(path)}")


def _strip(path: Sequence[PathSegment], makespan_ps: int) -> Html:
    """The path in time, as one bar; a part that is wide enough says what bounds it."""
    parts: list[str] = []
    at = 0
    for s in path:
        if s.start_ps > at:
            parts.append(f'<span class=thin style="width:{100 * (s.start_ps - at) / makespan_ps:.3f}%;background:none"></span>')
        share = 100 * (s.end_ps - s.start_ps) / makespan_ps
        title = f"{s.stage} on rank {s.rank}, {us(s.start_ps / 1e6)} to {us(s.end_ps / 1e6)}: {s.bound}, {bound_words(s.bound)}"
        colour = bound_colour(s.bound)
        words, look = (safe(s.bound), "pale" if is_pale(colour) else "strong") if share > 8 else (Html(""), "thin")
        parts.append(f'<span class={look} style="width:{share:.3f}%;background:{colour}" title="{safe(title)}">{words}</span>')
        at = max(at, s.end_ps)
    marks = "".join(f"<span>{safe(us(makespan_ps * i / 4e6))}</span>" for i in range(5))
    return Html(f"<div class=strip>{''.join(parts)}</div><div class=ruler>{marks}</div>")


def _totals(layer: LayerResult) -> Html:
    stages: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for s in layer.critical_path:
        stages[s.bound][s.stage] += (s.end_ps - s.start_ps) / 1e6
    whole = layer.makespan_ps / 1e6
    bounds = layer.bound_us()
    longest = max(bounds.values())
    rows: list[list[object]] = []
    for bound, total in bounds.items():
        top = sorted(stages[bound].items(), key=lambda kv: -kv[1])
        where = ", ".join(f"{stage} {us(t)}" for stage, t in top[:3]) + (f" and {len(top) - 3} more" if len(top) > 3 else "")
        bar = Html(f'<span class=bar style="width:{5.5 * total / longest:.2f}em;background:{bound_colour(bound)}"></span>')
        rows.append(
            [
                Html(f"{key(bound_colour(bound))}{safe(bound)}"),
                bound_words(bound),
                us(total),
                f"{100 * total / whole:.1f} %",
                bar,
                where,
            ]
        )
    if (rest := whole - sum(bounds.values())) > 1e-3 * whole:
        rows.append(
            ["not attributed", "no stage of the path covers this time", us(rest), f"{100 * rest / whole:.1f} %", "", ""]
        )
    return table(("bound", "in plain words", "time", "share", "", "where"), rows, (0, 1, 4, 5))


def _in_order(path: Sequence[PathSegment]) -> Html:
    rows = [
        [us(s.start_ps / 1e6), us((s.end_ps - s.start_ps) / 1e6), f"rank {s.rank}", s.stage, op_words(s.op), s.bound]
        for s in path[:LISTED]
    ]
    beyond = f", the first {LISTED} of {len(path)}" if len(path) > LISTED else ""
    listed = table(("from", "lasts", "rank", "stage", "op", "bound"), rows, (2, 3, 4, 5))
    return more(f"The path step by step{beyond} ({len(path)} steps)", listed, open_=len(path) <= 10)
