"""The router's choices: which experts each token goes to, and the rows that follow from them.

A draw is per token, but nothing beyond this file sees tokens: what a protocol sends is a handful of rank-by-rank counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..inputs.traffic import Routing
from .placement import Placement, place
from .routing_file import read_histogram_or_choices

_AT_ONCE = 1 << 15  # tokens drawn together: bounds memory, not results

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a drawn routing sends. All counts are of (token, destination) in the named sense.

    ``tokens``: [rank]; ``expert_rows``, ``rank_rows``: [home rank, expert's rank]; ``node_rows``: [home rank, node];
    ``expert_load``: [logical expert]; ``slot_load``: [slot].
    """

    tokens: Ints
    expert_rows: Ints
    rank_rows: Ints
    node_rows: Ints
    expert_load: Ints
    slot_load: Ints
    placement: Placement


@dataclass(frozen=True, slots=True)
class Router:
    """A routing kind on a layer of ``experts`` experts, ``top_k`` of them a token. ``groups``, ``kept``: group-limited only."""

    routing: Routing
    experts: int
    top_k: int
    groups: int
    kept: int

    def popularity(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """Probability mass of each expert, [expert], summing to 1."""
        if self.routing.kind == "power-law":
            weight = np.arange(1, self.experts + 1, dtype=float) ** -self.routing.alpha
            rng.shuffle(weight)
        elif self.routing.kind == "file" and self.routing.file is not None:
            weight = read_histogram_or_choices(self.routing.file, self.experts, self.top_k).weight
        else:
            weight = np.ones(self.experts)
        return np.asarray(weight / weight.sum())

    def choices(self, tokens: Ints, popularity: NDArray[np.float64], rng: np.random.Generator) -> Iterator[tuple[Ints, Ints]]:
        """Chunks of (home rank [token], experts [token, k] distinct), every token of every rank in order.

        Raises BadInput if a file of choices has fewer rows than there are tokens.
        """
        homes = np.repeat(np.arange(len(tokens)), tokens)
        given = None
        if self.routing.kind == "file" and self.routing.file is not None:
            given = read_histogram_or_choices(self.routing.file, self.experts, self.top_k).enough(len(homes))
        for start in range(0, len(homes), _AT_ONCE):
            home = homes[start : start + _AT_ONCE]
            number = np.arange(start, start + len(home))
            if given is not None:
                yield home, given[start : start + len(home)]
            elif self.routing.kind == "balanced":
                yield home, self._dealt(home, number, len(tokens))
            elif self.routing.kind == "group-limited":
                yield home, self._group_limited(len(home), rng)
            elif self.routing.kind == "uniform":
                yield home, _distinct(len(home), self.experts, self.top_k, rng)
            else:
                yield home, _weighted(len(home), popularity, self.top_k, rng)

    def _dealt(self, home: Ints, number: Ints, ranks: int) -> Ints:
        """Ranks in turn, and inside a rank its experts in turn: every rank gets the same rows."""
        k = np.arange(self.top_k)
        per_rank = self.experts // ranks
        rank = (home[:, None] + number[:, None] * self.top_k + k) % ranks
        inside = (number[:, None] * -(-self.top_k // ranks) + k // ranks) % per_rank
        return np.asarray(rank * per_rank + inside)

    def _group_limited(self, tokens: int, rng: np.random.Generator) -> Ints:
        size = self.experts // self.groups
        kept = np.sort(_distinct(tokens, self.groups, self.kept, rng), axis=1)
        inside = _distinct(tokens, self.kept * size, self.top_k, rng)
        return np.asarray(np.take_along_axis(kept, inside // size, axis=1) * size + inside % size)


def draw(
    router: Router, tokens: Ints, placement_kind: str, redundant: int, domain: int, rng: np.random.Generator
) -> Drawn:
    """Draw every token's experts and count what follows. ``tokens``: [rank]; ``domain``: ranks per node of a two-hop path."""
    ranks = len(tokens)
    nodes = -(-ranks // domain)
    popularity = router.popularity(rng)
    placement = place(placement_kind, router.experts, redundant, ranks, popularity)
    expert_rows, rank_rows = np.zeros((2, ranks * ranks), np.int64)
    node_rows = np.zeros(ranks * nodes, np.int64)
    expert_load = np.zeros(router.experts, np.int64)
    slot_load = np.zeros(len(placement.expert_of), np.int64)
    seen = 0
    for home, experts in router.choices(tokens, popularity, rng):
        slots = placement.slots(experts, seen + np.arange(len(home)))
        seen += len(home)
        rank = slots // placement.slots_per_rank
        expert_rows += np.bincount((home[:, None] * ranks + rank).ravel(), minlength=ranks * ranks)
        rank_rows += _distinct_counts(home, rank, ranks, ranks)
        node_rows += _distinct_counts(home, rank // domain, nodes, ranks)
        expert_load += np.bincount(experts.ravel(), minlength=router.experts)
        slot_load += np.bincount(slots.ravel(), minlength=len(slot_load))
    return Drawn(
        tokens,
        expert_rows.reshape(ranks, ranks),
        rank_rows.reshape(ranks, ranks),
        node_rows.reshape(ranks, nodes),
        expert_load,
        slot_load,
        placement,
    )


def _distinct_counts(home: Ints, where: Ints, bins: int, ranks: int) -> Ints:
    """Tokens by [home, bin] that reach the bin at least once, flattened. ``where``: [token, k]."""
    ordered = np.sort(where, axis=1)
    fresh = np.ones_like(ordered, bool)
    fresh[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    return np.bincount((home[:, None] * bins + ordered)[fresh], minlength=ranks * bins)


def _distinct(tokens: int, n: int, k: int, rng: np.random.Generator) -> Ints:
    """``k`` distinct numbers below ``n`` for each token, uniformly (Floyd's algorithm, one column at a time)."""
    chosen = np.empty((tokens, k), np.int64)
    for column, top in enumerate(range(n - k, n)):
        pick = rng.integers(0, top + 1, tokens)
        taken = (chosen[:, :column] == pick[:, None]).any(axis=1)
        chosen[:, column] = np.where(taken, top, pick)
    return chosen


def _weighted(tokens: int, popularity: NDArray[np.float64], k: int, rng: np.random.Generator) -> Ints:
    """``k`` distinct experts for each token, without replacement by popularity (Gumbel top-k)."""
    parts = []
    step = max(1, (1 << 22) // len(popularity))
    with np.errstate(divide="ignore"):
        log = np.log(popularity)
    for start in range(0, tokens, step):
        scores = log + rng.gumbel(size=(min(step, tokens - start), len(popularity)))
        parts.append(np.argpartition(-scores, k - 1, axis=1)[:, :k])
    return np.concatenate(parts).astype(np.int64)
