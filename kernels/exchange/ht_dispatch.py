"""High-throughput dispatch: one copy of a token per rank it goes to, into fixed slots; then expert-sorted rows.

A row (``row.RowFormat``) from source s lands in slot i of ``row`` [ranks, capacity, stride] on the destination, i being the
token's place among those s sends there. ``row_flag`` [ranks] int32 counts epochs.
"""
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls
# ruff: noqa: N803

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .layout import Experts, Groups
from .listed import nth_row
from .notify import Arrivals, check_tokens
from .row import RowFormat, read_index
from .signal import is_last, peer, post_flags, wait_flags
from .symmetric import Heap, Plan


def dispatch_fields(plan: Plan, ranks: int, capacity: int, row: RowFormat) -> None:
    """``capacity``: most tokens a rank may send in one call."""
    plan.add("row", (ranks, capacity, row.stride), torch.int32)
    plan.add("row_flag", (ranks,), torch.int32)


@triton.jit
def row_tail(scale, topk, weight, place, token, TAIL: tl.constexpr, TP: tl.constexpr, SCALES: tl.constexpr, K: tl.constexpr):
    """[1, TP] words of a row after its payload: scales, token number, (expert, place) of each entry, weights."""
    lane = tl.arange(0, TP)[None, :]
    entry = lane - (SCALES + 1)
    tail = tl.where(lane == SCALES, token.to(tl.int32), 0)
    if SCALES > 0:
        tail += tl.load(scale + token * SCALES + lane, mask=lane < SCALES, other=0.0).to(tl.int32, bitcast=True)
    index = (entry >= 0) & (entry < 2 * K)
    k = token * K + entry // 2
    tail += tl.load(topk + k, mask=index & (entry % 2 == 0), other=0).to(tl.int32)
    tail += tl.load(place + k, mask=index & (entry % 2 == 1), other=0)
    weighted = (entry >= 2 * K) & (lane < TAIL)
    return tail + tl.load(weight + token * K + entry - 2 * K, mask=weighted, other=0.0).to(tl.int32, bitcast=True)


@triton.jit(do_not_specialize=["me", "epoch"])
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
    row_at,
    flag_at,
    epoch,
    WORDS: tl.constexpr,
    SCALES: tl.constexpr,
    K: tl.constexpr,
    STRIDE: tl.constexpr,
    TAIL: tl.constexpr,
    TP: tl.constexpr,
    RP: tl.constexpr,
    FP: tl.constexpr,
    BLOCK: tl.constexpr,
):
    programs = tl.num_programs(0)
    lane = tl.arange(0, TP)[None, :]
    for t in range(tl.program_id(0), tokens, programs):
        token = tl.cast(t, tl.int64)
        tail = row_tail(scale, topk, weight, place, token, TAIL, TP, SCALES, K)
        for c in range(0, WORDS, BLOCK):
            w = c + tl.arange(0, BLOCK)[None, :]
            words = tl.load(x + token * WORDS + w, mask=w < WORDS)
            # The row goes to RP ranks at a time, by one store: all their addresses are known before the first word is written.
            for first in range(0, ranks, RP):
                r = first + tl.arange(0, RP)[:, None]
                i = tl.load(slot + token * ranks + r, mask=r < ranks, other=-1)
                block = tl.load(table + r, mask=r < ranks, other=0)
                at = block + row_at + (me * capacity + i).to(tl.int64) * (4 * STRIDE)
                to = tl.multiple_of(at.to(tl.pointer_type(tl.int32), bitcast=True), [1, 16])
                tl.store(to + w, words, mask=(i >= 0) & (w < WORDS))
                if c == 0:
                    tl.store(to + WORDS + lane, tail, mask=(i >= 0) & (lane < TAIL))
    if is_last(counter, programs):
        post_flags(table, 0, ranks, flag_at + me * 4, epoch, FP)


@triton.jit(do_not_specialize=["me", "epoch"])
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
    row_at,
    flag_at,
    status_at,
    epoch,
    WORDS: tl.constexpr,
    SCALES: tl.constexpr,
    SP: tl.constexpr,
    K: tl.constexpr,
    KP: tl.constexpr,
    STRIDE: tl.constexpr,
    INDEX_AT: tl.constexpr,
    TWO_HOP: tl.constexpr,
    RP: tl.constexpr,
    BLOCK: tl.constexpr,
):
    wait_flags(peer(table, me, flag_at, tl.int32), epoch, peer(table, me, status_at, tl.int32), ranks, RP)
    source_lane = tl.arange(0, RP)
    each = tl.load(rows + source_lane, mask=source_lane < ranks, other=0)
    s = tl.arange(0, SP)[None, :]
    for j in range(tl.program_id(0), tl.sum(each, axis=0), tl.num_programs(0)):
        source, i = nth_row(each, source_lane < ranks, ranks, j)
        at = (source * capacity + i).to(tl.int64)
        row = tl.multiple_of(peer(table, me, row_at, tl.int32) + at * STRIDE, 16)
        for c in range(0, WORDS, BLOCK):
            w = c + tl.arange(0, BLOCK)[None, :]
            words = tl.load(row + w, mask=w < WORDS)
            for first in range(0, K, KP):
                k = first + tl.arange(0, KP)[:, None]
                expert, place = read_index(row + INDEX_AT + k * (1 if TWO_HOP else 2), k < K, TWO_HOP)
                local = expert - me * local_experts
                here = (expert >= 0) & (local >= 0) & (local < local_experts)
                target = tl.load(base + source * local_experts + local, mask=here, other=0) + place
                # Beyond the buffer nothing is written: notify has recorded how many rows would be needed.
                here = here & (target < out_rows)
                to = target.to(tl.int64)
                tl.store(out + to * WORDS + w, words, mask=here & (w < WORDS))
                if c == 0:
                    tl.store(position + at * K + k, tl.where(here, target, -1), mask=k < K)
                    if SCALES > 0:
                        part = tl.load(row + WORDS + s, mask=s < SCALES).to(tl.float32, bitcast=True)
                        tl.store(out_scale + s.to(tl.int64) * out_rows + to, part, mask=here & (s < SCALES))


def ht_dispatch(
    heap: Heap,
    row: RowFormat,
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
    tokens = topk.shape[0]
    _, capacity, _ = heap.plan.fields["row"].shape
    check_tokens(tokens, capacity)
    constants = row.constants()
    send_kernel[(max(1, min(2 * programs, tokens)),)](
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
        heap.offset("row"),
        heap.offset("row_flag"),
        epoch,
        **{name: constants[name] for name in ("WORDS", "SCALES", "K", "STRIDE", "TAIL", "TP", "BLOCK")},
        RP=min(8, triton.next_power_of_2(heap.ranks)),
        FP=triton.next_power_of_2(heap.ranks),
        num_warps=8,
    )


def ht_expand(
    heap: Heap,
    row: RowFormat,
    arrivals: Arrivals,
    out: torch.Tensor,
    out_scale: torch.Tensor | None,
    position: torch.Tensor,
    epoch: int,
    programs: int,
) -> None:
    """Wait for all sources' rows, then copy each to its experts' rows.

    ``out``: [expert rows, hidden]; ``out_scale``: [scales, expert rows], as the product reads it; ``position``:
    [ranks * capacity, top_k] int32, the expert row of each received (row, k), -1 where the expert is elsewhere.
    """
    ranks, capacity, _ = heap.plan.fields["row"].shape
    constants = row.constants()
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
        heap.offset("row"),
        heap.offset("row_flag"),
        heap.offset("status"),
        epoch,
        **{name: constants[name] for name in ("WORDS", "SCALES", "SP", "K", "KP", "STRIDE", "INDEX_AT", "TWO_HOP", "BLOCK")},
        RP=triton.next_power_of_2(ranks),
        num_warps=8,
    )


def dispatch_bytes(row: RowFormat, tokens: int, copies: int) -> int:
    """Bytes the sender must move: each token's row read once, each of ``copies`` (token, rank) rows written once."""
    return (tokens + copies) * row.bytes


def expand_bytes(row: RowFormat, received: int, expert_rows: int) -> int:
    return received * row.bytes + expert_rows * 4 * (row.payload_words + row.scales) + 4 * received * row.top_k
