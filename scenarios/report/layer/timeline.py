"""When each rank does what: a Gantt chart of ranks and streams, with the critical path drawn over it."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby

import numpy as np

from ....sim.layer.result import Answer, LayerResult, PathSegment, Span
from ..shell.page import Html, axis, figure, label, layout, more, safe, section, us
from ..shell.words import bound_words, legend, op_colour, op_words, ops_in_order

DRAWN_RANKS = 32
DRAWN_SPANS = 5000  # beyond this, neighbouring spans of one stage are drawn as one
STREAMS = ("communication", "compute", "nic")
LANES = 4  # overlapping spans of one stream are drawn side by side, up to this many


def timeline(answer: Answer) -> Html:
    """One chart per protocol; those compared with are folded."""
    first, *others = answer.layers
    body: str = _chart(first, answer.ranks, "timeline-0")
    for i, layer in enumerate(others, 1):
        body += more(
            f"The same for {layer.protocol} ({us(layer.makespan_ps / 1e6)})", _chart(layer, answer.ranks, f"timeline-{i}")
        )
    lead = "Every rank's streams. Drag sideways to zoom, double-click to see all again; hover for stage, times and bound."
    return section("timeline", f"Timeline: {first.protocol}", lead, body)


def drawn_ranks(layer: LayerResult, ranks: int, limit: int = DRAWN_RANKS) -> tuple[list[int], str]:
    """The ranks worth drawing, ascending, and how they were chosen: the critical path's, then slowest and fastest in turn."""
    if ranks <= limit:
        return list(range(ranks)), ""
    length: dict[int, int] = defaultdict(int)
    for s in layer.critical_path:
        length[s.rank] += s.end_ps - s.start_ps
    chosen = sorted(length, key=lambda r: (-length[r], r))[: limit // 2]
    path = len(chosen)
    busy = np.zeros(ranks, np.int64)
    for o in layer.ops:
        busy += o.rank_ps
    order = [int(r) for r in np.argsort(busy, kind="stable") if int(r) not in length or int(r) not in chosen]
    rest = limit - path
    slow, fast = order[len(order) - (rest + 1) // 2 :], order[: rest // 2]
    words = f"{limit} of {ranks} ranks: {path} on the critical path, then the {len(slow)} slowest and {len(fast)} fastest."
    return sorted({*chosen, *slow, *fast}), words


def _lanes(spans: Sequence[Span]) -> list[int]:
    """The lane of each span (in order of start), so that overlapping spans of one stream lie side by side."""
    free, busy, lanes, count = list[int](), list[tuple[int, int]](), list[int](), 0
    for s in spans:
        while busy and busy[0][0] <= s.start_ps:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if free:
            lane = heapq.heappop(free)
        else:
            lane, count = count, count + 1
        heapq.heappush(busy, (s.end_ps, lane))
        lanes.append(min(lane, LANES - 1))
    return lanes


def _coalesced(spans: Sequence[Span], gap_ps: int) -> list[Span]:
    """``spans`` with neighbours of one rank, stage and bound joined where less than ``gap_ps`` lies between them."""
    joined: list[Span] = []
    for s in sorted(spans, key=lambda s: (s.rank, s.stream, s.name, s.start_ps)):
        last = joined[-1] if joined else None
        if (
            last
            and (last.rank, last.stream, last.name, last.bound) == (s.rank, s.stream, s.name, s.bound)
            and s.start_ps <= last.end_ps + gap_ps
        ):
            joined[-1] = Span(s.rank, s.stream, s.name, s.op, last.start_ps, max(last.end_ps, s.end_ps), s.bound)
        else:
            joined.append(s)
    return joined


def _chart(layer: LayerResult, ranks: int, name: str) -> Html:
    shown, chosen = drawn_ranks(layer, ranks)
    wanted = set(shown)
    spans = [s for s in layer.spans if s.rank in wanted and s.end_ps > s.start_ps]
    if not spans:
        return Html("<p class=note>This run recorded no spans.</p>")
    if len(spans) > DRAWN_SPANS:
        spans = _coalesced(spans, layer.makespan_ps // 1500)
    spans.sort(key=lambda s: (s.rank, s.stream, s.start_ps, s.end_ps, s.name))
    placed = [
        (s, lane)
        for _, g in groupby(spans, lambda s: (s.rank, s.stream))
        if (run := list(g))
        for s, lane in zip(run, _lanes(run), strict=True)
    ]
    streams = [x for x in STREAMS if any(s.stream == x for s in spans)]
    streams += sorted({s.stream for s in spans} - set(streams))
    depth = {x: 1 + max(lane for s, lane in placed if s.stream == x) for x in streams}
    offset, lanes = dict[str, int](), 0
    for stream in streams:
        offset[stream], lanes = lanes, lanes + depth[stream]
    band = lanes + 1  # one lane of air between ranks
    top = {rank: i * band for i, rank in enumerate(shown)}
    row = {(s.rank, s.name, s.start_ps): top[s.rank] + offset[s.stream] + lane for s, lane in placed}

    traces: list[dict[str, object]] = []
    for op in ops_in_order(s.op for s in spans):
        mine = [s for s in spans if s.op == op]
        traces.append(
            {
                "type": "bar",
                "orientation": "h",
                "base": [round(s.start_ps / 1e6, 4) for s in mine],
                "x": [round((s.end_ps - s.start_ps) / 1e6, 4) for s in mine],
                "y": [row[s.rank, s.name, s.start_ps] for s in mine],
                "width": 0.86,
                "marker": {"color": op_colour(op), "line": {"width": 0}},
                "hovertext": [_hover(s) for s in mine],
                "hoverinfo": "text",
                "textposition": "none",
            }
        )
    if path := _path_line(layer.critical_path, row, top):
        traces.append(path)
    lane_px = 14 if len(shown) * band * 14 <= 620 else 9 if len(shown) * band * 9 <= 900 else 7
    ticks = [(top[r] + (lanes - 1) / 2, f"rank {r}") for r in shown]
    if lane_px == 14 and len(streams) > 1:  # few ranks: room to name the streams too
        ticks = [(top[r] + offset[x] + (depth[x] - 1) / 2, label(f"{r} · {x}")) for r in shown for x in streams]
    y = axis(
        range=[len(shown) * band - 0.5, -1],
        tickvals=[t for t, _ in ticks],
        ticktext=[t for _, t in ticks],
        showgrid=False,
        ticks="",
    )
    x = axis(
        "time since the layer's start, us",
        range=[0, layer.makespan_ps / 1e6 * 1.005],
        fixedrange=False,
        rangemode="nonnegative",
    )
    drawn = layout(x, y, barmode="overlay", dragmode="zoom", bargap=0, hovermode="closest")
    height = 56 + round(len(shown) * band * lane_px)
    says = f"Gantt chart of {layer.protocol}: {len(spans)} spans on {len(shown)} ranks over {us(layer.makespan_ps / 1e6)}"
    note = f"Lanes of each rank, from the top: {', '.join(streams)}. The thin line is the critical path. {chosen}"
    keys = legend((op_words(op), op_colour(op)) for op in ops_in_order(s.op for s in spans))
    return Html(f"{_zoom(layer, name)}{keys}{figure(name, traces, drawn, height, says)}<p class=note>{safe(note)}</p>")


def _hover(s: Span) -> str:
    return (
        f"<b>{label(s.name)}</b><br>rank {s.rank}, {label(s.stream)}<br>{s.start_ps / 1e6:,.2f} to {s.end_ps / 1e6:,.2f} us "
        f"({label(us((s.end_ps - s.start_ps) / 1e6))})<br>bound: {label(s.bound)}<br>{label(bound_words(s.bound))}"
    )


def _path_line(
    path: Sequence[PathSegment], row: dict[tuple[int, str, int], int], top: dict[int, int]
) -> dict[str, object] | None:
    """The critical path as a line through its spans; broken where it runs on a rank that is not drawn."""
    x: list[float | None] = []
    y: list[float | None] = []
    by_stage = {(rank, stage): at for (rank, stage, _), at in row.items()}
    for s in path:
        if s.rank not in top:
            x.append(None)
            y.append(None)
            continue
        at = row.get((s.rank, s.stage, s.start_ps), by_stage.get((s.rank, s.stage), top[s.rank]))
        x += [s.start_ps / 1e6, s.end_ps / 1e6]
        y += [at, at]
    if not any(v is not None for v in x):
        return None
    return {
        "type": "scatter",
        "mode": "lines",
        "x": x,
        "y": y,
        "line": {"color": "var(--ink)", "width": 1.5, "shape": "hv"},
        "hoverinfo": "skip",
    }


def _zoom(layer: LayerResult, name: str) -> Html:
    """Buttons that zoom to the layer or to one op: zooming that works on a phone too."""
    spans = [("whole layer", 0.0, layer.makespan_ps / 1e6 * 1.005)]
    for op in ops_in_order(o.op for o in layer.ops):
        mine = [o for o in layer.ops if o.op == op and o.end_ps > o.start_ps]
        if mine:
            start, end = min(o.start_ps for o in mine) / 1e6, max(o.end_ps for o in mine) / 1e6
            air = 0.01 * (end - start)
            spans.append((op_words(op), max(0.0, start - air), end + air))
    buttons = (
        f'<button type=button data-zoom="{safe(name)}" data-from="{a:.4f}" data-to="{b:.4f}">{safe(words)}</button>'
        for words, a, b in spans
    )
    return Html(f"<div class=zoom>{''.join(buttons)}</div>")
