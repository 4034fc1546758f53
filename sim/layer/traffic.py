"""What a stage moves under a drawn routing: the rows of every move, rank by rank, and each rank's own work.

`bound` asks a `Shape` for expected rows; this file counts the drawn ones. All matrices are [home rank, expert's rank].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...hwmodels.laws.kernels import smooth_max
from ..ep.bound import capacity
from ..ep.shape import Path, Rows
from ..ep.stage import LINKS, End, Load, Machine, Move, Stage, Work
from .routing import Drawn

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Layout:
    """Which ranks share an NVLink domain: rank r is GPU ``r % domain`` of node ``r // domain``."""

    ranks: int
    domain: int

    @property
    def nodes(self) -> int:
        return -(-self.ranks // self.domain)

    @property
    def node_of(self) -> NDArray[np.int64]:
        return np.arange(self.ranks) // self.domain

    def via(self) -> NDArray[np.int64]:
        """[home, node] the rank of ``node`` with the home rank's index: where a rail lands."""
        return np.arange(self.nodes)[None, :] * self.domain + (np.arange(self.ranks) % self.domain)[:, None]

    def mask(self, path: Path) -> NDArray[np.bool_]:
        """Pairs a path joins: [home, expert's rank], or [home, node] for RAIL and OWN."""
        home = np.arange(self.ranks)
        if path in (Path.RAIL, Path.OWN):
            own = self.node_of[:, None] == np.arange(self.nodes)[None, :]
            return np.asarray(own if path is Path.OWN else ~own)
        same = home[:, None] == home[None, :]
        near = self.node_of[:, None] == self.node_of[None, :]
        return np.asarray({Path.SELF: same, Path.NVLINK: near & ~same, Path.RDMA: ~near}[path])


def rows_of(move: Move, drawn: Drawn, layout: Layout) -> Floats:
    """Rows of a move: [home, expert's rank], or [home, node] on a two-hop path; zero where the path does not lead."""
    if move.rows is Rows.TOKEN:
        table = np.diag(drawn.tokens)
    elif move.rows is Rows.PAIR:
        table = np.ones((layout.ranks, layout.nodes if move.path is Path.RAIL else layout.ranks), np.int64)
    else:
        table = {Rows.RANK: drawn.rank_rows, Rows.NODE: drawn.node_rows, Rows.EXPERT: drawn.expert_rows}[move.rows]
    return np.where(layout.mask(move.path), table, 0).astype(float)


def forwarded_rows(move: Move, drawn: Drawn, layout: Layout) -> Floats:
    """Copies that the forwarder makes: [home, expert's rank], on the pairs whose node the two-hop path reaches."""
    reached = layout.mask(move.path)[:, layout.node_of]
    return np.where(reached, drawn.rank_rows, 0).astype(float)


def rank_loads(stage: Stage | Work, drawn: Drawn, layout: Layout, machine: Machine) -> dict[str, Floats]:
    """Seconds each rank's resources are needed, resource -> [rank]. A link counts its fuller side."""
    if isinstance(stage, Work):
        return {resource: np.broadcast_to(np.asarray(s, float), (layout.ranks,)) for resource, s in stage.loads}
    loads: dict[str, Floats] = {}
    sides: dict[str, tuple[Floats, Floats]] = {}
    for move in stage.moves:
        rows = rows_of(move, drawn, layout)
        copies = forwarded_rows(move, drawn, layout) if any(load.forwarded for load in move.loads) else rows
        for load in move.loads:
            if load.resource in LINKS:
                out, into = _link_rows(move, load, rows, copies, layout)
                per_row = np.asarray(load.per_row) / (capacity(load.resource, machine) * load.efficiency)
                before = sides.get(load.resource, (np.zeros(layout.ranks), np.zeros(layout.ranks)))
                sides[load.resource] = (before[0] + out * per_row, before[1] + into * per_row)
            else:
                work = _local_rows(move, load, rows, copies, layout) * load.per_row
                loads[load.resource] = loads.get(load.resource, np.zeros(layout.ranks)) + work
    for resource, (out, into) in sides.items():
        loads[resource] = np.maximum(out, into)
    return loads


def own_seconds(stage: Stage | Work, loads: dict[str, Floats], ranks: int) -> Floats:
    """[rank] how long each rank would take if nobody disturbed it: the smooth maximum of its loads."""
    if not loads:
        return np.zeros(ranks) + stage.floor_s
    return np.asarray(smooth_max(stage.sharpness, *loads.values(), stage.floor_s + np.zeros(ranks)))


def _link_rows(move: Move, load: Load, rows: Floats, copies: Floats, layout: Layout) -> tuple[Floats, Floats]:
    """Rows that leave and that enter each rank over ``load``'s hop, in dispatch direction swapped for combine."""
    if load.forwarded:
        via = layout.via()[:, layout.node_of]
        moved = np.where(via == np.arange(layout.ranks)[None, :], 0.0, copies)
        out = _summed(via, moved, layout.ranks)
        into = moved.sum(axis=0)
    elif move.path in (Path.RAIL, Path.OWN):
        out = rows.sum(axis=1)
        into = _summed(layout.via(), rows, layout.ranks)
    else:
        out, into = rows.sum(axis=1), rows.sum(axis=0)
    return (into, out) if move.back else (out, into)


def _local_rows(move: Move, load: Load, rows: Floats, copies: Floats, layout: Layout) -> Floats:
    """Rows that ``load`` counts on each rank."""
    table = copies if load.forwarded else rows
    two_hop = move.path in (Path.RAIL, Path.OWN)
    if load.end is End.HOME:
        return np.asarray(table.sum(axis=1))
    if load.end is End.VIA:
        via = layout.via()[:, layout.node_of] if load.forwarded else layout.via()
        return _summed(via, table, layout.ranks)
    if two_hop and not load.forwarded:
        raise ValueError(f"{move.path} rows end at a node, not at an expert's rank: count forwarded copies there")
    return np.asarray(table.sum(axis=0))


def _summed(where: NDArray[np.int64], amount: Floats, ranks: int) -> Floats:
    """``amount`` added up by the rank that ``where`` names, [rank]."""
    return np.asarray(np.bincount(where.ravel(), amount.ravel(), minlength=ranks)[:ranks], float)
