"""Which tile a grouped product uses: a small table by element, loads, rows per expert and shape, which bench can extend.

``tiles.csv`` holds one row per choice: the product uses, of the rows whose element and loads are its own, whose ``n`` and ``k``
are its own or empty, and whose ``rows`` are at most its rows per expert, the most particular: exact n and k before any, then
the most rows. ``source`` says where a row is from. A file of the same columns goes before the table (``Table.with_file``).
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

COLUMNS = ("element", "loads", "rows", "n", "k", "tile_m", "tile_n", "tile_k", "warps", "stages", "group", "per_sm", "source")
ELEMENTS = ("bf16", "fp8", "int4")
LOADS = ("tma", "pointer")


@dataclass(frozen=True)
class Tile:
    """``m`` rows by ``n`` columns, ``k`` deep; ``group`` m-tiles share a column of weights while they are in L2.

    ``per_sm``: programs of a persistent launch that share an SM (one's products hide another's scaling); ``loads``: by TMA
    descriptors in a persistent grid, or by pointers, one program per tile.
    """

    m: int
    n: int
    k: int
    warps: int
    stages: int
    group: int = 8
    per_sm: int = 1
    loads: str = "pointer"


@dataclass(frozen=True)
class Tiles:
    """The tiles of an expert's two products; both are as high, because both walk the same aligned rows."""

    up: Tile
    down: Tile

    def __post_init__(self) -> None:
        if self.up.m != self.down.m:
            raise ValueError(f"the two products' tiles are {self.up.m} and {self.down.m} rows high: they must be as high")

    @property
    def m(self) -> int:
        return self.up.m

    @classmethod
    def same(cls, tile: Tile) -> Tiles:
        return cls(tile, tile)


@dataclass(frozen=True)
class Choice:
    """One row of the table; ``n`` and ``k`` None: any."""

    element: str
    rows: int
    n: int | None
    k: int | None
    tile: Tile
    source: str


class Table:
    """Choices in order of preference among equals: what was added last is asked first."""

    def __init__(self, choices: list[Choice]) -> None:
        self.choices = choices

    @classmethod
    def shipped(cls) -> Table:
        text = (files("epicycle.kernels.experts") / "tiles.csv").read_text()
        return cls(_read(text.splitlines(), "tiles.csv"))

    def with_file(self, path: Path) -> Table:
        """This table and, asked before it, the rows of ``path``. Raises ValueError naming file, line and what is wrong."""
        try:
            lines = path.read_text().splitlines()
        except OSError as error:
            raise ValueError(f"{path}: cannot be read ({error.strerror}): give a CSV of {', '.join(COLUMNS)}") from None
        return Table(_read(lines, str(path)) + self.choices)

    def pick(self, element: str, rows: float, n: int, k: int, loads: str, m: int | None = None) -> Tile:
        """The tile of a product ``[rows per expert, k] x [n, k]``; ``m``: its height is given.

        Raises ValueError if no row fits.
        """
        found = [
            c
            for c in self.choices
            if (c.element, c.tile.loads) == (element, loads)
            and c.rows <= rows
            and c.n in (None, n)
            and c.k in (None, k)
            and m in (None, c.tile.m)
            and k % c.tile.k == 0
        ]
        if not found:
            raise ValueError(
                f"no tile for {element} by {loads}, {rows:g} rows per expert, n {n}, k {k}: add a row to a tile table"
            )
        return max(found, key=lambda c: (c.n is not None, c.k is not None, c.rows)).tile

    def pair(self, element: str, rows: float, hidden: int, inter: int, loads: str) -> Tiles:
        """The tiles of both products of an expert; the first one's height is also the second's."""
        up = self.pick(element, rows, 2 * inter, hidden, loads)
        return Tiles(up, self.pick(element, rows, hidden, inter, loads, up.m))


def candidates(element: str, loads: str) -> list[Tile]:
    """What a search tries: tiles that compile without spills on sm_90."""
    deep = {"bf16": 64, "fp8": 128, "int4": 128}[element]
    wide = (128, 256) if element == "bf16" else (128,)
    found = []
    for m, n, warps, stages, per_sm in ((128, 256, 8, 3, 1), (128, 256, 8, 4, 1), (128, 128, 8, 3, 1), (128, 128, 8, 4, 1),
                                        (64, 256, 4, 4, 1), (64, 128, 4, 3, 2), (64, 128, 4, 4, 2)):  # fmt: skip
        if n in wide:
            found.append(Tile(m, n, deep, warps, stages, 8, per_sm if loads == "tma" else 1, loads))
    return found


def row_of(element: str, rows: int, n: int, k: int, tile: Tile, source: str) -> dict[str, object]:
    """One row of a table file."""
    values = (element, tile.loads, rows, n, k, tile.m, tile.n, tile.k, tile.warps, tile.stages, tile.group, tile.per_sm, source)
    return dict(zip(COLUMNS, values, strict=True))


def _read(lines: list[str], name: str) -> list[Choice]:
    reader = csv.DictReader(lines)
    if tuple(reader.fieldnames or ()) != COLUMNS:
        raise ValueError(f"{name}: its columns must be {', '.join(COLUMNS)}")
    choices = []
    for number, row in enumerate(reader, start=2):
        try:
            m, wide, deep, warps, stages, group, per_sm = (int(row[c]) for c in COLUMNS[5:12])
            if (
                row["element"] not in ELEMENTS
                or row["loads"] not in LOADS
                or min(m, wide, deep, warps, stages, group, per_sm) < 1
            ):
                raise ValueError
            n, k = (int(row[c]) if row[c] else None for c in ("n", "k"))
            tile = Tile(m, wide, deep, warps, stages, group, per_sm, row["loads"])
            choices.append(Choice(row["element"], int(row["rows"]), n, k, tile, row["source"] or ""))
        except (TypeError, ValueError):
            raise ValueError(
                f"{name}, line {number}: want an element ({', '.join(ELEMENTS)}), loads ({', '.join(LOADS)}) and whole numbers"
            ) from None
    return choices
