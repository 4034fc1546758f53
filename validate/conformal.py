"""Calibrated residuals: from rows a fit did not see (or, where there are none, from fits without them) to regimes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..hwmodels.interval import Regime

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

#: Rows a regime needs at least, and bands of time a node count is split into at most.
LEAST_ROWS, MOST_BANDS = 30, 4
FOLDS = 3


def conformal_rows(total: int, used: Ints) -> Ints:
    """Every second row that the fit left aside: these make the intervals; the others may judge them."""
    return np.setdiff1d(np.arange(total), used)[::2]


def regimes_of(predicted_s: Floats, measured_s: Floats, nodes: NDArray[np.int64]) -> tuple[Regime, ...]:
    """Regimes by node count and band of predicted time. Arrays [row]."""
    found = []
    for count in np.unique(nodes):
        mine = np.flatnonzero(nodes == count)
        order = mine[np.argsort(predicted_s[mine], kind="stable")]
        bands = max(1, min(MOST_BANDS, len(order) // LEAST_ROWS))
        for i, part in enumerate(np.array_split(order, bands)):
            start = 0.0 if i == 0 else float(predicted_s[part[0]])
            ratio = measured_s[part] / predicted_s[part]
            low90, low50, high50, high90 = (float(f"{q:.4g}") for q in _quantiles(ratio))
            found.append(
                Regime(
                    nodes=int(count),
                    seconds_from=f"{1e6 * start:.4g} us",
                    rows=len(part),
                    low90=low90,
                    low50=low50,
                    high50=high50,
                    high90=high90,
                )
            )
    return tuple(found)


def _quantiles(ratio: Floats) -> tuple[float, float, float, float]:
    """Quantiles at ``(n + 1) p``: in expectation, exactly that share of further rows lies below."""
    low90, low50, high50, high90 = np.quantile(ratio, (0.05, 0.25, 0.75, 0.95), method="weibull")
    return float(low90), float(low50), float(high50), float(high90)
