"""The two-hop path between nodes: a token crosses the network once per node, to the GPU with the sender's own index (its
rail), and is forwarded over NVLink from there; results return the same way, summed on the node before they cross.

Rank = node * local_ranks + index. ``rail_row`` [nodes, capacity, stride] holds whole rows (``row.RowFormat``, two_hop) in
slots by source node, ``rail_flag`` [nodes] int64 = epoch << 32 | rows. ``rail_back`` [nodes, capacity, stride] holds the sums
that return (``row.SumFormat``, two_hop), ``rail_back_flag`` [nodes] int64 = epoch << 32. Between nodes NVSHMEM carries both
hops from ``rail_stage`` and ``rail_back_stage``; where every rank is addressable (tests, one NVLink domain) they are plain
stores.
"""
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls
# ruff: noqa: N803

import torch
import triton
import triton.language as tl

from .ll_dispatch import wait_count
from .nvshmem import put_block, quiet, signal
from .row import RowFormat, SumFormat
from .signal import address, is_last, peer, post_flags, wait_flags
from .symmetric import Plan

#: of ``RowFormat.constants``, those of ``put_kernel``
PUT_CONSTANTS = (
    "WORDS", "SCALES", "SP", "K", "KP", "STRIDE", "TRAVELS", "ORIGIN_AT", "INDEX_AT", "WEIGHT_AT", "BLOCK",
)  # fmt: skip


def rail_fields(plan: Plan, nodes: int, capacity: int, row: RowFormat, sums: SumFormat, staged: bool) -> None:
    """``staged``: also the buffers NVSHMEM puts are made from."""
    for name in ("rail_row", "rail_stage")[: 1 + staged]:
        plan.add(name, (nodes, capacity, row.stride), torch.int32)
    for name in ("rail_back", "rail_back_stage")[: 1 + staged]:
        plan.add(name, (nodes, capacity, sums.stride), torch.int32)
    plan.add("rail_flag", (nodes,), torch.int64)
    plan.add("rail_back_flag", (nodes,), torch.int64)


@triton.jit
def post_count(table, target, me, flag_at, place, value, NVSHMEM: tl.constexpr):
    if NVSHMEM:
        signal(address(peer(table, me, flag_at, tl.int64) + place), value, 0, target)
    else:
        tl.atomic_xchg(peer(table, target, flag_at, tl.int64) + place, value, sem="release", scope="sys")


@triton.jit(do_not_specialize=["me", "epoch"])
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
    row_at,
    stage_at,
    flag_at,
    epoch,
    WORDS: tl.constexpr,
    SCALES: tl.constexpr,
    SP: tl.constexpr,
    K: tl.constexpr,
    KP: tl.constexpr,
    STRIDE: tl.constexpr,
    TRAVELS: tl.constexpr,
    ORIGIN_AT: tl.constexpr,
    INDEX_AT: tl.constexpr,
    WEIGHT_AT: tl.constexpr,
    BLOCK: tl.constexpr,
    NVSHMEM: tl.constexpr,
):
    programs = tl.num_programs(0)
    k, s, pad = tl.arange(0, KP), tl.arange(0, SP), tl.arange(0, 4)
    node = me // local_ranks
    for t in range(tl.program_id(0), tokens, programs):
        token = tl.cast(t, tl.int64)
        expert = tl.load(topk + token * K + k, mask=k < K, other=-1).to(tl.int32)
        nth = tl.load(place + token * K + k, mask=k < K, other=0)
        index = tl.where(expert >= 0, (nth << 12) | expert, -1)
        share = tl.load(weight + token * K + k, mask=k < K, other=0.0).to(tl.int32, bitcast=True)
        for n in range(0, nodes):
            i = tl.load(slot + token * nodes + n)
            if i >= 0:
                target = n * local_ranks + me % local_ranks
                at = (node * capacity + i).to(tl.int64) * STRIDE
                if NVSHMEM:
                    to = peer(table, me, stage_at, tl.int32) + (n * capacity + i).to(tl.int64) * STRIDE
                else:
                    to = peer(table, target, row_at, tl.int32) + at
                to = tl.multiple_of(to, 16)
                for c in range(0, WORDS, BLOCK):
                    w = c + tl.arange(0, BLOCK)
                    tl.store(to + w, tl.load(x + token * WORDS + w, mask=w < WORDS), mask=w < WORDS)
                if SCALES > 0:
                    part = tl.load(scale + token * SCALES + s, mask=s < SCALES).to(tl.int32, bitcast=True)
                    tl.store(to + WORDS + s, part, mask=s < SCALES)
                tl.store(to + ORIGIN_AT, t)
                tl.store(to + ORIGIN_AT + 1, me)
                tl.store(to + INDEX_AT + k, index, mask=k < K)
                tl.store(to + WEIGHT_AT + k, share, mask=k < K)
                tl.store(to + WEIGHT_AT + K + pad, tl.zeros([4], tl.int32), mask=WEIGHT_AT + K + pad < TRAVELS)
                if NVSHMEM:
                    tl.debug_barrier()
                    dest = address(peer(table, me, row_at, tl.int32) + at)
                    put_block(dest, address(to), tl.cast(TRAVELS * 4, tl.int64), target)
    if NVSHMEM:
        quiet()
    if is_last(counter, programs):
        for n in range(0, nodes):
            value = (tl.cast(epoch, tl.int64) << 32) | tl.load(counts + n).to(tl.int64)
            post_count(table, n * local_ranks + me % local_ranks, me, flag_at, node, value, NVSHMEM)


@triton.jit(do_not_specialize=["me", "epoch"])
def slots_kernel(
    table,
    rows,
    slots,
    me,
    nodes,
    local_ranks,
    local_experts,
    capacity,
    row_at,
    flag_at,
    status_at,
    epoch,
    K: tl.constexpr,
    STRIDE: tl.constexpr,
    INDEX_AT: tl.constexpr,
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
        row = peer(table, me, row_at, tl.int32) + (source * capacity + i).to(tl.int64) * STRIDE + INDEX_AT
        hit = tl.zeros([BLOCK], tl.int32)
        for k in range(0, K):
            word = tl.load(row + k, mask=i < n, other=-1)
            expert = word & 0xFFF
            hit = tl.where((word >= 0) & (expert >= first) & (expert < first + local_experts), 1, hit)
        place = total + tl.cumsum(hit, 0) - hit
        tl.store(slots + (source * capacity + i) * local_ranks + local, tl.where(hit > 0, place, -1), mask=i < n)
        total += tl.sum(hit)


@triton.jit(do_not_specialize=["me", "epoch"])
def forward_kernel(
    table,
    rows,
    slots,
    counter,
    me,
    nodes,
    local_ranks,
    capacity,
    rail_at,
    row_at,
    flag_at,
    epoch,
    STRIDE: tl.constexpr,
    TRAVELS: tl.constexpr,
    LP: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Hand every row on, as it is, to the local ranks with one of its experts, into the slots of an ordinary dispatch."""
    programs = tl.num_programs(0)
    node = me // local_ranks
    for r in range(tl.program_id(0), nodes * capacity, programs):
        source = r // capacity
        if r - source * capacity < tl.load(rows + source):
            origin = source * local_ranks + me % local_ranks
            row = tl.multiple_of(peer(table, me, rail_at, tl.int32) + tl.cast(r, tl.int64) * STRIDE, 16)
            for c in range(0, TRAVELS, BLOCK):
                w = c + tl.arange(0, BLOCK)
                words = tl.load(row + w, mask=w < TRAVELS)
                for local in range(0, local_ranks):
                    i = tl.load(slots + r * local_ranks + local)
                    if i >= 0:
                        to = peer(table, node * local_ranks + local, row_at, tl.int32)
                        to += (origin * capacity + i).to(tl.int64) * STRIDE
                        tl.store(tl.multiple_of(to, 16) + w, words, mask=w < TRAVELS)
    if is_last(counter, programs):
        # The rows of every rank with this index have been forwarded: post in each one's name to the whole node.
        for n in range(0, nodes):
            origin = n * local_ranks + me % local_ranks
            post_flags(table, node * local_ranks, local_ranks, flag_at + origin * 4, epoch, LP)


@triton.jit
def sum_rows(table, slots, first, count, base_at, slot_base, to, HIDDEN, SUM_STRIDE, TAIL, TP, SHARES_AT, BLOCK):
    """Add ``count`` rows (of ranks ``first ..``, in slots ``slot_base + slots[..]``, -1: none) into the row at ``to``."""
    lane = tl.arange(0, TP)
    for c in range(0, HIDDEN, BLOCK):
        h = c + tl.arange(0, BLOCK)
        total = tl.zeros([BLOCK], tl.float32)
        for j in range(0, count):
            slot = tl.load(slots + j)
            if slot >= 0:
                part = peer(table, first + j, base_at, tl.bfloat16) + (slot_base + slot).to(tl.int64) * (2 * SUM_STRIDE)
                total += tl.load(tl.multiple_of(part, 16) + h, mask=h < HIDDEN, other=0.0).to(tl.float32)
        tl.store(to.to(tl.pointer_type(tl.bfloat16), bitcast=True) + h, total.to(tl.bfloat16), mask=h < HIDDEN)
    origin, shares = tl.zeros([TP], tl.int32), tl.zeros([TP], tl.float32)
    for j in range(0, count):
        slot = tl.load(slots + j)
        if slot >= 0:
            part = peer(table, first + j, base_at, tl.int32) + (slot_base + slot).to(tl.int64) * SUM_STRIDE + HIDDEN // 2
            origin = tl.load(part + lane, mask=lane < TAIL, other=0)
            shares += tl.where(lane >= SHARES_AT, origin.to(tl.float32, bitcast=True), 0.0)
    tail = tl.where(lane < SHARES_AT, origin, shares.to(tl.int32, bitcast=True))
    tl.store(to + HIDDEN // 2 + lane, tail, mask=lane < TAIL)


@triton.jit(do_not_specialize=["me", "epoch"])
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
    SUM_STRIDE: tl.constexpr,
    TAIL: tl.constexpr,
    TP: tl.constexpr,
    SHARES_AT: tl.constexpr,
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
            at = (node * capacity + i) * tl.cast(SUM_STRIDE, tl.int64)
            if NVSHMEM:
                to = peer(table, me, stage_at, tl.int32) + tl.cast(r, tl.int64) * SUM_STRIDE
            else:
                to = peer(table, owner, back_at, tl.int32) + at
            to = tl.multiple_of(to, 16)
            first, mine = node * local_ranks, slots + r * local_ranks
            base = owner * capacity
            sum_rows(table, mine, first, local_ranks, partial_at, base, to, HIDDEN, SUM_STRIDE, TAIL, TP, SHARES_AT, BLOCK)
            if NVSHMEM:
                tl.debug_barrier()
                dest = address(peer(table, me, back_at, tl.int32) + at)
                put_block(dest, address(to), tl.cast((HIDDEN // 2 + TAIL) * 4, tl.int64), owner)
    if NVSHMEM:
        quiet()
    if is_last(counter, programs):
        for n in range(0, nodes):
            owner = n * local_ranks + me % local_ranks
            post_count(table, owner, me, flag_at, node, tl.cast(epoch, tl.int64) << 32, NVSHMEM)


@triton.jit(do_not_specialize=["me", "epoch"])
def home_kernel(
    table,
    slot,
    out,
    out_weight,
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
    K: tl.constexpr,
    SUM_STRIDE: tl.constexpr,
    TAIL: tl.constexpr,
    TP: tl.constexpr,
    SHARES_AT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Wait for every node's sums, then add them in float32 by ascending node."""
    status = peer(table, me, status_at, tl.int32)
    for n in range(0, nodes):
        wait_count(peer(table, me, flag_at, tl.int64) + n, epoch, status, n * local_ranks + me % local_ranks)
    lane = tl.arange(0, TP)
    for t in range(tl.program_id(0), tokens, tl.num_programs(0)):
        token = tl.cast(t, tl.int64)
        shares = tl.zeros([TP], tl.float32)
        for c in range(0, HIDDEN, BLOCK):
            h = c + tl.arange(0, BLOCK)
            total = tl.zeros([BLOCK], tl.float32)
            for n in range(0, nodes):
                i = tl.load(slot + token * nodes + n)
                if i >= 0:
                    row = peer(table, me, back_at, tl.bfloat16) + (n * capacity + i).to(tl.int64) * (2 * SUM_STRIDE)
                    total += tl.load(tl.multiple_of(row, 16) + h, mask=h < HIDDEN, other=0.0).to(tl.float32)
            tl.store(out + token * HIDDEN + h, total.to(tl.bfloat16), mask=h < HIDDEN)
        for n in range(0, nodes):
            i = tl.load(slot + token * nodes + n)
            if i >= 0:
                row = peer(table, me, back_at, tl.float32) + (n * capacity + i).to(tl.int64) * SUM_STRIDE
                tail = tl.load(row + HIDDEN // 2 + lane, mask=lane < TAIL, other=0.0)
                shares += tl.where(lane >= SHARES_AT, tail, 0.0)
        entry = lane - SHARES_AT
        tl.store(out_weight + token * K + entry, shares, mask=(entry >= 0) & (entry < K))
