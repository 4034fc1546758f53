"""The page of a validation run: predicted against measured, error by group and by regime, the worst rows, what was skipped."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from plotly.offline import get_plotlyjs

from ...scenarios.report.shell import page
from ...scenarios.report.shell.page import Html, axis, figure, label, layout, safe, section, table, us
from .findings import ablation, coverage, honestly, right_and_wrong
from .timing import Key, Timing, key_of, name_of, regime_of, regime_words, timing

DRAWN_POINTS = 1500  # of one group; the worst are always among them
WORST = 25
BAND_PCT = 10.0  # the dotted lines beside the diagonal
STRONG_PCT = 30.0  # an error this large has the regime table's full colour

Table = Sequence[Mapping[str, Any]]


def render_validation_report(
    groups: Table,
    rows: Table,
    skipped: Mapping[str, int],
    *,
    source: str = "",
    version: str = "",
    command: str = "",
    notes: Iterable[str] = (),
) -> str:
    """The page as HTML.

    ``groups``: records as `predict.GroupError` has them. ``rows``: a table's columns and ``predicted_us``. ``skipped``:
    reason -> rows. ``source``: the table's name; ``command``: what reproduces the page; ``notes``: said under the answer.
    """
    timings = [timing(row) for row in rows]
    by_group: dict[Key, list[Timing]] = defaultdict(list)
    for t in sorted(timings, key=lambda t: t.key):
        by_group[t.key].append(t)
    parts = {
        "answer": _headline(groups, timings, skipped, source, notes),
        "groups": section(
            "groups",
            "Error by group",
            "Every group on its own: an average over groups would hide the bad ones.",
            _groups(groups),
        ),
        "coverage": coverage(groups, timings),
        "verdict": right_and_wrong(timings) if timings else Html(""),
        "regime": section(
            "regime",
            "Error by regime",
            f"Mean absolute error, percent, by {_unit(timings)} (from, below). Small sizes are latency, large ones bandwidth.",
            _regimes(by_group),
        ),
        "scatter": section(
            "scatter",
            "Predicted against measured",
            f"On the diagonal the model is right; dotted lines are {BAND_PCT:.0f} % off. Above it, predictions are too slow.",
            _scatters(by_group),
        ),
        "worst": section("worst", "The worst rows", "Where to look first for a mechanism that is missing.", _worst(timings)),
        "ablation": ablation() if timings else Html(""),
        "honestly": honestly() if timings else Html(""),
        "skipped": _skipped(skipped),
        "reproduce": _reproduce(command, version),
    }
    words = ["Answer", "Groups", "Intervals", "Right and wrong", "Regimes", "Scatter", "Worst rows", "Mechanisms", "Honestly"]
    words += ["Skipped", "Reproduce"]
    contents = [(name, w) for (name, part), w in zip(parts.items(), words, strict=True) if part]
    return page.document(
        f"Validation {source} · epicycle", contents, "\n".join(parts[name] for name, _ in contents), get_plotlyjs()
    )


def write_validation_report(groups: Table, rows: Table, skipped: Mapping[str, int], path: Path, **said: Any) -> None:
    """Write the page of a validation run to ``path``; as `render_validation_report`. Raises OSError if it cannot be written."""
    page.write(render_validation_report(groups, rows, skipped, **said), path)


def _headline(groups: Table, rows: Sequence[Timing], skipped: Mapping[str, int], source: str, notes: Iterable[str]) -> Html:
    if not rows:
        sentence = "No row of this table could be predicted."
        facts = [("rows skipped", f"{sum(skipped.values()):,}", "")]
    else:
        errors = np.array([r.error_pct for r in rows])
        worst, best = max(groups, key=lambda g: g["mape_pct"]), min(groups, key=lambda g: g["mape_pct"])
        sentence = (
            f"Half of {len(rows):,} measured times are predicted within {np.median(np.abs(errors)):.1f} %, nine in ten within "
            f"{np.percentile(np.abs(errors), 90):.1f} %."
        )
        facts = [
            ("rows predicted", f"{len(rows):,}", f"in {len(groups)} groups; {sum(skipped.values()):,} rows skipped"),
            ("MAPE, all rows", f"{np.abs(errors).mean():.1f} %", f"bias {errors.mean():+.1f} %"),
            ("best group", f"{best['mape_pct']:.1f} %", name_of(key_of(best))),
            ("worst group", f"{worst['mape_pct']:.1f} %", name_of(key_of(worst))),
        ]
    shown = "".join(f"<div><dt>{safe(n)}</dt><dd>{safe(v)}<small>{safe(s)}</small></dd></div>" for n, v, s in facts)
    said = "".join(f"<p class=note>{safe(n)}</p>" for n in notes)
    top = f"<h1>Validation</h1><p>{safe(source)}</p><p class=answer>{safe(sentence)}</p>"
    return Html(f"<header id=answer>{top}<dl class=facts>{shown}</dl>{said}</header>")


def _groups(groups: Table) -> Html:
    head = ["system", "protocol", "op", "constants of", "nodes", "rows", "MAPE, %", "median, %", "p90, %", "bias, %"]
    head += ["without odd rows, %", "in 90 %"]
    rows: list[list[object]] = []
    for g in groups:
        errors = [f"{v:.1f}" for v in (g["mape_pct"], g["median_ape_pct"], g["p90_ape_pct"])]
        rows.append(
            [
                g["system"],
                g["protocol"],
                g["op"],
                g.get("calibrated_on", ""),
                g["nodes"],
                f"{g['rows']:,}",
                *errors,
                f"{g['bias_pct']:+.1f}",
                *(_or_nothing(g.get(name), digits) for name, digits in (("mape_without_odd_pct", 1), ("covered_90_pct", 0))),
            ]
        )
    return table(head, rows, (0, 1, 2, 3))


def _unit(timings: Sequence[Timing]) -> str:
    return " or ".join(dict.fromkeys(t.unit for t in timings if t.unit)) or "size"


def _or_nothing(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _regimes(by_group: Mapping[Key, Sequence[Timing]]) -> Html:
    """MAPE of each group (rows) by size in powers of four (columns); the fuller the colour, the larger the error."""
    regimes = sorted({regime_of(r.size) for rows in by_group.values() for r in rows})
    head = "".join(f"<th class=n>{safe(regime_words(b))}</th>" for b in regimes)
    lines = ""
    for key, rows in by_group.items():
        errors: dict[int, list[float]] = defaultdict(list)
        for r in rows:
            errors[regime_of(r.size)].append(abs(r.error_pct))
        lines += (
            f"<tr><td class=s>{safe(name_of(key))}</td>" + "".join(_regime_cell(errors.get(b, [])) for b in regimes) + "</tr>"
        )
    return Html(f"<div class=scroll><table><thead><tr><th>group</th>{head}</tr></thead><tbody>{lines}</tbody></table></div>")


def _regime_cell(errors: Sequence[float]) -> str:
    if not errors:
        return "<td></td>"
    mape = sum(errors) / len(errors)
    share = min(100.0, 100 * mape / STRONG_PCT)
    colour = f"color-mix(in srgb, var(--warm) {share:.0f}%, transparent)"
    return f'<td class=n style="background:{colour}" title="{len(errors)} rows">{mape:.1f}</td>'


def _scatters(by_group: Mapping[Key, Sequence[Timing]]) -> str:
    charts = "".join(f"<div>{_scatter(key, rows, f'scatter-{i}')}</div>" for i, (key, rows) in enumerate(by_group.items()))
    return f"<div class=grid>{charts}</div>"


def _scatter(key: Key, rows: Sequence[Timing], name: str) -> Html:
    shown = _sample(rows)
    times = [t for r in shown for t in (r.measured_us, r.predicted_us) if t > 0]
    low, high = min(times, default=1.0) / 1.25, max(times, default=10.0) * 1.25
    lines: list[dict[str, object]] = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": [low, high],
            "y": [low * factor, high * factor],
            "line": {"color": "var(--ink)", "width": 1, "dash": dash},
            "hoverinfo": "skip",
        }
        for factor, dash in ((1.0, "solid"), (1 + BAND_PCT / 100, "dot"), (1 - BAND_PCT / 100, "dot"))
    ]
    points: dict[str, object] = {
        "type": "scatter",
        "mode": "markers",
        "x": [r.measured_us for r in shown],
        "y": [round(r.predicted_us, 3) for r in shown],
        "text": [f"{label(r.case)}: {r.error_pct:+.1f} %" for r in shown],
        "hovertemplate": "%{text}<br>%{x:,.1f} us measured<br>%{y:,.1f} us predicted<extra></extra>",
        "marker": {"color": "var(--nvlink)", "size": 4 if len(shown) > 200 else 6, "opacity": 0.5},
    }
    ticks = [m * 10.0**e for e in range(-1, 7) for m in (1, 2, 5) if low <= m * 10.0**e <= high]
    if len(ticks) > 6:
        ticks = [t for t in ticks if f"{t:e}".startswith("1")]
    decades: dict[str, object] = {"type": "log", "range": [float(np.log10(low)), float(np.log10(high))]}
    decades |= {"tickvals": ticks, "ticktext": [f"{t:,g}" for t in ticks], "constrain": "domain", "tickangle": 0}
    x, y = axis("measured, us", **decades), axis("predicted, us", **decades, scaleanchor="x")
    drawn = layout(x, y, margin={"l": 56, "r": 6, "t": 6, "b": 44})
    mape = sum(abs(r.error_pct) for r in rows) / len(rows)
    count = f"{len(rows):,} rows" if len(shown) == len(rows) else f"{len(shown):,} of {len(rows):,} rows drawn"
    words = f"{count}, MAPE {mape:.1f} %"
    chart = figure(name, [*lines, points], drawn, 330, f"{name_of(key)}: predicted against measured, {words}")
    system, protocol, op, nodes = key
    where = f"{system}, {nodes} node{'s' if nodes != 1 else ''}: {words}"
    return Html(f"<h4>{safe(protocol)} {safe(op)}</h4><p>{safe(where)}</p>{chart}")


def _sample(rows: Sequence[Timing]) -> list[Timing]:
    """At most DRAWN_POINTS rows: the worst, and of the others every n-th by measured time."""
    if len(rows) <= DRAWN_POINTS:
        return list(rows)
    ordered = sorted(rows, key=lambda r: -abs(r.error_pct))
    worst, others = ordered[:WORST], sorted(ordered[WORST:], key=lambda r: r.measured_us)
    return [*worst, *others[:: -(-len(others) // (DRAWN_POINTS - WORST))]]


def _worst(rows: Sequence[Timing]) -> Html:
    worst = sorted(rows, key=lambda r: (-abs(r.error_pct), r.key, r.case))[:WORST]
    head = ("group", "case", "bound by", "measured", "predicted", "error, %", "90 % interval")
    lines = [
        [name_of(r.key), r.case, r.bound or "–", us(r.measured_us), us(r.predicted_us), f"{r.error_pct:+.1f}", _interval(r)]
        for r in worst
    ]
    return table(head, lines, (0, 1, 2))


def _interval(row: Timing) -> str:
    return f"{us(row.low90_us).removesuffix(' us')} to {us(row.high90_us)}" if row.high90_us else "–"


def _skipped(skipped: Mapping[str, int]) -> Html:
    if not skipped:
        return Html("")
    rows = [[reason, f"{count:,}"] for reason, count in sorted(skipped.items(), key=lambda kv: (-kv[1], kv[0]))]
    return section("skipped", "Rows not predicted", "Counted, never silently dropped.", table(("reason", "rows"), rows))


def _reproduce(command: str, version: str) -> Html:
    if not command:
        return Html("")
    return section("reproduce", "Reproduce", "", f"<pre>{safe(command)}</pre><p class=note>epicycle {safe(version)}</p>")
