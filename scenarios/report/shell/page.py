"""The shell of every HTML page epicycle writes: safe text, tables, figures as data, one self-contained document.

The shell knows no plotly: figures are plain dictionaries in plotly's format, and the caller hands over the JavaScript that
draws them. Everything a page says passes through ``safe`` (HTML) or ``label`` (plotly's pseudo-HTML), and a content
security policy that names the two scripts by hash forbids any other script and every request: a second lock on that door.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u202a-\u202e\u2066-\u2069]")  # also bidirectional overrides


class Html(str):
    """Text that is already HTML. Any other string is escaped where it enters the page."""

    __slots__ = ()


def _clean(value: object) -> str:
    """``value`` as text that can be stored as UTF-8 and cannot rearrange what is around it."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(value)).encode("utf-8", "replace").decode("utf-8")


def safe(value: object) -> Html:
    """``value`` as HTML text or attribute value; ``Html`` passes unchanged."""
    return value if isinstance(value, Html) else Html(html.escape(_clean(value)))


def label(value: object) -> str:
    """``value`` as literal text inside a plotly figure, where titles, ticks and hover text are parsed for tags and entities."""
    return html.escape(_clean(value), quote=False)


def script_json(value: object) -> Html:
    """``value`` as JSON that cannot end the ``<script>`` around it, nor open a comment or another script in it."""
    text = json.dumps(_finite(value), separators=(",", ":"), allow_nan=False)
    return Html(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def _finite(value: object) -> object:
    """``value`` with every NaN and infinity replaced by None: JSON has no word for them, plotly leaves a gap."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value


def us(value: float) -> str:
    """Microseconds as text with three or four significant digits: ``"7.31 us"``, ``"1,240 us"``."""
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 100 else 2
    return f"{value:,.{digits}f} us"


def decimal_bytes(value: float) -> str:
    """Bytes moved, in powers of 1000: ``"58.9 MB"``."""
    return _scaled(value, 1000.0, ("B", "kB", "MB", "GB", "TB", "PB"))


def binary_bytes(value: float) -> str:
    """Bytes stored, in powers of 1024: ``"1.78 GiB"``."""
    return _scaled(value, 1024.0, ("B", "KiB", "MiB", "GiB", "TiB", "PiB"))


def _scaled(value: float, base: float, units: Sequence[str]) -> str:
    power = 0
    while abs(value) >= base and power < len(units) - 1:
        value, power = value / base, power + 1
    return f"{value:,.0f} {units[power]}" if power == 0 else f"{value:,.{2 if abs(value) < 10 else 1}f} {units[power]}"


def table(head: Sequence[object], rows: Iterable[Sequence[object]], text_columns: Iterable[int] = (0,)) -> Html:
    """A table whose columns are numbers, right-aligned, but for ``text_columns``. Cells are escaped unless ``Html``."""
    words = set(text_columns)

    def cells(tag: str, row: Sequence[object]) -> str:
        scope = " scope=col" if tag == "th" else ""
        return "".join(f"<{tag}{scope} class={_look(c, i in words)}>{safe(c)}</{tag}>" for i, c in enumerate(row))

    lines = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return Html(f"<div class=scroll><table><thead><tr>{cells('th', head)}</tr></thead><tbody>{lines}</tbody></table></div>")


def _look(cell: object, is_text: bool) -> str:
    """The class of a cell: n(umber), s(hort text, one line), w(ords, which wrap), h(tml)."""
    if not is_text:
        return "n"
    return "h" if isinstance(cell, Html) else "s" if len(str(cell)) <= 24 else "w"


def figure(name: str, traces: Sequence[Mapping[str, object]], layout: Mapping[str, object], height: int, says: object) -> Html:
    """A figure drawn when it comes into view. ``says`` is its text for screen readers; ``name`` its id in the page."""
    spec = script_json({"data": list(traces), "layout": dict(layout)})
    box = f'<div class=plot id="{safe(name)}" role=img aria-label="{safe(says)}" style="height:{int(height)}px"></div>'
    return Html(f'{box}<script type="application/json" data-figure="{safe(name)}">{spec}</script>')


def axis(title: str = "", **more: object) -> dict[str, object]:
    """A plotly axis in the house style; ``title`` is literal text with its unit. ``var(--x)`` is a colour of page.css."""
    style: dict[str, object] = {
        "title": {"text": label(title), "standoff": 8, "font": {"size": 12, "color": "var(--muted)"}},
        "gridcolor": "var(--rule)",
        "linecolor": "var(--rule)",
        "zeroline": False,
        "ticks": "outside",
        "ticklen": 3,
        "tickcolor": "var(--rule)",
        "fixedrange": True,
        "automargin": True,
    }
    return style | more


def layout(x: Mapping[str, object], y: Mapping[str, object], **more: object) -> dict[str, object]:
    """A plotly layout in the house style, on transparent ground."""
    style: dict[str, object] = {
        "xaxis": dict(x),
        "yaxis": dict(y),
        "margin": {"l": 56, "r": 12, "t": 12, "b": 44},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, -apple-system, Segoe UI, Roboto, sans-serif", "size": 12, "color": "var(--ink)"},
        "hoverlabel": {
            "bgcolor": "var(--panel)",
            "bordercolor": "var(--rule)",
            "font": {"color": "var(--ink)"},
            "align": "left",
        },
        "showlegend": False,
        "dragmode": False,
    }
    return style | more


def section(name: str, title: object, lead: object, body: str) -> Html:
    """One titled part of the page; ``lead`` says in a sentence or two what to see in it."""
    intro = f"<p class=lead>{safe(lead)}</p>" if lead else ""
    return Html(f'<section id="{safe(name)}"><h2>{safe(title)}</h2>{intro}{body}</section>')


def more(summary: object, body: str, open_: bool = False) -> Html:
    """A part that starts folded (and is unfolded in print)."""
    return Html(f"<details{' open' if open_ else ''}><summary>{safe(summary)}</summary>{body}</details>")


def document(title: object, contents: Sequence[tuple[str, object]], body: str, plotly_js: str) -> str:
    """The whole page. ``contents``: (section id, words) of the list at its top; ``plotly_js``: the library, inlined once."""
    room = files("epicycle.scenarios.report.shell")
    style, draw = (room.joinpath(name).read_text("utf-8") for name in ("page.css", "page.js"))
    library = plotly_js.replace("\r\n", "\n") if "data-figure=" in body else ""  # most of a page's bytes: only where drawn
    scripts = [s for s in (library, draw) if s]
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts)
    policy = f"default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:; script-src {hashes}; base-uri 'none'"
    links = " ".join(f'<a href="#{safe(name)}">{safe(words)}</a>' for name, words in contents)
    return (
        '<!DOCTYPE html>\n<html lang=en><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name=viewport content="width=device-width, initial-scale=1"><meta name=color-scheme content="light dark">'
        f'<title>{safe(title)}</title><link rel=icon href="data:,"><style>{style}</style></head>\n'
        f"<body><nav><b>epicycle</b>{links}</nav>\n<main>\n{body}\n</main>\n"
        + "\n".join(f"<script>{s}</script>" for s in scripts)
        + "\n</body></html>\n"
    )


def write(text: str, path: Path) -> None:
    """Write the page, the same bytes on every machine. Raises OSError if ``path`` cannot be written."""
    path.write_bytes(text.encode("utf-8"))
