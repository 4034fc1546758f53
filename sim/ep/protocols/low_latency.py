"""The low-latency protocol: send without asking (DeepEP's low-latency kernels).

Every (local expert, source rank) has its own slab at the receiver, so a sender needs no counts: it casts a token to the
wire format, posts one message per (token, expert), and posts the count behind them on the same ordered channel, which
is the completion flag. The receiver copies slabs into packed rows once their counts are in. Combine posts every row back to a
private slot of its token; the token's rank sums its k slots when all flags are up.

The grid follows the expert count: ``groups = ceil(E / SMs)`` warp groups share a CTA, so ``ceil(E / groups)`` CTAs run.
Eight experts use eight SMs, whatever the GPU has.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..buffer import Buffer, Demand
from ..limit import Limit, most_ranks
from ..protocol import Context, Op, Protocol
from ..shape import Num, Path, Rows, Shape
from ..stage import End, Join, Load, Machine, Move, Stage

DISPATCH, COMBINE = "dispatch", "combine"
MESSAGE_HEADER_BYTES = 16  # source token index, padded to an int4
#: Least capacity of one call when none is set: DeepEP's published decode batch.
CAPACITY = 128
_ALIGNMENT = 128
#: The slabs grow with every token a rank may send; engines switch by phase (SGLang, ``--deepep-mode auto``).
PROMPTS_BY = "high-throughput"


@dataclass(frozen=True, slots=True)
class LowLatencyConstants:
    """Fitted constants of one kernel on one system, one node or several. Seconds and bytes per cycle and CTA."""

    launch: float  # both kernels, first poll
    launch_per_expert: float  # counting loop and flags, seconds per expert
    launch_per_hidden: float  # seconds per element of the hidden dimension
    internode: float  # once more, as soon as a NIC is involved
    internode_per_doubling: float
    token: float  # a CTA's seconds per token (cast on dispatch, reduction on combine)
    send_copy: float  # bytes per cycle at which a CTA posts rows
    receive_row: float  # a CTA's seconds per received row
    receive_copy: float  # bytes per cycle at which a CTA packs (dispatch) or reads back (combine) rows
    nvlink_efficiency: float
    nic_efficiency: float
    sharpness: float


def grid(experts: Num, sms: int) -> Num:
    """CTAs of a low-latency kernel: ``ceil(E / ceil(E / SMs))`` (internode_ll.cu)."""
    return np.ceil(experts / np.ceil(experts / sms))


def dispatch_message_bytes(shape: Shape) -> Num:
    """Bytes of one dispatched message: header, activations and scales."""
    return MESSAGE_HEADER_BYTES + shape.payload_bytes


def combine_message_bytes(shape: Shape) -> Num:
    """Bytes of one returned row as sent: bf16 activations (its 16-byte header stays behind)."""
    return 2.0 * shape.hidden


def dispatch(shape: Shape, machine: Machine, k: LowLatencyConstants) -> tuple[Stage, ...]:
    """Cast and post, then wait for every count and pack."""
    size = dispatch_message_bytes(shape)
    ctas = grid(shape.experts, machine.sms)
    copy_s = size / (k.send_copy * machine.clock_hz)
    busiest_cta = np.ceil(shape.tokens / ctas) / shape.tokens
    cast = Move(Rows.TOKEN, Path.SELF, 0.0, (Load("sm_send", (k.token + shape.top_k * copy_s) * busiest_cta),))
    pack_s = (k.receive_row + size / (k.receive_copy * machine.clock_hz)) / ctas
    return (
        Stage(
            f"{DISPATCH}.send",
            DISPATCH,
            Join.OWN,
            (cast, *_posts(shape, machine, k, size, back=False)),
            _launch(shape, k),
            sharpness=k.sharpness,
            posts=True,
        ),
        Stage(f"{DISPATCH}.receive", DISPATCH, Join.INBOUND, _at_expert("sm_copy", pack_s)),
    )


def combine(shape: Shape, machine: Machine, k: LowLatencyConstants) -> tuple[Stage, ...]:
    """Post every row back to its token's slot, wait for all flags, sum the k slots."""
    size = combine_message_bytes(shape)
    ctas = grid(shape.experts, machine.sms)
    post_s = size / (k.send_copy * machine.clock_hz) / ctas
    read_s = shape.top_k * (k.receive_row + size / (k.receive_copy * machine.clock_hz))
    reduce_s = (k.token + read_s) * np.ceil(shape.tokens / ctas) / shape.tokens
    posts = (*_at_expert("sm_send", post_s), *_posts(shape, machine, k, size, back=True))
    reduce = Move(Rows.TOKEN, Path.SELF, 0.0, (Load("sm_copy", reduce_s),))
    return (
        Stage(f"{COMBINE}.send", COMBINE, Join.OWN, posts, _launch(shape, k), sharpness=k.sharpness, posts=True),
        Stage(f"{COMBINE}.receive", COMBINE, Join.INBOUND, (reduce,)),
    )


def _posts(shape: Shape, machine: Machine, k: LowLatencyConstants, size: Num, *, back: bool) -> tuple[Move, ...]:
    """One message per (token, expert): NVLink stores inside the domain, one RDMA write outside it.

    A rank holds a queue pair per local expert to every peer; each posts its messages one after another. A count for
    every remote expert (back: from every expert to every remote rank) follows them, which is a message, too.
    """
    flags = shape.experts / (shape.tokens * shape.top_k)
    queue_pairs = np.clip(shape.experts / shape.ranks, 1.0, machine.nic_queue_pairs)
    peers = np.maximum(shape.ranks - shape.domain, 1.0)
    posting = Load("queue_pair", machine.nic_message_s / (queue_pairs * peers))
    nvlink = Load("nvlink", size, efficiency=k.nvlink_efficiency)
    nic = Load("nic", size, efficiency=k.nic_efficiency)
    return (
        Move(Rows.EXPERT, Path.SELF, size, (), back),
        Move(Rows.EXPERT, Path.NVLINK, size, (nvlink,), back),
        Move(Rows.EXPERT, Path.RDMA, size, (nic, Load("nic_msg", 1.0 + flags), posting), back),
    )


def _at_expert(resource: str, row_s: Num) -> tuple[Move, ...]:
    """Local work of the expert's rank on every row routed to it, wherever the row came from."""
    work = (Load(resource, row_s, End.EXPERT),)
    return tuple(Move(Rows.EXPERT, path, 0.0, work) for path in (Path.SELF, Path.NVLINK, Path.RDMA))


def _launch(shape: Shape, k: LowLatencyConstants) -> tuple[tuple[str, Num], ...]:
    internode = np.where(shape.nodes > 1.0, k.internode + k.internode_per_doubling * np.log2(shape.nodes), 0.0)
    launch = k.launch + k.launch_per_expert * shape.experts + k.launch_per_hidden * shape.hidden
    return (("launch, flags and polling", launch), ("first message over the NIC", internode))


def slabs(tokens: Num, hidden: Num, experts: Num) -> Num:
    """Bytes of the symmetric buffer, two halves used in turn (DeepEP at dd758ca, ``csrc/config.hpp``).

    ``2 * (max(M d, E M c) + max(E M d, E M c)) + 2 * align128(4 E)`` with a dispatch message ``d = 16 + max(2H, H + 4H/128)``
    and a combine message ``c = 4H/128 + 2H``; independent of the number of ranks.
    """
    scales = 4.0 * np.floor(hidden / 128.0)
    dispatched = MESSAGE_HEADER_BYTES + np.maximum(2.0 * hidden, hidden + scales)
    returned = scales + 2.0 * hidden
    send = np.maximum(tokens * dispatched, experts * tokens * returned)
    receive = np.maximum(experts * tokens * dispatched, experts * tokens * returned)
    signals = np.ceil(4.0 * experts / _ALIGNMENT) * _ALIGNMENT
    total: Num = 2.0 * (send + receive) + 2.0 * signals
    return total


def buffers(need: Demand) -> Iterator[Buffer]:
    capacity = np.maximum(need.tokens, CAPACITY) if need.max_tokens is None else need.max_tokens
    yield Buffer(
        "low-latency slabs",
        slabs(capacity, need.shape.hidden, need.shape.experts),
        "DeepEP layout, two halves (sim/ep/protocols/low_latency.py)",
        (("tokens a rank", capacity),),
        f"lower deployment.max_tokens, or use protocol={PROMPTS_BY}",
    )


def _dispatch(shape: Shape, machine: Machine, k: LowLatencyConstants, context: Context) -> tuple[Stage, ...]:
    return dispatch(shape, machine, k)


def _combine(shape: Shape, machine: Machine, k: LowLatencyConstants, context: Context) -> tuple[Stage, ...]:
    return combine(shape, machine, k)


PROTOCOLS = (
    Protocol(
        name="low-latency",
        what="one message per token and expert, straight to its rank",
        holds="slabs for `max_tokens`",
        kernels="DeepEP's low-latency kernels",
        tables=("deepep-low-latency",),
        before=(Op(DISPATCH, LowLatencyConstants, _dispatch),),
        after=(Op(COMBINE, LowLatencyConstants, _combine),),
        buffers=buffers,
        near="one-node",
        far="multi-node",
        rows=Rows.EXPERT,
        capacity=CAPACITY,
        layout="masked",
        packed=True,
        overlaps=True,
        prompts_by=PROMPTS_BY,
        engines=("vllm", "sglang", "trtllm"),
        transports=("ibgda", "ibrc", "libfabric-proxy"),
        limits=(
            most_ranks(
                64,
                "over NVSHMEM's libfabric proxy (EFA) DeepEP's low-latency kernels abort between 64 and 128 ranks: retries are"
                " exhausted (awslabs RESULTS.md)",
                over="libfabric-proxy",
            ),
        ),
        cautions=(
            Limit(
                "DeepEP's low-latency combine of 256 tokens was silently wrong on Blackwell (DeepEP#700)",
                lambda asked: asked.blackwell & (np.asarray(asked.tokens or 0.0) >= 256.0),
                "use a version with pull request 642",
            ),
        ),
    ),
)
