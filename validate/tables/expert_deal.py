"""Rows that each local expert of the timed rank got in a row of a grouped-GEMM table, as its ``routing`` column names the deal.

What the columns leave open is settled by the timings themselves:

- ``power_law_a`` (any kernel): the *loads* of experts are drawn from a density ``x ** -a`` (not the popularity by rank of
  `sim.layer.routing`: at a = 0.6 that would give the busiest of 32 ranks 2.4 times the mean where 1.5 times is measured), and
  the busiest rank is timed. One draw was timed, which the table does not say: its time is the mean over seeded draws. Rows that
  rounding leaves over go to the idlest experts: 8 tokens of top-8 read 64 experts' weights, 32 tokens 128.
- ``balanced`` (Triton): choice j of token i is expert ``i + j s``, s = experts / top-k rounded up; fewer than s tokens are
  spread over the stride, and above 256 only even experts appear: 290 of 320 and 370 of 480 experts' weights are read.
- ``uniform``, masked: rows dealt one by one over the local experts. ``uniform``, contiguous: dealt in whole tiles of 128 rows
  (1,024 tokens on 8 ranks take 391 us; reading all 32 local experts takes 750 us, as the power law's rows show).
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from ...sim.ep.compute.experts import TILE, Kind

Floats = NDArray[np.float64]

DRAWS = 16  # seeded draws of a power law averaged over
_LOADS = (1.0, 0.8)  # a load's least value, and its largest as a share of the tokens
_FEW_LOADS = (0.01, 2.0)  # the same where there are no more rows than experts


def exponent(routing: str) -> float | None:
    """A power law's exponent, 0 for an even routing, None for a name this does not know."""
    if routing in ("uniform", "balanced"):
        return 0.0
    try:
        value = float(routing.removeprefix("power_law_"))
    except ValueError:
        return None
    return value if routing.startswith("power_law_") and 0.0 < value <= 10.0 and value != 1.0 else None


@cache
def deal(kind: Kind, routing: str, tokens: int, top_k: int, experts: int, ep: int) -> Floats:
    """[draw, local expert] rows on the timed rank, for a ``routing`` that `exponent` knows."""
    local = experts // ep
    alpha = exponent(routing)
    if alpha:
        return power_law(alpha, tokens, top_k, experts, ep)
    if routing == "balanced":
        return np.asarray(np.bincount(_dealt(tokens, top_k, experts), minlength=experts)[None, :local], float)
    pairs = tokens * top_k * local // experts
    if kind == "contiguous":
        tiles = -(-pairs // TILE)
        by_tile = tiles // local + (np.arange(local) < tiles % local)
        left = by_tile.sum() * TILE - pairs
        rows = by_tile * float(TILE)
        rows[np.flatnonzero(by_tile)[-1:]] -= left
        return np.asarray(rows[None, :], float)
    return np.asarray((pairs // local + (np.arange(local) < pairs % local))[None, :], float)


def power_law(alpha: float, tokens: int, top_k: int, experts: int, ep: int) -> Floats:
    """[draw, local expert] rows of the busiest rank: loads from a density ``x ** -alpha``, scaled to all rows and rounded."""
    total = tokens * top_k
    low, high = (_LOADS[0], _LOADS[1] * tokens) if total > experts else _FEW_LOADS
    draw = np.random.Generator(np.random.PCG64(5))
    uniform = draw.random((DRAWS, experts))
    power = 1.0 - alpha
    loads = ((high**power - low**power) * uniform + low**power) ** (1.0 / power)
    rows = np.round(loads / loads.sum(axis=1, keepdims=True) * total)
    turn = np.arange(experts) % (experts // ep) * ep + np.arange(experts) // (experts // ep)  # rank by rank in turn
    for one in rows:
        missing = int(total - one.sum())
        order = np.lexsort((turn, one))
        np.add.at(one, order[np.arange(max(missing, 0)) % experts], 1.0)
        np.add.at(one, order[::-1][np.arange(max(-missing, 0)) % experts], -1.0)
    by_rank = rows.reshape(DRAWS, ep, experts // ep)
    busiest = by_rank.sum(axis=2).argmax(axis=1)
    return np.asarray(by_rank[np.arange(DRAWS), busiest])


def _dealt(tokens: int, top_k: int, experts: int) -> NDArray[np.int64]:
    """[token * choice] experts of the balanced deal."""
    stride = -(-experts // top_k)
    i, j = np.arange(tokens)[:, None], np.arange(top_k)[None, :]
    if tokens >= stride:
        return np.asarray((i + j * stride).ravel() % experts)
    spread = i * stride / tokens + j * stride
    spread = np.where(spread >= 256, np.round(spread / 2) * 2, spread)
    return np.asarray(np.floor(spread).astype(np.int64).ravel() % experts)
