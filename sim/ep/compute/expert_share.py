"""How unevenly the busiest rank's experts are loaded: shares of the tokens that each of its slots sees, in a few classes.

Under a power law the popularity of an expert is ``rank ** -alpha`` and its place on the ranks is chance, unless experts are
placed by their load. The shares of the busiest rank are averaged over seeded placements, once per (alpha, layer, ranks), and
kept as a handful of classes of like slots, so that a table of operating points costs a handful of evaluations. Counted experts
(`Counted`: how often each was chosen, layer by layer) lie where they are placed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ....hwmodels.errors import BadInput
from ..placement import place

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


@dataclass(frozen=True, eq=False)
class Counted:
    """How often each expert was chosen, as recorded. ``counts``: [layer, expert], one layer standing for all if there is one.

    Compared by identity: a file is read once, and what follows from it is worked out once.
    """

    counts: Floats

    @property
    def layers(self) -> int:
        return len(self.counts)

    def chance(self, layer: int, top_k: float) -> Floats:
        """[expert] chance that a token takes each expert. Counts that no ``top_k`` distinct choices can have had (an expert in
        more than every token) are popularities, drawn by."""
        shares = self.counts[layer] / self.counts[layer].sum()
        return shares * top_k if shares.max() * top_k <= 1.0 else inclusion(shares, top_k)


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
    _slots_divide(experts, redundant, ranks)
    weight = np.arange(1, experts + 1, dtype=float) ** -alpha
    share = inclusion(weight / weight.sum(), top_k)
    slots = experts + redundant
    local = slots // ranks
    if balanced:
        by_rank = _placed(share, "balanced", redundant, ranks)[None]
    else:
        replicas = place("contiguous", experts, redundant, ranks, share).expert_of
        each = (share / np.bincount(replicas, minlength=experts))[replicas]
        draw = np.random.Generator(np.random.PCG64(11))
        by_rank = np.stack([draw.permutation(each) for _ in range(_PLACEMENTS)]).reshape(_PLACEMENTS, ranks, local)
    return _busiest(by_rank, float(share.sum()))


@cache
def counted_share(counted: Counted, layer: int, top_k: float, ranks: int, redundant: int, placement: str) -> Share:
    """The busiest rank's shares of ``counted``'s ``layer``, its experts placed as `placement.place` has them ("": by load where
    there are replicas, else in their order). Raises BadInput for slots that do not divide over the ranks."""
    share = counted.chance(layer, top_k)
    return _busiest(_counted(share, ranks, redundant, placement)[None], float(share.sum()))


def rank_shares(counted: Counted, layer: int, top_k: float, ranks: int, redundant: int, placement: str) -> Floats:
    """[rank] rows of one token that each rank is expected to get, its experts placed as in `counted_share`."""
    return np.asarray(_counted(counted.chance(layer, top_k), ranks, redundant, placement).sum(axis=1))


def _counted(share: Floats, ranks: int, redundant: int, placement: str) -> Floats:
    _slots_divide(len(share), redundant, ranks)
    return _placed(share, placement or ("balanced" if redundant else "contiguous"), redundant, ranks)


def _placed(share: Floats, kind: str, redundant: int, ranks: int) -> Floats:
    """[rank, slot] chance that one token goes there."""
    placement = place(kind, len(share), redundant, ranks, share)
    replicas = np.bincount(placement.expert_of, minlength=len(share))
    return np.asarray((share / replicas)[placement.expert_of].reshape(ranks, -1))


def _busiest(by_rank: Floats, total: float) -> Share:
    """The heaviest rank of each of ``by_rank`` [placement, rank, slot], in the mean; ``total``: rows of one token."""
    ranks, local = by_rank.shape[1:]
    heaviest = by_rank.sum(axis=2).argmax(axis=1)
    mine = np.sort(by_rank[np.arange(len(by_rank)), heaviest], axis=1)[:, ::-1].mean(axis=0)
    edges = np.unique(np.round(np.geomspace(1.0, local, min(_CLASSES, local))).astype(int))
    parts = np.split(mine, edges[:-1])
    return Share(
        share=np.array([part.mean() for part in parts]),
        slots=np.array([float(len(part)) for part in parts]),
        lift=float(mine.sum() * ranks / total),
    )


def _slots_divide(experts: int, redundant: int, ranks: int) -> None:
    if (experts + redundant) % ranks:
        raise BadInput(
            f"experts ({experts}) and replicas ({redundant}) do not divide over {ranks} ranks: use "
            f"redundant_experts={redundant + -(experts + redundant) % ranks}"
        )
