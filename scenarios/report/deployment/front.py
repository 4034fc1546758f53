"""The Pareto front: throughput or cost of every deployment kept against the speed that a user sees. Points open their panel."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...answer.evaluation import Candidate, Limit, Plan
from ...answer.words.number_text import digits
from ..shell.page import Html, axis, figure, label, layout, section, table
from ..shell.panels import chooser, panels, switch
from ..shell.quantity import said
from ..shell.words import legend
from .candidate import candidate_panel
from .metrics import key_words

STEEP = 20.0  # costs that differ by more are drawn by decades
DRAWN = 200  # candidates drawn and unfolded, the front first
COLOURS = ("--nvlink", "--nic", "--sm", "--fabric", "--nvlink-3", "--nic-3", "--sm-3", "--wait")

#: What a row of the table and a point's hover say.
TOLD = ("tpot", "ttft", "output_tokens_per_s_gpu", "usd_per_mtok_output")


@dataclass(frozen=True, slots=True)
class View:
    """One picture of the candidates: ``key`` on the vertical axis. ``high``: more of it is better."""

    key: str
    words: str
    title: str
    high: bool


VIEWS = (
    View("output_tokens_per_s_gpu", "throughput", "output tokens/s per GPU", True),
    View("usd_per_mtok_output", "cost", "US dollars per million output tokens", False),
)


def user_speed(candidate: Candidate) -> float:
    """Output tokens a second that one user sees: 1 / TPOT."""
    tpot = candidate.values.get("tpot", 0.0)
    return 1.0 / tpot if tpot else candidate.values.get("tokens_per_s_user", 0.0)


def kind(candidate: Candidate) -> str:
    """What colours a point: its mode, and the protocol of its decode workers where experts are exchanged."""
    worker = candidate.serving.decode
    exchange = worker.protocol if worker.dp > 1 else "all-reduce"
    return f"{candidate.serving.mode}, {exchange}"


def best_first(plan: Plan) -> list[Candidate]:
    """The candidates that are drawn: the plan's best, the front, then the rest as they came."""
    best = plan.best
    chosen = [c for c in plan.candidates if best and c.serving == best.serving and c.cluster == best.cluster]
    chosen = chosen or [c for c in plan.candidates if best and c.serving == best.serving]
    rest = [c for c in plan.candidates if not any(c is x for x in chosen[:1])]
    return (chosen[:1] + rest)[:DRAWN]


def front(plan: Plan, command: str) -> Html:
    """Both pictures behind a switch, the panel of the chosen point, and the front as a table; empty without candidates."""
    shown = best_first(plan)
    if not shown:
        return Html("")
    known = {m.key: m for m in plan.best.metrics} if plan.best else {}
    names = {id(c): f"candidate-{i}" for i, c in enumerate(shown)}
    kinds = list(dict.fromkeys(kind(c) for c in sorted(shown, key=lambda c: not c.on_front)))
    colours = {k: f"var({COLOURS[min(i, len(COLOURS) - 1)]})" for i, k in enumerate(kinds)}
    views = [v for v in VIEWS if any(_drawable(v.key, c) for c in shown)]
    pictures = [(f"view-{v.words}", _picture(v, plan, shown, names, colours)) for v in views]
    choice = switch("vertical axis", [(f"view-{v.words}", v.words) for v in views])
    unfolded = [(names[id(c)], candidate_panel(c, names[id(c)], command, known)) for c in shown]
    dropped = len(plan.candidates) - len(shown)
    note = f"<p class=note>{dropped} more are left out of the picture.</p>" if dropped > 0 else ""
    lead = "Each point is a deployment; large ones are on the front, hollow ones miss a limit. Choose one to see it below."
    body = (
        f"{choice}{legend(colours.items())}{panels(pictures, each_in_print=True)}{note}"
        f"<h3>The chosen deployment</h3>{panels(unfolded)}"
        f"<h3>The front: what meets the limits first, the cheapest first</h3>{front_table(plan, shown, names)}"
    )
    return section("front", "What there is to choose from", lead, body)


def front_table(plan: Plan, shown: Sequence[Candidate], names: Mapping[int, str]) -> Html:
    """The candidates on the front; without one, the best of the rest. Each opens its panel."""
    listed = [c for c in shown if c.on_front or c is shown[0]] if any(c.on_front for c in shown) else list(shown[:12])
    listed = sorted(listed, key=lambda c: (not c.meets, c.values["usd_per_mtok_output"] if priced(c) else c.gpus))
    keys = [k for k in TOLD if any(k in c.values for c in listed)]
    several = len({c.cluster for c in listed}) > 1
    played = any(c.events_tpot_s is not None for c in listed)
    rows = []
    for c in listed:
        row: list[object] = [chooser(names[id(c)], c.arrangement, c is shown[0])]
        row += [c.cluster] * several + [f"{c.gpus:,}", digits(user_speed(c))]
        row += [said(c.values[k], key_words(k)[1], k) if k in c.values else "–" for k in keys]
        if played:
            row.append(said(c.events_tpot_s, "s") if c.events_tpot_s is not None else "–")
        rows.append([*row, "met" if c.meets else Html("<span class=warn>not met</span>")])
    heads = {
        "tpot": "TPOT",
        "ttft": "TTFT",
        "output_tokens_per_s_gpu": "output per GPU",
        "usd_per_mtok_output": "cost of output",
    }
    head = ["deployment"] + ["cluster"] * several + ["GPUs", "tokens/s per user", *(heads[k] for k in keys)]
    head += ["TPOT by events"] * played + ["limits"]
    return table(head, rows, (0, *([1] * several), len(head) - 1))


def priced(candidate: Candidate) -> bool:
    """Whether anybody says what it costs."""
    return _drawable("usd_per_mtok_output", candidate)


def _drawable(key: str, candidate: Candidate) -> bool:
    return math.isfinite(candidate.values.get(key, math.nan))


def _picture(view: View, plan: Plan, shown: Sequence[Candidate], names: Mapping[int, str], colours: Mapping[str, str]) -> Html:
    points = [c for c in shown if _drawable(view.key, c) and user_speed(c) > 0]
    traces: list[dict[str, object]] = [_line(view, points)]
    for group, colour in colours.items():
        mine = sorted((c for c in points if kind(c) == group), key=lambda c: c.on_front)
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": label(group),
                "x": [round(user_speed(c), 4) for c in mine],
                "y": [c.values[view.key] for c in mine],
                "ids": [names[id(c)] for c in mine],
                "marker": {
                    "color": colour,
                    "size": [11 if c.on_front else 7 for c in mine],
                    "opacity": [1.0 if c.on_front else 0.55 for c in mine],
                    "symbol": ["circle" if c.meets else "circle-open" for c in mine],
                    "line": {"width": 1.5, "color": colour},
                },
                "hovertext": [_hover(c) for c in mine],
                "hoverinfo": "text",
            }
        )
    traces.append(
        {
            "type": "scatter",
            "mode": "markers",
            "meta": "picked",
            "x": [],
            "y": [],
            "marker": {"symbol": "circle-open", "size": 19, "color": "var(--ink)", "line": {"width": 2, "color": "var(--ink)"}},
            "hoverinfo": "skip",
        }
    )
    x = axis("speed of a user, output tokens/s (1 / TPOT)", rangemode="tozero")
    heights = [c.values[view.key] for c in points if c.values[view.key] > 0]
    steep = not view.high and bool(heights) and max(heights) > STEEP * min(heights)
    decades = {"type": "log", "dtick": 1} if steep else {"rangemode": "tozero"}
    y = axis(view.title, tickprefix="" if view.high else "$", **decades)
    lines, words = _limit_lines(view, plan.limits, steep)
    drawn = layout(
        x,
        y,
        hovermode="closest",
        clickmode="event",
        shapes=lines,
        annotations=words,
        margin={"l": 60, "r": 14, "t": 26, "b": 48},
    )
    on_front = sum(c.on_front for c in points)
    says = f"{len(points)} deployments, {view.title} against a user's output tokens/s; {on_front} on the front, listed below"
    return figure(f"front-{view.words}", traces, drawn, 460, says)


def _line(view: View, points: Sequence[Candidate]) -> dict[str, object]:
    """The edge of what is possible in this picture: from the fastest user down, every point that beats all before it."""
    edge: list[Candidate] = []
    for c in sorted(
        (c for c in points if c.on_front),
        key=lambda c: (-user_speed(c), -c.values[view.key] if view.high else c.values[view.key]),
    ):
        if not edge or (c.values[view.key] > edge[-1].values[view.key]) == view.high:
            edge.append(c)
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [round(user_speed(c), 4) for c in edge],
        "y": [c.values[view.key] for c in edge],
        "line": {"color": "var(--wait-2)", "width": 1.5},
        "hoverinfo": "skip",
    }


def _limit_lines(view: View, limits: Sequence[Limit], steep: bool) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """The limits that lie on this picture's axes, as dotted lines with their words."""
    shapes: list[dict[str, object]] = []
    words: list[dict[str, object]] = []
    ink = {"color": "var(--alarm)", "width": 1.2, "dash": "dot"}
    for x in limits:
        said_ = label(
            f"{key_words(x.key)[0] if x.key not in ('tpot', 'ttft') else x.key.upper()} {said(x.wanted, x.unit, x.key)}"
        )
        text = {"text": said_, "showarrow": False, "font": {"size": 11, "color": "var(--alarm)"}}
        if x.key in ("tpot", "tokens_per_s_user") and x.wanted > 0:
            at = 1 / x.wanted if x.key == "tpot" else x.wanted
            shapes.append({"type": "line", "x0": at, "x1": at, "y0": 0, "y1": 1, "yref": "paper", "line": ink})
            words.append(text | {"x": at, "y": 1, "yref": "paper", "yanchor": "bottom", "xanchor": "left", "xshift": -2})
        elif x.key == view.key:
            shapes.append({"type": "line", "x0": 0, "x1": 1, "xref": "paper", "y0": x.wanted, "y1": x.wanted, "line": ink})
            height = math.log10(x.wanted) if steep and x.wanted > 0 else x.wanted  # plotly's annotations speak in decades there
            words.append(text | {"x": 1, "xref": "paper", "y": height, "yanchor": "bottom", "xanchor": "right"})
    return shapes, words


def _hover(c: Candidate) -> str:
    lines = [f"<b>{label(line)}</b>" for line in textwrap.wrap(c.arrangement, 44)[:4]]
    lines.append(label(f"{c.gpus:,} GPUs, {c.cluster}"))
    shown = [(*key_words(k), k) for k in TOLD if k in c.values]
    return "<br>".join([*lines, *(label(f"{words}: {said(c.values[k], unit, k)}") for words, unit, k in shown)])
