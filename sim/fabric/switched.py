"""Networks with switches as graphs: who is how many links from whom, and what an all-to-all does to every link.

A `Fabric` is a symmetric matrix [place, place] of link rates (0: no link; any unit, one way), whose first ``hosts`` places
are GPUs, the rest NICs and switches. Rates count a bundle of links as one. Sources: rail-only networks of Wang et al. (arXiv
2307.12169), which have no spine and forward over NVLink; leaf and spine of Clos (1953) with oversubscription.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import shortest_path

from ...hwmodels.errors import BadInput
from .pods import Hops

Rates = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Fabric:
    """``rates`` [place, place]; ``hosts`` of the places send and receive."""

    rates: Rates
    hosts: int

    def hops(self) -> Hops:
        """Links from one host to another: the most, and the mean over all pairs."""
        distance = shortest_path(csr_array(self.rates > 0.0), unweighted=True)[: self.hosts, : self.hosts]
        if not np.isfinite(distance).all():
            raise BadInput("some hosts do not reach each other: the fabric falls apart")
        return Hops(int(distance.max()), float(distance.sum() / (self.hosts * (self.hosts - 1))))

    def all_to_all_load(self) -> Rates:
        """[place, place] messages on each directed link when every host sends one to every other, over all shortest paths by
        the rate of their links (ECMP, weighted). Brandes (2001), level by level for all hosts at once."""
        places = len(self.rates)
        distance = np.full((self.hosts, places), -1)
        distance[np.arange(self.hosts), np.arange(self.hosts)] = 0
        levels = [np.eye(self.hosts, places)]
        while True:
            paths = np.where(distance < 0, levels[-1] @ self.rates, 0.0)
            if not paths.any():
                break
            distance[paths > 0] = len(levels)
            levels.append(paths)
        load, beyond = np.zeros(self.rates.shape), np.zeros((self.hosts, places))
        receives = (np.arange(places) < self.hosts).astype(float)
        for nearer, farther in zip(levels[-2::-1], levels[:0:-1], strict=True):
            share = np.divide(receives + beyond, farther, out=np.zeros(farther.shape), where=farther > 0)
            load += (nearer.T @ share) * self.rates
            beyond = np.where(nearer > 0, nearer * (share @ self.rates), beyond)
        return load

    def all_to_all_rate(self) -> float:
        """What one host sends to all others together while the fullest link is full, in the unit of the rates."""
        load = self.all_to_all_load()
        used = self.rates > 0.0
        return float((self.hosts - 1) / (load[used] / self.rates[used]).max())


def rail_only(nodes: int, gpus: int, nic: float, nvlink: float) -> Fabric:
    """``nodes`` of ``gpus`` on one NVSwitch each; GPU i of every node on rail switch i, and no switch above the rails."""
    hosts = nodes * gpus
    rates = np.zeros((2 * hosts + nodes + gpus,) * 2)
    _nodes(rates, hosts, gpus, nic, nvlink)
    for host in range(hosts):
        _join(rates, hosts + host, 2 * hosts + nodes + host % gpus, nic)
    return Fabric(rates, hosts)


def clos(nodes: int, gpus: int, nic: float, nvlink: float, nodes_per_leaf: int, spines: int, oversubscription: float) -> Fabric:
    """Leaves of ``nodes_per_leaf`` whole nodes, each joined to all ``spines`` by 1/``oversubscription`` of its hosts' rate."""
    if nodes % nodes_per_leaf or oversubscription < 1.0:
        raise BadInput(
            f"{nodes} nodes do not fill leaves of {nodes_per_leaf}, or oversubscription {oversubscription:g} is below 1"
        )
    hosts, leaves = nodes * gpus, nodes // nodes_per_leaf
    rates = np.zeros((2 * hosts + nodes + leaves + spines,) * 2)
    _nodes(rates, hosts, gpus, nic, nvlink)
    for host in range(hosts):
        _join(rates, hosts + host, 2 * hosts + nodes + host // (gpus * nodes_per_leaf), nic)
    uplink = nic * gpus * nodes_per_leaf / oversubscription / spines
    for leaf in range(leaves if leaves > 1 else 0):
        for spine in range(spines):
            _join(rates, 2 * hosts + nodes + leaf, 2 * hosts + nodes + leaves + spine, uplink)
    return Fabric(rates, hosts)


def _nodes(rates: Rates, hosts: int, gpus: int, nic: float, nvlink: float) -> None:
    """Every GPU on its node's NVSwitch, and on a NIC of its own (place ``hosts`` + GPU), so that NVLink is the shorter way."""
    for host in range(hosts):
        _join(rates, host, 2 * hosts + host // gpus, nvlink)
        _join(rates, host, hosts + host, nic)


def full_boards(boards: int, chips: int, link: float) -> Fabric:
    """Boards whose chips are joined each to each, and every chip to the same place of every other board: no switch."""
    hosts = boards * chips
    rates = np.zeros((hosts, hosts))
    for board in range(boards):
        for one, other in combinations(range(chips), 2):
            _join(rates, board * chips + one, board * chips + other, link)
    for chip in range(chips):
        for one, other in combinations(range(boards), 2):
            _join(rates, one * chips + chip, other * chips + chip, link)
    return Fabric(rates, hosts)


def _join(rates: Rates, one: int, other: int, rate: float) -> None:
    rates[one, other] = rates[other, one] = rate
