"""DeepEP's second generation (V2, `ElasticBuffer`): fixed slots for every source, no rings, every warp a channel.

Inside an NVLink domain a warp loads a token by TMA once and stores it to a slot of every distinct rank; across nodes it first
writes it to a send buffer, one RDMA write takes it to the same-index GPU of every distinct node, and that GPU's forwarding
warps load and store it on. Slots are sized for the worst case, so nothing waits for credit. A second kernel then brings the
slots into their final order; combine walks backwards, and its second kernel sums what came back.

Three published rows of it fix what the kernels take by themselves: the launch with its two barriers and the counts between,
and how fast an SM stores. What NVLink reaches is borrowed from the one-sided protocol's fit (the same slots), what a NIC
reaches and a barrier of nodes takes from the first generation's (the same rails). Across nodes one kernel holds what the first
generation spreads over two: a barrier, the counts, the rows and a barrier again are four trips over the network, one after
another, each of which the transport lengthens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from ....hwmodels.calibration import Entry, Scope, constants_of, find_entry
from ..bound import stage_loads
from ..buffer import Buffer, Demand, exact_rows
from ..protocol import Context, Loan, Op, Protocol
from ..shape import Num, Path, Rows, Shape
from ..stage import End, Join, Load, Machine, Move, Stage
from . import high_throughput, one_sided

DISPATCH, COMBINE = "dispatch", "combine"
#: Bytes per second that one SM loads and stores by TMA: what `get_theoretical_num_sms` (deep_ep/buffers/elastic.py) takes for
#: every GPU to choose their number. Loads are taken at that rate; stores at the rate that was measured.
SM_READ_BYTES_PER_S, SM_WRITE_BYTES_PER_S = 200e9, 50e9
#: The same function: of NVLink's rate it counts on this share, takes a quarter more SMs than follow, an even number, and four.
COUNTED_NVLINK, SPARE_SMS, LEAST_SMS = 0.9, 1.25, 4.0
#: One-way trips over the network of a call, one after another: barrier, counts, rows, barrier (hybrid_dispatch.cuh).
CROSSINGS = 4
#: Tokens after which a channel tells the next hop how far it is, one atomic each (hybrid_dispatch.cuh, hybrid_combine.cuh).
TAIL_ROWS = {DISPATCH: 6.0, COMBINE: 3.0}
#: assumed: share of the HBM rate that the second kernel, a copy by every SM, reaches; as a streaming copy does.
EPILOGUE_HBM_EFFICIENCY = 0.85
#: Channels that a hybrid buffer has room for; each may hold one token more than its share (``csrc/elastic/buffer.hpp``).
CHANNELS = 1024
_ALIGNMENT = 2 * 2**20
#: Ranks of the domain that `OwnConstants` were fitted on.
MEASURED_RANKS = 8.0
NAME, _NEAR, _FAR = "elastic", "one-sided", "high-throughput"


@dataclass(frozen=True, slots=True)
class OwnConstants:
    """What was fitted to rows of its own, on eight ranks of one domain."""

    launch: float  # seconds: the kernel, both barriers and the counts
    store_copy: float  # bytes per cycle that an SM stores


@dataclass(frozen=True, slots=True)
class ElasticConstants:
    """``own``, and what is borrowed: ``near`` of NVLink, ``far`` across nodes (None: there is one domain), where a barrier of
    twice the nodes takes ``node_doubling`` seconds more."""

    own: OwnConstants
    near: one_sided.SlotConstants
    far: high_throughput.Transfer | None = None
    node_doubling: float = 0.0


def dispatch_row_bytes(shape: Shape) -> Num:
    """Bytes of a dispatched slot: activations and scales; ids (8 bytes), weights and links (4 each), source; padded to 32."""
    return _align32(shape.payload_bytes) + _align32(8.0 * shape.top_k + 4.0 * (1.0 + shape.top_k))


def combine_row_bytes(shape: Shape) -> Num:
    """Bytes of a returned slot: bf16 activations and weights, each padded to 32."""
    return _align32(2.0 * shape.hidden) + _align32(4.0 * shape.top_k)


def transfer(shape: Shape, machine: Machine, k: ElasticConstants, op: str) -> tuple[Stage, ...]:
    """Dispatch or combine: the kernel that moves rows, and the one that orders or sums them."""
    back = op == COMBINE
    size = (combine_row_bytes if back else dispatch_row_bytes)(shape)
    # Loads and stores are TMA's own and run beside each other; what the SMs load and store shares their rates.
    read = size / (SM_READ_BYTES_PER_S * shape.comm_sms)
    write = size / (k.own.store_copy * machine.clock_hz * shape.comm_sms)
    nvlink_efficiency = k.near.nvlink_efficiency
    launch = k.own.launch + k.near.launch_per_doubling * (np.log2(shape.domain) - np.log2(MEASURED_RANKS))
    if k.far is None:
        moves = _direct(size, read, write, back, nvlink_efficiency)
        crossings = 1
    else:
        moves = _hybrid(size, read, write, op, nvlink_efficiency, k.far.nic_efficiency)
        launch = launch + k.node_doubling * np.log2(shape.nodes)
        crossings = CROSSINGS
    waits = (("launch and barriers", launch),)
    return (
        Stage(f"{op}.stream", op, Join.ALL, moves, waits, sharpness=k.near.sharpness, crossings=crossings),
        _epilogue(shape, machine, size, op, k.far is not None),
    )


def theoretical_sms(shape: Shape, machine: Machine) -> Num:
    """SMs that the library takes where nobody sets them: enough to store what its slowest link carries, a quarter more.

    Source: ``get_theoretical_num_sms`` (deep_ep/buffers/elastic.py); its published 12, 6 and 24 SMs follow.
    """
    size = dispatch_row_bytes(shape)
    read, write = size / SM_READ_BYTES_PER_S, size / SM_WRITE_BYTES_PER_S
    if np.any(np.asarray(shape.nodes) > 1.0):
        moves = _hybrid(size, read, write, DISPATCH, COUNTED_NVLINK, 1.0)
    else:
        moves = _direct(size, read, write, False, COUNTED_NVLINK)
    even = replace(shape, routing="uniform", tokens=1e9)  # by the mean token, whatever a batch draws
    loads = stage_loads(Stage("sms", DISPATCH, Join.ALL, moves), even, machine)
    link = np.maximum(loads["nvlink"], loads.get("nic", 0.0))
    return np.maximum(2.0 * np.ceil(SPARE_SMS * loads["sm_send"] / link / 2.0), LEAST_SMS)


def _direct(size: Num, read: Num, write: Num, back: bool, nvlink_efficiency: float) -> tuple[Move, ...]:
    """Dispatch loads a token once and stores every copy; combine loads and stores every copy where its expert is."""
    loads = (Load("sm_send", write, End.EXPERT), Load("sm_receive", read, End.EXPERT)) if back else (Load("sm_send", write),)
    link = Load("nvlink", size, efficiency=nvlink_efficiency)
    copies = (Move(Rows.RANK, Path.SELF, size, loads, back), Move(Rows.RANK, Path.NVLINK, size, (*loads, link), back))
    return copies if back else (Move(Rows.TOKEN, Path.SELF, 0.0, (Load("sm_receive", read),)), *copies)


def _hybrid(size: Num, read: Num, write: Num, op: str, nvlink_efficiency: float, nic_efficiency: float) -> tuple[Move, ...]:
    """Two hops. A row for another node lies in a send buffer first; one for the own node goes straight to its forwarder's.

    Dispatch: a token is loaded once and stored for the NIC, and once more if its own node needs it; a forwarder loads each of
    its rows and stores its copies. Combine: the expert's rank loads and stores every copy; a forwarder loads them and stores
    their sum.
    """
    back = op == COMBINE
    link = Load("nvlink", size, forwarded=True, efficiency=nvlink_efficiency)
    wire = (Load("nic", size, efficiency=nic_efficiency), Load("nic_msg", 1.0 + 1.0 / TAIL_ROWS[op]))
    if back:
        work = (Load("sm_send", write, End.EXPERT), Load("sm_receive", read, End.EXPERT))
        ends = tuple(Move(Rows.RANK, path, 0.0, work, back) for path in (Path.SELF, Path.NVLINK, Path.RDMA))
        forward = (Load("sm_receive", read, End.VIA, forwarded=True), Load("sm_send", write, End.VIA), link)
        return (
            *ends,
            Move(Rows.NODE, Path.OWN, size, forward, back),
            Move(Rows.NODE, Path.RAIL, size, (*wire, *forward), back),
        )
    forward = (Load("sm_receive", read, End.VIA), Load("sm_send", write, End.VIA, forwarded=True), link)
    return (
        Move(Rows.TOKEN, Path.SELF, 0.0, (Load("sm_receive", read), Load("sm_send", write))),
        Move(Rows.NODE, Path.OWN, size, (Load("sm_send", write), *forward), back),
        Move(Rows.NODE, Path.RAIL, size, (*wire, *forward), back),
    )


def _epilogue(shape: Shape, machine: Machine, size: Num, op: str, two_hop: bool) -> Stage:
    """Dispatch: received rows are read and written. Combine: of a token, a row a node or rank is read, one written."""
    row_s = size / (machine.hbm_bytes_per_s * EPILOGUE_HBM_EFFICIENCY)
    if op == DISPATCH:
        work = (Load("hbm", 2.0 * row_s, End.EXPERT),)
        moves = tuple(Move(Rows.RANK, path, 0.0, work) for path in (Path.SELF, Path.NVLINK, Path.RDMA))
        return Stage(f"{op}.order", op, Join.INBOUND, moves)
    back = shape.nodes_reached if two_hop else shape.ranks_reached
    reduce = Move(Rows.TOKEN, Path.SELF, 0.0, (Load("hbm", (back + 1.0) * row_s),))
    return Stage(f"{op}.sum", op, Join.INBOUND, (reduce,))


def _align32(size: Num) -> Num:
    return np.ceil(size / 32.0) * 32.0


def slots(tokens: Num, domain_ranks: Num, nodes: Num, top_k: Num, dispatch_row: Num, combine_row: Num) -> Num:
    """Bytes of the symmetric buffer, for dispatch and combine in turn (``csrc/elastic/buffer.hpp``): the larger of the two.

    With M tokens, P ranks of a domain, N domains and k: ``P M`` dispatched and ``min(P, k) M`` returned rows inside a domain.
    Across them ``P N M`` dispatched rows where the experts are, or ``min(P, k) N M`` returned ones at the forwarders; ``M``
    rows to be sent, or ``min(N, k) M`` that came back; and ``N (M + 1024)`` between the two hops.
    """
    across = np.where(np.asarray(nodes) > 1.0, 1.0, 0.0)
    between = across * nodes * (tokens + CHANNELS)
    into = domain_ranks * nodes * tokens + across * tokens + between
    back = np.minimum(domain_ranks, top_k) * nodes * tokens + across * np.minimum(nodes, top_k) * tokens + between
    size: Num = np.ceil(np.maximum(into * dispatch_row, back * combine_row) / _ALIGNMENT) * _ALIGNMENT
    return size


def buffers(need: Demand) -> Iterator[Buffer]:
    """Slots, and the rows that the second kernel orders: one a token and rank that came, once a host knows how many.

    Under CUDA graphs none does: one a token and local expert, as many as may come (the same file, expanded layout).
    """
    shape, tokens = need.shape, need.tokens
    row, back = dispatch_row_bytes(shape), combine_row_bytes(shape)
    yield Buffer(
        "elastic slots",
        slots(tokens, shape.domain, need.domains, shape.top_k, row, back),
        "DeepEP V2 layout, dispatch and combine in turn (sim/ep/protocols/elastic.py)",
        (("tokens a rank", tokens),),
    )
    if need.replayed:
        most = np.minimum(shape.top_k, need.slots)
        rows, said = tokens * shape.ranks * most, "worst case, every token of every rank to as many local experts as may be"
    else:
        rows, said = np.ceil(need.received), "one row per token and distinct rank, on the busiest rank"
    yield Buffer("ordered rows", exact_rows(rows, row), said, (("rows", rows),))


def constants(own: OwnConstants, system: str, op: str, scope: Scope) -> tuple[ElasticConstants, Entry, str]:
    """``own`` with what is borrowed on ``system``, and the borrowed entry that weighs most. Raises Uncalibrated."""
    entry, source = find_entry(system, _NEAR, DISPATCH, "nvlink-domain")  # both ways are stores here: its combine pulls
    near = constants_of(entry, one_sided.SlotConstants)
    if scope != "multi-node":
        return ElasticConstants(own, near), entry, source
    entry, source = find_entry(system, _FAR, op, scope)
    counts, _ = find_entry(system, _FAR, "dispatch_notify", scope)
    doubling = constants_of(counts, high_throughput.Notify).launch_per_doubling
    return ElasticConstants(own, near, constants_of(entry, high_throughput.Transfer), doubling), entry, source


def lend(system: str, op: str, scope: Scope) -> Loan:
    """Its own constants with what is borrowed on ``system``. Raises Uncalibrated if nobody measured the lenders there."""
    fitted, place = find_entry(system, NAME, op, "one-node")
    k, entry, source = constants(constants_of(fitted, OwnConstants), system, op, scope)
    return Loan(k, entry, source, _FAR) if scope == "multi-node" else Loan(k, fitted, place, "")


def _transfer(op: str, shape: Shape, machine: Machine, k: Any, context: Context) -> tuple[Stage, ...]:
    return transfer(shape, machine, k, op)


PROTOCOLS = (
    Protocol(
        name=NAME,
        what="as high-throughput, with slots instead of rings, counts beside the rows; a second kernel orders or sums them",
        holds="slots for the worst case",
        kernels="DeepEP V2's ElasticBuffer",
        before=(Op(DISPATCH, ElasticConstants, partial(_transfer, DISPATCH)),),
        after=(Op(COMBINE, ElasticConstants, partial(_transfer, COMBINE)),),
        buffers=buffers,
        near="one-node",
        far="multi-node",
        rails=True,
        on_comm_sms=True,
        layout="masked if replayed",
        overlaps=True,
        transports=("gin-gda", "gin-proxy", "gin-efa-gda", "gin-efa-proxy"),
        lend=lend,
        caveats=("elastic kernels: launch and SM copies of three published rows on eight H20-3e, the rest is lent",),
        offered=("sglang", "vllm"),
    ),
)
