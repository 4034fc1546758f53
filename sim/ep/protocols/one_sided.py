"""The one-sided NVLink protocol: fixed slots, counters and flags, no rings (TensorRT-LLM's NVLinkOneSided).

One CTA a token: it reserves a slot on every distinct destination rank with an atomic on that rank's send counter,
loads the row once and stores it k times into the peers' ``[rank, token]`` slots. The CTA that finishes last publishes flags
to all peers and polls theirs. Combine pulls the rows back and sums them. Slots are sized for the worst case, so no
counts are exchanged; atomics on one counter are served one by one, which bounds small groups.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..buffer import Buffer, Demand
from ..limit import most_ranks
from ..protocol import Context, Op, Protocol
from ..shape import Num, Path, Rows, Shape
from ..stage import End, Join, Load, Machine, Move, Stage

DISPATCH, COMBINE = "dispatch", "combine"


@dataclass(frozen=True, slots=True)
class SlotConstants:
    """Fitted constants of one kernel on one system. Seconds, and bytes per cycle of the whole GPU."""

    launch: float
    launch_per_doubling: float  # for every doubling of the ranks
    launch_per_rank: float  # preparation: for every rank, whose counts are taken in one after another
    cross_node: float  # once more when the domain spans several nodes (another switch tier's round trip)
    flags: float  # round trip of the flags; runs beside the copies
    token: float  # seconds of the GPU per token
    row: float  # seconds of the GPU per copy
    field_row: float  # seconds more per copy for every separate field beyond the first (fp4 carries its scales apart)
    copy: float  # bytes per cycle of the whole GPU
    peer_row: float  # seconds per row on one peer's counter or ring
    peer_field: float  # ring: seconds more per row for every separate field beyond the first
    peer_copy: float  # ring: bytes per cycle that the warps of one peer move; few peers leave most warps of an SM idle
    nvlink_efficiency: float
    sharpness: float


def dispatch_row_bytes(shape: Shape) -> Num:
    """Bytes of one dispatched row: activations and scales, expert ids and weights (4 + 4 bytes for each of k)."""
    return shape.payload_bytes + 8.0 * shape.top_k


def combine_row_bytes(shape: Shape) -> Num:
    """Bytes of one combined row: bf16 activations."""
    return 2.0 * shape.hidden


def transfer(
    shape: Shape,
    machine: Machine,
    k: SlotConstants,
    op: str,
    *,
    gpus_per_node: Num,
    fields: Num = 1.0,
    slower: Num = 1.0,
) -> tuple[Stage, ...]:
    """Dispatch or combine: one stage, one copy per (token, distinct rank).

    ``slower``: how much longer than on a few ranks what serves one peer takes for a row.
    """
    back = op == COMBINE
    row_bytes = (combine_row_bytes if back else dispatch_row_bytes)(shape)
    row_s = k.row + k.field_row * (fields - 1.0) + row_bytes / (k.copy * machine.clock_hz)
    ring_row_s = k.peer_row + k.peer_field * (fields - 1.0) + row_bytes / (k.peer_copy * machine.clock_hz)
    ring_s = ring_row_s / shape.ranks * slower
    work = (Load("sm_send", row_s, End.HOME), Load("sm_forward", ring_s, End.EXPERT))
    moves = (
        Move(Rows.TOKEN, Path.SELF, 0.0, (Load("sm_send", k.token),)),
        Move(Rows.RANK, Path.SELF, row_bytes, work, back),
        Move(Rows.RANK, Path.NVLINK, row_bytes, (*work, Load("nvlink", row_bytes, efficiency=k.nvlink_efficiency)), back),
    )
    across = np.where(shape.ranks > gpus_per_node, k.cross_node, 0.0)
    launch = k.launch + k.launch_per_doubling * np.log2(shape.ranks) + across
    return (Stage(f"{op}.stores", op, Join.ALL, moves, (("launch and flags", launch),), 0.0, k.flags, k.sharpness),)


def slots(tokens: Num, ranks: Num, dispatch_row: Num, combine_row: Num) -> Num:
    """Bytes of worst-case slots [source rank, token] for dispatch and for combine (``moeAlltoAllKernels.cu``)."""
    return np.ceil(tokens * ranks * (dispatch_row + combine_row))


def buffers(need: Demand) -> Iterator[Buffer]:
    size = slots(need.tokens, need.shape.ranks, dispatch_row_bytes(need.shape), combine_row_bytes(need.shape))
    said = "worst case, every token of every rank, dispatch and combine rows"
    yield Buffer("exchange slots", size, said, (("tokens a rank", need.tokens), ("ranks", need.shape.ranks)))


def described(op: str, shape: Shape, machine: Machine, k: Any, context: Context) -> tuple[Stage, ...]:
    return transfer(shape, machine, k, op, gpus_per_node=context.gpus_per_node, fields=context.fields)


PROTOCOLS = (
    Protocol(
        name="one-sided",
        what="one copy per token and rank into the peers' slots, no counts; atomics reserve them",
        holds="slots for the worst case",
        kernels="TensorRT-LLM's NVLinkOneSided",
        tables=("nvlink-one-sided",),
        before=(Op(DISPATCH, SlotConstants, partial(described, DISPATCH)),),
        after=(Op(COMBINE, SlotConstants, partial(described, COMBINE)),),
        buffers=buffers,
        near="nvlink-domain",
        far="nvlink-domain",
        one_domain=True,
        engines=("trtllm",),
        offered=("vllm",),
        limits=(most_ranks(64, "TensorRT-LLM's one-sided kernel holds the ranks in one 64-bit mask"),),
    ),
)
