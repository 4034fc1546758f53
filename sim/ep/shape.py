"""One MoE layer's exchange in numbers, and the rows that uniform routing is expected to send.

Every field may be a float or a numpy array: a `Shape` of arrays is a whole table of operating points, which is how
the closed form predicts thousands of rows at once. The event interpreter uses the same record with scalars.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from .normal import largest_of
from .reach import Num, grouped_bins, uniform_bins

__all__ = ["Num", "Path", "Rows", "Shape"]


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
    row's activations and scales; ``comm_sms``: SMs of a high-throughput or elastic kernel.
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
    #: What was worked out before: both ops of a layer, and every load of a stage, ask for the same few expectations.
    _known: dict[object, Num] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def nodes(self) -> Num:
        return self._once("node count", lambda: self.ranks / self.domain)

    @property
    def ranks_reached(self) -> Num:
        """Distinct ranks of one token's top-k experts, expected."""
        return self._once("ranks", lambda: self.distinct(self.ranks))

    @property
    def nodes_reached(self) -> Num:
        """Distinct nodes of one token's top-k experts, expected."""
        return self._once("nodes", lambda: self.distinct(self.nodes))

    def expected_rows(self, rows: Rows, path: Path) -> Num:
        """Rows that one rank sends on ``path``, expected over uniform draws."""
        return self._once((rows, path), lambda: self._expected_rows(rows, path))

    def busiest_rows(self, rows: Rows, path: Path) -> Num:
        """`expected_rows` that the busiest rank receives: of `Rows.RANK` and `Rows.EXPERT`, which are drawn."""

        def busiest() -> Num:
            per_token = self.top_k if rows is Rows.EXPERT else self.ranks_reached
            return self.busiest(self.expected_rows(rows, path), np.minimum(per_token / self.ranks, 1.0))

        return self._once(("busiest", rows, path), busiest)

    def _once(self, name: object, work_out: Callable[[], Num]) -> Num:
        if name not in self._known:
            self._known[name] = work_out()
        return self._known[name]

    def _expected_rows(self, rows: Rows, path: Path) -> Num:
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
            return self.tokens * self.nodes_reached * share
        total = self.tokens * (self.top_k if rows is Rows.EXPERT else self.ranks_reached)
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

        Hypergeometric; group-limited routing first draws ``groups_kept`` of ``groups`` groups, then experts inside them.
        """
        if self.routing == "balanced":
            return np.minimum(self.top_k, bins)
        if self.routing == "group-limited":
            return grouped_bins(self.experts, bins, self.top_k, self.groups, self.groups_kept)
        return uniform_bins(self.experts, bins, self.top_k)

    def busiest(self, mean_rows: Num, chance: Num = 0.0) -> Num:
        """Expected rows of the busiest of ``ranks`` ranks when each receives ``mean_rows`` at random.

        ``mean + z * sqrt(mean * (1 - chance))``, z the expected maximum of ``ranks`` standard normals (Blom's approximation),
        ``chance`` the probability that one given row goes there. No spread under balanced routing.
        """
        if self.routing == "balanced":
            return mean_rows
        z = self._once("z", lambda: largest_of(self.ranks))
        busiest: Num = mean_rows + z * np.sqrt(mean_rows * (1.0 - chance))
        return busiest
