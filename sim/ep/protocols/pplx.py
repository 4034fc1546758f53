"""pplx-garden's all-to-all: a GPU kernel hands counts to a CPU worker, which exchanges routes and posts one write a peer.

Dispatch pays two steps of the network, routes and then rows; combine one. Each write carries an immediate that the receiver
counts, so no order is needed, which is why it runs on EFA. NVLink peers are written directly. Kernels copy, cast and sum as
DeepEP's low-latency ones do, whose constants are lent; what a step waits for beside the wire, workers and completions, is
fitted on EFA to two rows of its own and taken to grow with the network's latency.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from ....hwmodels.calibration import Scope, constants_of, find_entry
from ..buffer import Buffer, Demand
from ..protocol import Context, Loan, Op, Protocol
from ..shape import Path, Rows, Shape
from ..stage import Load, Machine, Move, Stage
from . import low_latency

DISPATCH, COMBINE = "dispatch", "combine"
NAME = "pplx-garden"
#: One-way latency of the network that ``waits`` was fitted on (aws-efa-v3): another network's calls wait in proportion.
FITTED_LATENCY_S = 7.1e-6
#: Writes to a peer in a call: dispatch sends routes before rows.
WRITES = {DISPATCH: 2.0, COMBINE: 1.0}


@dataclass(frozen=True, slots=True)
class GardenConstants:
    """``base``: of the kernels that copy; ``waits``: seconds of a call across nodes beside the wire, on the fitted network."""

    base: low_latency.LowLatencyConstants
    waits: float


@dataclass(frozen=True, slots=True)
class WaitConstants:
    """What was fitted to rows of its own."""

    waits: float


def _op(op: str, shape: Shape, machine: Machine, k: Any, context: Context) -> tuple[Stage, ...]:
    """The low-latency kernels' stages with one write a peer in place of a message a row."""
    send, *others = (low_latency.combine if op == COMBINE else low_latency.dispatch)(shape, machine, k.base)
    rows = tuple(_in_one_write(move) for move in send.moves)
    writes = WRITES[op]
    posts = Move(Rows.PAIR, Path.RDMA, 0.0, (Load("nic_msg", writes),), back=op == COMBINE)
    across = np.where(np.asarray(shape.nodes) > 1.0, k.waits * machine.wire_latency_s / FITTED_LATENCY_S, 0.0)
    waits = ("CPU worker and completions", across)
    name = f"{op}.writes" if op == COMBINE else f"{op}.routes and writes"
    return (replace(send, name=name, moves=(*rows, posts), latencies=(send.latencies[0], waits), crossings=0), *others)


def _in_one_write(move: Move) -> Move:
    """``move`` without what each of its messages costs."""
    return replace(move, loads=tuple(load for load in move.loads if load.resource not in ("nic_msg", "queue_pair")))


def lend(system: str, op: str, scope: Scope) -> Loan:
    """The kernels' constants on ``system``, the waits of its own rows. Raises Uncalibrated if nobody measured the kernels."""
    entry, source = find_entry(system, "low-latency", op, scope)
    own, _ = find_entry("h200_sxm", NAME, op, "multi-node")
    waits = constants_of(own, WaitConstants).waits
    return Loan(GardenConstants(constants_of(entry, low_latency.LowLatencyConstants), waits), entry, source, "low-latency")


def buffers(need: Demand) -> Iterator[Buffer]:
    """A send and a receive buffer with a row for every token of every rank and local expert that may come."""
    rows = need.tokens * need.shape.ranks * np.minimum(need.shape.top_k, need.slots)
    size = np.ceil(rows * (need.shape.payload_bytes + 2.0 * need.shape.hidden))
    yield Buffer("row buffers", size, "worst case, both ways", (("rows", rows),))


PROTOCOLS = (
    Protocol(
        name=NAME,
        what="routes first, then one write with an immediate a peer, posted by a CPU worker; no order needed",
        holds="rows for the worst case",
        kernels="pplx-garden's p2p all-to-all",
        before=(Op(DISPATCH, GardenConstants, partial(_op, DISPATCH)),),
        after=(Op(COMBINE, GardenConstants, partial(_op, COMBINE)),),
        buffers=buffers,
        near="one-node",
        far="multi-node",
        rows=Rows.EXPERT,
        layout="masked",
        overlaps=True,
        lend=lend,
    ),
)
