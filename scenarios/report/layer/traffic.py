"""Who sends what to whom: rank x rank heatmaps per stage and medium, nodes x nodes where ranks are many."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ....sim.layer.result import Answer, LayerResult, TrafficMatrix
from ..shell.page import Html, axis, decimal_bytes, figure, layout, more, safe, section, us
from ..shell.words import medium_colour, medium_words

DRAWN_RANKS = 64  # beyond, ranks are added up by node
NAMED_RANKS = 16  # up to this many, the rows are written into the cells


def traffic(answer: Answer) -> Html:
    """Heatmaps of every protocol; those compared with are folded."""
    first, *others = answer.layers
    body: str = _of_layer(first, answer, "traffic-0")
    for i, layer in enumerate(others, 1):
        body += more(f"The same for {layer.protocol} ({us(layer.makespan_ps / 1e6)})", _of_layer(layer, answer, f"traffic-{i}"))
    lead = "Payload by sender (down) and receiver (across). A path of several hops is counted on each."
    return section("traffic", "Who sends what to whom", lead, body)


def by_group(matrix: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """``matrix`` [rank, rank] added up over groups of ``size`` ranks: [group, group]."""
    starts = np.arange(0, len(matrix), size)
    rows: NDArray[np.int64] = np.add.reduceat(matrix, starts, axis=0)
    both: NDArray[np.int64] = np.add.reduceat(rows, starts, axis=1)
    return both


def _of_layer(layer: LayerResult, answer: Answer, name: str) -> Html:
    moved = [t for t in layer.traffic if t.bytes.any() or t.rows.any()]
    if not moved:
        return Html("<p class=note>Nothing was sent.</p>")
    size = _group_size(answer)
    maps = "".join(f"<div>{_heatmap(t, size, answer.gpus_per_node, f'{name}-{i}')}</div>" for i, t in enumerate(moved))
    note = ""
    if size > 1:
        note = (
            f"{answer.ranks} ranks, added up by {size} ranks ({size // answer.gpus_per_node} node): the diagonal stays inside."
        )
    elif answer.ranks <= NAMED_RANKS:
        note = "Numbers in the cells are token copies (messages in low latency); colour is bytes."
    return Html(f"<div class=grid>{maps}</div>" + (f"<p class=note>{safe(note)}</p>" if note else ""))


def _group_size(answer: Answer) -> int:
    """Ranks per cell: 1, or as many whole nodes as bring the matrix to at most DRAWN_RANKS a side."""
    if answer.ranks <= DRAWN_RANKS:
        return 1
    nodes = -(-answer.ranks // answer.gpus_per_node)
    return answer.gpus_per_node * -(-nodes // DRAWN_RANKS)


def _heatmap(t: TrafficMatrix, size: int, gpus_per_node: int, name: str) -> Html:
    moved, rows = (t.bytes, t.rows) if size == 1 else (by_group(t.bytes, size), by_group(t.rows, size))
    unit, scale = _unit(int(moved.max(initial=0)))
    # Nothing sent is a gap, not a pale colour: the zero pattern is what one looks for.
    z = [[round(float(v) / scale, 3) if v else None for v in line] for line in moved]
    what = "rank" if size == 1 else "nodes"
    names = [str(i) if size in (1, gpus_per_node) else f"{i * size // gpus_per_node}+" for i in range(len(moved))]
    heat: dict[str, object] = {
        "type": "heatmap",
        "z": z,
        "x": names,
        "y": names,
        "text": [[int(v) if v else "" for v in line] for line in rows],
        "colorscale": [[0, "var(--panel)"], [1, medium_colour(t.medium)]],
        "zmin": 0,
        "zmax": round(float(moved.max(initial=0)) / scale, 3),
        "xgap": 1,
        "ygap": 1,
        "colorbar": {
            "thickness": 8,
            "outlinewidth": 0,
            "tickfont": {"size": 10},
            "title": {"text": unit, "font": {"size": 11}},
            "len": 0.9,
        },
        "hovertemplate": f"{what} %{{y}} to {what} %{{x}}<br>%{{z:,}} {unit}<br>%{{text:,}} rows<extra></extra>",
    }
    if len(moved) <= NAMED_RANKS and rows.max(initial=0) < 10_000:
        heat |= {"texttemplate": "%{text}", "textfont": {"size": 10}}
    ticks = {
        "type": "category",
        "showgrid": False,
        "ticks": "",
        "showline": False,
        "tickangle": 0,
        "tickfont": {"size": 10},
        "nticks": 17,
    }
    x = axis(f"to {what}", **ticks, constrain="domain")
    y = axis(f"from {what}", **ticks, autorange="reversed", scaleanchor="x", constrain="domain")
    drawn = layout(x, y, margin={"l": 44, "r": 4, "t": 6, "b": 40})
    total = f"{decimal_bytes(int(t.bytes.sum()))} in {int(t.rows.sum()):,} rows"
    says = f"Heatmap of {t.stage} over {medium_words(t.medium)}: {total}"
    return Html(
        f"<h4>{safe(t.stage)}, {safe(medium_words(t.medium))}</h4><p>{safe(total)}</p>{figure(name, [heat], drawn, 330, says)}"
    )


def _unit(largest: int) -> tuple[str, float]:
    return next((u, s) for u, s in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1.0)) if largest >= s or s == 1.0)
