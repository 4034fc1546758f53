"""The high-throughput protocol: ask for the counts, then stream tokens through rings (DeepEP's normal kernels).

Inside a node a channel is a pair of SMs, one sending and one receiving; every token is copied once per destination
rank. Across nodes it is copied once per destination node over the NIC to the GPU of the same index, which forwards it
over NVLink to its ranks. Each channel owns ``ceil(T / channels)`` consecutive tokens, so a channel's time, not the mean
token's, is what a kernel takes. Combine walks the same paths backwards in bf16, summing as it goes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from ....hwmodels.laws.kernels import smooth_max
from ..buffer import Buffer, Demand, exact_rows
from ..chunk import Chunk, share
from ..limit import Limit, most_ranks
from ..normal import largest_of
from ..protocol import Context, Op, Protocol
from ..shape import Num, Path, Rows, Shape
from ..stage import End, Join, Load, Machine, Move, Stage

DISPATCH, COMBINE = "dispatch", "combine"
#: Chunk sizes (tokens) the DeepEP benchmarks try before they report their best (tests/test_{intranode,internode}.py).
NVLINK_CHUNKS = {DISPATCH: range(4, 33, 2), COMBINE: range(1, 17)}
RDMA_CHUNKS = range(4, 33, 4)
#: Tokens of a chunk that `Buffer.get_dispatch_config` and `get_combine_config` set for 24 to 64 ranks, more than a node has.
CONFIGURED_CHUNKS = {DISPATCH: 32.0, COMBINE: 1.0}
NODE_RANKS = 8.0
#: Below this, messages of a chunk weigh on the chunk that a benchmark finds best; a NIC that the GPU posts to takes many more.
FEW_MESSAGES_PER_S = 20e6
#: Messages of a chunk over the NIC: the rows, the new tail behind them, and the credit that comes back for as many.
CHUNK_MESSAGES = 3.0
#: Bytes of received rows at which half of the address-translation penalty is paid. No datasheet gives it: between what two free
#: fits to H100 rows found (2.2 and 6.5 GB). Read off the develop rows; its amplitude is fitted.
TRANSLATION_REACH_BYTES = 3e9

#: A warp's copy loop: lanes, bytes a lane moves at once, and vectors of an unrolled step.
_LANES, _VECTOR_BYTES = 32, 16
_UNROLLED = 5 * _LANES

#: Three RDMA barriers and one round of puts, one after another (internode.cu, notify_dispatch).
NOTIFY_CROSSINGS = 4

_MAX_TOP_K = 128  # of a queue entry
NVLINK_QUEUE_TOKENS, RDMA_QUEUE_TOKENS = 288, 128  # ring depths of DeepEP's default configurations up to 64 SMs


@dataclass(frozen=True, slots=True)
class Transfer:
    """Fitted constants of one kernel (dispatch or combine) on one system, one node or several. Seconds and B/cycle."""

    launch: float  # kernel launch, barriers and first poll, before the first byte matters
    launch_per_doubling: float  # more of the same for every doubling of the nodes
    launch_per_hidden: float  # seconds per element of the hidden dimension
    send_token: float  # sender SM: seconds per token of a channel
    send_row: float  # sender SM: seconds per step of the loop that copies a row (`copy_steps`)
    send_copy: float  # sender SM: bytes per cycle of a channel; across nodes also the forwarder's, over rows read and written
    receive_token: float  # receiver SM: seconds per token of a channel
    receive_copy: float  # receiver SM: bytes per cycle of a channel, over the token's own row
    chunk: float  # handshake of one chunk on one ring
    drain_copy: float  # bytes per cycle at which one ring's last chunk is drained: rows copied, or read and summed
    translation: float  # share by which SM copies slow down far beyond the TLB's reach
    nvlink_efficiency: float
    nic_efficiency: float
    sharpness: float
    lone_chunk: float = 0.0  # seconds of a chunk of a ring that a single warp serves, beyond a node's ranks


@dataclass(frozen=True, slots=True)
class Notify:
    """Fitted constants of the count exchange (or, before combine, of the head fix-up)."""

    launch: float
    launch_per_doubling: float
    drift: float  # seconds by which ranks drift apart for every token of a channel in the kernel before; the barriers wait
    drift_most: float  # how far apart they get in the longest kernel
    token: float  # head fix-up: seconds per token of a channel
    sharpness: float  # how well the fix-up hides beside the barriers


#: Nodes that the inter-node kernels are instantiated for, and the largest size of their buffer.
NODE_COUNTS = (2, 3, 4, 6, 8, 12, 16, 18, 20)
INT_MAX = 2.0**31 - 1.0


def dispatch_row_bytes(shape: Shape, two_hop: bool) -> Num:
    """Bytes of one dispatched row: activations and scales, source index, expert ids and weights.

    One node (intranode.cu): payload + 4 (source index) + 8k (int64 ids) + 4k (fp32 weights). Across nodes (internode.cu):
    payload + 8 (source meta) + 4k + 4k, padded to 16.
    """
    if two_hop:
        return _align16(shape.payload_bytes + 8.0 + 8.0 * shape.top_k)
    return shape.payload_bytes + 4.0 + 12.0 * shape.top_k


def combine_row_bytes(shape: Shape, two_hop: bool) -> Num:
    """Bytes of one combined row: bf16 activations, source index, weights; padded to 16 across nodes."""
    if two_hop:
        return _align16(2.0 * shape.hidden + 8.0 + 4.0 * shape.top_k)
    return 2.0 * shape.hidden + 4.0 + 4.0 * shape.top_k


def copy_steps(shape: Shape, op: str) -> Num:
    """Steps of the sender's copy loop over a row: each waits once for its loads, however much it moves.

    Dispatch (intranode.cu, internode.cu): 32 lanes x 5 vectors of 16 bytes a step, then the rest 32 vectors a step, so that
    2,048 and 4,096 fp8 values both take 4 steps and 7,168 take 6. Combine copies in even steps of 4: they go with its bytes,
    so one is counted.
    """
    if op == COMBINE:
        return 1.0
    vectors = np.ceil(shape.hidden * np.round(shape.payload_bytes / shape.hidden) / _VECTOR_BYTES)
    whole = np.floor(vectors / _UNROLLED)
    steps: Num = whole + np.ceil((vectors - _UNROLLED * whole) / _LANES)
    return steps


def notify(shape: Shape, machine: Machine, k: Notify, op: str) -> tuple[Stage, ...]:
    """Before dispatch, every rank learns what it will receive, behind barriers; before combine, the ring heads are fixed up."""
    doublings = np.log2(shape.nodes)
    barriers = ("count exchange and barriers", k.launch + k.launch_per_doubling * doublings)
    apart = k.drift * np.ceil(shape.tokens / _channels(shape))
    late = ("ranks arriving apart", k.drift_most * apart / np.maximum(k.drift_most + apart, 1e-30))
    if op.startswith(COMBINE):
        # One SM holds the barriers while others walk the heads backwards (cached_notify): a load for every token of a channel,
        # and a store for one that had nothing to send to some node.
        missed = 1.0 - (shape.nodes_reached / shape.nodes) ** shape.nodes
        walk = Move(Rows.TOKEN, Path.SELF, 0.0, (Load("sm_send", k.token * (1.0 + missed) * _per_channel(shape)),))
        beside = barriers[1] + late[1]
        return (Stage("combine_notify.heads", "combine_notify", Join.OWN, (walk,), floor_s=beside, sharpness=k.sharpness),)
    rail, peer = count_bytes(shape)
    rails = Move(Rows.PAIR, Path.RAIL, rail, (Load("nic", rail),))
    peers = Move(Rows.PAIR, Path.NVLINK, peer, (Load("nvlink", peer),))
    return (Stage("notify.counts", "notify", Join.ALL, (rails, peers), (barriers, late), crossings=NOTIFY_CROSSINGS),)


def count_bytes(shape: Shape) -> tuple[Num, Num]:
    """Bytes of the count exchange: to the same-index GPU of every node, and then to every rank of the node.

    internode.cu: over a rail go the node's token count, each of its ranks' and each of its experts', 4 bytes each; over NVLink
    each rank then gets its own count and its experts' from every node.
    """
    local_experts = shape.experts / shape.ranks
    rail = 4.0 * (1.0 + shape.domain + local_experts * shape.domain)
    return rail, 4.0 * shape.nodes * (1.0 + local_experts)


def transfer(shape: Shape, machine: Machine, k: Transfer, op: str) -> tuple[Stage, ...]:
    """Dispatch or combine once the counts are known: one stage, on one node or over two hops."""
    if np.any(np.asarray(shape.nodes) > 1.0):
        return _two_hop(shape, machine, k, op)
    return _one_node(shape, machine, k, op)


def _one_node(shape: Shape, machine: Machine, k: Transfer, op: str) -> tuple[Stage, ...]:
    back = op == COMBINE
    row_bytes = (combine_row_bytes if back else dispatch_row_bytes)(shape, False)
    per_channel = _per_channel(shape)
    slower = 1.0 + k.translation * _beyond_reach(shape.tokens * shape.ranks_reached * row_bytes)
    token_s = k.send_token * slower * per_channel
    # The warps of a ring wait step after step, so that the fullest ring ends last; what all rings copy, the SM shares out.
    busiest = _busiest_ring(shape)
    wait_s, copy_s = k.send_row * copy_steps(shape, op) * busiest, row_bytes / (k.send_copy * machine.clock_hz)
    row_s = (wait_s + copy_s) * slower * per_channel
    receive_s = (k.receive_token + row_bytes / (k.receive_copy * machine.clock_hz)) * per_channel
    copies = shape.tokens * shape.ranks_reached
    wire = copies * (1.0 - 1.0 / shape.ranks) * row_bytes / (machine.nvlink_bytes_per_s * k.nvlink_efficiency)
    ring_rows = np.ceil(shape.tokens / _channels(shape)) * shape.ranks_reached / shape.ranks
    drained = 1.0 + shape.ranks_reached if back else 1.0  # a combined row is written once and read from each source
    row_drain_s = drained * row_bytes / (k.drain_copy * machine.clock_hz)
    chunk = Chunk.best(
        NVLINK_CHUNKS[op],
        ring_rows,
        k.chunk,
        row_drain_s,
        shape.tokens * token_s + copies * row_s,
        (shape.tokens * receive_s, wire),
        k.sharpness,
    )
    chunk = _of_many_ranks(shape, op, chunk, ring_rows * busiest, k, row_drain_s)
    sender = End.EXPERT if back else End.HOME
    row_loads = (Load("sm_send", row_s + chunk.handshakes_s / copies, sender),)
    token_loads = (Load("sm_send", token_s), Load("sm_receive", receive_s))
    moves = (
        Move(Rows.TOKEN, Path.SELF, 0.0, token_loads),
        Move(Rows.RANK, Path.SELF, row_bytes, row_loads, back),
        Move(Rows.RANK, Path.NVLINK, row_bytes, (*row_loads, Load("nvlink", row_bytes, efficiency=k.nvlink_efficiency)), back),
    )
    launch = k.launch + k.launch_per_hidden * shape.hidden
    return (
        Stage(f"{op}.stream", op, Join.ALL, moves, (("launch and barriers", launch),), chunk.drain_s, sharpness=k.sharpness),
    )


def _two_hop(shape: Shape, machine: Machine, k: Transfer, op: str) -> tuple[Stage, ...]:
    back = op == COMBINE
    row_bytes = (combine_row_bytes if back else dispatch_row_bytes)(shape, True)
    per_channel = _per_channel(shape)
    token_s = k.send_token * per_channel
    node_s = (k.send_row * copy_steps(shape, op) + row_bytes / (k.send_copy * machine.clock_hz)) * per_channel
    forward_s = row_bytes / (k.send_copy * machine.clock_hz) * per_channel
    node_rows = shape.tokens * shape.nodes_reached
    copies = shape.tokens * shape.ranks_reached
    nic = shape.expected_rows(Rows.NODE, Path.RAIL) * row_bytes / (machine.nic_bytes_per_s * k.nic_efficiency)
    nvlink = copies * (1.0 - 1.0 / shape.domain) * row_bytes / (machine.nvlink_bytes_per_s * k.nvlink_efficiency)
    ring_rows = np.ceil(shape.tokens / _channels(shape))
    sending, forwarding = shape.tokens * token_s + node_rows * node_s, (node_rows + copies) * forward_s
    # A wire carries nothing before the forwarders have copied the first chunk of every channel. Where wires bind, that is lost;
    # where SMs do, it is work that counts already.
    fill_s = forwarding / (shape.tokens * per_channel) * share(k.sharpness, np.maximum(nic, nvlink), sending, forwarding)
    drain_s = row_bytes / (k.drain_copy * machine.clock_hz) + fill_s
    chunk = Chunk.best(RDMA_CHUNKS, ring_rows, k.chunk, drain_s, sending, (forwarding, nic, nvlink), k.sharpness)
    if machine.nic_messages_per_s < FEW_MESSAGES_PER_S:
        messages_s = CHUNK_MESSAGES * shape.expected_rows(Rows.NODE, Path.RAIL) / machine.nic_messages_per_s
        chunk = _of_few_messages(ring_rows, k, drain_s, sending, (forwarding, nic, nvlink), messages_s)
    # A forwarder reads a dispatched row once and writes every copy; of a combined row it reads every copy and writes their sum.
    forward = (
        Load("sm_forward", forward_s, End.VIA),
        Load("sm_forward", forward_s, End.VIA, forwarded=True),
        Load("nvlink", row_bytes, forwarded=True, efficiency=k.nvlink_efficiency),
    )
    send = Load("sm_send", node_s + chunk.handshakes_s / node_rows)
    rail = (send, Load("nic", row_bytes, efficiency=k.nic_efficiency), Load("nic_msg", CHUNK_MESSAGES / chunk.rows), *forward)
    moves = (
        Move(Rows.TOKEN, Path.SELF, 0.0, (Load("sm_send", token_s),)),
        Move(Rows.NODE, Path.OWN, row_bytes, (send, *forward), back),
        Move(Rows.NODE, Path.RAIL, row_bytes, rail, back),
    )
    launch = k.launch + k.launch_per_hidden * shape.hidden + k.launch_per_doubling * np.log2(shape.nodes)
    return (
        Stage(f"{op}.stream", op, Join.ALL, moves, (("launch and barriers", launch),), chunk.drain_s, sharpness=k.sharpness),
    )


def _of_few_messages(
    ring_rows: Num, k: Transfer, row_drain_s: Num, send_s: Num, beside_s: tuple[Num, ...], row_messages_s: Num
) -> Chunk:
    """The best of the benchmark's chunks where a chunk's messages are posted one after another: tried one by one."""
    found: Chunk | None = None
    least: Num = np.inf
    for size in RDMA_CHUNKS:
        rows = np.clip(ring_rows, 1.0, float(size))
        handshakes_s, drain_s = np.maximum(ring_rows / rows, 1.0) * k.chunk, rows * row_drain_s
        whole_s = smooth_max(k.sharpness, send_s + handshakes_s, *beside_s, row_messages_s / rows) + drain_s
        better = whole_s < least
        first = found or Chunk(rows, handshakes_s, drain_s)
        found = Chunk(
            np.where(better, rows, first.rows),
            np.where(better, handshakes_s, first.handshakes_s),
            np.where(better, drain_s, first.drain_s),
        )
        least = np.minimum(whole_s, least)
    assert found is not None
    return found


def _of_many_ranks(shape: Shape, op: str, tuned: Chunk, ring_rows: Num, k: Transfer, row_drain_s: Num) -> Chunk:
    """The chunks of a domain of more ranks than a node's: the library's own, where a benchmark of a node's finds the best.

    The warps of a block are dealt over its rings. The fewer of them serve one, the less hides that each waits for its chunk.
    """
    many, fewer = np.asarray(shape.ranks) > NODE_RANKS, shape.ranks / NODE_RANKS
    if not many.any():
        return tuned
    rows = np.clip(ring_rows, 1.0, CONFIGURED_CHUNKS[op])
    return Chunk(
        np.where(many, rows, tuned.rows),
        np.where(many, np.maximum(ring_rows / rows, 1.0) * (k.chunk * fewer + k.lone_chunk), tuned.handshakes_s),
        np.where(many, rows * row_drain_s * fewer, tuned.drain_s),
    )


def _busiest_ring(shape: Shape) -> Num:
    """Rows of the fullest ring of a rank over the mean ring's: a ring has a channel's tokens that go to one of the ranks.

    Each token goes there with chance ``ranks_reached / ranks``; the fullest of channels x ranks rings ends the kernel.
    """
    tokens, chance = np.ceil(shape.tokens / _channels(shape)), shape.ranks_reached / shape.ranks
    mean = tokens * chance
    spread = np.sqrt(mean * np.maximum(1.0 - chance, 0.0))
    fullest = np.minimum(mean + largest_of(_channels(shape) * shape.ranks) * spread, tokens)
    return np.maximum(fullest / mean, 1.0)


def _channels(shape: Shape) -> Num:
    return shape.comm_sms / 2.0


def _per_channel(shape: Shape) -> Num:
    """Seconds of the kernel for a channel-second of the mean token: ``ceil(T/C) / T``, the fullest channel's share."""
    return np.ceil(shape.tokens / _channels(shape)) / shape.tokens


def _beyond_reach(footprint_bytes: Num) -> Num:
    return footprint_bytes / (footprint_bytes + TRANSLATION_REACH_BYTES)


def _align16(size: Num) -> Num:
    return np.ceil(size / 16.0) * 16.0


def nvlink_rings(channels: Num, domain_ranks: Num, nodes: Num, hidden: Num, element_bytes: float = 2.0) -> Num:
    """Bytes of the NVLink rings (``csrc/config.hpp``): ``C * P * ((2 Nr + 3) * 4 + T * (hb + 8 + 8K + 4K + 4K))``, K = 128."""
    token = hidden * max(element_bytes, 2.0) + 8.0 + _MAX_TOP_K * (8.0 + 4.0 + 4.0)
    size: Num = channels * domain_ranks * ((2.0 * nodes + 3.0) * 4.0 + NVLINK_QUEUE_TOKENS * token)
    return size


def rdma_rings(channels: Num, nodes: Num, hidden: Num, element_bytes: float = 2.0) -> Num:
    """Bytes of the RDMA rings, both ways: ``2 * C * Nr * (18 * 4 + T * (hb + 8 + 8K + 4K + 4K + 16))``; none on one node."""
    token = hidden * max(element_bytes, 2.0) + 8.0 + _MAX_TOP_K * (8.0 + 4.0 + 4.0) + 16.0
    return np.where(np.asarray(nodes) > 1.0, 2.0 * channels * nodes * (18.0 * 4.0 + RDMA_QUEUE_TOKENS * token), 0.0)


def buffers(need: Demand) -> Iterator[Buffer]:
    shape, nodes = need.shape, need.domains
    channels = np.floor(np.asarray(shape.comm_sms) / 2.0)
    row = np.where(nodes > 1.0, dispatch_row_bytes(shape, True), dispatch_row_bytes(shape, False))
    layout = "DeepEP layout (sim/ep/protocols/high_throughput.py)"
    used = (("channels", channels), ("nodes", nodes))
    yield Buffer("NVLink rings", nvlink_rings(channels, shape.domain, nodes, shape.hidden), layout, used, lever="")
    yield Buffer("RDMA rings", rdma_rings(channels, nodes, shape.hidden), layout, used, lever="")
    rows = np.ceil(need.received)
    said = "one row per token and distinct rank, on the busiest rank"
    yield Buffer("received rows", exact_rows(rows, row), said, (("rows", rows),))


def _notify(op: str, shape: Shape, machine: Machine, k: Any, context: Context) -> tuple[Stage, ...]:
    return notify(shape, machine, k, op)


def _transfer(op: str, shape: Shape, machine: Machine, k: Any, context: Context) -> tuple[Stage, ...]:
    return transfer(shape, machine, k, op)


PROTOCOLS = (
    Protocol(
        name="high-throughput",
        what="counts first, then one copy per token and rank through rings; over rails between nodes",
        holds="rings, exact rows",
        kernels="DeepEP's normal kernels",
        tables=("deepep-normal",),
        # The count exchange was timed across nodes only; on one node its per-doubling terms vanish.
        before=(
            Op("dispatch_notify", Notify, partial(_notify, "dispatch_notify"), "notify", "multi-node"),
            Op(DISPATCH, Transfer, partial(_transfer, DISPATCH)),
        ),
        after=(
            Op("combine_notify", Notify, partial(_notify, "combine_notify"), scope="multi-node"),
            Op(COMBINE, Transfer, partial(_transfer, COMBINE)),
        ),
        buffers=buffers,
        near="one-node",
        far="multi-node",
        rails=True,
        on_comm_sms=True,
        replays=False,
        overlaps=True,
        engines=("vllm", "sglang", "trtllm"),
        transports=("ibgda", "ibrc", "libfabric-proxy"),
        counts=True,
        limits=(
            most_ranks(160, "DeepEP's buffer asserts at most 160 ranks, 20 nodes of 8 (csrc/deep_ep.cpp)"),
            Limit(
                f"DeepEP's inter-node kernels are instantiated for {', '.join(map(str, NODE_COUNTS))} nodes (csrc/kernels)",
                lambda asked: (np.asarray(asked.domains) > 1.0) & ~np.isin(asked.domains, NODE_COUNTS),
                "use one of those",
            ),
            Limit(
                "DeepEP's RDMA buffer is counted in 32 bits: at most 2,147,483,647 bytes",
                lambda asked: rdma_rings(np.floor(np.asarray(asked.comm_sms) / 2.0), asked.domains, asked.hidden) > INT_MAX,
                "lower comm_sms, or use fewer nodes",
            ),
        ),
        cautions=(
            Limit(
                "with 16 nodes DeepEP's own benchmark stops at a combine chunk larger than a ring's share (internode.cu)",
                lambda asked: np.asarray(asked.domains) == 16.0,
                "its default configuration passes",
            ),
        ),
    ),
)
