"""How unevenly the busiest rank's experts are loaded: shares of the tokens that each of its slots sees, in a few classes.

Under a power law the popularity of an expert is ``rank ** -alpha`` and its place on the ranks is chance, unless experts are
placed by their load. The shares of the busiest rank are averaged over seeded placements, once per (alpha, layer, ranks), and
kept as a handful of classes of like slots, so that a table of operating points costs a handful of evaluations.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ...hwmodels.errors import BadInput
from .placement import place

Floats = NDArray[np.float64]

_CLASSES = 6  # classes of slots on the busiest rank, the heaviest alone
_PLACEMENTS = 64  # seeded random placements averaged over


@dataclass(frozen=True, slots=True)
class Share:
    """``share``: [class] chance that one token goes to a slot of that class; ``slots``: [class] slots, summing to a rank's.

    ``lift``: the busiest rank's chance of a row over the mean rank's, summed over its slots.
    """

    share: Floats
    slots: Floats
    lift: float


def inclusion(weight: Floats, top_k: float) -> Floats:
    """[expert] chance that a token takes each expert when it draws ``top_k`` distinct ones by ``weight``.

    Drawing without replacement is a race of exponential clocks (the Gumbel trick): expert e is among the first k if it rings
    before the k-th, so ``1 - exp(-w t)`` with t such that k are expected.
    """
    if top_k >= len(weight):
        return np.ones(len(weight))
    low, high = 0.0, 1.0
    while (1.0 - np.exp(-weight * high)).sum() < top_k:
        high *= 2.0
    for _ in range(200):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if (1.0 - np.exp(-weight * middle)).sum() < top_k else (low, middle)
    return np.asarray(1.0 - np.exp(-weight * high))


@cache
def busiest_share(alpha: float, experts: int, top_k: float, ranks: int, redundant: int, balanced: bool) -> Share:
    """The busiest rank's shares under a power law of exponent ``alpha``.

    ``balanced``: slots packed by load, heaviest first, as `placement.place` does; otherwise placed at random, the mean over
    seeded placements. Replicas of an expert share its tokens. Raises BadInput for slots that do not divide over the ranks.
    """
    if (experts + redundant) % ranks:
        raise BadInput(
            f"experts ({experts}) and replicas ({redundant}) do not divide over {ranks} ranks: use "
            f"redundant_experts={redundant + -(experts + redundant) % ranks}"
        )
    weight = np.arange(1, experts + 1, dtype=float) ** -alpha
    share = inclusion(weight / weight.sum(), top_k)
    slots = experts + redundant
    local = slots // ranks
    if balanced:
        placement = place("balanced", experts, redundant, ranks, share)
        replicas = np.bincount(placement.expert_of, minlength=experts)
        by_rank = (share / replicas)[placement.expert_of].reshape(1, ranks, local)
    else:
        replicas = place("contiguous", experts, redundant, ranks, share).expert_of
        each = (share / np.bincount(replicas, minlength=experts))[replicas]
        draw = np.random.Generator(np.random.PCG64(11))
        by_rank = np.stack([draw.permutation(each) for _ in range(_PLACEMENTS)]).reshape(_PLACEMENTS, ranks, local)
    heaviest = by_rank.sum(axis=2).argmax(axis=1)
    mine = np.sort(by_rank[np.arange(len(by_rank)), heaviest], axis=1)[:, ::-1].mean(axis=0)
    edges = np.unique(np.round(np.geomspace(1.0, local, min(_CLASSES, local))).astype(int))
    parts = np.split(mine, edges[:-1])
    return Share(
        share=np.array([part.mean() for part in parts]),
        slots=np.array([float(len(part)) for part in parts]),
        lift=float(mine.sum() * ranks / share.sum()),
    )
