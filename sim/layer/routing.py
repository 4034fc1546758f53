"""The router's choices: which experts each token goes to, and the rows that follow from them.

A draw is per token, but nothing beyond this file sees tokens: what a protocol sends is a handful of rank-by-rank counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...hwmodels.errors import BadInput
from ..ep.placement import Placement, place
from ..inputs.traffic import Routing
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
            weight = np.arange(1, self.experts + 1, dtype=float) ** -self.routing.exponent
            rng.shuffle(weight)
        elif self.routing.kind == "file" and self.routing.file is not None:
            recorded = read_histogram_or_choices(self.routing.file, self.experts, self.top_k)
            weight = recorded.of_layer(self.routing.layer)
        else:
            weight = np.ones(self.experts)
        return np.asarray(weight / weight.sum())

    def choices(
        self, tokens: Ints, popularity: NDArray[np.float64], deck: Ints, rng: np.random.Generator
    ) -> Iterator[tuple[Ints, Ints]]:
        """Chunks of (home rank [token], experts [token, k] distinct), every token of every rank in order.

        ``deck``: [expert] the order in which a balanced routing deals them. Raises BadInput if a file of choices has fewer
        rows than there are tokens.
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
                yield home, deck[(number[:, None] * self.top_k + np.arange(self.top_k)) % len(deck)]
            elif self.routing.kind == "group-limited":
                yield home, self._group_limited(len(home), rng)
            elif self.routing.kind == "uniform":
                yield home, _distinct(len(home), self.experts, self.top_k, rng)
            else:
                yield home, _weighted(len(home), popularity, self.top_k, rng)

    def _group_limited(self, tokens: int, rng: np.random.Generator) -> Ints:
        size = self.experts // self.groups
        kept = np.sort(_distinct(tokens, self.groups, self.kept, rng), axis=1)
        inside = _distinct(tokens, self.kept * size, self.top_k, rng)
        return np.asarray(np.take_along_axis(kept, inside // size, axis=1) * size + inside % size)


def draw(router: Router, tokens: Ints, placement_kind: str, redundant: int, domain: int, rng: np.random.Generator) -> Drawn:
    """Draw every token's experts and count what follows. ``tokens``: [rank]; ``domain``: ranks per node of a two-hop path."""
    return draw_calls(router, tokens, placement_kind, redundant, domain, rng, max(1, int(tokens.max())))[0]


def draw_calls(
    router: Router, tokens: Ints, placement_kind: str, redundant: int, domain: int, rng: np.random.Generator, most: int
) -> list[Drawn]:
    """One draw, counted by call: every rank's first ``most`` tokens go in the first call, the next in the second.

    The tokens' experts, their popularity and the placement do not depend on ``most``. Raises BadInput for a balanced
    routing with replicas: it deals every expert once.
    """
    ranks = len(tokens)
    if router.routing.kind == "balanced" and redundant:
        raise BadInput(
            f"balanced routing deals every expert once, got redundant_experts={redundant}: use 0, or uniform routing"
        )
    popularity = router.popularity(rng)
    placement = place(placement_kind, router.experts, redundant, ranks, popularity)
    calls = max(1, -(-int(tokens.max()) // most))
    counted = [_blank(np.clip(tokens - call * most, 0, most), placement, domain) for call in range(calls)]
    begins = np.cumsum(tokens) - tokens
    seen = 0
    for home, experts in router.choices(tokens, popularity, _deck(placement, domain), rng):
        number = seen + np.arange(len(home))
        seen += len(home)
        slots = placement.slots(experts, number)
        call_of = (number - begins[home]) // most
        for call, drawn in enumerate(counted):
            mine = call_of == call
            _count(drawn, home[mine], experts[mine], slots[mine], domain)
    return counted


def _deck(placement: Placement, domain: int) -> Ints:
    """Experts in the order of a deal: node by node in turn, inside a node rank by rank, inside a rank expert by expert."""
    rank = np.arange(placement.ranks)
    in_turn = np.lexsort((rank // domain, rank % domain))
    return np.asarray(placement.expert_of.reshape(placement.ranks, -1)[in_turn].T.ravel())


def _blank(tokens: Ints, placement: Placement, domain: int) -> Drawn:
    ranks, slots = placement.ranks, len(placement.expert_of)
    expert_rows, rank_rows = np.zeros((2, ranks, ranks), np.int64)
    node_rows = np.zeros((ranks, -(-ranks // domain)), np.int64)
    expert_load, slot_load = np.zeros(placement.experts, np.int64), np.zeros(slots, np.int64)
    return Drawn(tokens, expert_rows, rank_rows, node_rows, expert_load, slot_load, placement)


def _count(drawn: Drawn, home: Ints, experts: Ints, slots: Ints, domain: int) -> None:
    """Add tokens at ``home`` [token] that go to ``experts`` in ``slots`` [token, k]."""
    ranks, nodes = drawn.node_rows.shape
    rank = slots // drawn.placement.slots_per_rank
    drawn.expert_rows[:] += np.bincount((home[:, None] * ranks + rank).ravel(), minlength=ranks * ranks).reshape(ranks, ranks)
    drawn.rank_rows[:] += _distinct_counts(home, rank, ranks, ranks).reshape(ranks, ranks)
    drawn.node_rows[:] += _distinct_counts(home, rank // domain, nodes, ranks).reshape(ranks, nodes)
    drawn.expert_load[:] += np.bincount(experts.ravel(), minlength=len(drawn.expert_load))
    drawn.slot_load[:] += np.bincount(slots.ravel(), minlength=len(drawn.slot_load))


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
