"""Calibrated residuals: from rows a fit did not see (or, where there are none, from fits without them) to regimes.

Every row that the fit left aside makes the shipped regimes. The same rows are judged by `judged`: each by regimes that a fifth
of the rows, its own among them, had no part in (cross-conformal prediction: Vovk, Annals of Mathematics and AI 74, 2015).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from ...hwmodels.calibration import Fit
from ...hwmodels.interval import UNKNOWN, Interval, Regime, interval_of

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

#: Rows a regime needs at least, and bands of time a node count is split into at most. Fewer and larger bands, down to one for
#: all, make the interval score (Gneiting and Raftery, JASA 102, 2007) of held-out rows 3 to 14 % worse over the public tables,
#: whether every fifth row is held out or a whole SM count, hidden size or batch.
LEAST_ROWS, MOST_BANDS = 30, 4
#: Rows from which on the quantile of 5 % lies between two of them: ``(n + 1) 0.05 >= 1``.
EXTREMES = 19
#: Parts of a group with too few rows that are left out, one after another, of a fit.
FOLDS = 3
#: Parts of the rows left aside that are judged by the others.
JUDGES = 5


def conformal_rows(total: int, used: Ints) -> Ints:
    """The rows that the fit left aside."""
    return np.setdiff1d(np.arange(total), used)


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


def judged(
    fit: Fit,
    predicted_s: Floats,
    measured_s: Floats,
    nodes: NDArray[np.int64],
    points: Sequence[Mapping[str, float]],
    used: Ints | None,
    borrowed_from: str = "",
    foreign: Sequence[str] = (),
) -> list[Interval]:
    """The interval of every row of a group (arrays [row]; ``points``: their operating points) as ``fit``'s regimes give it.

    ``used``: rows of this very group that the constants were fitted to, None if the group is not the fit's own. Its rows left
    aside made the shipped regimes, so each gets its interval from the other `JUDGES` - 1 parts of them.
    """
    found = [
        fit.interval(float(s), int(n), p, borrowed_from, foreign) for s, n, p in zip(predicted_s, nodes, points, strict=True)
    ]
    aside = conformal_rows(len(predicted_s), used) if used is not None else np.empty(0, np.intp)
    if len(aside) < LEAST_ROWS:
        return found
    for part in range(JUDGES):
        mine, others = aside[part::JUDGES], np.delete(aside, np.s_[part::JUDGES])
        regimes = regimes_of(predicted_s[others], measured_s[others], nodes[others])
        for i in mine:
            found[i] = interval_of(regimes, fit.seen, float(predicted_s[i]), int(nodes[i]), points[i], borrowed_from)
    return found


def _quantiles(ratio: Floats) -> tuple[float, float, float, float]:
    """Quantiles at ``(n + 1) p``: in expectation, exactly that share of further rows lies below.

    Fewer rows than `EXTREMES` have no such 5 % quantile: theirs are prediction intervals of a log-normal, Student's t for one
    more row (``mean + t s sqrt(1 + 1 / n)``).
    """
    shares, n = (0.05, 0.25, 0.75, 0.95), len(ratio)
    if n >= EXTREMES:
        limits = np.quantile(ratio, shares, method="weibull")
    elif n > 1:
        log = np.log(ratio)
        limits = np.exp(log.mean() + stdtrit(n - 1, shares) * log.std(ddof=1) * np.sqrt(1.0 + 1.0 / n))
    else:
        limits = np.array([UNKNOWN.low90, UNKNOWN.low50, UNKNOWN.high50, UNKNOWN.high90])
    low90, low50, high50, high90 = limits
    return float(low90), float(low50), float(high50), float(high90)
