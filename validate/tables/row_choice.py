"""Which rows of a table to fit to: spread over what varies, never chosen by how well they fit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

#: A kernel's constants are fitted to at most this many rows.
MOST_ROWS = 24


def varied_rows(columns: Sequence[NDArray[np.float64]], weights: Sequence[float], most: int = MOST_ROWS) -> NDArray[np.intp]:
    """Indices of at most ``most`` rows, as far apart as can be (greedy maximin): for a clean table, whose edges tell most."""
    points = _points(columns, weights)
    chosen = [int(points.sum(axis=1).argmin())]
    distance = np.full(len(points), np.inf)
    while len(chosen) < min(most, len(points)):
        distance = np.minimum(distance, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
        chosen.append(int(distance.argmax()))
    return np.sort(np.array(chosen))


def stand_for(columns: Sequence[NDArray[np.float64]], weights: Sequence[float], most: int = MOST_ROWS) -> NDArray[np.intp]:
    """Indices of at most ``most`` rows, each amid those it stands for: for a noisy table, whose edges are its oddest rows.

    Greedy: the next row is the one that most shortens the summed distances of all rows to the nearest chosen one.
    """
    points = _points(columns, weights)
    apart = np.sqrt(((points[:, None] - points[None]) ** 2).sum(axis=-1))
    nearest = np.full(len(points), apart.max())
    chosen: list[int] = []
    while len(chosen) < min(most, len(points)):
        left = np.minimum(nearest[:, None], apart).sum(axis=0)
        left[chosen] = np.inf
        chosen.append(int(left.argmin()))
        nearest = np.minimum(nearest, apart[:, chosen[-1]])
    return np.sort(np.array(chosen))


def _points(columns: Sequence[NDArray[np.float64]], weights: Sequence[float]) -> NDArray[np.float64]:
    """[row, column] the logarithms of ``columns`` [column][row], each as wide as its weight."""
    features = []
    for column, weight in zip(columns, weights, strict=True):
        log = np.log2(np.maximum(np.asarray(column, float), 0.5))
        span = float(np.ptp(log))
        features.append(weight * (log - log.min()) / span if span > 0 else np.zeros_like(log))
    return np.column_stack(features)
