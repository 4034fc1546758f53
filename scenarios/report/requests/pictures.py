"""Figures of a run: a distribution as the share of requests below a time, and pools over time."""

from __future__ import annotations

from collections.abc import Sequence

from ....sim.serving.requests.tally import Distribution
from ...answer.request_run import Timeline
from ..shell.page import Html, axis, figure, layout

_SHOWN = ("waiting", "prompts in work", "decoding", "KV cache in use", "output tokens/s", "groups up")
_LINE = {"color": "var(--nvlink)", "width": 1.2}


def cumulative(name: str, d: Distribution, limit: float | None, words: str) -> Html:
    """Share of requests whose time is at most so long; a line at ``limit``."""
    unit, factor = ("s", 1.0) if d.percentile["p50"] >= 1.0 else ("ms", 1e3)
    total, shares = 0, []
    for _, count in d.bins:
        total += count
        shares.append(100.0 * total / d.count)
    x = [edge * factor for edge, _ in d.bins]
    traces: list[dict[str, object]] = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": x,
            "y": shares,
            "line": {"color": "var(--nvlink)", "shape": "hv"},
            "name": words,
        }
    ]
    if limit is not None:
        at = limit * factor
        line = {"color": "var(--alarm)", "dash": "dot"}
        traces.append({"type": "scatter", "mode": "lines", "x": [at, at], "y": [0, 100], "line": line, "name": "limit"})
    shape = layout(axis(f"{words}, {unit}", type="log"), axis("% of requests at most", range=[0, 101]))
    says = f"{words}: half of the requests within {d.percentile['p50'] * factor:.4g} {unit}, 99 % within "
    says += f"{d.percentile['p99'] * factor:.4g} {unit}"
    return figure(f"cdf-{name}", traces, shape, 260, says)


def timeline(line: Timeline, marks: Sequence[float]) -> Html:
    """Small figures one below the other, on one time axis."""
    body = ""
    seconds = list(line.seconds)
    for number, name in enumerate(_SHOWN):
        values = list(line.values[name])
        if not any(values) or (name == "groups up" and min(values) == max(values)):
            continue
        traces: list[dict[str, object]] = [
            {"type": "scatter", "mode": "lines", "x": seconds, "y": values, "line": _LINE, "name": name}
        ]
        top = max(values)
        for at in marks[:50]:
            style = {"color": "var(--alarm)", "width": 1, "dash": "dot"}
            traces.append({"type": "scatter", "mode": "lines", "x": [at, at], "y": [0, top], "line": style, "name": "failure"})
        shape = layout(axis("seconds"), axis(name, rangemode="tozero"))
        says = f"{name} of the {line.pool} pool over {seconds[-1]:.4g} seconds, at most {top:.4g}"
        body += figure(f"{line.pool}-{number}", traces, shape, 190, says)
    return Html(body)
