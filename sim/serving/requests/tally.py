"""Distributions of what requests waited for, in bounded memory: histograms of narrow bins, kept for batches of requests.

Bins are `WIDTH` wide in the logarithm, so that a percentile is within half of that. Confidence is by batch means (Law and
Carson, Operations Research 27, 1979): requests in the order they end make at most `_MOST` batches, merged in pairs as they
become more; Student's t over the batches' own means and percentiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

WIDTH = 0.002
_LEAST = 1e-7  # seconds; what is shorter counts as this
_BINS = 14_000  # to beyond a day
_MOST = 40
_FEW = 5  # batches, below which nothing is said of confidence
PERCENTILES = (50.0, 90.0, 95.0, 99.0)
#: Student's t at 97.5 % for 1, 2, … degrees of freedom, then every few.
_T = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26, 10: 2.23, 12: 2.18, 15: 2.13, 20: 2.09}
_T |= {25: 2.06, 30: 2.04, 40: 2.02}


@dataclass(frozen=True, slots=True)
class Distribution:
    """Seconds. ``low`` and ``high``: 95 % confidence of "mean", "p50"…; absent where there are too few batches."""

    count: int
    mean: float
    percentile: dict[str, float]
    low: dict[str, float]
    high: dict[str, float]
    bins: tuple[tuple[float, int], ...]  # (upper edge in seconds, count), at most a few hundred, for a picture


class Histogram:
    """One quantity of all requests."""

    def __init__(self) -> None:
        self._size = 256
        self._filled = 0
        self._batches: list[Ints] = [np.zeros(_BINS, np.int64)]
        self._sums: list[float] = [0.0]
        self._counts: list[int] = [0]

    def add(self, seconds: Floats) -> None:
        """More values, in the order they came."""
        start = 0
        while start < seconds.size:
            piece = seconds[start : start + self._size - self._counts[-1]]
            at = np.clip(np.log(np.maximum(piece, _LEAST) / _LEAST) / WIDTH, 0, _BINS - 1).astype(np.int64)
            self._batches[-1] += np.bincount(at, minlength=_BINS)
            self._sums[-1] += float(piece.sum())
            self._counts[-1] += piece.size
            start += piece.size
            if self._counts[-1] >= self._size:
                self._next()

    def _next(self) -> None:
        if len(self._batches) >= _MOST:
            pairs = range(0, len(self._batches) - 1, 2)
            self._batches = [self._batches[i] + self._batches[i + 1] for i in pairs]
            self._sums = [self._sums[i] + self._sums[i + 1] for i in pairs]
            self._counts = [self._counts[i] + self._counts[i + 1] for i in pairs]
            self._size *= 2
        self._batches.append(np.zeros(_BINS, np.int64))
        self._sums.append(0.0)
        self._counts.append(0)

    def distribution(self, percentiles: Sequence[float] = PERCENTILES) -> Distribution:
        """What came so far."""
        whole = np.sum(self._batches, axis=0)
        count = int(sum(self._counts))
        if count == 0:
            nan = {name_of(p): float("nan") for p in percentiles}
            return Distribution(0, float("nan"), nan, {}, {}, ())
        at = {name_of(p): _percentile(whole, p) for p in percentiles}
        low: dict[str, float] = {}
        high: dict[str, float] = {}
        full = [i for i, c in enumerate(self._counts) if c >= self._size]
        if len(full) >= _FEW:
            means = [self._sums[i] / self._counts[i] for i in full]
            _spread("mean", means, float(sum(self._sums)) / count, low, high)
            for p in percentiles:
                # A batch tells of a percentile only if some ten of its values lie beyond it.
                if self._size * (1.0 - p / 100.0) >= 10.0:
                    _spread(name_of(p), [_percentile(self._batches[i], p) for i in full], at[name_of(p)], low, high)
        return Distribution(count, float(sum(self._sums)) / count, at, low, high, _picture(whole))


def together(parts: Sequence[Histogram]) -> Histogram:
    """Several runs' values as one. Five runs or more are a batch each, which is independent of the others; of fewer, their own
    batches stay.
    """
    whole = Histogram()
    whole._batches, whole._sums, whole._counts = [], [], []
    for part in parts:
        if len(parts) >= _FEW:
            whole._batches.append(np.sum(part._batches, axis=0))
            whole._sums.append(float(sum(part._sums)))
            whole._counts.append(int(sum(part._counts)))
        else:
            whole._batches += part._batches
            whole._sums += part._sums
            whole._counts += part._counts
    whole._size = min(whole._counts) if len(parts) >= _FEW else min(part._size for part in parts)
    whole._size = max(1, whole._size)
    return whole


def interval_bins(counts: Ints, first_ps: float, percentiles: Sequence[float] = PERCENTILES) -> Distribution:
    """The distribution in bins that the loop counted itself, `WIDTH` wide from ``first_ps`` picoseconds."""
    count = int(counts.sum())
    if count == 0:
        return Distribution(0, float("nan"), {name_of(p): float("nan") for p in percentiles}, {}, {}, ())
    shift = first_ps * 1e-12 / _LEAST
    mids = first_ps * 1e-12 * np.exp((np.arange(counts.size) + 0.5) * WIDTH)
    at = {name_of(p): _percentile(counts, p) * shift for p in percentiles}
    return Distribution(count, float((counts * mids).sum()) / count, at, {}, {}, _picture(counts, shift))


def name_of(percentile: float) -> str:
    """ "p99"."""
    return f"p{percentile:g}"


def _percentile(bins: Ints, p: float) -> float:
    """The value below which ``p`` percent lie; within a bin they are taken to lie evenly."""
    total = np.cumsum(bins)
    wanted = p / 100.0 * total[-1]
    at = int(np.searchsorted(total, wanted))
    before = total[at - 1] if at else 0
    share = (wanted - before) / max(1, bins[at])
    return float(_LEAST * np.exp((at + share) * WIDTH))


def _spread(name: str, values: list[float], middle: float, low: dict[str, float], high: dict[str, float]) -> None:
    freedom = len(values) - 1
    t = _T[max(key for key in _T if key <= freedom)]
    half = t * float(np.std(values, ddof=1)) / np.sqrt(len(values))
    low[name], high[name] = max(0.0, middle - half), middle + half


def _picture(bins: Ints, shift: float = 1.0) -> tuple[tuple[float, int], ...]:
    """Bins of 4 % between the first and the last that are not empty."""
    found = np.flatnonzero(bins)
    step = 20
    first, last = int(found[0]) // step, int(found[-1]) // step
    return tuple(
        (float(shift * _LEAST * np.exp((i + 1) * step * WIDTH)), int(bins[i * step : (i + 1) * step].sum()))
        for i in range(first, last + 1)
    )
