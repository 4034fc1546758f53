"""How sure a prediction is: bands of measured over predicted time, from rows its fit did not see.

Split-conformal by regime: rows of a calibration table that the fit left aside give the quantiles of ``measured / predicted``,
apart for every node count and for short and long times. Constants of a relative, or a point outside the table, add an
independent log-normal error: in the logarithm, half-widths are added in quadrature on either side of the regime's middle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import exp, hypot, log, log2, sqrt
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from .units import SECONDS

#: Standard deviation of log(measured / predicted) that a relative's constants add: the root mean square of the shifts of 20
#: pairs of kernels of H100, B200 and GB200, each predicted with the constants of another (`validate/widening.py`).
BORROWED_SD = 0.21
#: The same for one doubling beyond the range of a table; variances add, so ``d`` doublings add ``OUTSIDE_SD * sqrt(d)``. With
#: refits on part of the EP tables, 90 % of the rows 1 to 7 doublings outside need 0.05 to 0.11 a root doubling (same file).
OUTSIDE_SD = 0.09
#: Beyond the range of a table by less than this factor is not called outside.
MARGIN = 1.05
#: Half-widths of a normal distribution's central 90 % and 50 %, in standard deviations.
_Z90, _Z50 = 1.6449, 0.6745


class Regime(BaseModel):
    """Quantiles of ``measured / predicted`` of rows on ``nodes`` nodes predicted to last ``seconds_from`` or longer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    nodes: int = Field(ge=1)
    seconds_from: str
    rows: int = Field(ge=1)
    low90: float = Field(gt=0)
    low50: float = Field(gt=0)
    high50: float = Field(gt=0)
    high90: float = Field(gt=0, lt=1e6)
    median: float | None = Field(default=None, gt=0, description="default: the geometric middle of the inner half")

    @field_validator("seconds_from")
    @classmethod
    def _is_a_time(cls, text: str) -> str:
        _seconds(text)
        return text

    @model_validator(mode="after")
    def _nested(self) -> Self:
        if not self.low90 <= self.low50 <= self.high50 <= self.high90:
            raise ValueError("wanted low90 <= low50 <= high50 <= high90")
        if self.median is not None and not self.low50 <= self.median <= self.high50:
            raise ValueError("wanted low50 <= median <= high50")
        return self

    @classmethod
    def normal(cls, nodes: int, rows: int, log_sd: float) -> Self:
        """The regime of ``rows`` rows whose log(measured / predicted) is normal around zero with ``log_sd``."""
        limits = {"low90": -_Z90, "low50": -_Z50, "high50": _Z50, "high90": _Z90}
        return cls(nodes=nodes, seconds_from="0 us", rows=rows, **{name: exp(z * log_sd) for name, z in limits.items()})


@dataclass(frozen=True, slots=True)
class Interval:
    """Factors on a predicted time: half of the measured times lie within 50, nine in ten within 90.

    ``why``: what widened it. ``shared_sd``: the part, as a standard deviation in the logarithm, that all ops of a layer have in
    common because it has one cause (borrowed constants, a point outside the tables); the factors include it.
    """

    low90: float
    low50: float
    high50: float
    high90: float
    why: tuple[str, ...] = ()
    shared_sd: float = 0.0

    def scaled(self, time: float) -> tuple[float, float, float, float]:
        """``time`` times (low90, low50, high50, high90)."""
        return time * self.low90, time * self.low50, time * self.high50, time * self.high90

    @property
    def _middle(self) -> float:
        return (log(self.low50) + log(self.high50)) / 2.0

    def _own(self) -> tuple[float, float, float, float]:
        """Half-widths in the logarithm (as the fields) without the shared part."""
        middle = self._middle
        halves = [abs(log(limit) - middle) for limit in (self.low90, self.low50, self.high50, self.high90)]
        shared = [z * self.shared_sd for z in (_Z90, _Z50, _Z50, _Z90)]
        low90, low50, high50, high90 = (sqrt(max(h * h - s * s, 0.0)) for h, s in zip(halves, shared, strict=True))
        return low90, low50, high50, high90


#: What another site and another version of a library add to an exchange's time, as a standard deviation in the logarithm: the
#: robust spread of measured over predicted times of the first four of the nine sources of published_ep.csv, by name (33 rows).
#: A spread only, never a centre. With it the other five lie inside their 90 % intervals to 75 %, 66 % without; those of
#: published_ep_2.csv, much of it other libraries, to 52 %, 46 % without.
SITE_SD = 0.075


def elsewhere(found: Interval) -> Interval:
    """``found`` of kernels that run at another site than the table's, with a version of their library that it may not hold."""
    return replace(_around(found, SITE_SD, found.why), shared_sd=hypot(found.shared_sd, SITE_SD))


#: Without any calibrated residual: a factor of two either way.
UNKNOWN = Interval(0.5, 0.7, 1.4, 2.0, ("no residuals were kept with these constants",))


def interval_of(
    regimes: Sequence[Regime],
    seen: Mapping[str, tuple[float, float]],
    seconds: float,
    nodes: int,
    point: Mapping[str, float],
    borrowed_from: str = "",
    foreign: Sequence[str] = (),
) -> Interval:
    """The interval of a prediction of ``seconds`` at the operating point ``point`` (name -> value).

    ``foreign``: what of the hardware was never measured (`foreign.why_foreign`); each reason counts as much as borrowing.
    """
    why, variance = [*foreign], len(foreign) * BORROWED_SD**2
    if borrowed_from:
        why.append(f"constants of {borrowed_from}")
        variance += BORROWED_SD**2
    for name, value in point.items():
        low, high = seen.get(name, (value, value))
        beyond = max(low / value, value / high) if value > 0 and high > 0 else 1.0
        if beyond > MARGIN:
            why.append(f"{name} {value:g} outside {low:g} to {high:g}")
            variance += OUTSIDE_SD**2 * log2(beyond)
    return widened(regimes, seconds, nodes, sqrt(variance), tuple(why))


def widened(regimes: Sequence[Regime], seconds: float, nodes: int, sd: float, why: tuple[str, ...] = ()) -> Interval:
    """The interval of the regime that ``seconds`` on ``nodes`` nodes falls in, with a log-normal error of ``sd`` added."""
    if not regimes:
        return _around(UNKNOWN, sd, (*UNKNOWN.why, *why))
    nearest = min({r.nodes for r in regimes}, key=lambda n: (abs(n - nodes), n))
    mine = sorted((r for r in regimes if r.nodes == nearest), key=lambda r: _seconds(r.seconds_from))
    regime = next((r for r in reversed(mine) if _seconds(r.seconds_from) <= seconds), mine[0])
    plain = Interval(regime.low90, regime.low50, regime.high50, regime.high90)
    return _around(plain, sd, why)


def combined(parts: Sequence[tuple[float, Interval]]) -> Interval:
    """The interval of a sum of times, each with its own: ``parts`` are (time, interval).

    First order in the logarithm: with ``m`` the middle of an op's interval and ``w = t e^m / sum(t e^m)`` its share, the sum's
    middle is ``log(sum(t e^m) / sum(t))`` and its half-widths ``sqrt(sum (w h)^2 + z^2 (sum w s)^2)``, h an op's own
    half-width, s its shared standard deviation. It assumes that ops err independently but for that shared part: at one
    operating point, the residuals of two ops of H100's and GB200's tables correlate by 0.10 (rank correlation, median of 28
    pairs). Where one op is far wider than the others, the first order falls below the sum of all lows, which no sum does: that
    sum is the least. (Above, a weighted mean of logarithms never exceeds the logarithm of the mean.)
    Times of zero add nothing. Raises ValueError if no time is above zero.
    """
    timed = [(time, part) for time, part in parts if time > 0.0]
    if not timed:
        raise ValueError("an interval of no time at all")
    weights = [time * exp(part._middle) for time, part in timed]
    total, predicted = sum(weights), sum(time for time, _ in timed)
    middle = log(total / predicted)
    shares = [w / total for w in weights]
    shared = sum(share * part.shared_sd for share, (_, part) in zip(shares, timed, strict=True))
    own = [part._own() for _, part in timed]
    halves = [
        hypot(z * shared, sqrt(sum((share * h[side]) ** 2 for share, h in zip(shares, own, strict=True))))
        for side, z in enumerate((_Z90, _Z50, _Z50, _Z90))
    ]
    low90, low50, high50, high90 = (exp(middle + sign * h) for sign, h in zip((-1, -1, 1, 1), halves, strict=True))
    low90 = max(low90, sum(time * part.low90 for time, part in timed) / predicted)
    low50 = max(low50, sum(time * part.low50 for time, part in timed) / predicted)
    why = tuple(dict.fromkeys(reason for _, part in timed for reason in part.why))
    return Interval(low90, low50, high50, high90, why, shared)


def _around(plain: Interval, sd: float, why: tuple[str, ...]) -> Interval:
    """``plain`` with an independent log-normal error of ``sd`` added."""
    middle = plain._middle
    limits = (plain.low90, plain.low50, plain.high50, plain.high90)
    low90, low50, high50, high90 = (
        limit if sd == 0.0 else exp(middle + sign * hypot(log(limit) - middle, z * sd))
        for limit, sign, z in zip(limits, (-1, -1, 1, 1), (_Z90, _Z50, _Z50, _Z90), strict=True)
    )
    return Interval(low90, low50, high50, high90, why, sd)


@lru_cache(maxsize=4096)
def _seconds(text: str) -> float:
    return SECONDS.parse(text)
