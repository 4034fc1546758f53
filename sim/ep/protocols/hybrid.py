"""Hybrid-EP (DeepEP's ``hybrid-ep`` branch): few SMs, TMA pipelines, one copy a node over the rail, worst-case buffers.

A call is five launches in a row. The kernel between two device barriers takes chunks of 64 tokens, chunk i on CTA i mod B: one
warp posts a token's row, its probabilities and its scales as writes of their own to the same-index GPU of every node that needs
it, others load rows by TMA and store a copy for every rank; a chunk's rows go on when the chunk's flag is up. Combine walks
back: peers' rows are pulled and summed, one sum a node goes over the rail, the token's rank sums those. Before and after lie
copies into and out of registered buffers, and across nodes one fetch-add a remote node, one after another.

NCCL EP's high-throughput kernels are these with GIN's puts (`nccl`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ..buffer import Buffer, Demand
from ..limit import Asked, Limit, made_for
from ..protocol import Context, Op, Protocol
from ..shape import Num, Path, Rows, Shape
from ..stage import End, Join, Load, Machine, Move, Stage

DISPATCH, COMBINE = "dispatch", "combine"
CHUNK_TOKENS = 64.0
#: Least capacity that buffers are made for (docs/README_Hybrid-EP.md), tokens a rank.
LEAST_TOKENS = 512.0
#: assumed: share of the HBM rate that a device-to-device copy reaches; as a streaming copy does.
COPY_HBM_EFFICIENCY = 0.85


@dataclass(frozen=True, slots=True)
class HybridConstants:
    """Fitted constants of one call (dispatch or combine), in one NVLink domain or across. Seconds and bytes per cycle."""

    launch: float  # of the kernel that moves rows
    host: float  # a call beside it: the host's wait for the stream, four short launches, two device barriers
    rail_sync: float  # seconds for every remote node, whose fetch-adds come one after another
    row: float  # an SM's seconds for every copy it stores (dispatch) or pulls (combine)
    copy: float  # bytes per cycle that an SM's TMA pipelines move
    post: float  # the posting warp's seconds for every write
    nvlink_efficiency: float
    nic_efficiency: float
    sharpness: float


@dataclass(frozen=True, slots=True)
class Packing:
    """How rows bound for another node leave: writes a row (``per_row``) and rows that share them (``rows``)."""

    per_row: Num
    rows: float = 1.0


def probability_bytes(shape: Shape) -> Num:
    """Bytes of a row's probabilities: one fp32 for every expert of the receiving domain."""
    return 4.0 * shape.experts / shape.nodes


def dispatch_row_bytes(shape: Shape) -> Num:
    """Bytes of a dispatched row with its scales and probabilities."""
    return shape.payload_bytes + probability_bytes(shape)


def writes_of(shape: Shape) -> Num:
    """Writes of one row to another node: values, probabilities, and scales where values are narrower than bf16."""
    return np.where(np.asarray(shape.payload_bytes) < 2.0 * np.asarray(shape.hidden), 3.0, 2.0)


def call(shape: Shape, machine: Machine, k: HybridConstants, op: str, packing: Packing) -> tuple[Stage, ...]:
    """One call as its user waits for it: copy in and barrier, the kernel, barriers and copy out."""
    far = bool(np.any(np.asarray(shape.nodes) > 1.0))
    back = op == COMBINE
    row = 2.0 * shape.hidden if back else shape.payload_bytes
    rows_s = row * 2.0 / (machine.hbm_bytes_per_s * COPY_HBM_EFFICIENCY)  # a copy reads and writes
    own = (Move(Rows.TOKEN, Path.SELF, 0.0, (Load("hbm", rows_s),)),) if far else ()
    each = (Load("hbm", rows_s, End.EXPERT),)
    received = tuple(Move(Rows.RANK, path, 0.0, each) for path in (Path.SELF, Path.NVLINK, Path.RDMA))
    into, out = (received, own) if back else (own, received)
    stream = (_across if far else _inside)(shape, machine, k, op, packing)
    settle = (("fetch-adds of remote nodes", k.rail_sync * (shape.nodes - 1.0)),) if far else ()
    return (
        Stage(f"{op}.ready", op, Join.OWN, into, (("host and launches", k.host),)),
        stream,
        Stage(f"{op}.settle", op, Join.ALL, out, settle, crossings=2 if far else 1),
    )


def ctas(shape: Shape) -> Num:
    """CTAs with work: those beyond the number of chunks are idle."""
    return np.minimum(shape.comm_sms, np.maximum(np.ceil(shape.tokens / CHUNK_TOKENS), 1.0))


def _per_cta(shape: Shape) -> Num:
    """Seconds of the kernel for an SM-second of the mean token: the fullest CTA's share of the chunks."""
    chunks = np.maximum(shape.tokens / CHUNK_TOKENS, 1.0)
    return np.maximum(np.ceil(chunks / ctas(shape)) / np.ceil(chunks), 1.0 / ctas(shape))


def _row_s(machine: Machine, k: HybridConstants, row_bytes: Num) -> Num:
    return k.row + row_bytes / (k.copy * machine.clock_hz)


def _inside(shape: Shape, machine: Machine, k: HybridConstants, op: str, packing: Packing) -> Stage:
    back = op == COMBINE
    row = 2.0 * shape.hidden if back else dispatch_row_bytes(shape)
    work = Load("sm_send", _row_s(machine, k, row) * _per_cta(shape))
    moves = (
        Move(Rows.RANK, Path.SELF, row, (work,), back),
        Move(Rows.RANK, Path.NVLINK, row, (work, Load("nvlink", row, efficiency=k.nvlink_efficiency)), back),
    )
    return Stage(f"{op}.stream", op, Join.ALL, moves, (("launch", k.launch),), sharpness=k.sharpness)


def _across(shape: Shape, machine: Machine, k: HybridConstants, op: str, packing: Packing) -> Stage:
    back = op == COMBINE
    row = 2.0 * shape.hidden if back else dispatch_row_bytes(shape)
    each = _per_cta(shape)
    copies = (
        Load("sm_forward", _row_s(machine, k, row) * each, End.VIA, forwarded=True),
        Load("nvlink", row, forwarded=True, efficiency=k.nvlink_efficiency),
    )
    writes = packing.per_row / packing.rows
    wire = (
        Load("nic", row, efficiency=k.nic_efficiency),
        Load("nic_msg", writes),
        Load("sm_send", k.post * writes * each, End.VIA if back else End.HOME),
    )
    moves = (
        Move(Rows.NODE, Path.OWN, row, copies, back),
        Move(Rows.NODE, Path.RAIL, row, (*wire, *copies), back),
    )
    launch = (("launch", k.launch),)
    return Stage(f"{op}.stream", op, Join.ALL, moves, launch, _round_s(shape, machine, k, row), sharpness=k.sharpness)


def _round_s(shape: Shape, machine: Machine, k: HybridConstants, row: Num) -> Num:
    """The NIC's seconds for one chunk of every CTA to one node: all of a round arrive together, and only then go on."""
    rows = np.minimum(ctas(shape) * CHUNK_TOKENS, shape.tokens) * shape.nodes_reached / shape.nodes
    return rows * row / (machine.nic_bytes_per_s * k.nic_efficiency)


def worst_case(tokens: Num, shape: Shape, domains: Num) -> Num:
    """Bytes of the buffers, which dispatch and combine share: ``W (H e + 4 Eg + scales)`` with a row for every token of every
    rank, and the rail's ``M (Nr - 1) (H e + 4 Eg)`` (csrc/hybrid_ep), bf16 rows."""
    row = np.maximum(2.0 * shape.hidden, shape.payload_bytes) + 4.0 * shape.experts / domains
    return tokens * shape.ranks * row + tokens * (domains - 1.0) * row


def buffers(need: Demand) -> Iterator[Buffer]:
    tokens = np.maximum(need.tokens, LEAST_TOKENS)
    yield Buffer(
        "worst-case rows",
        worst_case(tokens, need.shape, need.domains),
        "Hybrid-EP's buffers, dispatch and combine in turn (sim/ep/protocols/hybrid.py)",
        (("tokens a rank", tokens),),
    )
    yield Buffer("received rows", np.ceil(np.ceil(need.received) * need.shape.payload_bytes), "copied out of the buffers")


def _call(op: str, shape: Shape, machine: Machine, k: Any, context: Context) -> tuple[Stage, ...]:
    return call(shape, machine, k, op, Packing(1.0 if op == COMBINE else writes_of(shape)))


def _experts_of_a_domain(asked: Asked) -> Num:
    each: Num = np.asarray(asked.experts, float) / np.asarray(asked.domains)
    return each


LIMITS = (
    made_for("NVIDIA", "Hybrid-EP"),
    Limit("Hybrid-EP reaches at most 32 other domains", lambda asked: asked.domains > 33.0, "use fewer, or wider domains"),
    Limit("Hybrid-EP's domains hold at most 72 ranks", lambda asked: np.asarray(asked.domain) > 72.0, "use ep of 72 or less"),
    Limit(
        "Hybrid-EP moves 16-byte vectors: the hidden size is a multiple of 512 in fp8",
        lambda asked: np.mod(asked.hidden, 512.0) != 0.0,
        "use another protocol",
    ),
    Limit(
        "Hybrid-EP's rows carry probabilities in 16-byte vectors: the experts of a domain are a multiple of 4",
        lambda asked: np.mod(_experts_of_a_domain(asked), 4.0) != 0.0,
        "change redundant_experts",
    ),
    Limit(
        "Hybrid-EP's queue pairs take 65,535 writes: 21,844 tokens a rank across domains",
        lambda asked: (np.asarray(asked.domains) > 1.0) & (np.asarray(asked.tokens or 0.0) > 21_844.0),
        "lower traffic.tokens_per_rank",
    ),
)

PROTOCOLS = (
    Protocol(
        name="hybrid-ep",
        what="few SMs and TMA pipelines: one copy a node over the rail, in chunks of 64 tokens, then one a rank",
        holds="rows for the worst case",
        kernels="DeepEP's Hybrid-EP",
        before=(Op(DISPATCH, HybridConstants, partial(_call, DISPATCH)),),
        after=(Op(COMBINE, HybridConstants, partial(_call, COMBINE)),),
        buffers=buffers,
        near="nvlink-domain",
        far="multi-node",
        transports=("doca",),
        rails=True,
        on_comm_sms=True,
        replays=False,
        overlaps=True,
        limits=LIMITS,
    ),
)
