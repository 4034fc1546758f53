"""The page of `exchanges`: the winners by tokens, every protocol's curve, the numbers, and what cannot run."""

from __future__ import annotations

from pathlib import Path

from plotly.offline import get_plotlyjs

from ....hwmodels.units import format_time
from ...answer.exchange_choice import Curve, Exchanges
from ..shell import page
from ..shell.opening import opening
from ..shell.page import Html, axis, figure, label, layout, section, table
from ..shell.words import legend

#: Of the winners and the next best that somebody timed.
_COLOURS = ("var(--nvlink)", "var(--nic)", "var(--sm)", "var(--fabric)", "var(--first)")
_OTHERS = "var(--wait-3)"
_TICKS = (0.5, 0.7, 1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0)


def render_exchanges(found: Exchanges, command: str) -> str:
    """The page of ``found`` as HTML. ``command`` is what reproduces it."""
    parts = {
        "answer": opening(found.name, found.description, found.sentence, Html(""), found.notes),
        "flips": _winners(found),
        "curves": _curves(found),
        "numbers": _numbers(found),
        "refused": _refused(found),
        "again": section("again", "Reproduce", "", f"<pre>{page.safe(command)}</pre>"),
    }
    words = {"answer": "Answer", "flips": "Winners", "curves": "Curves", "numbers": "Numbers", "refused": "Cannot run"}
    contents = [(name, words[name]) for name in words if parts[name]]
    body = "\n".join(part for part in parts.values() if part)
    return page.document(f"{found.name} · exchanges · epicycle", contents, body, get_plotlyjs())


def write_exchanges_report(found: Exchanges, path: Path, command: str) -> None:
    """Write the page of ``found`` to ``path``. Raises OSError if it cannot be written."""
    page.write(render_exchanges(found, command), path)


def _winners(found: Exchanges) -> Html:
    rows = [
        [
            f"{w.first_tokens:,}" if w.first_tokens == w.last_tokens else f"{w.first_tokens:,} to {w.last_tokens:,}",
            w.protocol,
            w.runner_up,
            f"{w.ratio:.2f}x",
            "lie apart" if w.sure else "overlap",
        ]
        for w in found.winners
    ]
    head = ["tokens a rank", "fastest", "next", "as long", "90 % intervals"]
    lead = "Where intervals overlap, the order is likely and not certain. The ratio is of the first tokens of the stretch."
    return section("flips", "Where the winner flips", lead, table(head, rows, (0, 1, 2, 4)))


def _curves(found: Exchanges) -> Html:
    winning = list(dict.fromkeys(w.protocol for w in found.winners))
    shown = [*winning, *(c.protocol for c in found.curves if c.measured and c.protocol not in winning)][: len(_COLOURS)]
    colours = dict(zip(shown, _COLOURS, strict=False))
    # The coloured ones are drawn last, above the others.
    drawn = sorted(found.curves, key=lambda curve: curve.protocol in colours)
    traces = [_line(found, curve, colours.get(curve.protocol, _OTHERS)) for curve in drawn]
    x = axis("tokens a rank", type="log", tickvals=list(found.tokens), ticktext=[f"{t:,}" for t in found.tokens])
    y = axis("times the fastest", type="log", tickvals=list(_TICKS), ticktext=[f"{tick:g}x" for tick in _TICKS])
    keys = legend([*colours.items(), ("the others", _OTHERS)])
    says = f"Time of one layer over the fastest timed exchange's, by tokens a rank, {len(found.curves)} exchanges"
    plot = figure("exchange-curves", traces, layout(x, y, showlegend=False), 420, says)
    lead = f"One {found.model} layer on {found.ranks} ranks of {found.cluster}, experts included: its time over the fastest's."
    return section("curves", "Every exchange", lead, f"{keys}{plot}")


def _line(found: Exchanges, curve: Curve, colour: str) -> dict[str, object]:
    times = zip(curve.layer_us, curve.low90_us, curve.high90_us, strict=True)
    said = [f"{_time(t)} (90 %: {_time(low)} to {_time(high)})" for t, low, high in times]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": label(curve.protocol),
        "x": list(found.tokens),
        "y": [round(t / best, 4) for t, best in zip(curve.layer_us, _fastest(found), strict=True)],
        "customdata": said,
        "line": {"color": colour, "width": 2},
        "marker": {"color": colour, "size": 5},
        "hovertemplate": f"{label(curve.protocol)}<br>%{{x:,}} tokens: %{{customdata}}, %{{y:.2f}}x<extra></extra>",
    }


def _fastest(found: Exchanges) -> list[float]:
    """Microseconds of the fastest exchange that anybody timed, by tokens."""
    timed = [curve for curve in found.curves if curve.measured] or list(found.curves)
    return [min(curve.layer_us[i] for curve in timed) for i in range(len(found.tokens))]


def _numbers(found: Exchanges) -> Html:
    head = ["exchange", *(f"{t:,}" for t in found.tokens), "known by", "engines"]
    rows = [
        [
            curve.protocol,
            *(_time(t) for t in curve.layer_us),
            curve.known,
            ", ".join(curve.engines) or "none that is planned with",
        ]
        for curve in found.curves
    ]
    body = f"<div class=scroll>{table(head, rows, (0, len(head) - 2, len(head) - 1))}</div>"
    return section("numbers", "One layer by tokens a rank", "Sorted by the mean of all columns, the fastest first.", body)


def _refused(found: Exchanges) -> Html:
    if not found.refused:
        return Html("")
    rows = [[refused.protocol, refused.reason] for refused in found.refused]
    return section("refused", "What cannot run there", "", table(["exchange", "why"], rows, (0, 1)))


def _time(microseconds: float) -> str:
    """As the terminal says it."""
    return format_time(microseconds * 1e-6)
