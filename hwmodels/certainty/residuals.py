"""Measured over predicted time as a distribution that changes smoothly with the predicted time: quantiles, chances, medians.

A calibration keeps five quantiles for each regime of predicted times (`interval.Regime`). Between the middles of two regimes
their logarithms run straight in the logarithm of the time, so that no prediction is told faster for being slower; between the
quantiles of one time the logarithm is normal, piece by piece. Everything broadcasts over arrays of predictions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from ..interval import BORROWED_SD, MARGIN, OUTSIDE_SD, UNKNOWN, Interval, Regime
from ..units import SECONDS

Num = float | NDArray[np.float64]
_NORMAL = NormalDist()
#: Where the kept quantiles stand, in standard deviations: 5, 25, 50, 75 and 95 %.
_Z = np.array([_NORMAL.inv_cdf(share) for share in (0.05, 0.25, 0.5, 0.75, 0.95)])
#: The most that the median may fall while the predicted time rises, in logarithms: what is shown still rises.
_STEEPEST = 0.9
#: A median seen elsewhere counts for this power less of the distance to where it was seen.
_FADING = 0.75


@dataclass(frozen=True, slots=True)
class Residuals:
    """``logs``: [quantile, ...] logarithms of measured over predicted time at 5, 25, 50, 75 and 95 %."""

    logs: NDArray[np.float64]

    @property
    def median(self) -> Num:
        """What a predicted time is multiplied with to be as often too long as too short."""
        return np.asarray(np.exp(self.logs[2]))

    def widened(self, sd: Num) -> Residuals:
        """With an independent log-normal error of standard deviation ``sd`` added, around the same median."""
        middle = self.logs[2]
        half = self.logs - middle
        z = _Z.reshape(-1, *(1 for _ in np.shape(middle)))
        return Residuals(middle + np.sign(z) * np.hypot(half, z * np.asarray(sd)))

    def faded(self, share: Num) -> Residuals:
        """With the median's distance from the prediction cut to ``share`` of it, and all quantiles moved along."""
        return Residuals(self.logs - (1.0 - np.asarray(share)) * self.logs[2])

    def quantile(self, share: float) -> Num:
        """The factor within which the share ``share`` of measured times lies."""
        z = _NORMAL.inv_cdf(share)
        piece = int(np.clip(np.searchsorted(_Z, z) - 1, 0, len(_Z) - 2))
        part = (z - _Z[piece]) / (_Z[piece + 1] - _Z[piece])
        return np.asarray(np.exp(self.logs[piece] + part * (self.logs[piece + 1] - self.logs[piece])))

    def chance(self, factor: float) -> float:
        """The share of measured times at most ``factor`` times the prediction (of one prediction)."""
        logs, at = np.maximum.accumulate(self.logs + np.arange(len(_Z)) * 1e-9), log(factor)
        piece = int(np.clip(np.searchsorted(logs, at) - 1, 0, len(_Z) - 2))
        part = (at - logs[piece]) / (logs[piece + 1] - logs[piece])
        return _NORMAL.cdf(float(_Z[piece] + part * (_Z[piece + 1] - _Z[piece])))

    def interval(self, why: tuple[str, ...] = ()) -> Interval:
        """The same as factors of one prediction."""
        low90, low50, _, high50, high90 = (float(np.exp(x)) for x in self.logs)
        return Interval(low90, low50, high50, high90, why)


def residuals_of(regimes: Sequence[Regime], seconds: Num) -> Residuals:
    """The residuals of predictions of ``seconds``; a factor of two either way where none were kept."""
    if not regimes:
        unknown = {name: getattr(UNKNOWN, name) for name in _FACTORS}
        alone = _logs(Regime(nodes=1, seconds_from="0 us", rows=1, median=1.0, **unknown))
        return Residuals(alone.reshape(-1, *(1 for _ in np.shape(seconds))) + 0.0 * np.asarray(seconds))
    ordered = sorted(regimes, key=lambda regime: SECONDS.parse(regime.seconds_from))
    logs = np.stack([_logs(regime) for regime in ordered])
    if len(ordered) == 1:
        return Residuals(logs[0].reshape(-1, *(1 for _ in np.shape(seconds))) + 0.0 * np.asarray(seconds))
    edges = np.log([SECONDS.parse(regime.seconds_from) for regime in ordered[1:]])
    inner = (edges[1:] + edges[:-1]) / 2.0
    reach = (edges[-1] - edges[0]) / max(len(edges) - 1, 1) / 2.0 or 0.5 * log(2.0)
    places = np.concatenate(([edges[0] - reach], inner, [edges[-1] + reach]))
    for number in range(1, len(logs)):
        least = logs[number - 1, 2] - _STEEPEST * (places[number] - places[number - 1])
        logs[number] += max(0.0, least - logs[number, 2])
    at = np.log(np.maximum(np.asarray(seconds, float), 1e-12))
    return Residuals(np.stack([np.interp(at, places, logs[:, level]) for level in range(len(_Z))]))


def uncertainty(
    seen: Mapping[str, tuple[float, float]], point: Mapping[str, Num], borrowed: Sequence[str] = ()
) -> tuple[Num, tuple[str, ...]]:
    """What widens predictions at ``point`` (name -> value, also of many): the standard deviation in the logarithm, and why.

    ``borrowed``: reasons that count as a relative's constants do. Outside the range ``seen`` as `interval.OUTSIDE_SD` says; the
    reasons of many points are those of the first.
    """
    variance: Num = len(borrowed) * BORROWED_SD**2
    why = list(borrowed)
    for name, value in point.items():
        if name not in seen:
            continue
        low, high = seen[name]
        held = np.maximum(np.asarray(value, float), 1e-12)
        beyond = np.maximum(low / held, held / high) if high > 0 else np.ones_like(held)
        outside = beyond > MARGIN
        variance = variance + np.where(outside, OUTSIDE_SD**2 * np.log2(np.maximum(beyond, 1.0)), 0.0)
        if np.ravel(outside)[0]:
            why.append(f"{name} {np.ravel(held)[0]:g} outside {low:g} to {high:g}")
    return np.sqrt(variance) if np.ndim(variance) else sqrt(variance), tuple(why)


def carried(seen: Mapping[str, tuple[float, float]], point: Mapping[str, Num]) -> Num:
    """How much of a median that was seen at other points is believed at ``point``: all inside the range ``seen``, less beyond.

    What short prompts under load took longer by says little of a prompt sixteen times as long: there the mechanism's own
    prediction stands, with a wide interval. It fades more slowly than times grow: more is never told quicker.
    """
    share: Num = 1.0
    for name, value in point.items():
        low, high = seen.get(name, (0.0, 0.0))
        if high > 0:
            held = np.maximum(np.asarray(value, float), 1e-12)
            share = share * np.maximum(np.maximum(low / held, held / high), 1.0) ** -_FADING
    return share


_FACTORS = ("low90", "low50", "high50", "high90")


def _logs(regime: Regime) -> NDArray[np.float64]:
    low90, low50, high50, high90 = (log(getattr(regime, name)) for name in _FACTORS)
    middle = (low50 + high50) / 2.0 if regime.median is None else log(regime.median)
    return np.array([low90, low50, middle, high50, high90])
