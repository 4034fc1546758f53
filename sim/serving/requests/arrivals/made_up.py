"""Made-up arrivals: even, Poisson, bursts, the day's wave, and a closed loop; lengths drawn beside them, in chunks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..loop import layout as at
from ..loop.chunk import NO_NAMES, Chunk

Floats = NDArray[np.float64]
Law = Literal["poisson", "even", "gamma", "closed"]
CHUNK = 8192


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens of a request. ``spread`` s draws uniformly from ``[(1 - s) L, L]``; ``sigma`` > 0 draws log-normally around the
    mean instead, cut at ``most`` times it. ``cached``: share of the prompt that is cached whatever the cache holds.
    """

    input: float
    output: float
    spread: float = 0.0
    input_sigma: float = 0.0
    output_sigma: float = 0.0
    most: float = 16.0
    cached: float = 0.0

    def draw(self, rng: np.random.Generator, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(input, output) of ``count`` requests."""
        return self._one(rng, count, self.input, self.input_sigma), self._one(rng, count, self.output, self.output_sigma)

    def _one(self, rng: np.random.Generator, count: int, tokens: float, sigma: float) -> NDArray[np.int64]:
        if sigma > 0.0:
            drawn = tokens * np.minimum(np.exp(rng.normal(-0.5 * sigma * sigma, sigma, count)), self.most)
        elif self.spread > 0.0:
            drawn = rng.uniform((1.0 - self.spread) * tokens, tokens, count)
        else:
            drawn = np.full(count, tokens)
        return np.maximum(1, np.rint(drawn)).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Wave:
    """The day's wave: the rate is ``1 + amplitude cos(2 pi (t - peak) / period)`` times its mean."""

    amplitude: float
    period_s: float = 86_400.0
    peak_s: float = 43_200.0

    def share(self, seconds: Floats) -> Floats:
        return 1.0 + self.amplitude * np.cos(2.0 * np.pi * (seconds - self.peak_s) / self.period_s)


def arrivals(
    law: Law,
    rate: float,
    lengths: Lengths,
    seed: int,
    *,
    count: int | None = None,
    duration_s: float | None = None,
    cv: float = 1.0,
    wave: Wave | None = None,
) -> Iterator[Chunk]:
    """Chunks of single requests, ``rate`` a second (a closed loop draws only lengths), until ``count`` or ``duration_s``.

    ``gamma``: intervals of coefficient of variation ``cv``. With a ``wave`` arrivals are thinned (Lewis and Shedler, 1979).
    """
    times, sizes = np.random.default_rng([seed, 1]), np.random.default_rng([seed, 2])
    now, made = 0.0, 0
    fastest = rate * (1.0 + wave.amplitude) if wave else rate
    while count is None or made < count:
        want = CHUNK if count is None or wave else min(CHUNK, count - made)
        if law == "closed":
            moments = np.zeros(want)
        else:
            moments = now + np.cumsum(_gaps(law, fastest, cv, times, want))
            now = float(moments[-1])
            if wave is not None:
                moments = moments[times.random(want) * (1.0 + wave.amplitude) < wave.share(moments)]
        if duration_s is not None and law != "closed":
            moments = moments[moments < duration_s]
        if count is not None:
            moments = moments[: count - made]
        if moments.size:
            yield _chunk(moments, made, lengths, sizes)
        made += moments.size
        if duration_s is not None and law != "closed" and now >= duration_s:
            return


def _gaps(law: Law, rate: float, cv: float, rng: np.random.Generator, count: int) -> Floats:
    if law == "even":
        return np.full(count, 1.0 / rate)
    if law == "poisson":
        return rng.exponential(1.0 / rate, count)
    shape = 1.0 / (cv * cv)
    return rng.gamma(shape, 1.0 / (rate * shape), count)


def _chunk(moments: Floats, first: int, lengths: Lengths, rng: np.random.Generator) -> Chunk:
    a = blank(moments.size)
    a["id"] = np.arange(first, first + moments.size)
    a["at"] = np.rint(moments * 1e12)
    a["input"], a["output"] = lengths.draw(rng, moments.size)
    a["cached"] = np.rint(a["input"] * lengths.cached)
    return Chunk(a, NO_NAMES)


def blank(count: int) -> Any:
    """``count`` arrivals of single requests without names of blocks."""
    a = np.zeros(count, at.ARRIVAL)
    a["session"] = a["names"] = -1
    return a
