"""Which tile of a product is fastest on this device, shape by shape: rows for a table like `kernels/experts/tiles.csv`."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...kernels.experts.tiles import COLUMNS, Choice, Table, Tile, candidates, row_of
from .cases.case import Setup
from .cases.single_rank import Point, products

Timed = dict[Tile, float]


def tune(
    points: Sequence[Point],
    setup: Setup,
    path: Path,
    source: str,
    time_case: Callable[[Any], float],
    say: Callable[[str], None],
) -> None:
    """Time every candidate tile of both products of every point and write the fastest to ``path``, one row a shape.

    ``time_case``: checks a case and gives its microseconds; what it raises for one tile rules that tile out.
    """
    with path.open("w", newline="") as file:
        csv.DictWriter(file, COLUMNS, lineterminator="\n").writeheader()
    for point in points:
        for element in ("bf16", "fp8"):
            found: list[Timed] = [{}, {}]
            for tile in candidates(element, setup.loads):
                only = replace(setup, table=Table([Choice(element, 0, None, None, tile, "")]))
                for down, into in zip((False, True), found, strict=True):
                    try:
                        into[tile] = time_case(products(point, only, element, down))
                    except Exception as error:  # a tile that does not compile or fit is no candidate
                        say(f"{element} {tile}: {type(error).__name__}, left out")
            if not any(found):
                continue
            for (n, k), tile in zip(_shapes(point), fastest(*found), strict=True):
                us = found[(n, k) == _shapes(point)[1]][tile]
                say(f"{element} {point.tokens} tokens, n {n}, k {k}: {tile.m}x{tile.n}x{tile.k}, {us:.1f} us")
                _append(path, row_of(element, point.rows_each, n, k, tile, source))


def fastest(up: Mapping[Tile, float], down: Mapping[Tile, float]) -> tuple[Tile, Tile]:
    """The two products' tiles that together take least: as high as each other, because both walk the same rows."""
    heights = {t.m for t in up} & {t.m for t in down}
    pairs = [
        (min((t for t in up if t.m == m), key=lambda t: up[t]), min((t for t in down if t.m == m), key=lambda t: down[t]))
        for m in sorted(heights)
    ]
    return min(pairs, key=lambda pair: up[pair[0]] + down[pair[1]])


def _shapes(point: Point) -> tuple[tuple[int, int], tuple[int, int]]:
    return (2 * point.inter, point.hidden), (point.hidden, point.inter)


def _append(path: Path, row: dict[str, object]) -> None:
    with path.open("a", newline="") as file:
        csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(row)
