"""The gallery in one picture, an SVG: every published figure as a mark at its error; a line a system, or a section."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from html import escape

from .row import Gallery, Row
from .words import figure_words, number, published_text, summary

_WIDTH, _LEFT, _RIGHT, _TOP, _LINE = 960, 300, 24, 66, 17
#: Errors are drawn up to this many per cent (or points) either way; what is farther off lies on the edge.
_EDGE = 50.0
#: In a picture by section marks this close to each other lie above each other.
_APART = 9.0
_COLOURS = {"predicted": "#2f6db5", "calibrated": "#b0782c", "arithmetic": "#7a8a7a", "measured": "#7a4fa0"}
_MISSED, _INK, _FAINT, _PAPER = "#c0392b", "#33332e", "#b9b9b2", "#fdfdfb"
SECTIONS = {
    1: "The expert-parallel kernel",
    2: "Overlap, balance, network, cost",
    3: "Production runs, blind",
    4: "Serving systems",
    5: "Devices and kernels",
}


def picture(found: Gallery) -> str:
    """A line for each system. Legible on light and dark pages: it brings its own background."""
    lines: list[str] = []
    y, section = _TOP + 4, 0
    for entry in found.entries:
        rows = [row for row in entry.rows if row.error_pct is not None]
        if not rows:
            continue
        if entry.section != section:
            section = entry.section
            y += 2 * _LINE
            lines.append(_text(20, y - 4, f"{section}. {SECTIONS[section]}", weight=600))
        y += _LINE
        lines += [_text(_LEFT - 14, y, entry.scenario, anchor="end"), _rule(y - 4)]
        lines += [_mark(row, y - 4) for row in rows]
    return _framed(found, lines, y + 14)


def picture_by_section(found: Gallery) -> str:
    """The same with a line for each section, marks of like error above each other."""
    lines: list[str] = []
    y = _TOP
    for section in sorted({entry.section for entry in found.entries}):
        rows = [r for e in found.entries if e.section == section for r in e.rows if r.error_pct is not None]
        order = {"missed": 2, "corrected": 1}
        at = Counter[int]()
        placed = []
        for row in sorted(rows, key=lambda r: (order.get(r.verdict, 0), r.evidence, r.id)):
            place = round(_x(row.error_pct or 0.0) / _APART)
            placed.append((row, min(at[place], 7)))
            at[place] += 1
        high = max((above for _, above in placed), default=0)
        y += 20 + 7 * high
        lines += [_text(_LEFT - 14, y + 4, f"{section}. {SECTIONS.get(section, '')}", anchor="end"), _rule(y)]
        lines += [_mark(row, y - 7 * above) for row, above in placed]
    return _framed(found, lines, y + 14)


def _framed(found: Gallery, lines: Sequence[str], bottom: int) -> str:
    """``lines`` between a heading and an axis that ends at ``bottom``."""
    height = bottom + 28
    held, missed = found.count("holds", "predicted"), found.count("missed", "predicted")
    told = f"{summary(found)}; {held} of {held + missed} predicted within tolerance"
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" role="img" '
        f'style="max-width:100%;height:auto" aria-label="{escape(told)}" font-family="system-ui, sans-serif" font-size="12">'
    )
    paper = f'<rect width="{_WIDTH}" height="{height}" fill="{_PAPER}"/>'
    return "\n".join((head, paper, _text(20, 26, told, size=14, weight=600), *_legend(), *_axis(bottom), *lines, "</svg>", ""))


def _axis(bottom: int) -> Iterator[str]:
    for error in (-50, -25, 0, 25, 50):
        x, dash = _x(error), "" if error == 0 else ' stroke-dasharray="2 4"'
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{bottom}" stroke="{_FAINT}"{dash}/>'
        told = {0: "as published", 50: "+50 % and more", -50: "-50 %"}.get(error, f"{error:+d} %")
        yield _text(x, bottom + 16, told, anchor="end" if error == 50 else "middle")


def _legend() -> Iterator[str]:
    x = 20.0
    for name in ("arithmetic", "calibrated", "predicted"):
        yield f'<circle cx="{x + 5:g}" cy="48" r="4" fill="{_COLOURS[name]}"/>' + _text(x + 15, 52, name)
        x += 96
    yield _cross(x + 5, 48) + _text(x + 15, 52, "missed")
    yield _ring(x + 83, 48) + _text(x + 93, 52, "the published figure does not follow from its own inputs")


def _mark(row: Row, y: int) -> str:
    values = f"published {published_text(row)}, simulated {number(row.simulated)}"
    tip = f"<title>{escape(f'{row.scenario}: {figure_words(row)}: {values}, {row.evidence}, {row.verdict}')}</title>"
    x = _x(row.error_pct or 0.0)
    if row.verdict == "corrected":
        return f"<g>{tip}{_ring(x, y)}</g>"
    if row.verdict == "missed":
        return f"<g>{tip}{_cross(x, y)}</g>"
    return f'<circle cx="{x:.1f}" cy="{y}" r="4" fill="{_COLOURS[row.evidence]}" fill-opacity="0.75">{tip}</circle>'


def _cross(x: float, y: int) -> str:
    return f'<path d="M{x - 4:.1f} {y - 4}l8 8m0 -8l-8 8" stroke="{_MISSED}" stroke-width="2" fill="none"/>'


def _ring(x: float, y: int) -> str:
    return f'<circle cx="{x:.1f}" cy="{y}" r="4.5" fill="none" stroke="{_COLOURS["arithmetic"]}" stroke-width="1.5"/>'


def _rule(y: int) -> str:
    return f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}" stroke="#ecece6"/>'


def _text(x: float, y: int, told: str, anchor: str = "start", size: int = 12, weight: int = 400) -> str:
    look = f'text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" fill="{_INK}"'
    return f'<text x="{x:.1f}" y="{y}" {look}>{escape(told)}</text>'


def _x(error: float) -> float:
    held = max(-_EDGE, min(_EDGE, error))
    return _LEFT + (held + _EDGE) / (2 * _EDGE) * (_WIDTH - _LEFT - _RIGHT)
