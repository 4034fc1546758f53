"""UCCL-EP: DeepEP's kernels, whose puts and atomics are 16-byte commands to CPU proxies that post them with plain verbs.

Four proxy threads a GPU poll eight queues each. A queue takes so many commands until some are done (credits), which bounds how
many messages are under way. Low latency: dispatch fills all queues, since a row's queue goes by its expert; combine sends from
the rank's own experts, so that it fills as many queues as these are. Where the NIC keeps no order (EFA), a write carries an
immediate, by which the receiver's proxies count rows before they let a count through: the hand-over of the transport. Kernels
copy, cast and sum as DeepEP's do, whose constants are lent.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ....hwmodels.calibration import Scope, constants_of, find_entry
from ..limit import most_ranks
from ..protocol import Context, Loan, Op, Protocol
from ..shape import Num, Rows, Shape
from ..stage import Load, Machine, Move, Stage
from . import high_throughput, low_latency

DISPATCH, COMBINE = "dispatch", "combine"
HT, LL = "uccl", "uccl-low-latency"
#: Queues of a GPU's proxies, and commands that one takes until some are done (UCCL at da914a2, ep/): low latency's.
QUEUES, CREDITS = 32.0, 32.0
TRANSPORTS = ("uccl", "uccl-efa")


def _low_latency(op: str, shape: Shape, machine: Machine, k: Any, context: Context) -> tuple[Stage, ...]:
    """The low-latency kernels' stages, with no more messages under way than the queues that they fill have credits."""
    send, *others = (low_latency.combine if op == COMBINE else low_latency.dispatch)(shape, machine, k)
    trip_s = 2.0 * machine.wire_latency_s
    waits = Load("queue_pair", trip_s / (CREDITS * queues(shape, op)))
    moves = tuple(_behind(move, waits) for move in send.moves)
    return (replace(send, moves=moves), *others)


def queues(shape: Shape, op: str) -> Num:
    """Queues that an op's messages are spread over: by the expert that a row goes to, or comes from."""
    return np.minimum(QUEUES, shape.experts / shape.ranks if op == COMBINE else shape.experts)


def _behind(move: Move, waits: Load) -> Move:
    """``move`` over the network with the credits' wait in place of a queue pair's of a GPU that posts for itself."""
    posted = [load for load in move.loads if load.resource != "queue_pair"]
    return replace(move, loads=(*posted, waits)) if len(posted) < len(move.loads) else move


def lend(lender: str, record: type, system: str, op: str, scope: Scope) -> Loan:
    """DeepEP's kernels on ``system``. Raises Uncalibrated if nobody measured them."""
    where: Scope = "multi-node" if op.endswith("notify") else scope
    entry, source = find_entry(system, lender, op, where)
    return Loan(constants_of(entry, high_throughput.Notify if op.endswith("notify") else record), entry, source, lender)


_NORMAL = high_throughput.PROTOCOLS[0]
PROTOCOLS = (
    replace(
        _NORMAL,
        name=HT,
        what="as high-throughput, every message a command to one of four CPU threads a GPU",
        kernels="UCCL-EP's, DeepEP's normal kernels over proxies",
        tables=(),
        engines=(),
        transports=TRANSPORTS,
        lend=partial(lend, "high-throughput", high_throughput.Transfer),
        limits=(most_ranks(160, "UCCL-EP's buffer asserts at most 160 ranks, as DeepEP's"), *_NORMAL.limits[2:]),
    ),
    Protocol(
        name=LL,
        what="as low-latency, every message a command to one of four CPU threads a GPU",
        holds="slabs for `max_tokens`",
        kernels="UCCL-EP's, DeepEP's low-latency kernels over proxies",
        before=(Op(DISPATCH, low_latency.LowLatencyConstants, partial(_low_latency, DISPATCH)),),
        after=(Op(COMBINE, low_latency.LowLatencyConstants, partial(_low_latency, COMBINE)),),
        buffers=low_latency.buffers,
        near="one-node",
        far="multi-node",
        rows=Rows.EXPERT,
        capacity=low_latency.CAPACITY,
        layout="masked",
        packed=True,
        overlaps=True,
        prompts_by=HT,
        transports=TRANSPORTS,
        lend=partial(lend, "low-latency", low_latency.LowLatencyConstants),
        limits=(
            most_ranks(
                64,
                "UCCL-EP's low-latency kernels abort between 64 and 128 ranks: its counters do not fit (awslabs RESULTS.md)",
            ),
        ),
    ),
)
