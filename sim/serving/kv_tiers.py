"""KV caches on their way from prompts to decoding: over a NIC, or through a memory that several hosts share.

A tier costs a latency, its line rate, and what software takes of every byte (bounce copies through host memory, descriptors). A
prompt that is in the cache of a shared memory is neither computed nor written again; over a NIC its bytes travel all the same.
Both keep the prompts' side busy, so that requests queue for it: first come, first served.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Tier:
    """``bandwidth`` bytes/s, ``latency`` seconds, ``software`` seconds a byte. ``shared``: hits need not cross it again."""

    bandwidth: float
    latency: float
    software: float
    shared: bool

    def seconds(self, size: Floats) -> Floats:
        """One crossing of ``size`` bytes; nothing for none."""
        return np.where(size > 0.0, self.latency + size * (1.0 / self.bandwidth + self.software), 0.0)


@dataclass(frozen=True, slots=True)
class Requests:
    """[request] seconds of arrival, prompt tokens, and whether its prompt is in the cache."""

    arrival: Floats
    tokens: Floats
    hit: NDArray[np.bool_]

    @classmethod
    def drawn(cls, count: int, rate: float, tokens: tuple[int, ...], hits: float, rng: np.random.Generator) -> Requests:
        """Poisson arrivals; prompts of one of ``tokens``, all alike; a share of them ``hits``."""
        return cls(
            np.cumsum(rng.exponential(1.0 / rate, count)),
            rng.choice(np.array(tokens, float), count),
            rng.random(count) < hits,
        )


def busy_seconds(requests: Requests, tier: Tier, token_s: float, token_bytes: float) -> Floats:
    """[request] what each keeps the prompts' side busy for: computing (``token_s`` a token) unless it hits, then the tier."""
    computed = np.where(requests.hit, 0.0, requests.tokens * token_s)
    sent = np.where(requests.hit & tier.shared, 0.0, requests.tokens * token_bytes)
    return computed + tier.seconds(sent)


def first_come_waits(arrival: Floats, busy: Floats) -> Floats:
    """[request] seconds before each is taken up by one server (Lindley's recursion, as a running maximum)."""
    gaps = np.diff(arrival, prepend=arrival[0])
    walk = np.cumsum(np.concatenate(([0.0], busy[:-1])) - gaps)
    return np.asarray(walk - np.minimum.accumulate(walk))
