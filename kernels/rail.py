"""The two-hop path between nodes: a token crosses the network once per node, to the GPU with the sender's own index (its
rail), and is forwarded over NVLink from there; results return the same way, summed on the node before they cross.

Rank = node * local_ranks + index. ``rail_x`` [nodes, capacity, words] holds whole rows in slots by source node: payload,
8 bytes of origin (token, rank), fp32 scales, and per top-k entry 4 bytes of index (place << 12 | expert; -1 unused) and 4
of weight, padded to 16 bytes. ``rail_flag`` [nodes] int64 = epoch << 32 | rows. ``rail_back`` [nodes, capacity, hidden] bf16
and ``rail_back_flag`` [nodes] int64 return the sums. Between nodes NVSHMEM carries both hops from ``rail_stage`` and
``rail_back_stage``; where every rank is addressable (tests, one NVLink domain) they are plain stores.
"""
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls
# ruff: noqa: N803, N806

import torch
import triton
import triton.language as tl

from .ll_dispatch import wait_count
from .nvshmem import put_block, quiet, signal
from .signal import address, is_last, peer, post_flags, wait_flags
from .symmetric import Plan

MAX_EXPERTS = 4096


def rail_row_bytes(hidden: int, element_bytes: int, scales: int, top_k: int) -> dict[str, int]:
    """What one (token, node) copy on the network is made of, in bytes."""
    parts = {
        "data": hidden * element_bytes,
        "origin": 8,
        "scales": 4 * scales,
        "index": 4 * top_k,
        "weights": 4 * top_k,
    }
    return {**parts, "padding": -sum(parts.values()) % 16}


def rail_fields(plan: Plan, nodes: int, capacity: int, row_bytes: int, hidden: int, staged: bool) -> None:
    """``staged``: also the buffers NVSHMEM puts are made from."""
    for name in ("rail_x", "rail_stage")[: 1 + staged]:
        plan.add(name, (nodes, capacity, row_bytes // 4), torch.int32)
    for name in ("rail_back", "rail_back_stage")[: 1 + staged]:
        plan.add(name, (nodes, capacity, hidden), torch.bfloat16)
    plan.add("rail_flag", (nodes,), torch.int64)
    plan.add("rail_back_flag", (nodes,), torch.int64)


@triton.jit
def post_count(table, target, me, flag_at, place, value, NVSHMEM: tl.constexpr):
    if NVSHMEM:
        signal(address(peer(table, me, flag_at, tl.int64) + place), value, 0, target)
    else:
        tl.atomic_xchg(peer(table, target, flag_at, tl.int64) + place, value, sem="release", scope="sys")


@triton.jit
def put_kernel(
    table,
    x,
    scale,
    topk,
    weight,
    slot,
    place,
    counts,
    counter,
    tokens,
    me,
    nodes,
    local_ranks,
    capacity,
    row_words,
    x_at,
    stage_at,
    flag_at,
    epoch,
    WORDS: tl.constexpr,
    SCALES: tl.constexpr,
    SP: tl.constexpr,
    K: tl.constexpr,
    KP: tl.constexpr,
    BLOCK: tl.constexpr,
    NVSHMEM: tl.constexpr,
):
    programs = tl.num_programs(0)
    k, s = tl.arange(0, KP), tl.arange(0, SP)
    node = me // local_ranks
    for t in range(tl.program_id(0), tokens, programs):
        row = tl.cast(t, tl.int64)
        expert = tl.load(topk + row * K + k, mask=k < K, other=-1).to(tl.int32)
        nth = tl.load(place + row * K + k, mask=k < K, other=0)
        index = tl.where(expert >= 0, (nth << 12) | expert, -1)
        share = tl.load(weight + row * K + k, mask=k < K, other=0.0).to(tl.int32, bitcast=True)
        for n in range(0, nodes):
            i = tl.load(slot + row * nodes + n)
            if i >= 0:
                target = n * local_ranks + me % local_ranks
                at = (node * capacity + i).to(tl.int64) * row_words
                if NVSHMEM:
                    to = peer(table, me, stage_at, tl.int32) + (n * capacity + i).to(tl.int64) * row_words
                else:
                    to = peer(table, target, x_at, tl.int32) + at
                to = tl.multiple_of(to, 16)
                for c in range(0, WORDS, BLOCK):
                    w = c + tl.arange(0, BLOCK)
                    tl.store(to + w, tl.load(x + row * WORDS + w, mask=w < WORDS), mask=w < WORDS)
                tl.store(to + WORDS, t)
                tl.store(to + WORDS + 1, me)
                if SCALES > 0:
                    part = tl.load(scale + row * SCALES + s, mask=s < SCALES).to(tl.int32, bitcast=True)
                    tl.store(to + WORDS + 2 + s, part, mask=s < SCALES)
                tl.store(to + WORDS + 2 + SCALES + k, index, mask=k < K)
                tl.store(to + WORDS + 2 + SCALES + K + k, share, mask=k < K)
                if NVSHMEM:
                    tl.debug_barrier()
                    dest = address(peer(table, me, x_at, tl.int32) + at)
                    put_block(dest, address(to), (row_words * 4).to(tl.int64), target)
    if NVSHMEM:
        quiet()
    if is_last(counter, programs):
        for n in range(0, nodes):
            value = (tl.cast(epoch, tl.int64) << 32) | tl.load(counts + n).to(tl.int64)
            post_count(table, n * local_ranks + me % local_ranks, me, flag_at, node, value, NVSHMEM)


@triton.jit
def slots_kernel(
    table,
    rows,
    slots,
    me,
    nodes,
    local_ranks,
    local_experts,
    capacity,
    row_words,
    index_word,
    K,
    x_at,
    flag_at,
    status_at,
    epoch,
    BLOCK: tl.constexpr,
):
    """Program (source node, local rank): wait for the source's rows, then number those that go to the local rank."""
    pid = tl.program_id(0)
    source, local = pid // local_ranks, pid % local_ranks
    flag = peer(table, me, flag_at, tl.int64) + source
    n = wait_count(flag, epoch, peer(table, me, status_at, tl.int32), source * local_ranks + me % local_ranks)
    tl.store(rows + source, n)
    first = (me // local_ranks * local_ranks + local) * local_experts
    total = tl.cast(0, tl.int32)
    for start in range(0, n, BLOCK):
        i = start + tl.arange(0, BLOCK)
        row = peer(table, me, x_at, tl.int32) + (source * capacity + i).to(tl.int64) * row_words + index_word
        hit = tl.zeros([BLOCK], tl.int32)
        for k in range(0, K):
            word = tl.load(row + k, mask=i < n, other=-1)
            expert = word & 0xFFF
            hit = tl.where((word >= 0) & (expert >= first) & (expert < first + local_experts), 1, hit)
        place = total + tl.cumsum(hit, 0) - hit
        tl.store(slots + (source * capacity + i) * local_ranks + local, tl.where(hit > 0, place, -1), mask=i < n)
        total += tl.sum(hit)


@triton.jit
def forward_kernel(
    table,
    rows,
    slots,
    counter,
    me,
    nodes,
    local_ranks,
    capacity,
    row_words,
    rail_x_at,
    x_at,
    scale_at,
    token_at,
    index_at,
    weight_at,
    flag_at,
    epoch,
    WORDS: tl.constexpr,
    SCALES: tl.constexpr,
    SP: tl.constexpr,
    K: tl.constexpr,
    KP: tl.constexpr,
    RP: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Hand every row on to the local ranks with one of its experts, into the slots of an ordinary dispatch."""
    programs = tl.num_programs(0)
    k, s = tl.arange(0, KP), tl.arange(0, SP)
    node = me // local_ranks
    for r in range(tl.program_id(0), nodes * capacity, programs):
        source = r // capacity
        if r - source * capacity < tl.load(rows + source):
            row = peer(table, me, rail_x_at, tl.int32) + tl.cast(r, tl.int64) * row_words
            row = tl.multiple_of(row, 16)
            token = tl.load(row + WORDS)
            origin = tl.load(row + WORDS + 1)
            word = tl.load(row + WORDS + 2 + SCALES + k, mask=k < K, other=-1)
            index = (word >> 12).to(tl.int64) << 32 | (word & 0xFFF).to(tl.int64)
            index = tl.where(word >= 0, index, 0xFFFFFFFF)
            share = tl.load(row + WORDS + 2 + SCALES + K + k, mask=k < K, other=0)
            for c in range(0, WORDS, BLOCK):
                w = c + tl.arange(0, BLOCK)
                words = tl.load(row + w, mask=w < WORDS)
                for local in range(0, local_ranks):
                    i = tl.load(slots + r * local_ranks + local)
                    if i >= 0:
                        to = peer(table, node * local_ranks + local, x_at, tl.int32)
                        to += (origin * capacity + i).to(tl.int64) * WORDS
                        tl.store(tl.multiple_of(to, 16) + w, words, mask=w < WORDS)
            for local in range(0, local_ranks):
                i = tl.load(slots + r * local_ranks + local)
                if i >= 0:
                    target = node * local_ranks + local
                    at = (origin * capacity + i).to(tl.int64)
                    tl.store(peer(table, target, token_at, tl.int32) + at, token)
                    tl.store(peer(table, target, index_at, tl.int64) + at * K + k, index, mask=k < K)
                    tl.store(peer(table, target, weight_at, tl.int32) + at * K + k, share, mask=k < K)
                    if SCALES > 0:
                        part = tl.load(row + WORDS + 2 + s, mask=s < SCALES)
                        tl.store(peer(table, target, scale_at, tl.int32) + at * SCALES + s, part, mask=s < SCALES)
    if is_last(counter, programs):
        # The rows of every rank with this index have been forwarded: post in each one's name to the whole node.
        for n in range(0, nodes):
            origin = n * local_ranks + me % local_ranks
            post_flags(table, node * local_ranks, local_ranks, flag_at + origin * 4, epoch, RP)


@triton.jit
def return_kernel(
    table,
    rows,
    slots,
    counter,
    me,
    nodes,
    local_ranks,
    capacity,
    partial_at,
    partial_flag_at,
    back_at,
    stage_at,
    flag_at,
    status_at,
    epoch,
    HIDDEN: tl.constexpr,
    LP: tl.constexpr,
    BLOCK: tl.constexpr,
    NVSHMEM: tl.constexpr,
):
    """Sum the node's partial rows of each forwarded token (float32, by ascending rank) and return the sum to its node."""
    programs = tl.num_programs(0)
    node = me // local_ranks
    ready = peer(table, me, partial_flag_at, tl.int32) + node * local_ranks
    wait_flags(ready, epoch, peer(table, me, status_at, tl.int32), local_ranks, LP)
    for r in range(tl.program_id(0), nodes * capacity, programs):
        source = r // capacity
        i = r - source * capacity
        if i < tl.load(rows + source):
            owner = source * local_ranks + me % local_ranks
            at = (node * capacity + i) * tl.cast(HIDDEN, tl.int64)
            if NVSHMEM:
                to = peer(table, me, stage_at, tl.bfloat16) + tl.cast(r, tl.int64) * HIDDEN
            else:
                to = peer(table, owner, back_at, tl.bfloat16) + at
            to = tl.multiple_of(to, 16)
            for c in range(0, HIDDEN, BLOCK):
                h = c + tl.arange(0, BLOCK)
                total = tl.zeros([BLOCK], tl.float32)
                for local in range(0, local_ranks):
                    slot = tl.load(slots + r * local_ranks + local)
                    if slot >= 0:
                        part = peer(table, node * local_ranks + local, partial_at, tl.bfloat16)
                        part += (owner * capacity + slot).to(tl.int64) * HIDDEN
                        total += tl.load(tl.multiple_of(part, 16) + h, mask=h < HIDDEN, other=0.0).to(tl.float32)
                tl.store(to + h, total.to(tl.bfloat16), mask=h < HIDDEN)
            if NVSHMEM:
                tl.debug_barrier()
                dest = address(peer(table, me, back_at, tl.bfloat16) + at)
                put_block(dest, address(to), tl.cast(HIDDEN * 2, tl.int64), owner)
    if NVSHMEM:
        quiet()
    if is_last(counter, programs):
        for n in range(0, nodes):
            owner = n * local_ranks + me % local_ranks
            post_count(table, owner, me, flag_at, node, tl.cast(epoch, tl.int64) << 32, NVSHMEM)


@triton.jit
def sum_kernel(
    table,
    slot,
    out,
    tokens,
    me,
    nodes,
    local_ranks,
    capacity,
    back_at,
    flag_at,
    status_at,
    epoch,
    HIDDEN: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Wait for every node's sums, then add them in float32 by ascending node."""
    status = peer(table, me, status_at, tl.int32)
    for n in range(0, nodes):
        wait_count(peer(table, me, flag_at, tl.int64) + n, epoch, status, n * local_ranks + me % local_ranks)
    for t in range(tl.program_id(0), tokens, tl.num_programs(0)):
        row = tl.cast(t, tl.int64)
        for c in range(0, HIDDEN, BLOCK):
            h = c + tl.arange(0, BLOCK)
            total = tl.zeros([BLOCK], tl.float32)
            for n in range(0, nodes):
                i = tl.load(slot + row * nodes + n)
                if i >= 0:
                    part = peer(table, me, back_at, tl.bfloat16) + (n * capacity + i).to(tl.int64) * HIDDEN
                    total += tl.load(tl.multiple_of(part, 16) + h, mask=h < HIDDEN, other=0.0).to(tl.float32)
            tl.store(out + row * HIDDEN + h, total.to(tl.bfloat16), mask=h < HIDDEN)
