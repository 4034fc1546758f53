"""Step tables of several kinds of worker in one place, flat, so that the compiled loop takes any of them by its number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ....fabric.quick_numba import njit
from .step_table import OWN, VALUES, Table, decode_values, mixed_values

Floats = NDArray[np.float64]
_ARRAYS = tuple(name for name in Table._fields if name not in ("speculated", "score"))


class Shelf(NamedTuple):
    """``data`` holds every array of every table; ``at`` [table, array] where it begins, ``sizes`` [table, array, dimension]."""

    data: Floats
    at: NDArray[np.int64]
    sizes: NDArray[np.int64]
    speculated: Floats
    score: Floats


def shelf_of(tables: Sequence[Table]) -> Shelf:
    """``tables``, to be asked for by their places."""
    at = np.zeros((len(tables), len(_ARRAYS)), np.int64)
    sizes = np.ones((len(tables), len(_ARRAYS), 6), np.int64)
    pieces, offset = [], 0
    for t, table in enumerate(tables):
        for a, name in enumerate(_ARRAYS):
            array = getattr(table, name)
            at[t, a] = offset
            sizes[t, a, : array.ndim] = array.shape
            pieces.append(np.ascontiguousarray(array, float).ravel())
            offset += array.size
    speculated = np.array([table.speculated for table in tables])
    return Shelf(np.concatenate(pieces), at, sizes, speculated, np.stack([table.score for table in tables]))


@njit(cache=True)
def taken(shelf: Shelf, t: int) -> Table:
    """Table number ``t``."""
    d, at, s = shelf.data, shelf.at[t], shelf.sizes[t]
    decode = d[at[2] : at[2] + s[2, 0] * s[2, 1] * VALUES].reshape((s[2, 0], s[2, 1], VALUES))
    rows = d[at[3] : at[3] + s[3, 0] * s[3, 1] * VALUES].reshape((s[3, 0], s[3, 1], VALUES))
    prompts = d[at[6] : at[6] + s[6, 0] * s[6, 1] * VALUES].reshape((s[6, 0], s[6, 1], VALUES))
    r = s[12]
    size = r[0] * r[1] * r[2] * r[3] * r[4] * VALUES
    rest = d[at[12] : at[12] + size].reshape((r[0], r[1], r[2], r[3], r[4], VALUES))
    # Arrays in the order of `Table`'s fields: axes of one dimension lie beside each other.
    axes = d[at[7] : at[7] + s[7, 0]], d[at[8] : at[8] + s[8, 0]], d[at[9] : at[9] + s[9, 0]]
    return Table(
        d[at[0] : at[0] + s[0, 0]],
        d[at[1] : at[1] + s[1, 0]],
        decode,
        rows,
        d[at[4] : at[4] + s[4, 0]],
        d[at[5] : at[5] + s[5, 0]],
        prompts,
        axes[0],
        axes[1],
        axes[2],
        d[at[10] : at[10] + s[10, 0]],
        d[at[11] : at[11] + s[11, 0]],
        rest,
        shelf.speculated[t],
        shelf.score[t],
    )


@njit(cache=True)
def step_values(
    shelf: Shelf, t: int, n: float, context: float, prompt: float, chunk: float, cached: float, out: Floats
) -> None:
    """``out`` [value] of a step with these means of its groups."""
    if prompt > 0.0:
        mixed_values(taken(shelf, t), n, context, max(prompt, 1.0), max(chunk, 1.0), cached, out)
    else:
        decode_values(taken(shelf, t), n, context, out)


@njit(cache=True)
def own_seconds(
    shelf: Shelf, t: int, n: float, context: float, prompt: float, chunk: float, cached: float, mixed: bool, out: Floats
) -> float:
    """What one group's own kernels take in a step; ``mixed``: some group has prompts in it."""
    if mixed:
        mixed_values(taken(shelf, t), n, context, max(prompt, 1e-3), max(chunk, 1.0), cached, out)
    else:
        decode_values(taken(shelf, t), n, context, out)
    return float(out[OWN])
