"""The page of a validation run: predicted against measured, error by group and by regime, the worst rows, what was skipped."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
from plotly.offline import get_plotlyjs

from ..sim import page
from ..sim.page import Html, axis, figure, label, layout, safe, section, table, us

DRAWN_POINTS = 1500  # of one group; the worst are always among them
WORST = 25
BAND_PCT = 10.0  # the dotted lines beside the diagonal
STRONG_PCT = 30.0  # an error this large has the regime table's full colour

Key = tuple[str, str, str, int]  # system, protocol, op, nodes


class GroupError(TypedDict):
    """Error of one (system, protocol, op, nodes), percent. ``bias_pct`` is the mean signed error, positive when too slow."""

    system: str
    protocol: str
    op: str
    nodes: int
    rows: int
    mape_pct: float
    median_ape_pct: float
    p90_ape_pct: float
    bias_pct: float


class PredictedRow(TypedDict):
    """One measurement with its prediction. ``comm_sms`` is None where the table has none."""

    system: str
    protocol: str
    op: str
    nodes: int
    tokens_per_rank: int
    hidden: int
    top_k: int
    experts: int
    comm_sms: int | None
    latency_us: float
    predicted_us: float


def error_pct(row: PredictedRow) -> float:
    """Signed relative error, percent: positive when the prediction is too slow."""
    return 100 * (row["predicted_us"] / row["latency_us"] - 1)


def render_validation_report(
    groups: Sequence[GroupError],
    rows: Sequence[PredictedRow],
    skipped: Mapping[str, int],
    *,
    source: str = "",
    version: str = "",
    command: str = "",
    notes: Iterable[str] = (),
) -> str:
    """The page as HTML. ``source``: the table's name; ``skipped``: reason -> rows; ``command``: what reproduces the page."""
    by_group: dict[Key, list[PredictedRow]] = defaultdict(list)
    for row in rows:
        by_group[_key(row)].append(row)
    parts = {
        "answer": _headline(groups, rows, skipped, source, notes),
        "groups": section(
            "groups",
            "Error by group",
            "Every group on its own: an average over groups would hide the bad ones.",
            _groups(groups),
        ),
        "regime": section(
            "regime",
            "Error by regime",
            "Mean absolute error, percent, by tokens per rank. Small batches are latency, large ones bandwidth.",
            _regimes(by_group),
        ),
        "scatter": section(
            "scatter",
            "Predicted against measured",
            f"On the diagonal the model is right; dotted lines are {BAND_PCT:.0f} % to either side. Above it, it predicts too slow.",
            _scatters(by_group),
        ),
        "worst": section("worst", "The worst rows", "Where to look first for a mechanism that is missing.", _worst(rows)),
        "skipped": _skipped(skipped),
        "reproduce": _reproduce(command, version),
    }
    words = ("Answer", "Groups", "Regimes", "Scatter", "Worst rows", "Skipped", "Reproduce")
    contents = [(name, w) for (name, part), w in zip(parts.items(), words, strict=True) if part]
    return page.document(
        f"Validation {source} · epicycle", contents, "\n".join(parts[name] for name, _ in contents), get_plotlyjs()
    )


def write_validation_report(
    groups: Sequence[GroupError],
    rows: Sequence[PredictedRow],
    skipped: Mapping[str, int],
    path: Path,
    *,
    source: str = "",
    version: str = "",
    command: str = "",
    notes: Iterable[str] = (),
) -> None:
    """Write the page of a validation run to ``path``. Raises OSError if it cannot be written."""
    text = render_validation_report(groups, rows, skipped, source=source, version=version, command=command, notes=notes)
    page.write(text, path)


def _key(row: GroupError | PredictedRow) -> Key:
    return row["system"], row["protocol"], row["op"], row["nodes"]


def _name(key: Key) -> str:
    system, protocol, op, nodes = key
    return f"{system}, {nodes} node{'s' if nodes != 1 else ''}: {protocol} {op}"


def _headline(
    groups: Sequence[GroupError], rows: Sequence[PredictedRow], skipped: Mapping[str, int], source: str, notes: Iterable[str]
) -> Html:
    if not rows:
        sentence = "No row of this table could be predicted."
        facts = [("rows skipped", f"{sum(skipped.values()):,}", "")]
    else:
        errors = np.array([error_pct(r) for r in rows])
        worst, best = max(groups, key=lambda g: g["mape_pct"]), min(groups, key=lambda g: g["mape_pct"])
        sentence = (
            f"Half of {len(rows):,} measured times are predicted within {np.median(np.abs(errors)):.1f} %, nine in ten within "
            f"{np.percentile(np.abs(errors), 90):.1f} %."
        )
        facts = [
            ("rows predicted", f"{len(rows):,}", f"in {len(groups)} groups; {sum(skipped.values()):,} rows skipped"),
            ("MAPE, all rows", f"{np.abs(errors).mean():.1f} %", f"bias {errors.mean():+.1f} %"),
            ("best group", f"{best['mape_pct']:.1f} %", _name(_key(best))),
            ("worst group", f"{worst['mape_pct']:.1f} %", _name(_key(worst))),
        ]
    shown = "".join(f"<div><dt>{safe(n)}</dt><dd>{safe(v)}<small>{safe(s)}</small></dd></div>" for n, v, s in facts)
    said = "".join(f"<p class=note>{safe(n)}</p>" for n in notes)
    top = f"<h1>Validation</h1><p>{safe(source)}</p><p class=answer>{safe(sentence)}</p>"
    return Html(f"<header id=answer>{top}<dl class=facts>{shown}</dl>{said}</header>")


def _groups(groups: Sequence[GroupError]) -> Html:
    head = ("system", "protocol", "op", "nodes", "rows", "MAPE, %", "median, %", "p90, %", "bias, %")
    rows = [
        [g["system"], g["protocol"], g["op"], g["nodes"], f"{g['rows']:,}"]
        + [f"{v:.1f}" for v in (g["mape_pct"], g["median_ape_pct"], g["p90_ape_pct"])]
        + [f"{g['bias_pct']:+.1f}"]
        for g in groups
    ]
    return table(head, rows, (0, 1, 2))


def _regimes(by_group: Mapping[Key, Sequence[PredictedRow]]) -> Html:
    """MAPE of each group (rows) by tokens per rank in powers of four (columns); the fuller the colour, the larger the error."""
    regimes = sorted({_regime(r["tokens_per_rank"]) for rows in by_group.values() for r in rows})
    head = "".join(f"<th class=n>{safe(_regime_words(b))}</th>" for b in regimes)
    lines = ""
    for key, rows in by_group.items():
        errors: dict[int, list[float]] = defaultdict(list)
        for r in rows:
            errors[_regime(r["tokens_per_rank"])].append(abs(error_pct(r)))
        lines += f"<tr><td>{safe(_name(key))}</td>" + "".join(_regime_cell(errors.get(b, [])) for b in regimes) + "</tr>"
    return Html(f"<div class=scroll><table><thead><tr><th>group</th>{head}</tr></thead><tbody>{lines}</tbody></table></div>")


def _regime(tokens: int) -> int:
    return max(0, (max(tokens, 1).bit_length() - 1) // 2)


def _regime_words(regime: int) -> str:
    return f"{4**regime:,} to {4 ** (regime + 1) - 1:,}"


def _regime_cell(errors: Sequence[float]) -> str:
    if not errors:
        return "<td></td>"
    mape = sum(errors) / len(errors)
    share = min(100.0, 100 * mape / STRONG_PCT)
    colour = f"color-mix(in srgb, var(--warm) {share:.0f}%, transparent)"
    return f'<td class=n style="background:{colour}" title="{len(errors)} rows">{mape:.1f}</td>'


def _scatters(by_group: Mapping[Key, Sequence[PredictedRow]]) -> str:
    charts = "".join(f"<div>{_scatter(key, rows, f'scatter-{i}')}</div>" for i, (key, rows) in enumerate(by_group.items()))
    return f"<div class=grid>{charts}</div>"


def _scatter(key: Key, rows: Sequence[PredictedRow], name: str) -> Html:
    shown = _sample(rows)
    times = [t for r in shown for t in (r["latency_us"], r["predicted_us"]) if t > 0]
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
        "x": [r["latency_us"] for r in shown],
        "y": [round(r["predicted_us"], 3) for r in shown],
        "text": [_hover(r) for r in shown],
        "hovertemplate": "%{text}<br>%{x:,.1f} µs measured<br>%{y:,.1f} µs predicted<extra></extra>",
        "marker": {"color": "var(--nvlink)", "size": 4, "opacity": 0.5},
    }
    ticks = [m * 10.0**e for e in range(-1, 7) for m in (1, 2, 5) if low <= m * 10.0**e <= high]
    if len(ticks) > 7:
        ticks = [t for t in ticks if f"{t:e}".startswith("1")]
    decades: dict[str, object] = {"type": "log", "range": [float(np.log10(low)), float(np.log10(high))]}
    decades |= {"tickvals": ticks, "ticktext": [f"{t:,g}" for t in ticks], "constrain": "domain"}
    x, y = axis("measured, µs", **decades), axis("predicted, µs", **decades, scaleanchor="x")
    drawn = layout(x, y, margin={"l": 56, "r": 6, "t": 6, "b": 44})
    mape = sum(abs(error_pct(r)) for r in rows) / len(rows)
    count = f"{len(rows):,} rows" if len(shown) == len(rows) else f"{len(shown):,} of {len(rows):,} rows drawn"
    words = f"{count}, MAPE {mape:.1f} %"
    chart = figure(name, [*lines, points], drawn, 330, f"{_name(key)}: predicted against measured, {words}")
    system, protocol, op, nodes = key
    where = f"{system}, {nodes} node{'s' if nodes != 1 else ''}: {words}"
    return Html(f"<h4>{safe(protocol)} {safe(op)}</h4><p>{safe(where)}</p>{chart}")


def _sample(rows: Sequence[PredictedRow]) -> list[PredictedRow]:
    """At most DRAWN_POINTS rows: the worst, and of the others every n-th by measured time."""
    if len(rows) <= DRAWN_POINTS:
        return list(rows)
    ordered = sorted(rows, key=lambda r: -abs(error_pct(r)))
    worst, others = ordered[:WORST], sorted(ordered[WORST:], key=lambda r: r["latency_us"])
    return [*worst, *others[:: -(-len(others) // (DRAWN_POINTS - WORST))]]


def _hover(r: PredictedRow) -> str:
    sms = f", {r['comm_sms']} SMs" if r["comm_sms"] is not None else ""
    return label(
        f"{r['tokens_per_rank']} tokens, hidden {r['hidden']}, top-{r['top_k']} of {r['experts']}{sms}: {error_pct(r):+.1f} %"
    )


def _worst(rows: Sequence[PredictedRow]) -> Html:
    worst = sorted(rows, key=lambda r: (-abs(error_pct(r)), _key(r), r["tokens_per_rank"], r["hidden"]))[:WORST]
    head = ("group", "tokens", "hidden", "top-k", "experts", "SMs", "measured", "predicted", "error, %")
    lines: list[list[object]] = []
    for r in worst:
        sms = "–" if r["comm_sms"] is None else r["comm_sms"]
        case = [_name(_key(r)), r["tokens_per_rank"], r["hidden"], r["top_k"], r["experts"], sms]
        lines.append([*case, us(r["latency_us"]), us(r["predicted_us"]), f"{error_pct(r):+.1f}"])
    return table(head, lines)


def _skipped(skipped: Mapping[str, int]) -> Html:
    if not skipped:
        return Html("")
    rows = [[reason, f"{count:,}"] for reason, count in sorted(skipped.items(), key=lambda kv: (-kv[1], kv[0]))]
    return section("skipped", "Rows not predicted", "Counted, never silently dropped.", table(("reason", "rows"), rows))


def _reproduce(command: str, version: str) -> Html:
    if not command:
        return Html("")
    return section("reproduce", "Reproduce", "", f"<pre>{safe(command)}</pre><p class=note>epicycle {safe(version)}</p>")
