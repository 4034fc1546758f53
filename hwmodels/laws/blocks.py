"""A long elementwise computation, a block of the table at a time, so that what it holds in between stays in the cache."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Points of a block: a dozen arrays of it fit into a core's second-level cache.
BLOCK = 8192


def in_blocks(work: Callable[..., Floats], *columns: Floats | float) -> Floats:
    """``work(*columns)``, which must treat every point alone. Columns broadcast; numbers are handed on as they are."""
    shape = np.broadcast_shapes(*(np.shape(c) for c in columns))
    points = int(np.prod(shape))
    if points <= BLOCK:
        return work(*columns)
    flat = [np.broadcast_to(c, shape).reshape(-1) if np.ndim(c) else c for c in columns]
    found = np.empty(points)
    for begin in range(0, points, BLOCK):
        block = slice(begin, begin + BLOCK)
        found[block] = work(*(c[block] if isinstance(c, np.ndarray) and c.ndim else c for c in flat))
    return found.reshape(shape)
