"""Pods: chips joined directly, without switches, and what an all-to-all does to their links.

A pod is an adjacency matrix [chip, chip] of bool, symmetric, chips numbered board by board. Two kinds are here: the torus of
Google's TPU pods, and Boardfly (Google Cloud, "The eighth-generation TPU: an architecture deep dive", April 2026: boards of 4
chips, groups of 8 boards, pods of 36 groups), a dragonfly of two levels. Which chip of a board or group holds which outer link
is not published; here the links are dealt round, one for each pair of boards and one for each pair of groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, permutations
from math import prod

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import shortest_path

Links = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Hops:
    """Distances between two different chips: the largest, and the mean over all pairs."""

    diameter: int
    mean: float


def torus(*sides: int) -> Links:
    """A torus of the given sides; a side of 2 is one link, not two."""
    chips = np.arange(prod(sides)).reshape(sides)
    links = np.zeros((chips.size, chips.size), dtype=bool)
    for axis in range(len(sides)):
        neighbour = np.roll(chips, 1, axis=axis)
        links[chips.ravel(), neighbour.ravel()] = links[neighbour.ravel(), chips.ravel()] = True
    np.fill_diagonal(links, False)
    return links


def boardfly(groups: int = 36, boards: int = 8, chips: int = 4, ring: bool = False) -> Links:
    """``groups`` x ``boards`` x ``chips``, every pair of boards of a group and every pair of groups joined by one link.

    The chips of a board are joined each to each, or with ``ring`` in a ring.
    """
    size = boards * chips
    links = np.zeros((groups * size, groups * size), dtype=bool)
    board = torus(chips) if ring else ~np.eye(chips, dtype=bool)
    for start in range(0, groups * size, chips):
        links[start : start + chips, start : start + chips] = board
    for group in range(groups):
        for one, other in combinations(range(boards), 2):
            _join(links, group * size + one * chips + other % chips, group * size + other * chips + one % chips)
    for one, other in combinations(range(groups), 2):
        # The other group's place in this one's round, so that every chip holds about as many.
        _join(links, one * size + (other - one - 1) % size, other * size + (one - other - 1) % groups % size)
    return links


def hops(links: Links) -> Hops:
    """Diameter and mean distance of a connected pod."""
    distance = shortest_path(csr_array(links), unweighted=True)
    return Hops(int(distance.max()), float(distance.sum() / (len(links) * (len(links) - 1))))


def hops_by_level(links: Links, *sizes: int) -> Hops:
    """The same for routes that leave each block of chips at most once, as a dragonfly routes to avoid deadlock.

    ``sizes``: chips of the nested blocks, smallest first (Boardfly: 4, 32). A route goes to the chip with the link to the other
    block, over it, and on from there; inside the smallest block it is a shortest path. Every two blocks need a link.
    """
    chips = len(links)
    distance = np.zeros(links.shape)
    for start in range(0, chips, sizes[0]):
        block = slice(start, start + sizes[0])
        distance[block, block] = shortest_path(csr_array(links[block, block]), unweighted=True)
    for inner, outer in zip(sizes, (*sizes[1:], chips), strict=True):
        for start in range(0, chips, outer):
            blocks = [slice(begin, begin + inner) for begin in range(start, start + outer, inner)]
            for one, other in permutations(blocks, 2):
                out, into = np.nonzero(links[one, other])
                routes = distance[one, one][:, out][:, None, :] + 1.0 + distance[other, other][into].T[None, :, :]
                distance[one, other] = routes.min(axis=2)
    return Hops(int(distance.max()), float(distance.sum() / (chips * (chips - 1))))


def all_to_all_load(links: Links) -> NDArray[np.float64]:
    """[chip, chip] messages on each directed link when every chip sends one to every other, split evenly over shortest paths.

    The edge betweenness of Brandes (2001), level by level for all sources at once.
    """
    joined = links.astype(np.float64)
    distance = np.full(links.shape, -1)
    np.fill_diagonal(distance, 0)
    levels = [np.eye(len(links))]  # paths [source, chip at that distance]
    while True:
        paths = np.where(distance < 0, levels[-1] @ joined, 0.0)
        if not paths.any():
            break
        distance[paths > 0] = len(levels)
        levels.append(paths)
    load = np.zeros(links.shape)
    beyond = np.zeros(links.shape)  # [source, chip] messages that pass through the chip
    for nearer, farther in zip(levels[-2::-1], levels[:0:-1], strict=True):
        share = np.divide(1.0 + beyond, farther, out=np.zeros(links.shape), where=farther > 0)
        load += (nearer.T @ share) * joined
        beyond = np.where(nearer > 0, nearer * (share @ joined), beyond)
    return load


def _join(links: Links, one: int, other: int) -> None:
    links[one, other] = links[other, one] = True
