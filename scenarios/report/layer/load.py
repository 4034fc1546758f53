"""How evenly the work fell: (token, expert) pairs by expert and by rank, heaviest first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ....sim.layer.result import Answer
from ..shell.page import Html, axis, figure, layout, safe, section


def load(answer: Answer) -> Html:
    """Sorted bars of expert and rank load. Every protocol routes the same tokens, so one picture serves all."""
    layer = answer.layers[0]
    body = "".join(
        f"<div>{_sorted(values, noun, f'load-{noun}')}</div>"
        for values, noun in ((layer.rank_load, "rank"), (layer.expert_load, "expert"))
    )
    lead = "The layer waits for its heaviest rank: max over mean is how far imbalance alone stretches the expert compute."
    return section("load", "Expert and rank load", lead, f'<div class="grid two">{body}</div>')


def imbalance(values: NDArray[np.int64]) -> float:
    """Max over mean; 1.0 is perfectly even (and nothing at all is even)."""
    mean = float(values.mean()) if values.size else 0.0
    return float(values.max()) / mean if mean > 0 else 1.0


def _sorted(values: NDArray[np.int64], noun: str, name: str) -> Html:
    order = np.argsort(-values, kind="stable")
    heaviest = [int(i) for i in order]
    mean = float(values.mean()) if values.size else 0.0
    bars: dict[str, object] = {
        "type": "bar",
        "x": list(range(1, len(heaviest) + 1)),
        "y": [int(values[i]) for i in heaviest],
        "customdata": heaviest,
        "marker": {"color": "var(--op-compute)", "line": {"width": 0}},
        "hovertemplate": f"{noun} %{{customdata}}<br>%{{y:,}} pairs<extra></extra>",
    }
    line: dict[str, object] = {
        "type": "scatter",
        "mode": "lines",
        "x": [0.5, len(heaviest) + 0.5],
        "y": [mean, mean],
        "line": {"color": "var(--ink)", "width": 1, "dash": "dot"},
        "hoverinfo": "skip",
    }
    x = axis(f"{noun}s, heaviest first", showgrid=False, ticks="", range=[0.4, len(heaviest) + 0.6])
    few = {"dtick": 1} if int(values.max(initial=0)) <= 6 else {}
    y = axis("(token, expert) pairs", rangemode="tozero", **few)
    drawn = layout(x, y, bargap=0.15 if len(heaviest) <= 64 else 0, margin={"l": 56, "r": 6, "t": 8, "b": 40})
    idle = int((values == 0).sum())
    words = f"max/mean {imbalance(values):.2f}: {int(values.max(initial=0)):,} against a mean of {mean:,.1f}"
    words += f" (dotted); {idle} idle" if idle else " (dotted)"
    says = f"{int(values.sum()):,} pairs on {len(values)} {noun}s, {words}"
    chart = figure(name, [bars, line], drawn, 260, says)
    return Html(f"<h4>{len(values):,} {noun}s</h4><p>{safe(words)}</p>{chart}")
