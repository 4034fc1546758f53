"""The page of the gallery: every published system with its figures, the published series under the simulated ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from plotly.offline import get_plotlyjs

from ...published.picture import picture
from ...published.row import Entry, Gallery, Row
from ...published.words import VERDICTS, error_text, figure_words, number, predicted_share, published_text, remark, summary
from ..shell import page
from ..shell.opening import opening
from ..shell.page import Html, safe, section, table

_COLOURS = {"holds": "var(--sm)", "corrected": "var(--nic)", "no claim": "var(--wait)", "missed": "var(--alarm)"}


def render_gallery(found: Gallery, command: str) -> str:
    """The page of ``found`` as HTML. ``command`` is what reproduces it."""
    missed = [row for row in found.rows if row.verdict == "missed"]
    notes = [f"Missed: {row.system}: {figure_words(row)}: {error_text(row)}" for row in missed]
    told = Html(f"<p>{safe(predicted_share(found))}</p><p>Reproduce this page with <code>{safe(command)}</code></p>")
    body = [opening("Published systems, reproduced", "", summary(found), Html(_counts(found) + _seen(found) + told), notes)]
    body += [_entry(entry) for entry in found.entries]
    contents = [("answer", "Summary"), *((entry.scenario, entry.scenario) for entry in found.entries)]
    return page.document("gallery · epicycle", contents, "\n".join(body), get_plotlyjs())


def write_gallery_report(found: Gallery, path: Path, command: str) -> None:
    """Write the page of ``found`` to ``path``. Raises OSError if it cannot be written."""
    page.write(render_gallery(found, command), path)


def _seen(found: Gallery) -> Html:
    """The picture of all figures; a phone scrolls it sideways."""
    return Html(f'<div style="overflow-x:auto"><div style="min-width:720px">{picture(found)}</div></div>')


def _counts(found: Gallery) -> Html:
    kinds = ("arithmetic", "predicted", "calibrated", "measured")
    rows = [[verdict, *(found.count(verdict, kind) for kind in kinds)] for verdict in VERDICTS]  # type: ignore[arg-type]
    return table(("verdict", *kinds), rows)


def _entry(entry: Entry) -> Html:
    rows = [
        (figure_words(r), published_text(r), number(r.simulated), error_text(r), r.evidence, r.verdict, r.source)
        for r in entry.rows
    ]
    head = ("figure", "published", "simulated", "error of what is allowed", "evidence", "verdict", "source")
    body = table(head, rows, (0, 4, 5, 6)) + "".join(
        f"<p class=note>{safe(said)}</p>" for said in dict.fromkeys(remark(r) for r in entry.rows if remark(r))
    )
    return section(entry.scenario, entry.system, entry.prose, body + "".join(_figures(entry)))


def _figures(entry: Entry) -> list[Html]:
    """A plot for every series, and one of all single figures, each as a share of what was published."""
    series: dict[tuple[str, str, str], list[Row]] = {}
    single: list[Row] = []
    for row in entry.rows:
        if row.at:
            series.setdefault((row.id.split("@")[0] + row.unit, row.over, row.words), []).append(row)
        elif row.published and row.simulated is not None:
            single.append(row)
    found = [_series(f"{entry.scenario}-{n}", rows) for n, rows in enumerate(series.values())]
    return found + ([_shares(f"{entry.scenario}-shares", single)] if single else [])


def _series(name: str, rows: Sequence[Row]) -> Html:
    at = [row.at for row in rows]
    traces: list[Mapping[str, object]] = []
    if any(row.published is not None for row in rows):
        traces.append(_line(at, [row.published for row in rows], "published", "var(--wait-2)", 6))
    traces.append(_line(at, [row.simulated for row in rows], "simulated", "var(--accent)", 2))
    words = f"{rows[0].words}{', ' + rows[0].unit if rows[0].unit else ''}"
    x, y = page.axis(rows[0].over.rpartition(".")[2], type="category"), page.axis(shortened(words))
    return page.figure(name, traces, page.layout(x, y, showlegend=True, legend={"orientation": "h", "y": 1.15}), 300, words)


def _line(x: Sequence[str], y: Sequence[float | None], name: str, colour: str, width: int) -> Mapping[str, object]:
    look = {"color": colour, "width": width}
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": list(x),
        "y": list(y),
        "name": name,
        "line": look,
        "marker": {"size": 8, "color": colour},
    }


def shortened(words: str, most: int = 34) -> str:
    """``words``, cut at a space where they are longer than ``most`` letters."""
    return words if len(words) <= most else f"{words[: words.rfind(' ', 0, most)]} …"


def _shares(name: str, rows: Sequence[Row]) -> Html:
    # A phone has room for some words beside the bars; the numbers keep labels apart that begin alike.
    labels = [page.label(f"{n} {shortened(figure_words(row))}") for n, row in enumerate(rows, 1)]
    bars = {
        "type": "bar",
        "orientation": "h",
        "y": labels,
        "x": [100.0 * (row.simulated or 0.0) / (row.published or 1.0) for row in rows],
        "marker": {"color": [_COLOURS[row.verdict] for row in rows]},
        "hovertemplate": "%{x:.4g} % of published<extra></extra>",
    }
    line = {
        "type": "line",
        "x0": 100,
        "x1": 100,
        "yref": "paper",
        "y0": 0,
        "y1": 1,
        "line": {"color": "var(--ink)", "width": 1},
    }
    x = page.axis("simulated, % of published", rangemode="tozero")
    layout = page.layout(x, page.axis(autorange="reversed"), shapes=[line])
    return page.figure(name, [bars], layout, 90 + 34 * len(rows), "simulated figures as a share of the published ones")
