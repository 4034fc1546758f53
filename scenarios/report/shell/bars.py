"""Rows of named bars on one scale: the shape of waterfalls, tornados, bills and intervals. Text and boxes, no script.

They are read on a phone (name and amount above the bar), in print, and by a screen reader, which hears name, amount and note.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from .page import Html, safe
from .quantity import nice_step
from .words import key


@dataclass(frozen=True, slots=True)
class Span:
    """A box from ``start`` to ``end`` on the rows' scale. ``look``: "", "ghost" (pale), "thin" or "mark" (a line at start)."""

    start: float
    end: float
    colour: str
    says: str = ""
    look: str = ""


@dataclass(frozen=True, slots=True)
class Bar:
    """One row: its name (with a square of ``colour``, if any), boxes, amount in words and a note."""

    name: str
    spans: tuple[Span, ...]
    amount: str
    note: str = ""
    colour: str = ""
    total: bool = False


def bars(rows: Sequence[Bar], unit: str, factor: float = 1.0, signed: bool = False) -> Html:
    """``rows`` one under the other, and the scale under them in ``unit`` (values times ``factor``; ``signed``: with a plus)."""
    ends = [0.0] + [v for row in rows for s in row.spans for v in (s.start, s.end) if math.isfinite(v)]
    step = nice_step((max(ends) - min(ends)) * factor, 4) / factor
    low = math.floor(min(ends) / step + 1e-9) * step
    high = max(max(ends), low + step)
    high = low + math.ceil((high - low) / step - 1e-9) * step if signed else high
    wide = high - low

    def at(value: float) -> float:
        return 100 * (min(max(value, low), high) - low) / wide

    noted = any(row.note for row in rows)
    zero = f'<i class=zero style="left:{at(0.0):.3f}%"></i>' if signed else ""
    lines = "".join(_row(row, at, zero, noted) for row in rows)
    marks = [low + i * step for i in range(math.floor((high - low) / step + 1e-6) + 1)]
    words = [f"{v:+g}" if signed and abs(v) > 1e-12 else f"{v:,g}" for v in (round(m * factor, 9) for m in marks)]
    words[-1] = f"{words[-1]} {unit}".strip()
    ticks = "".join(_tick(at(m), w.replace("-", "−")) for m, w in zip(marks, words, strict=True))
    bare = "" if noted else " bare"
    return Html(
        f'<div class="bars{bare}" style="--step:{100 * step / wide:.3f}%">{lines}'
        f"<div aria-hidden=true><span class=name></span><div class=ticks>{ticks}</div></div></div>"
    )


def stacked(parts: Iterable[tuple[str, float, str]], says: Iterable[str]) -> tuple[Span, ...]:
    """Boxes one after the other from zero: ``parts`` are (name, length, colour), ``says`` their texts."""
    listed = list(parts)
    ends = [0.0]
    for _, length, _ in listed:
        ends.append(ends[-1] + length)
    return tuple(Span(a, b, p[2], t) for (a, b), p, t in zip(pairwise(ends), listed, says, strict=True))


def _tick(left: float, words: str) -> str:
    look = " class=last" if left > 90 else ""
    return f'<span{look} style="left:{left:.2f}%">{safe(words)}</span>'


def _row(row: Bar, at: Callable[[float], float], zero: str, noted: bool) -> str:
    boxes = zero
    for s in row.spans:
        left, right = at(min(s.start, s.end)), at(max(s.start, s.end))
        look = f" class={s.look}" if s.look else ""
        ground = "" if s.look == "mark" else f";width:{right - left:.3f}%;background:{s.colour}"
        title = f' title="{safe(s.says)}"' if s.says else ""
        boxes += f'<i{look} style="left:{left:.3f}%{ground}"{title}></i>'
    square = key(row.colour) if row.colour else ""
    note = f"<span class=why>{safe(row.note)}</span>" if noted else ""
    name = '<span class="name keyed">' if row.colour else "<span class=name>"
    kind = " class=total" if row.total else ""
    return (
        f"<div{kind}>{name}{square}{safe(row.name)}</span><div class=track>{boxes}</div>"
        f"<span class=amount>{safe(row.amount)}</span>{note}</div>"
    )
