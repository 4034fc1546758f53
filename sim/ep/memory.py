"""What a protocol's buffers take on each rank, from the published layouts.

Sources: DeepEP at dd758ca, ``csrc/config.hpp`` (high throughput, low latency) and ``csrc/elastic/buffer.hpp``
(elastic); TensorRT-LLM ``moeAlltoAllKernels.cu`` (one-sided). Sizes in bytes.
"""

from __future__ import annotations

from math import ceil

LOW_LATENCY_ALIGNMENT = 128
MAX_TOP_K = 128  # of DeepEP's queue entries
NVLINK_QUEUE = {"tokens": 288}  # ring depth in tokens of DeepEP's default configurations up to 64 SMs
RDMA_QUEUE = {"tokens": 128}
ELASTIC_CHANNELS = 1024  # the most that a hybrid buffer has room for; each may hold one token more than its share
ELASTIC_ALIGNMENT = 2 * 2**20


def low_latency_buffer(tokens: int, hidden: int, experts: int) -> int:
    """The symmetric buffer of the low-latency kernels, two halves used in turn.

    ``2 * (max(M d, E M c) + max(E M d, E M c)) + 2 * align128(4 E)`` with a dispatch message ``d = 16 + max(2H, H + 4H/128)``
    and a combine message ``c = 4H/128 + 2H``; independent of the number of ranks.
    """
    scales = 4 * (hidden // 128)
    dispatch = 16 + max(2 * hidden, hidden + scales)
    combine = scales + 2 * hidden
    send = max(tokens * dispatch, experts * tokens * combine)
    receive = max(experts * tokens * dispatch, experts * tokens * combine)
    signals = ceil(4 * experts / LOW_LATENCY_ALIGNMENT) * LOW_LATENCY_ALIGNMENT
    return 2 * (send + receive) + 2 * signals


def nvlink_rings(channels: int, domain_ranks: int, nodes: int, hidden: int, element_bytes: int = 2) -> int:
    """NVLink rings of the high-throughput kernels: ``C * P * ((2 Nr + 3) * 4 + T * (hb + 8 + 8K + 4K + 4K))``, K = 128."""
    token = hidden * max(element_bytes, 2) + 8 + MAX_TOP_K * (8 + 4 + 4)
    return channels * domain_ranks * ((2 * nodes + 3) * 4 + NVLINK_QUEUE["tokens"] * token)


def rdma_rings(channels: int, nodes: int, hidden: int, element_bytes: int = 2) -> int:
    """RDMA rings, send and receive: ``2 * C * Nr * (18 * 4 + T * (hb + 8 + 8K + 4K + 4K + 16))``; 0 on one node."""
    if nodes <= 1:
        return 0
    token = hidden * max(element_bytes, 2) + 8 + MAX_TOP_K * (8 + 4 + 4) + 16
    return 2 * channels * nodes * (18 * 4 + RDMA_QUEUE["tokens"] * token)


def one_sided_slots(tokens: int, ranks: int, dispatch_row_bytes: float, combine_row_bytes: float) -> int:
    """Worst-case slots [source rank, token] for dispatch and for combine."""
    return ceil(tokens * ranks * (dispatch_row_bytes + combine_row_bytes))


def elastic_slots(
    tokens: int, domain_ranks: int, nodes: int, top_k: int, dispatch_row_bytes: float, combine_row_bytes: float
) -> int:
    """The symmetric buffer of the elastic kernels, used for dispatch and combine in turn: the larger of the two.

    With M tokens, P ranks of a domain, N domains and k: ``P M`` dispatched and ``min(P, k) M`` returned rows inside a domain.
    Across them ``P N M`` dispatched rows where the experts are, or ``min(P, k) N M`` returned ones at the forwarders; ``M``
    rows to be sent, or ``min(N, k) M`` that came back; and ``N (M + 1024)`` between the two hops.
    """
    into, back = domain_ranks * nodes * tokens, min(domain_ranks, top_k) * nodes * tokens
    if nodes > 1:
        between = nodes * (tokens + ELASTIC_CHANNELS)
        into, back = into + tokens + between, back + min(nodes, top_k) * tokens + between
    return ceil(max(into * dispatch_row_bytes, back * combine_row_bytes) / ELASTIC_ALIGNMENT) * ELASTIC_ALIGNMENT


def exact_rows(rows: int, row_bytes: float) -> int:
    """The ragged receive buffer once the counts are known."""
    return ceil(rows * row_bytes)


def rectangle(tokens: int, ranks: int, local_experts: int, row_bytes: float) -> int:
    """The same buffer when nothing is known: every local expert may get every token of every rank."""
    return ceil(local_experts * ranks * tokens * row_bytes)
