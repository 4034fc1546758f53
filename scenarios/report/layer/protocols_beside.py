"""The protocols side by side: time by op, bytes, rows and memory, each against the scenario's own."""

from __future__ import annotations

from collections.abc import Callable

from ....sim.layer.result import Answer, LayerResult
from ..shell.page import Html, axis, binary_bytes, decimal_bytes, figure, label, layout, section, table, us
from ..shell.words import PROTOCOL_COLOURS, legend, medium_words, op_words, ops_in_order
from .headline import moved_bytes, moved_rows


def comparison(answer: Answer) -> Html:
    """Grouped bars and a table with ratios; empty if there is nothing to compare with."""
    layers = answer.layers
    if len(layers) < 2:
        return Html("")
    names = " against ".join(layer.protocol for layer in layers)
    colours = [PROTOCOL_COLOURS[min(i, len(PROTOCOL_COLOURS) - 1)] for i in range(len(layers))]
    keys = legend((layer.protocol, c) for layer, c in zip(layers, colours, strict=True))
    lead = "The same tokens and experts, played once per protocol. Ratios are against the first."
    return section("comparison", f"Side by side: {names}", lead, f"{keys}{_bars(layers, colours)}{_table(layers)}")


def _bars(layers: tuple[LayerResult, ...], colours: list[str]) -> Html:
    ops = ops_in_order(o.op for layer in layers for o in layer.ops)
    ticks = [label(op_words(op)) for op in ops] + ["whole layer"]
    traces: list[dict[str, object]] = []
    for layer, colour in zip(layers, colours, strict=True):
        times = [layer.op_us(op) for op in ops] + [layer.makespan_ps / 1e6]
        traces.append(
            {
                "type": "bar",
                "name": label(layer.protocol),
                "orientation": "h",
                "y": ticks,
                "x": [round(t, 4) for t in times],
                "text": [us(t) if t else "" for t in times],
                "textposition": "outside",
                "textfont": {"size": 11},
                "cliponaxis": False,
                "marker": {"color": colour, "line": {"width": 0}},
                "hovertemplate": f"{label(layer.protocol)}<br>%{{y}}: %{{x:,.2f}} us<extra></extra>",
            }
        )
    y = axis(type="category", autorange="reversed", showgrid=False, ticks="")
    longest = max(layer.makespan_ps for layer in layers) / 1e6
    x = axis("time, us", range=[0, 1.22 * max(longest, 1e-6)])
    drawn = layout(x, y, barmode="group", bargap=0.28, bargroupgap=0.06)
    height = 60 + len(ticks) * (22 + 18 * (len(layers) - 1))
    return figure("comparison-time", traces, drawn, height, "Grouped bars: time of each op by protocol")


def _table(layers: tuple[LayerResult, ...]) -> Html:
    rows: list[list[object]] = []

    def add(name: str, of: Callable[[LayerResult], float], says: Callable[[float], str]) -> None:
        values = [of(layer) for layer in layers]
        if any(values):
            row: list[object] = [name, says(values[0])]
            for v in values[1:]:
                row += [says(v), f"{v / values[0]:.2f}×" if v and values[0] else "–"]
            rows.append(row)

    add("whole layer", lambda r: r.makespan_ps / 1e6, us)
    for op in ops_in_order(o.op for layer in layers for o in layer.ops):
        add(f"{op_words(op)}", lambda r, op=op: r.op_us(op), _time_or_none)  # type: ignore[misc]
    for medium in dict.fromkeys(t.medium for layer in layers for t in layer.traffic):
        words = medium_words(medium)
        add(f"bytes over {words}", lambda r, m=medium: float(moved_bytes(r, m)), decimal_bytes)  # type: ignore[misc]
        add(f"rows over {words}", lambda r, m=medium: float(moved_rows(r, m)), lambda v: f"{v:,.0f}")  # type: ignore[misc]
    add("HBM of a rank, without KV cache", lambda r: float(sum(i.bytes for i in r.memory)), binary_bytes)
    head: list[object] = ["", layers[0].protocol]
    for layer in layers[1:]:
        head += [layer.protocol, "ratio"]
    return table(head, rows)


def _time_or_none(value: float) -> str:
    return us(value) if value else "none"
