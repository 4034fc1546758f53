"""How unequally experts are chosen, and what that leaves of ranks: a power law in random order, drawn tokens, a placement.

Nobody publishes which expert is popular, only how popular; so every figure here is the mean over random orders of the experts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...hwmodels.errors import BadInput
from .eplb import Ints, gpu_load, imbalance, slots_of

Floats = NDArray[np.float64]


def power_law(experts: int, exponent: float) -> Floats:
    """[expert] popularity, the first the most popular, in any unit; all alike at exponent 0."""
    return np.asarray(np.arange(1, experts + 1, dtype=float) ** -exponent)


def drawn(share: Floats, tokens: int, top_k: int, rng: np.random.Generator, groups: int = 1, groups_kept: int = 1) -> Floats:
    """[expert] rows of ``tokens`` that each take ``top_k`` different experts, likely by ``share``.

    With ``groups`` of consecutive experts a token first keeps the ``groups_kept`` whose two best experts score highest
    together, as DeepSeek-V3 routes (arXiv 2412.19437), and takes its experts from those.
    """
    if len(share) % groups or not 1 <= groups_kept <= groups or len(share) // groups * groups_kept < top_k:
        raise BadInput(f"{len(share)} experts in {groups} groups, of which {groups_kept} are kept, leave no {top_k} to take")
    # Gumbel's trick: the k largest of log share + noise are k draws without replacement.
    keys = np.log(share) + rng.gumbel(size=(tokens, len(share)))
    if groups_kept < groups:
        grouped = keys.reshape(tokens, groups, -1)
        best = np.sort(grouped, axis=2)[:, :, -2:].sum(axis=2)
        left_out = np.argpartition(-best, groups_kept - 1, axis=1)[:, groups_kept:]
        np.put_along_axis(grouped, left_out[:, :, None], -np.inf, axis=1)
        keys = grouped.reshape(tokens, -1)
    taken = np.argpartition(-keys, top_k - 1, axis=1)[:, :top_k]
    return np.bincount(taken.ravel(), minlength=len(share)).astype(float)


def in_turn(experts: int, slots: int) -> Ints:
    """[slot] expert where nobody looks at the load: all in order, and the first ones again."""
    return np.arange(slots) % experts


def left_on_ranks(share: Floats, slots: int, ranks: int, balanced: bool, orders: int = 32, seed: int = 0) -> float:
    """(max - mean) / mean load of ``ranks``, ``slots`` of experts on them, mean of ``orders`` random orders of the experts.

    ``balanced``: slots by load (EPLB, global); else in turn. Chance, which adds to it in a small batch, is not in it.
    """
    if slots % ranks or slots < len(share):
        raise BadInput(f"{slots} slots for {len(share)} experts do not divide over {ranks} ranks")
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(orders):
        load = rng.permutation(share)
        held = slots_of(load, slots, 1, 1, ranks) if balanced else in_turn(len(share), slots)
        found.append(imbalance(gpu_load(load, held, ranks)))
    return float(np.mean(found))
