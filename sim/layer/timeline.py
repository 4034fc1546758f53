"""What a played program tells: spans, op times, traffic, the critical path, and how busy every link was."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from ..ep.shape import Path
from ..ep.stage import MEDIUM, Join, Move, Stage
from ..fabric.network import FlowNetwork
from ..fabric.topology import Topology
from .play import Trace
from .result import LinkUse, OpTime, PathSegment, Span, TrafficMatrix
from .routing import Drawn
from .traffic import Layout, forwarded_rows, rows_of

Ints = NDArray[np.int64]


def op_times(traces: list[Trace]) -> tuple[OpTime, ...]:
    """Times by op in order of first appearance; an op that several micro-batches repeat spans them all."""
    ops = list(dict.fromkeys(t.step.stage.op for t in traces))
    found = []
    for op in ops:
        mine = [t for t in traces if t.step.stage.op == op]
        busy = sum((t.end() - t.begin for t in mine), np.zeros_like(mine[0].begin))
        if len(mine) == 1 or _contiguous(traces, op):
            start, end = int(min(t.begin.min() for t in mine)), int(max(t.end().max() for t in mine))
        else:  # interleaved micro-batches: the op's own time, laid end to end from its first start
            start = int(min(t.begin.min() for t in mine))
            end = start + sum(_runs(traces, op))
        found.append(OpTime(op, start, end, busy))
    return tuple(found)


def _contiguous(traces: list[Trace], op: str) -> bool:
    where = [i for i, t in enumerate(traces) if t.step.stage.op == op]
    return where[-1] - where[0] + 1 == len(where)


def _runs(traces: list[Trace], op: str) -> Iterator[int]:
    """Picoseconds of every unbroken run of ``op``'s stages, from its first rank's start to its last rank's end."""
    for mine, run in groupby(traces, lambda t: t.step.stage.op == op):
        if mine:
            together = list(run)
            yield int(max(t.end().max() for t in together) - min(t.begin.min() for t in together))


def spans(traces: list[Trace], topology: Topology) -> tuple[Span, ...]:
    """A span for every rank and stage: its fixed latencies, then its moves."""
    found = []
    for trace in traces:
        stage = trace.step.stage
        fixed = max(stage.latencies, key=lambda x: float(np.asarray(x[1])), default=("", 0.0))[0]
        for rank in range(len(trace.begin)):
            begin, move, end = int(trace.begin[rank]), int(trace.move[rank]), int(trace.end()[rank])
            if move > begin:
                found.append(Span(rank, stage.stream, f"{stage.name}: {fixed}", stage.op, begin, move, fixed))
            if end > move:
                found.append(Span(rank, stage.stream, stage.name, stage.op, move, end, bound_of(trace, rank, topology)))
    return tuple(found)


def bound_of(trace: Trace, rank: int, topology: Topology) -> str:
    """The resource that set the length of ``rank``'s moves: what held its slowest flow, or the largest of its own loads."""
    source = int(trace.arrived_from[rank]) if trace.arrived[rank] > trace.done[rank] else rank
    transfer = trace.transfers.get(source)
    if transfer is not None and transfer.bottleneck.size:
        slowest = int(np.argmax(transfer.finish_ps))
        resource = int(transfer.bottleneck[slowest])
        if resource >= 0 and topology.resources.kind(resource) != "pace":
            return topology.resources.kind(resource)
    loads = {name: float(seconds[source]) for name, seconds in trace.loads.items()}
    if not loads or max(loads.values()) <= 0.0:
        return "latency"
    top = max(loads, key=lambda name: loads[name])
    return {"nvlink": "nvlink_tx", "nic": "nic_tx"}.get(top, top)


def critical_path(traces: list[Trace], topology: Topology) -> tuple[PathSegment, ...]:
    """From the end back to the start: what each moment of the layer was waiting for. Segments are contiguous."""
    last = traces[-1]
    rank = int(np.argmax(last.end()))
    upto = int(last.end()[rank])
    found: list[PathSegment] = []

    def add(start: int, end: int, who: int, trace: Trace, bound: str) -> None:
        if end > start:
            found.append(PathSegment(start, end, who, trace.step.stage.name, trace.step.stage.op, bound))

    for i in range(len(traces) - 1, -1, -1):
        trace = traces[i]
        stage = trace.step.stage
        at = rank
        if trace.arrived[rank] >= upto > trace.done[rank] and trace.arrived_from[rank] >= 0:
            at = int(trace.arrived_from[rank])
        start = int(trace.move[at])
        add(start, upto, at, trace, bound_of(trace, rank, topology))
        upto = min(upto, start)
        for what, seconds in reversed(stage.latencies):
            step = min(int(np.ceil(float(np.asarray(seconds)) * 1e12)), upto - int(trace.begin[at]))
            add(upto - step, upto, at, trace, what)
            upto -= step
        add(int(trace.begin[at]), upto, at, trace, "latency")
        upto = int(trace.begin[at])
        if i == 0:
            break
        rank = at
        if stage.waits is Join.ALL and trace.begin_cause[at] >= 0:
            rank = int(trace.begin_cause[at])
    return tuple(reversed(found))


def traffic(traces: list[Trace], layout: Layout) -> tuple[TrafficMatrix, ...]:
    """Bytes and rows of every stage, [source, destination], every hop on its own; micro-batches added up."""
    found: dict[tuple[str, str, str], tuple[Ints, Ints]] = {}
    for trace in traces:
        stage = trace.step.stage
        if not isinstance(stage, Stage):
            continue
        for move in stage.moves:
            row_bytes = float(np.asarray(move.row_bytes))
            if row_bytes <= 0.0:
                continue
            for medium, rows in _hops(move, trace.step.drawn, layout):
                if not rows.any():
                    continue
                key = (stage.name, stage.op, medium)
                size, count = found.get(key, (np.zeros_like(rows), np.zeros_like(rows)))
                found[key] = (size + np.rint(rows * row_bytes).astype(np.int64), count + rows)
    return tuple(TrafficMatrix(name, op, medium, size, rows) for (name, op, medium), (size, rows) in found.items())


def _hops(move: Move, drawn: Drawn, layout: Layout) -> Iterator[tuple[str, Ints]]:
    rows = rows_of(move, drawn, layout).astype(np.int64)
    if move.path not in (Path.RAIL, Path.OWN):
        yield MEDIUM[move.path], rows.T.copy() if move.back else rows
        return
    n = layout.ranks
    via = layout.via()
    if move.path is Path.RAIL:
        rail = np.zeros((n, n), np.int64)
        np.add.at(rail, (np.arange(n)[:, None], via), rows)
        yield "rdma", rail.T.copy() if move.back else rail
    if not any(load.forwarded for load in move.loads):
        return
    copies = forwarded_rows(move, drawn, layout).astype(np.int64)
    forward = np.zeros((n, n), np.int64)
    np.add.at(forward, (via[:, layout.node_of], np.broadcast_to(np.arange(n), (n, n))), copies)
    local = np.diag(np.diag(forward))
    far = forward - local
    yield "nvlink", far.T.copy() if move.back else far
    yield "local", local


def links(
    matrices: tuple[TrafficMatrix, ...], topology: Topology, network: FlowNetwork, makespan_ps: int
) -> tuple[LinkUse, ...]:
    """Every link's payload over the layer against its line rate; ``peak`` is the highest share of its reachable rate."""
    nvlink = sum((m.bytes for m in matrices if m.medium == "nvlink"), np.zeros((topology.ranks, topology.ranks), np.int64))
    rdma = sum((m.bytes for m in matrices if m.medium == "rdma"), np.zeros_like(nvlink))
    resources, port = topology.resources, topology.port_of
    leaf = topology.leaf_of_port[port]
    crossing = np.where(leaf[:, None] == leaf[None, :], 0, rdma)
    moved = {
        "nvlink_tx": nvlink.sum(axis=1),
        "nvlink_rx": nvlink.sum(axis=0),
        "nic_tx": np.bincount(port, rdma.sum(axis=1), minlength=topology.ports),
        "nic_rx": np.bincount(port, rdma.sum(axis=0), minlength=topology.ports),
        "fabric_up": np.bincount(leaf, crossing.sum(axis=1), minlength=topology.leaves),
        "fabric_down": np.bincount(leaf, crossing.sum(axis=0), minlength=topology.leaves),
    }
    if topology.grid is not None:
        src, dst = np.nonzero(nvlink)
        path = topology.nvlink_path(src, dst) - int(resources.ids("nvlink_mesh")[0])
        pair, hop = np.nonzero(path >= 0)
        size = len(resources.ids("nvlink_mesh"))
        moved["nvlink_mesh"] = np.bincount(path[pair, hop], nvlink[src, dst][pair], minlength=size)
    counted = network.moved
    found = []
    for kind in resources.kinds:
        if kind == "pace":
            continue
        for index, number in enumerate(resources.ids(kind)):
            amount = float(moved[kind][index]) if kind in moved else float(counted[number])
            rate = float(resources.capacity[number])
            share = amount / (rate * makespan_ps * 1e-12) if makespan_ps and rate else 0.0
            found.append(LinkUse(resources.name(int(number)), kind, index, amount, rate, share, float(network.peak[number])))
    return tuple(found)
