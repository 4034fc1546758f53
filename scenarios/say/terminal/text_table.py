"""A table in plain text that fits its width: cells wrap at words, and what still has no room stands on a line below its row.

No word is broken, no heading cut and nothing padded at a line's end. A column whose heading begins with ">" is aligned to the
right and wraps only its heading.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from textwrap import wrap

_GAP, _INDENT = 2, "    "
#: A column that wraps is no narrower than this, if it has more to say.
_NARROWEST = 12


class TextTable:
    """Rows of cells under headings."""

    def __init__(self, *columns: str) -> None:
        self.headings = [column.removeprefix(">") for column in columns]
        self.right = [column.startswith(">") for column in columns]
        self.rows: list[list[str]] = []

    def add_row(self, *cells: str) -> None:
        """Add a row; cells that are left out are empty."""
        self.rows.append([*cells, *[""] * (len(self.headings) - len(cells))])

    def lines(self, width: int) -> Iterator[tuple[str, bool]]:
        """The lines of the table in at most ``width`` columns where words allow it, and whether each is of the heading."""
        shown = [i for i, heading in enumerate(self.headings) if heading or any(row[i] for row in self.rows)]
        below: list[int] = []
        while (widths := self._widths(shown, width)) is None:
            out = self._first_below(shown)
            shown.remove(out)
            below.insert(0, out)
        below.sort()
        yield from ((line, True) for line in self._row([self.headings[i] for i in shown], shown, widths))
        for row in self.rows:
            yield from ((line, False) for line in self._row([row[i] for i in shown], shown, widths))
            said = ", ".join(" ".join(filter(None, (self.headings[i], row[i]))) for i in below if row[i])
            for line in wrapped(said, width - len(_INDENT)) if said else ():
                yield _INDENT + line, False

    def _widths(self, shown: Sequence[int], width: int) -> list[int] | None:
        """A width for each column of ``shown``; None where they do not fit."""
        widths = [max(len(text) for text in (self.headings[i], *(row[i] for row in self.rows))) for i in shown]
        least = [min(full, self._least(i)) for i, full in zip(shown, widths, strict=True)]
        room = width - _GAP * (len(shown) - 1)
        if sum(least) > room and len(shown) > 1:
            return None
        while sum(widths) > room:
            loose = [i for i in range(len(shown)) if widths[i] > least[i]]
            if not loose:
                break
            widest = max(loose, key=lambda i: widths[i])
            widths[widest] -= 1
        return widths

    def _least(self, i: int) -> int:
        heading = max((len(word) for word in self.headings[i].split()), default=0)
        if self.right[i]:
            return max(heading, max((len(row[i]) for row in self.rows), default=0))
        words = [len(word) for row in self.rows for word in row[i].split()]
        return max(heading, min(_NARROWEST, max((len(row[i]) for row in self.rows), default=0)), max(words, default=0))

    def _first_below(self, shown: Sequence[int]) -> int:
        """What goes below the row: long text that needs most room, but for the first column; else the last column."""
        room = {i: max((len(row[i]) for row in self.rows), default=0) for i in shown[1:] if not self.right[i]}
        text = [i for i in room if room[i] > _NARROWEST]
        return max(text, key=lambda i: (room[i], i)) if text else shown[-1]

    def _row(self, cells: Sequence[str], shown: Sequence[int], widths: Sequence[int]) -> Iterator[str]:
        columns = [wrapped(cell, width) or [""] for cell, width in zip(cells, widths, strict=True)]
        for parts in zip_longest(*columns, fillvalue=""):
            placed = [
                part.rjust(width) if self.right[i] else part.ljust(width)
                for part, i, width in zip(parts, shown, widths, strict=True)
            ]
            yield (" " * _GAP).join(placed).rstrip()


def wrapped(text: str, width: int) -> list[str]:
    """``text`` in lines of at most ``width``, broken between words only."""
    return wrap(text, max(1, width), break_long_words=False, break_on_hyphens=False)
