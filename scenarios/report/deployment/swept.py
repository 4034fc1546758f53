"""Metrics over the axes of a sweep: lines with their intervals for one axis, heat maps for two."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from ...answer.evaluation import Evaluation, Metric, Sweep
from ..shell.page import Html, axis, figure, label, layout, safe, section
from ..shell.quantity import said, scale
from .metrics import leading

STEEP = 20.0  # values that differ by more are drawn by decades
_NUMBER = re.compile(r"([-+]?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)\s*([^0-9]*)")


def charts(sweep: Sweep) -> Html:
    """One chart a metric; empty for more than two axes or without an answer."""
    found = [p for p in sweep.points if p.evaluation is not None]
    metrics = shown_metrics([p.evaluation for p in found if p.evaluation])
    if not metrics or not 1 <= len(sweep.axes) <= 2:
        return Html("")
    draw = _lines if len(sweep.axes) == 1 else _heat
    body = "".join(f"<div><h4>{safe(m.words)}</h4>{draw(sweep, m, f'metric-{key}')}</div>" for key, m in metrics)
    if len(sweep.axes) == 1:
        lead = "Bands: the 50 % and the 90 % interval of each prediction. A gap is a refused point."
    else:
        lead = "A stronger colour is more; the best is outlined, a gap is a refused point."
    return section("metrics", f"The answer over {' and '.join(sweep.axes)}", lead, f'<div class="grid two">{body}</div>')


def shown_metrics(evaluations: Sequence[Evaluation]) -> list[tuple[str, Metric]]:
    """(key, a metric of that key) of those that vary in what is shown, the headline ones first; of all if none does."""
    have: dict[str, list[Metric]] = {}
    for e in evaluations:
        for m in e.metrics:
            have.setdefault(m.key, []).append(m)
    ordered = leading(have)
    varying = [k for k in ordered if len({f"{m.value:.3g}" for m in have[k]}) > 1]
    return [(k, have[k][0]) for k in (varying or ordered)[:8]]


def short_axes(sweep: Sweep) -> list[str]:
    """The axes' last words, or the last two where the last alone does not tell them apart."""
    last = [path.split(".")[-1] for path in sweep.axes]
    names = last if len(set(last)) == len(last) else [" ".join(path.split(".")[-2:]) for path in sweep.axes]
    return [name.replace("_", " ") for name in names]


def numbers(values: Sequence[str]) -> tuple[list[float], str] | None:
    """(numbers, unit) of an axis whose values are all numbers of one unit; None if they are words."""
    found = [_NUMBER.fullmatch(v.strip()) for v in values]
    units = {m.group(2).strip() for m in found if m}
    if not all(found) or len(units) != 1:
        return None
    return [float(m.group(1)) for m in found if m], units.pop()


def _lines(sweep: Sweep, metric: Metric, name: str) -> Html:
    key = metric.key
    points = sweep.points
    at = numbers([p.values[0] for p in points])
    if at is not None:
        order = sorted(range(len(points)), key=lambda i: at[0][i])
        points = tuple(points[i] for i in order)
        x: list[object] = [at[0][i] for i in order]
    else:
        x = [label(p.values[0]) for p in points]
    here = [next((m for m in p.evaluation.metrics if m.key == key), None) if p.evaluation else None for p in points]
    factor, unit = scale([m.high90 or m.value for m in here if m], metric.unit, key)

    def of(field: str) -> list[float | None]:
        values = [getattr(m, field) if m else None for m in here]
        return [None if m is None else (m.value if v is None else v) * factor for m, v in zip(here, values, strict=True)]

    mid = of("value")
    hover = [said(m.value, m.unit, key) if m else "" for m in here]
    line: dict[str, object] = {
        "type": "scatter",
        "mode": "lines+markers" if at else "markers",
        "x": x,
        "y": mid,
        "customdata": hover,
        "line": {"color": "var(--nvlink)", "width": 2},
        "marker": {"color": "var(--nvlink)", "size": 7},
        "hovertemplate": f"{label(sweep.axes[0])} %{{x}}<br>%{{customdata}}<extra></extra>",
    }
    traces: list[dict[str, object]] = []
    known = any(m and m.low90 is not None for m in here)
    if at and known:
        traces += _bands(x, here, factor)
    elif known:
        low, high = of("low90"), of("high90")
        line["error_y"] = {
            "type": "data",
            "symmetric": False,
            "array": [None if h is None or v is None else h - v for h, v in zip(high, mid, strict=True)],
            "arrayminus": [None if w is None or v is None else v - w for w, v in zip(low, mid, strict=True)],
            "color": "var(--nvlink-2)",
            "thickness": 2,
            "width": 5,
        }
    xs = [v for v in x if isinstance(v, float)]
    more: dict[str, object] = {}
    if at:
        spread = max(xs) / min(xs) if xs and min(xs) > 0 else 1.0
        log = len(xs) > 2 and spread >= 8
        more = {"tickvals": xs if len(xs) <= 8 else None, "ticktext": [f"{v:g}" for v in xs] if len(xs) <= 8 else None}
        more |= {"type": "log"} if log else {}
    else:
        more = {"type": "category"}
    title = short_axes(sweep)[0] + (f", {at[1]}" if at and at[1] else "")
    best = [m.value for m in here if m]
    steep = min(best) > 0 and max(best) > STEEP * min(best)
    tall: dict[str, object] = {"type": "log", "dtick": 1} if steep else {"rangemode": "tozero"}
    margin = {"l": 58, "r": 10, "t": 8, "b": 46}
    drawn = layout(axis(title, **more), axis(_axis_unit(unit, key), **tall), margin=margin)
    says = f"{metric.words} over {sweep.axes[0]}: {said(best[0], metric.unit, key)} to {said(best[-1], metric.unit, key)}"
    return figure(name, [*traces, line], drawn, 260, says)


def _bands(x: Sequence[object], here: Sequence[Metric | None], factor: float) -> list[dict[str, object]]:
    """The 90 % and the 50 % band, each drawn over every run of points without a gap."""
    runs: list[list[int]] = [[]]
    for i, m in enumerate(here):
        if m is None:
            runs.append([])
        else:
            runs[-1].append(i)
    traces: list[dict[str, object]] = []
    for low, high, opacity in (("low90", "high90", 0.2), ("low50", "high50", 0.3)):
        for run in (r for r in runs if r):
            mine = [m for i in run if (m := here[i]) is not None]
            top = [(m.value if (v := getattr(m, high)) is None else v) * factor for m in mine]
            bottom = [(m.value if (v := getattr(m, low)) is None else v) * factor for m in mine]
            across = [x[i] for i in run]
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "x": [*across, *reversed(across)],
                    "y": [*top, *reversed(bottom)],
                    "fill": "toself",
                    "fillcolor": "var(--nvlink)",
                    "opacity": opacity,
                    "line": {"width": 0, "color": "var(--nvlink)"},
                    "hoverinfo": "skip",
                }
            )
    return traces


def _heat(sweep: Sweep, metric: Metric, name: str) -> Html:
    key = metric.key
    down, across = (list(dict.fromkeys(p.values[i] for p in sweep.points)) for i in (0, 1))
    found = {p.values: m for p in sweep.points if p.evaluation for m in p.evaluation.metrics if m.key == key}
    factor, unit = scale([m.value for m in found.values()], metric.unit, key)
    grid = [[found.get((d, a)) for a in across] for d in down]
    z = [[m.value * factor if m else None for m in row] for row in grid]
    values = [v for row in z for v in row if v is not None]
    low, high = min(values), max(values)
    heat: dict[str, object] = {
        "type": "heatmap",
        "z": z,
        "x": [label(a) for a in across],
        "y": [label(d) for d in down],
        "text": [[_short(m, factor) if m else "" for m in row] for row in grid],
        "texttemplate": "%{text}" if len(across) <= 8 else "",
        "textfont": {"size": 11},
        "customdata": [[said(m.value, m.unit, key) if m else "" for m in row] for row in grid],
        "colorscale": [[0, "var(--panel)"], [1, "var(--nvlink-2)"]],
        "zmin": low - 0.15 * (high - low),
        "zmax": high,
        "xgap": 2,
        "ygap": 2,
        "showscale": False,
        "hoverongaps": False,
        "hovertemplate": f"{label(sweep.axes[0])} %{{y}}<br>{label(sweep.axes[1])} %{{x}}<br>%{{customdata}}<extra></extra>",
    }
    shapes = []
    if metric.better and values:
        best = (max if metric.better == "high" else min)(values)
        i, j = next((i, j) for i, row in enumerate(z) for j, v in enumerate(row) if v == best)
        shapes.append(
            {
                "type": "rect",
                "x0": j - 0.5,
                "x1": j + 0.5,
                "y0": i - 0.5,
                "y1": i + 0.5,
                "line": {"color": "var(--ink)", "width": 2},
            }
        )
    ticks = {"type": "category", "showgrid": False, "ticks": "", "showline": False}
    downward, sideways = short_axes(sweep)
    x = axis(sideways, **ticks)
    y = axis(downward, **ticks, autorange="reversed")
    drawn = layout(x, y, shapes=shapes, margin={"l": 58, "r": 6, "t": 8, "b": 46})
    ends = " to ".join(said(v / factor, metric.unit, key) for v in (low, high))
    says = f"Heat map of {metric.words} over {' and '.join(sweep.axes)}: {ends}"
    words = f"<p>{safe(_axis_unit(unit, key))}</p>"
    return Html(f"{words}{figure(name, [heat], drawn, 96 + 40 * len(down), says)}")


def _short(metric: Metric, factor: float) -> str:
    """A cell's number, without its unit."""
    value = metric.value * factor
    if abs(value) >= 10_000:
        return f"{value / 1000:,.0f}k"
    places = 0 if abs(value) >= 100 or value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{places}f}"


def _axis_unit(unit: str, key: str) -> str:
    return unit or key.replace("_", " ")
