"""The normal distribution as order statistics need it, without scipy, whose import takes longer than a whole plan's search."""

from __future__ import annotations

from functools import cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Abramowitz and Stegun, Handbook of Mathematical Functions (1964), 7.1.26.
_P = 0.3275911
_A = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)


def cumulative(x: Floats) -> Floats:
    """The share of a standard normal below ``x``, within 1e-7."""
    z = np.abs(np.asarray(x, float)) * np.sqrt(0.5)
    t = 1.0 / (1.0 + _P * z)
    tail = 0.5 * np.exp(-z * z) * t * (_A[0] + t * (_A[1] + t * (_A[2] + t * (_A[3] + t * _A[4]))))
    return np.asarray(np.where(np.asarray(x) > 0.0, 1.0 - tail, tail), float)


def largest_of(count: float | Floats) -> Floats:
    """Expected maximum of ``count`` standard normals: the ``(n - 3/8) / (n + 1/4)`` quantile (Blom 1958); of one, 0."""
    whole = np.asarray(np.rint(count), np.int64)
    return _blom(1 << int(whole.max()).bit_length())[whole]


@cache
def _blom(below: int) -> Floats:
    return np.array([NormalDist().inv_cdf((n - 0.375) / (n + 0.25)) if n else 0.0 for n in range(below)])
