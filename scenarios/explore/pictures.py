"""The page's pictures, as plain data for plotly: the deployments around the chosen one, its steps part by part, its bill."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...hwmodels.units import format_time
from ..answer.evaluation import Evaluation
from ..answer.words.glossary import bound_words
from ..answer.words.number_text import number_text
from .around import Around, Deployment

#: Groups of parts, in colours that are told apart without red and green.
_COLOURS = {
    "attention": "#2b6a99",
    "feed-forward": "#7fb0d6",
    "experts": "#7d9f70",
    "communication": "#963c10",
    "head": "#6f4d84",
    "host": "#8a949b",
}
_GREY, _ALARM, _CHOSEN = "#8a949b", "#b8432f", "#d9822b"
_ROW_PX = 21
_BILL = ("#2b6a99", "#b4602f", "#55794d", "#77587f", "#8a949b", "#7fb0d6")
Figure = dict[str, Any]


def empty(height: int = 320) -> Figure:
    """A picture of nothing."""
    hidden = {"visible": False}
    return {"data": [], "layout": _layout(height, xaxis=hidden, yaxis=hidden)}


def front(found: Around, answer: Evaluation, tpot_limit_s: float | None) -> Figure:
    """Tokens a second of a GPU against those that a user sees; the chosen deployment among them."""
    if not found.deployments:
        return empty()
    meeting = [d for d in found.deployments if d.meets and not d.on_front]
    missing = [d for d in found.deployments if not d.meets and not d.on_front]
    edge = [d for d in found.deployments if d.on_front]
    data = [
        _dots(meeting, "meets the limits", {"color": _COLOURS["feed-forward"], "size": 5}),
        _dots(missing, "misses a limit", {"color": _GREY, "size": 5, "symbol": "circle-open", "opacity": 0.6}),
        _dots(edge, "the front", {"color": _COLOURS["attention"], "size": 7}, "lines+markers"),
    ]
    tpot, rate = answer.metric("tpot").value, answer.metric("output_tokens_per_s_gpu").value
    said = f"chosen: TPOT {format_time(tpot)}, {number_text(rate, 'tokens/s', 'output_tokens_per_s_gpu')} a GPU"
    star = {"color": _CHOSEN, "size": 15, "symbol": "star", "line": {"width": 1, "color": "#1c2126"}}
    data.append(
        {
            "type": "scatter",
            "mode": "markers",
            "name": "chosen",
            "x": [1.0 / tpot],
            "y": [rate],
            "marker": star,
            "hovertext": [said],
            "hoverinfo": "text",
        }
    )
    layout = _layout(
        340,
        xaxis=_axis("speed of a user, output tokens/s (1 / TPOT)", rangemode="tozero"),
        yaxis=_axis("output tokens/s a GPU", rangemode="tozero"),
        showlegend=True,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        hovermode="closest",
    )
    if tpot_limit_s:
        at, dotted = 1.0 / tpot_limit_s, {"color": _ALARM, "width": 1.2, "dash": "dot"}
        layout["shapes"] = [{"type": "line", "x0": at, "x1": at, "y0": 0, "y1": 1, "yref": "paper", "line": dotted}]
    return {"data": data, "layout": layout}


def steps(answer: Evaluation) -> Figure:
    """A step of every pool as a waterfall: each part where the one before it ends."""
    shown = [(pool.role, step) for pool in answer.pools for step in pool.steps[:1] if step.parts]
    if not shown:
        return empty()
    rows = [len([p for p in step.parts if p.exposed_s > 0]) for _, step in shown]
    space = 2.6  # rows between two steps, for the axis of the upper one
    whole = sum(rows) + space * len(rows)
    layout = _layout(int(_ROW_PX * whole) + 30, bargap=0.18)
    data, top = [], 1.0
    for i, ((role, step), height) in enumerate(zip(shown, rows, strict=True), start=1):
        n = "" if i == 1 else str(i)
        at, bases, lengths, names, colours, says = 0.0, [], [], [], [], []
        for part in step.parts:
            if part.exposed_s <= 0:
                continue
            bases.append(at * 1e3)
            lengths.append(part.exposed_s * 1e3)
            names.append(part.name)
            colours.append(_COLOURS.get(part.group, _GREY))
            share = 100 * part.exposed_s / step.seconds
            says.append(f"{part.name}: {format_time(part.exposed_s)} ({share:.0f} %), bound by {bound_words(part.bound)}")
            at += part.exposed_s
        data.append(
            {
                "type": "bar",
                "orientation": "h",
                "base": bases,
                "x": lengths,
                "y": names,
                "marker": {"color": colours},
                "hovertext": says,
                "hoverinfo": "text",
                "xaxis": f"x{n}",
                "yaxis": f"y{n}",
            }
        )
        low = top - height / whole
        title = f"{role}: a step of {format_time(step.seconds)}, in ms"
        layout[f"xaxis{n}"] = _axis(title, anchor=f"y{n}", rangemode="tozero")
        layout[f"yaxis{n}"] = {"autorange": "reversed", "domain": [max(0.0, low), top], "anchor": f"x{n}", "automargin": True}
        top = low - space / whole
    return {"data": data, "layout": layout}


def bill(answer: Evaluation) -> Figure:
    """Dollars an hour, line by line in one bar."""
    lines = sorted(((name, usd) for name, usd in answer.cost.items() if usd), key=lambda line: -line[1])
    if not lines:
        return empty(60)
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": name,
            "x": [usd],
            "y": ["an hour"],
            "marker": {"color": _BILL[i % len(_BILL)]},
            "hovertext": [f"{name}: {number_text(usd, 'USD/h')}"],
            "hoverinfo": "text",
        }
        for i, (name, usd) in enumerate(lines)
    ]
    legend = {"orientation": "h", "y": 1.1, "yanchor": "bottom", "x": 0, "traceorder": "normal"}
    axis = _axis("USD an hour", rangemode="tozero")
    layout = _layout(150, barmode="stack", xaxis=axis, yaxis={"visible": False}, showlegend=True, legend=legend)
    return {"data": data, "layout": layout}


def _dots(found: Sequence[Deployment], name: str, marker: dict[str, Any], mode: str = "markers") -> Figure:
    told = any(d.words for d in found)
    return {
        "type": "scatter",
        "mode": mode,
        "name": name,
        "x": [round(d.tokens_per_s_user, 3) for d in found],
        "y": [round(d.tokens_per_s_gpu, 2) for d in found],
        "marker": marker,
        "line": {"width": 1.5},
        **({"hovertext": [d.words for d in found], "hoverinfo": "text"} if told else {"hoverinfo": "skip"}),
    }


def _axis(title: str, **more: Any) -> dict[str, Any]:
    return {"title": {"text": title, "standoff": 6}, "automargin": True, "zeroline": False, **more}


def _layout(height: int, **more: Any) -> dict[str, Any]:
    clear = "rgba(0,0,0,0)"
    return {
        "height": height,
        "margin": {"l": 10, "r": 12, "t": 34, "b": 10},
        "paper_bgcolor": clear,
        "plot_bgcolor": clear,
        "font": {"size": 12},
        "showlegend": False,
        "uirevision": "same",
        **more,
    }
