"""Which of the free GPUs to take: the set whose slowest pair is fastest, over NVLink, PCIe and the network between nodes.

The rate of a pair is that of the tightest thing both share: an NVLink island, a node, or only the network. Sets of GPUs that
reach each other at a rate are then nested, so the fastest level whose set is large enough is the best there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...hwmodels.errors import BadInput


@dataclass(frozen=True, slots=True)
class Site:
    """Where a GPU is: its node, and the NVLink island it is on there ("" for a GPU that has none)."""

    node: str
    island: str


@dataclass(frozen=True, slots=True)
class Rates:
    """Bytes/s one way between two GPUs: over NVLink, within a node without it, between nodes."""

    nvlink: float
    node: float
    network: float

    def between(self, one: Site, other: Site) -> float:
        """One direction, bytes/s."""
        if one.node != other.node:
            return self.network
        return self.nvlink if one.island and one.island == other.island else self.node


def slowest_pair(sites: Sequence[Site], rates: Rates) -> float:
    """The rate of the slowest pair of ``sites``, bytes/s: what a ring through all of them runs at."""
    pairs = [rates.between(a, b) for i, a in enumerate(sites) for b in sites[i + 1 :]]
    if not pairs:
        raise BadInput("a set of one GPU has no pair: ask for two or more")
    return min(pairs)


def nearest(free: Sequence[Site], count: int, rates: Rates) -> tuple[int, ...]:
    """Places in ``free`` of ``count`` GPUs whose slowest pair is as fast as any set's; among equals the smallest island or
    node that has room, so that larger ones stay whole. Raises BadInput where fewer are free.
    """
    if len(free) < count:
        raise BadInput(f"{count} GPUs are wanted, {len(free)} are free")
    levels = ((lambda s: (s.node, s.island) if s.island else None), (lambda s: (s.node,)), (lambda s: ()))
    found: list[tuple[float, int, tuple[int, ...]]] = []
    for level in levels:
        sets: dict[tuple[str, ...], list[int]] = {}
        for place, site in enumerate(free):
            if (key := level(site)) is not None:
                sets.setdefault(key, []).append(place)
        for members in sets.values():
            if len(members) >= count:
                # Whole islands first: a set that has to spread does so over as few as it can.
                members.sort(key=lambda p: (-sum(s == free[p] for s in free), free[p].node, free[p].island, p))
                taken = tuple(sorted(members[:count]))
                found.append((slowest_pair([free[p] for p in taken], rates), len(members), taken))
    return max(found, key=lambda f: (f[0], -f[1]))[2]
