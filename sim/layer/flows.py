"""A stage's flows: which rank sends how much to whom over which resources, ready for the network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..engine import seconds_to_ps
from ..ep.bound import capacity
from ..ep.shape import Path
from ..ep.stage import Load, Machine, Move, Stage
from ..fabric.fairshare import Routes, csr_routes
from ..fabric.topology import Topology
from .routing import Drawn
from .traffic import Floats, Layout, forwarded_rows, rows_of

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class StageFlows:
    """All flows of one stage, sorted by source rank. Arrays by [flow].

    The network moves a flow in ``PARTS`` equal parts, of which ``routes`` count the units, and shares by parts: a kernel walks
    its tokens in order, so all its destinations progress together, each in proportion to what it gets (weighted max-min
    fairness, weight = bytes).

    ``src``: the rank that sends first; ``dst``: the rank the flow lands on, or for two-hop flows minus one minus the node whose
    ranks it lands on; ``bytes``: payload on the first hop; ``extra_ps``: latency of switches beyond the calibrated one.
    """

    src: Ints
    dst: Ints
    bytes: Floats
    extra_ps: Ints
    routes: Routes


#: Parts of a flow. Any number would do; this one keeps rates in the range of bytes per second.
PARTS = 1e6


@dataclass(slots=True)
class _Parts:
    src: list[Ints]
    dst: list[Ints]
    bytes: list[Floats]
    extra_ps: list[Ints]
    entries: list[tuple[Ints, Ints, Floats]]  # flow, resource, coefficient
    flows: int = 0


def stage_flows(stage: Stage, drawn: Drawn, layout: Layout, topology: Topology, machine: Machine, own_s: Floats) -> StageFlows:
    """Flows of every move that has a payload.

    Each flow uses its links and its source's copy pipeline, ``pace[rank]``: one second of work a second, of which the rank's
    flows take ``own_s`` [rank] together, in proportion to their bytes. That is how a rank's SM work, its launches of chunks and
    the imperfect overlap of its resources slow its sending even when no link is full.
    """
    parts = _Parts([], [], [], [], [])
    for move in stage.moves:
        if np.any(np.asarray(move.row_bytes) > 0.0):
            add = _add_two_hop if move.path in (Path.RAIL, Path.OWN) else _add_direct
            add(parts, move, drawn, layout, topology, machine)
    if not parts.flows:
        none = np.empty(0, np.int64)
        return StageFlows(none, none, none.astype(float), none, csr_routes([0], none, none.astype(float)))
    src, size = np.concatenate(parts.src), np.concatenate(parts.bytes)
    total = np.bincount(src, size, minlength=layout.ranks)
    pace = topology.resources.ids("pace")[src].astype(np.int64)
    parts.entries.append((np.arange(parts.flows), pace, own_s[src] / total[src]))
    flow, resource, per_byte = (np.concatenate(column) for column in zip(*parts.entries, strict=True))
    coefficient = per_byte * size[flow] / PARTS
    order = np.argsort(src, kind="stable")
    place = np.empty(parts.flows, np.int64)
    place[order] = np.arange(parts.flows)
    flow = place[flow]
    by_flow = np.argsort(flow, kind="stable")
    indptr = np.concatenate(([0], np.cumsum(np.bincount(flow, minlength=parts.flows))))
    return StageFlows(
        src[order],
        np.concatenate(parts.dst)[order],
        size[order],
        np.concatenate(parts.extra_ps)[order],
        csr_routes(indptr, resource[by_flow], coefficient[by_flow]),
    )


def of_source(flows: StageFlows, rank: int) -> tuple[slice, Routes]:
    """The flows that ``rank`` sends, as a slice and their routes."""
    first, last = np.searchsorted(flows.src, [rank, rank + 1])
    start, stop = flows.routes.indptr[first], flows.routes.indptr[last]
    part = Routes(
        flows.routes.indptr[first : last + 1] - start, flows.routes.resource[start:stop], flows.routes.coefficient[start:stop]
    )
    return slice(int(first), int(last)), part


def _add_direct(parts: _Parts, move: Move, drawn: Drawn, layout: Layout, topology: Topology, machine: Machine) -> None:
    rows = rows_of(move, drawn, layout)
    home, expert = np.nonzero(rows)
    src, dst = (expert, home) if move.back else (home, expert)
    count = rows[home, expert]
    row_bytes = float(np.asarray(move.row_bytes))
    flow = parts.flows + np.arange(len(src))
    extra = np.zeros(len(src), np.int64)
    for load in move.loads:
        if load.resource == "nvlink":
            table = topology.nvlink_path(src, dst).astype(np.int64)
            extra = topology.nvlink_extra_ps(src, dst)
        elif load.resource == "nic":
            table = topology.rdma_path(src, dst).astype(np.int64)
            extra = _extra_ps(topology, src, dst)
        elif load.resource == "nic_msg":
            table = topology.nic_msg(src).astype(np.int64)[:, None]
        else:
            continue
        _enter(parts, flow, table, _per_byte(load, row_bytes))
    _append(parts, src, dst, count * row_bytes, extra)


def _add_two_hop(parts: _Parts, move: Move, drawn: Drawn, layout: Layout, topology: Topology, machine: Machine) -> None:
    rows = rows_of(move, drawn, layout)
    home, node = np.nonzero(rows)
    via = layout.via()[home, node]
    count = rows[home, node]
    row_bytes = float(np.asarray(move.row_bytes))
    flow = parts.flows + np.arange(len(home))
    rail = move.path is Path.RAIL
    copies = forwarded_rows(move, drawn, layout)
    extra = np.zeros(len(home), np.int64)
    first, last = (via, home) if move.back else (home, via)
    for load in move.loads:
        if load.resource == "nic" and rail:
            _enter(parts, flow, topology.rdma_path(first, last).astype(np.int64), _per_byte(load, row_bytes))
            extra = _extra_ps(topology, first, last)
        elif load.resource == "nic_msg" and rail:
            _enter(parts, flow, topology.nic_msg(first).astype(np.int64)[:, None], _per_byte(load, row_bytes))
        elif load.resource == "nvlink":
            _enter_forward(parts, flow, home, node, via, count, copies, layout, topology, move.back, _per_byte(load, row_bytes))
    # Dispatch lands on the node's ranks; combine lands at home, and starts from the forwarder.
    src = via if move.back else home
    dst = home if move.back else -1 - node
    _append(parts, src, dst, count * row_bytes, extra)


def _enter_forward(
    parts: _Parts, flow: Ints, home: Ints, node: Ints, via: Ints, count: Floats, copies: Floats, layout: Layout,
    topology: Topology, back: bool, per_byte: float,
) -> None:  # fmt: skip
    """NVLink entries of the forwarder: one side carries every copy, the other sides one destination's copies each."""
    here = layout.domain
    rank = node[:, None] * here + np.arange(here)[None, :]
    amount = np.where(
        (rank < layout.ranks) & (rank != via[:, None]), copies[home[:, None], np.minimum(rank, layout.ranks - 1)], 0.0
    )
    share = amount / count[:, None] * per_byte
    if topology.grid is not None:
        i, j = np.nonzero(share)
        ends = (rank[i, j], via[i]) if back else (via[i], rank[i, j])
        links = topology.nvlink_path(*ends).astype(np.int64) if len(i) else np.empty((0, 1), np.int64)
        pair, hop = np.nonzero(links >= 0)
        parts.entries.append(_summed(flow[i[pair]], links[pair, hop], share[i, j][pair]))
        return
    one, many = ("nvlink_rx", "nvlink_tx") if back else ("nvlink_tx", "nvlink_rx")
    ids = topology.resources.ids
    whole = share.sum(axis=1)
    some = whole > 0
    parts.entries.append((flow[some], ids(one)[via[some]].astype(np.int64), whole[some]))
    i, j = np.nonzero(share)
    parts.entries.append((flow[i], ids(many)[rank[i, j]].astype(np.int64), share[i, j]))


def _summed(flow: Ints, resource: Ints, coefficient: Floats) -> tuple[Ints, Ints, Floats]:
    """Entries with one for every flow and resource."""
    key, where = np.unique(np.stack([flow, resource]), axis=1, return_inverse=True)
    return key[0], key[1], np.asarray(np.bincount(where.ravel(), coefficient, minlength=key.shape[1]), float)


def _per_byte(load: Load, row_bytes: float) -> float:
    return float(np.asarray(load.per_row)) / load.efficiency / row_bytes


def _enter(parts: _Parts, flow: Ints, table: Ints, per_byte: float) -> None:
    """Entries of ``table`` [flow, hop] of resource numbers, -1 for none."""
    i, hop = np.nonzero(table >= 0)
    parts.entries.append((flow[i], table[i, hop], np.full(len(i), per_byte)))


def _append(parts: _Parts, src: Ints, dst: Ints, size: Floats, extra_ps: Ints) -> None:
    parts.src.append(src)
    parts.dst.append(dst)
    parts.bytes.append(size)
    parts.extra_ps.append(extra_ps)
    parts.flows += len(src)


def _extra_ps(topology: Topology, src: Ints, dst: Ints) -> Ints:
    """Switches beyond the one inside a NIC's latency, which a fitted launch already holds."""
    if not len(src):
        return np.zeros(0, np.int64)
    return np.asarray(topology.rdma_latency_ps(src, dst) - seconds_to_ps(topology.cluster.node.nic.latency), np.int64)


__all__ = ["StageFlows", "capacity", "of_source", "stage_flows"]
