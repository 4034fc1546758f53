"""One MoE layer's exchange in numbers, and the rows that uniform routing is expected to send.

Every field may be a float or a numpy array: a `Shape` of arrays is a whole table of operating points, which is how
the closed form predicts thousands of rows at once. The event interpreter uses the same record with scalars.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, ndtri

Num = float | NDArray[np.float64]


class Rows(Enum):
    """What one row of a move is."""

    TOKEN = "one per token of the rank"
    RANK = "one per (token, distinct destination rank)"
    NODE = "one per (token, distinct destination node)"
    EXPERT = "one per (token, expert)"
    PAIR = "one per (rank, rank)"


class Path(Enum):
    """Where a row travels."""

    SELF = "stays on the rank"
    NVLINK = "to another rank of the same NVLink domain"
    RDMA = "to a rank of another domain, NIC to NIC"
    RAIL = "to the same-index GPU of another node, then over NVLink to its ranks"
    OWN = "to the ranks of the own node, through the forwarder's ring"


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of one EP exchange. ``domain``: ranks per NVLink domain (a node of a two-hop path).

    ``routing``: "uniform", "group-limited" (top-k inside ``groups_kept`` of ``groups`` groups of experts) or "balanced"
    (experts dealt round-robin, so that a token reaches min(ranks, top_k) ranks). ``payload_bytes``: bytes of one dispatched
    row's activations and scales; ``comm_sms``: SMs of a high-throughput kernel.
    """

    tokens: Num
    hidden: Num
    top_k: Num
    experts: Num
    ranks: Num
    domain: Num
    payload_bytes: Num
    comm_sms: Num = 24.0
    routing: str = "uniform"
    groups: Num = 1.0
    groups_kept: Num = 1.0

    @property
    def nodes(self) -> Num:
        return self.ranks / self.domain

    def expected_rows(self, rows: Rows, path: Path) -> Num:
        """Rows that one rank sends on ``path``, expected over uniform draws."""
        away = 1.0 - 1.0 / self.ranks
        if rows is Rows.TOKEN:
            return self.tokens if path is Path.SELF else 0.0 * self.tokens
        if rows is Rows.PAIR:
            peers = {
                Path.SELF: 1.0,
                Path.NVLINK: self.domain - 1.0,
                Path.RDMA: self.ranks - self.domain,
                Path.RAIL: self.nodes - 1.0,
            }
            return peers[path] + 0.0 * self.tokens
        if rows is Rows.NODE:
            share = (self.nodes - 1.0) / self.nodes if path is Path.RAIL else 1.0 / self.nodes
            return self.tokens * self.distinct(self.nodes) * share
        total = self.tokens * (self.top_k if rows is Rows.EXPERT else self.distinct(self.ranks))
        share = {
            Path.SELF: 1.0 - away,
            Path.NVLINK: (self.domain - 1.0) / self.ranks,
            Path.RDMA: (self.ranks - self.domain) / self.ranks,
            Path.RAIL: (self.ranks - self.domain) / self.ranks,
            Path.OWN: self.domain / self.ranks,
        }[path]
        return total * share

    def distinct(self, bins: Num) -> Num:
        """Distinct bins (of ``bins`` equal groups of experts) that one token's top-k experts fall in, expected.

        Hypergeometric; group-limited routing first draws ``groups_kept`` of ``groups`` groups, then experts inside them. Exact
        where bins and groups nest (a bin holds whole groups, or a group whole bins).
        """
        if self.routing == "balanced":
            return np.minimum(self.top_k, bins)
        experts = np.asarray(self.experts, float)
        reach: Num = np.asarray(bins, float)
        k = np.asarray(self.top_k, float)
        if self.routing == "group-limited":
            groups, kept = np.asarray(self.groups, float), np.asarray(self.groups_kept, float)
            inside = _distinct(experts * kept / groups, reach * kept / groups, k)
            return np.where(reach < groups, _distinct_by_groups(experts, reach, k, groups, kept), inside)
        return _distinct(experts, reach, k)

    def busiest(self, mean_rows: Num, chance: Num = 0.0) -> Num:
        """Expected rows of the busiest of ``ranks`` ranks when each receives ``mean_rows`` at random.

        ``mean + z * sqrt(mean * (1 - chance))``, z the expected maximum of ``ranks`` standard normals (Blom's approximation),
        ``chance`` the probability that one given row goes there. No spread under balanced routing.
        """
        if self.routing == "balanced":
            return mean_rows
        z = ndtri((self.ranks - 0.375) / (self.ranks + 0.25))
        busiest: Num = mean_rows + z * np.sqrt(mean_rows * (1.0 - chance))
        return busiest


def _distinct(items: Num, bins: Num, drawn: Num) -> Num:
    """Expected bins hit by ``drawn`` of ``items`` items that fill ``bins`` equal bins: ``b (1 - C(n - n/b, k) / C(n, k))``."""
    n, b, k = (np.asarray(x, float) for x in (items, bins, drawn))
    rest = n - n / b
    missed = np.exp(_log_choose(np.maximum(rest, k), k) - _log_choose(n, k))
    found: Num = b * (1.0 - np.where(rest >= k, missed, 0.0))
    return found


def _distinct_by_groups(experts: Num, bins: Num, drawn: Num, groups: Num, kept: Num) -> Num:
    """`_distinct` when a bin holds ``m = groups / bins`` groups, of which ``j`` are kept with hypergeometric probability.

    ``b (1 - sum_j P(j) C(n - j g, k) / C(n, k))``, g experts a group and n = g * kept within reach.
    """
    bins, groups, kept, drawn = (np.asarray(x, float) for x in (bins, groups, kept, drawn))
    m = groups / bins
    size = np.asarray(experts, float) / groups
    n = size * kept
    missed = np.zeros(np.broadcast(m, n, drawn).shape)
    for j in range(int(np.max(m)) + 1):
        possible = (j <= m) & (j <= kept) & (kept - j <= groups - m) & (n - j * size >= drawn)
        chosen = _log_choose(m, np.minimum(j, m)) + _log_choose(groups - m, np.clip(kept - j, 0.0, groups - m))
        avoided = _log_choose(np.maximum(n - j * size, drawn), drawn) - _log_choose(n, drawn)
        missed = missed + np.where(possible, np.exp(chosen - _log_choose(groups, kept) + avoided), 0.0)
    found: Num = bins * (1.0 - missed)
    return found


def _log_choose(n: NDArray[np.float64], k: NDArray[np.float64]) -> NDArray[np.float64]:
    chosen: NDArray[np.float64] = gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0)
    return chosen
