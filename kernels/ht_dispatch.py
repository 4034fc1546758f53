"""High-throughput dispatch: one copy of a token per rank it goes to, into fixed slots; then expert-sorted rows.

A row from source s lands in slot i of ``row_*[s]`` on the destination, i being the token's place among those s sends
there. Per row: the payload (``row_words`` 4-byte words: bf16 or fp8), fp32 scales (fp8: one per 128 values), the source's
token number (4 bytes), and per top-k entry 8 bytes of index (expert number; its place among the source's tokens for that
expert) and 4 bytes of weight. ``row_flag`` [ranks] counts epochs.
"""
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls
# ruff: noqa: N803, N806

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .layout import Experts, Groups
from .notify import Arrivals, CapacityError
from .signal import is_last, peer, post_flags, wait_flags
from .symmetric import Heap, Plan

CHUNK_WORDS = 4096


def dispatch_fields(plan: Plan, ranks: int, capacity: int, row_words: int, scales: int, top_k: int) -> None:
    """``capacity``: most tokens a rank may send in one call."""
    plan.add("row_x", (ranks, capacity, row_words), torch.int32)
    if scales:
        plan.add("row_scale", (ranks, capacity, scales), torch.float32)
    plan.add("row_token", (ranks, capacity), torch.int32)
    plan.add("row_index", (ranks, capacity, top_k), torch.int64)
    plan.add("row_weight", (ranks, capacity, top_k), torch.float32)
    plan.add("row_flag", (ranks,), torch.int32)


@triton.jit
def send_kernel(
    table,
    x,
    scale,
    topk,
    weight,
    slot,
    place,
    counter,
    tokens,
    me,
    ranks,
    capacity,
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
    pid = tl.program_id(0)
    programs = tl.num_programs(0)
    k = tl.arange(0, KP)
    s = tl.arange(0, SP)
    for t in range(pid, tokens, programs):
        row = tl.cast(t, tl.int64)
        for c in range(0, WORDS, BLOCK):
            w = c + tl.arange(0, BLOCK)
            words = tl.load(x + row * WORDS + w, mask=w < WORDS)
            for r in range(0, ranks):
                i = tl.load(slot + row * ranks + r)
                if i >= 0:
                    to = peer(table, r, x_at, tl.int32) + (me * capacity + i).to(tl.int64) * WORDS
                    tl.store(tl.multiple_of(to, 16) + w, words, mask=w < WORDS)
        expert = tl.load(topk + row * K + k, mask=k < K, other=-1).to(tl.int64)
        nth = tl.load(place + row * K + k, mask=k < K, other=0).to(tl.int64)
        share = tl.load(weight + row * K + k, mask=k < K)
        for r in range(0, ranks):
            i = tl.load(slot + row * ranks + r)
            if i >= 0:
                at = (me * capacity + i).to(tl.int64)
                tl.store(peer(table, r, token_at, tl.int32) + at, t)
                tl.store(peer(table, r, index_at, tl.int64) + at * K + k, (nth << 32) | (expert & 0xFFFFFFFF), mask=k < K)
                tl.store(peer(table, r, weight_at, tl.float32) + at * K + k, share, mask=k < K)
                if SCALES > 0:
                    part = tl.load(scale + row * SCALES + s, mask=s < SCALES)
                    tl.store(peer(table, r, scale_at, tl.float32) + at * SCALES + s, part, mask=s < SCALES)
    if is_last(counter, programs):
        post_flags(table, 0, ranks, flag_at + me * 4, epoch, RP)


@triton.jit
def expand_kernel(
    table,
    rows,
    base,
    out,
    out_scale,
    position,
    out_rows,
    me,
    ranks,
    capacity,
    local_experts,
    x_at,
    scale_at,
    index_at,
    flag_at,
    status_at,
    epoch,
    WORDS: tl.constexpr,
    SCALES: tl.constexpr,
    SP: tl.constexpr,
    K: tl.constexpr,
    RP: tl.constexpr,
    BLOCK: tl.constexpr,
):
    wait_flags(peer(table, me, flag_at, tl.int32), epoch, peer(table, me, status_at, tl.int32), ranks, RP)
    s = tl.arange(0, SP)
    for row in range(tl.program_id(0), ranks * capacity, tl.num_programs(0)):
        source = row // capacity
        if row - source * capacity < tl.load(rows + source):
            at = tl.cast(row, tl.int64)
            part = tl.zeros([SP], tl.float32)
            if SCALES > 0:
                part = tl.load(peer(table, me, scale_at, tl.float32) + at * SCALES + s, mask=s < SCALES)
            for c in range(0, WORDS, BLOCK):
                w = c + tl.arange(0, BLOCK)
                words = tl.load(tl.multiple_of(peer(table, me, x_at, tl.int32) + at * WORDS, 16) + w, mask=w < WORDS)
                for k in range(0, K):
                    packed = tl.load(peer(table, me, index_at, tl.int64) + at * K + k)
                    expert = packed.to(tl.int32) - me * local_experts
                    here = (expert >= 0) & (expert < local_experts)
                    first = tl.load(base + source * local_experts + expert, mask=here, other=0)
                    target = first + (packed >> 32).to(tl.int32)
                    here = here & (target < out_rows)
                    tl.store(position + at * K + k, tl.where(here, target, -1))
                    if here:
                        to = target.to(tl.int64)
                        tl.store(tl.multiple_of(out + to * WORDS, 16) + w, words, mask=w < WORDS)
                        if SCALES > 0:
                            tl.store(out_scale + to * SCALES + s, part, mask=s < SCALES)


def ht_dispatch(
    heap: Heap,
    x: torch.Tensor,
    scale: torch.Tensor | None,
    topk: torch.Tensor,
    weight: torch.Tensor,
    groups: Groups,
    experts: Experts,
    counter: torch.Tensor,
    epoch: int,
    programs: int,
) -> None:
    """Send each row of ``x`` ([tokens, hidden]) to every rank with one of its experts. Posts; never waits.

    Raises CapacityError, before anything is written, if there are more tokens than the heap has slots per source.
    """
    tokens, top_k = topk.shape
    _, capacity, words = heap.plan.fields["row_x"].shape
    if tokens > capacity:
        raise CapacityError(f"{tokens} tokens exceed the capacity of {capacity} per rank: build the buffers with {tokens} or more")
    scales = scale.shape[1] if scale is not None else 0
    send_kernel[(max(1, min(programs, tokens)),)](
        heap.table,
        x.view(torch.int32),
        scale if scale is not None else weight,
        topk,
        weight,
        groups.slot,
        experts.place,
        counter,
        tokens,
        heap.rank,
        heap.ranks,
        capacity,
        heap.offset("row_x"),
        heap.offset("row_scale") if scales else 0,
        heap.offset("row_token"),
        heap.offset("row_index"),
        heap.offset("row_weight"),
        heap.offset("row_flag"),
        epoch,
        WORDS=words,
        SCALES=scales,
        SP=triton.next_power_of_2(max(scales, 1)),
        K=top_k,
        KP=triton.next_power_of_2(top_k),
        RP=triton.next_power_of_2(heap.ranks),
        BLOCK=min(CHUNK_WORDS, triton.next_power_of_2(words)),
        num_warps=8,
    )


def ht_expand(
    heap: Heap,
    arrivals: Arrivals,
    out: torch.Tensor,
    out_scale: torch.Tensor | None,
    position: torch.Tensor,
    epoch: int,
    programs: int,
) -> None:
    """Wait for all sources' rows, then copy each to its experts' rows.

    ``out``: [expert rows, hidden]; ``out_scale``: [expert rows, scales]; ``position``: [ranks * capacity, top_k] int32,
    the expert row of each received (row, k), -1 where the expert is elsewhere.
    """
    ranks, capacity, words = heap.plan.fields["row_x"].shape
    scales = out_scale.shape[1] if out_scale is not None else 0
    expand_kernel[(min(programs, ranks * capacity),)](
        heap.table,
        arrivals.rows,
        arrivals.base,
        out.view(torch.int32),
        out_scale if out_scale is not None else position,
        position,
        out.shape[0],
        heap.rank,
        ranks,
        capacity,
        arrivals.base.shape[1],
        heap.offset("row_x"),
        heap.offset("row_scale") if scales else 0,
        heap.offset("row_index"),
        heap.offset("row_flag"),
        heap.offset("status"),
        epoch,
        WORDS=words,
        SCALES=scales,
        SP=triton.next_power_of_2(max(scales, 1)),
        K=position.shape[1],
        RP=triton.next_power_of_2(ranks),
        BLOCK=min(CHUNK_WORDS, triton.next_power_of_2(words)),
        num_warps=8,
    )


def ht_row_bytes(hidden: int, element_bytes: int, scales: int, top_k: int) -> dict[str, int]:
    """What one (token, rank) copy is made of, in bytes."""
    return {"data": hidden * element_bytes, "scales": 4 * scales, "token": 4, "index": 8 * top_k, "weights": 4 * top_k}
