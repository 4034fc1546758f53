"""Which rows of a table to fit to: spread over what varies, never chosen by how well they fit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

#: A kernel's constants are fitted to at most this many rows.
MOST_ROWS = 24


def spread(columns: Sequence[NDArray[np.float64]], weights: Sequence[float], most: int = MOST_ROWS) -> NDArray[np.intp]:
    """Indices of at most ``most`` rows, spread over the logarithms of ``columns`` [column][row] (greedy maximin)."""
    features = []
    for column, weight in zip(columns, weights, strict=True):
        log = np.log2(np.maximum(np.asarray(column, float), 0.5))
        span = float(np.ptp(log))
        features.append(weight * (log - log.min()) / span if span > 0 else np.zeros_like(log))
    points = np.column_stack(features)
    chosen = [int(points.sum(axis=1).argmin())]
    distance = np.full(len(points), np.inf)
    while len(chosen) < min(most, len(points)):
        distance = np.minimum(distance, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
        chosen.append(int(distance.argmax()))
    return np.sort(np.array(chosen))
