"""The baseline: fixed collectives that know nothing of the routing.

*All-gather and reduce-scatter* bring every token to every rank and sum every rank's partial results: R x T rows where an
all-to-all moves k x T. Hierarchical: over the rails first, then over NVLink. *Padded all-to-all* gives every pair of ranks
a slot of fixed capacity, full or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ....hwmodels.calibration import Scope
from ..buffer import Buffer, Demand
from ..protocol import Context, Op, Protocol
from ..shape import Num, Path, Rows, Shape
from ..stage import Join, Load, Machine, Move, Stage

DISPATCH, COMBINE = "dispatch", "combine"
#: Message size at which half of the pipeline's fill shows (NCCL's default 4 MiB buffer of a channel).
FILL_BYTES = 4 * 2.0**20


@dataclass(frozen=True, slots=True)
class CollectiveConstants:
    """Fitted constants of NCCL's kernels on one system."""

    launch: float
    launch_per_doubling: float  # for every doubling of the ranks
    step: float  # filling the pipeline, once the message is far above `FILL_BYTES`; runs beside the wire
    nvlink_efficiency: float
    nic_efficiency: float
    sharpness: float


def all_gather(shape: Shape, machine: Machine, k: CollectiveConstants, op: str) -> tuple[Stage, ...]:
    """All-gather of activations (dispatch) or reduce-scatter of bf16 results (combine), rails then NVLink."""
    back = op == COMBINE
    block = shape.tokens * (2.0 * shape.hidden if back else shape.payload_bytes)
    rails = Move(Rows.PAIR, Path.RAIL, block, (Load("nic", block, efficiency=k.nic_efficiency),), back)
    gathered = block * shape.nodes
    peers = Move(Rows.PAIR, Path.NVLINK, gathered, (Load("nvlink", gathered, efficiency=k.nvlink_efficiency),), back)
    return _collective("reduce_scatter" if back else "all_gather", (rails, peers), block * shape.ranks, shape, k, op)


def padded_all_to_all(
    shape: Shape, machine: Machine, k: CollectiveConstants, op: str, capacity_factor: Num
) -> tuple[Stage, ...]:
    """All-to-all of slots that hold ``capacity_factor`` times the rows a pair of ranks may expect."""
    back = op == COMBINE
    block = padded_rows(shape, capacity_factor) * (2.0 * shape.hidden if back else shape.payload_bytes)
    near = Move(Rows.PAIR, Path.NVLINK, block, (Load("nvlink", block, efficiency=k.nvlink_efficiency),), back)
    far = Move(Rows.PAIR, Path.RDMA, block, (Load("nic", block, efficiency=k.nic_efficiency), Load("nic_msg", 1.0)), back)
    return _collective("all_to_all", (near, far), block * shape.ranks, shape, k, op)


def padded_rows(shape: Shape, capacity_factor: Num) -> Num:
    """Rows of one pair's slot: ``ceil(factor * T * k / R)``."""
    return np.ceil(capacity_factor * shape.tokens * shape.top_k / shape.ranks)


def _collective(
    name: str, moves: tuple[Move, ...], message: Num, shape: Shape, k: CollectiveConstants, op: str
) -> tuple[Stage, ...]:
    launch = k.launch + k.launch_per_doubling * np.log2(shape.ranks)
    fill = k.step * message / (message + FILL_BYTES)
    return (Stage(f"{op}.{name}", op, Join.ALL, moves, (("launch and ring", launch),), floor_s=fill, sharpness=k.sharpness),)


def _gathered(need: Demand) -> Iterator[Buffer]:
    tokens, ranks = need.tokens, need.shape.ranks
    size = np.ceil(tokens * ranks * (need.shape.payload_bytes + 2.0 * need.shape.hidden))
    said = "every token of all ranks, and the partial results to be summed"
    yield Buffer("gathered tokens", size, said, (("tokens a rank", tokens), ("ranks", ranks)))


def _padded(need: Demand) -> Iterator[Buffer]:
    rows = padded_rows(need.shape, need.capacity_factor)
    size = np.ceil(rows * need.shape.ranks * (need.shape.payload_bytes + 2.0 * need.shape.hidden))
    yield Buffer("padded slots", size, "a slot for every pair of ranks, dispatch and combine", (("rows a pair", rows),))


def _all_gather(op: str, shape: Shape, machine: Machine, k: Any, context: Context) -> tuple[Stage, ...]:
    return all_gather(shape, machine, k, op)


def _all_to_all(op: str, shape: Shape, machine: Machine, k: Any, context: Context) -> tuple[Stage, ...]:
    return padded_all_to_all(shape, machine, k, op, context.capacity_factor)


_MEASURED: Scope = "one-node"
_ACROSS = ("collectives are calibrated inside one node; across nodes their NIC efficiency is assumed, not fitted",)

PROTOCOLS = (
    Protocol(
        name="all-gather",
        what="every token to every rank, partial results summed on the way back",
        holds="all tokens",
        kernels="NCCL's all-gather and reduce-scatter",
        before=(Op(DISPATCH, CollectiveConstants, partial(_all_gather, DISPATCH)),),
        after=(Op(COMBINE, CollectiveConstants, partial(_all_gather, COMBINE)),),
        buffers=_gathered,
        near=_MEASURED,
        far=_MEASURED,
        rails=True,
        rows=Rows.PAIR,
        engines=("vllm", "sglang", "trtllm"),
        caveats_across=_ACROSS,
    ),
    Protocol(
        name="padded-all-to-all",
        what="equal slots for every pair of ranks; what does not fit is dropped",
        holds="the slots",
        kernels="NCCL's all-to-all",
        before=(Op(DISPATCH, CollectiveConstants, partial(_all_to_all, DISPATCH)),),
        after=(Op(COMBINE, CollectiveConstants, partial(_all_to_all, COMBINE)),),
        buffers=_padded,
        near=_MEASURED,
        far=_MEASURED,
        rows=Rows.PAIR,
        slot_rows=padded_rows,
        caveats_across=_ACROSS,
    ),
)
