"""How sure a prediction is: bands of measured over predicted time, from rows its fit did not see.

Split-conformal by regime: rows of a calibration table that the fit left aside give the quantiles of ``measured / predicted``,
apart for every node count and for short and long times. A borrowed constant or a point outside the table widens the band.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from .units import SECONDS

#: How much wider (in the logarithm) a band is when the constants come from a relative, and for every quantity out of range.
BORROWED, OUTSIDE = 2.0, 1.5
#: Beyond the range of a table by less than this factor is not called outside.
MARGIN = 1.05


class Regime(BaseModel):
    """Quantiles of ``measured / predicted`` of rows on ``nodes`` nodes predicted to last ``seconds_from`` or longer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    nodes: int = Field(ge=1)
    seconds_from: str
    rows: int = Field(ge=1)
    low90: float = Field(gt=0)
    low50: float = Field(gt=0)
    high50: float = Field(gt=0)
    high90: float = Field(gt=0)


@dataclass(frozen=True, slots=True)
class Interval:
    """Factors on a predicted time: half of the measured times lie within 50, nine in ten within 90. ``why``: what widened."""

    low90: float
    low50: float
    high50: float
    high90: float
    why: tuple[str, ...] = ()


#: Without any calibrated residual: a factor of two either way.
UNKNOWN = Interval(0.5, 0.7, 1.4, 2.0, ("no residuals were kept with these constants",))


def interval_of(
    regimes: Sequence[Regime],
    seen: Mapping[str, tuple[float, float]],
    seconds: float,
    nodes: int,
    point: Mapping[str, float],
    borrowed_from: str = "",
) -> Interval:
    """The interval of a prediction of ``seconds`` at the operating point ``point`` (name -> value)."""
    if not regimes:
        return UNKNOWN
    nearest = min({r.nodes for r in regimes}, key=lambda n: (abs(n - nodes), n))
    mine = sorted((r for r in regimes if r.nodes == nearest), key=lambda r: SECONDS.parse(r.seconds_from))
    regime = next((r for r in reversed(mine) if SECONDS.parse(r.seconds_from) <= seconds), mine[0])
    why, wider = [], 1.0
    if borrowed_from:
        why.append(f"constants of {borrowed_from}")
        wider *= BORROWED
    for name, value in point.items():
        low, high = seen.get(name, (value, value))
        if not low / MARGIN <= value <= high * MARGIN:
            why.append(f"{name} {value:g} outside {low:g} to {high:g}")
            wider *= OUTSIDE
    low90, low50, high50, high90 = (b**wider for b in (regime.low90, regime.low50, regime.high50, regime.high90))
    return Interval(low90, low50, high50, high90, tuple(why))
