"""Draws inside the compiled loop: a keyed hash of (seed, request, count), so that no draw depends on others."""

from __future__ import annotations

import numpy as np

from ....fabric.quick_numba import njit


@njit(cache=True)
def mixed(x: int) -> int:
    """The finaliser of splitmix64 (Steele, Lea and Flood, OOPSLA 2014) on a 64-bit count, as a signed integer."""
    z = np.uint64(x) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return int(np.int64(z ^ (z >> np.uint64(31))))


@njit(cache=True)
def uniform(seed: int, request: int, count: int) -> float:
    """A number in [0, 1)."""
    z = np.uint64(mixed(mixed(seed * 1_000_003 + request) + count))
    return float(z >> np.uint64(11)) / 9007199254740992.0


@njit(cache=True)
def accepted(drafts: int, chances: tuple[float, ...], seed: int, request: int, count: int) -> int:
    """Tokens of one step with ``drafts`` drafted: that of place i counts, and so do all before it, with ``chances[i]``."""
    x, tokens = uniform(seed, request, count), 1
    while tokens <= drafts and x < chances[tokens - 1]:
        tokens += 1
    return tokens
