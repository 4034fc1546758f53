"""High-throughput combine: each expert rank weights and sums its rows of a token; the token's owner pulls the partial sums.

``ht_reduce`` (posts) writes ``partial`` [ranks, capacity, stride] rows (``row.SumFormat``) on the expert rank, slot for slot
where dispatch put the row; ``ht_combine`` (waits) reads one row per (token, rank) from the peers and sums in float32 by
ascending rank. Two bf16 roundings, a fixed order: results do not depend on timing. ``partial_flag`` [ranks] counts epochs.
"""
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls
# ruff: noqa: N803

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .layout import Groups
from .listed import nth_row, order_of, sum_listed, sum_scattered, summing
from .notify import Arrivals
from .row import RowFormat, SumFormat
from .signal import address, is_last, peer, post_flags, wait_flags
from .symmetric import Heap, Plan

REDUCED = 4096  # columns at a time in the first sum: more would spill


def combine_fields(plan: Plan, ranks: int, capacity: int, row: SumFormat) -> None:
    plan.add("partial", (ranks, capacity, row.stride), torch.int32)
    plan.add("partial_flag", (ranks,), torch.int32)


@triton.jit(do_not_specialize=["me", "epoch"])
def reduce_kernel(
    table,
    y,
    position,
    rows,
    counter,
    me,
    ranks,
    first_reader,
    readers,
    capacity,
    row_at,
    partial_at,
    flag_at,
    epoch,
    STRIDE: tl.constexpr,
    ORIGIN_AT: tl.constexpr,
    WEIGHT_AT: tl.constexpr,
    HIDDEN: tl.constexpr,
    K: tl.constexpr,
    KP: tl.constexpr,
    SUM_STRIDE: tl.constexpr,
    TAIL: tl.constexpr,
    TP: tl.constexpr,
    SHARES_AT: tl.constexpr,
    RP: tl.constexpr,
    BLOCK: tl.constexpr,
):
    programs = tl.num_programs(0)
    lane = tl.arange(0, TP)
    entry = lane - SHARES_AT
    source_lane = tl.arange(0, RP)
    each = tl.load(rows + source_lane, mask=source_lane < ranks, other=0)
    k = tl.arange(0, KP)
    for j in range(tl.program_id(0), tl.sum(each, axis=0), programs):
        source, i = nth_row(each, source_lane < ranks, ranks, j)
        at = (source * capacity + i).to(tl.int64)
        row = peer(table, me, row_at, tl.int32) + at * STRIDE
        to = tl.multiple_of(peer(table, me, partial_at, tl.int32) + at * SUM_STRIDE, 16)
        p = tl.load(position + at * K + k, mask=k < K, other=-1)
        share = tl.load(row + WEIGHT_AT + k, mask=k < K, other=0).to(tl.float32, bitcast=True)
        # Origin, the weights of the experts that are here, zeros for the others and for padding.
        used = (entry >= 0) & (entry < K)
        kept = tl.load(position + at * K + entry, mask=used, other=-1) >= 0
        shares = tl.load(row + WEIGHT_AT + entry, mask=used & kept, other=0)
        origin = tl.load(row + ORIGIN_AT + lane, mask=lane < SHARES_AT, other=0)
        here = p >= 0
        order, n = order_of(here), tl.sum(here.to(tl.int32), axis=0)
        for c in range(0, HIDDEN, BLOCK):
            h = c + tl.arange(0, BLOCK)
            total = sum_listed(address(y), p, share, order, n, h, HIDDEN, BLOCK)
            tl.store(to.to(tl.pointer_type(tl.bfloat16), bitcast=True) + h, total.to(tl.bfloat16), mask=h < HIDDEN)
        tl.store(to + HIDDEN // 2 + lane, tl.where(lane < SHARES_AT, origin, shares), mask=lane < TAIL)
    if is_last(counter, programs):
        post_flags(table, first_reader, readers, flag_at + me * 4, epoch, RP)


@triton.jit(do_not_specialize=["me", "epoch"])
def pull_kernel(
    table,
    slot,
    out,
    out_weight,
    tokens,
    me,
    ranks,
    capacity,
    partial_at,
    flag_at,
    status_at,
    epoch,
    HIDDEN: tl.constexpr,
    K: tl.constexpr,
    SUM_STRIDE: tl.constexpr,
    TAIL: tl.constexpr,
    TP: tl.constexpr,
    SHARES_AT: tl.constexpr,
    RP: tl.constexpr,
    BLOCK: tl.constexpr,
):
    wait_flags(peer(table, me, flag_at, tl.int32), epoch, peer(table, me, status_at, tl.int32), ranks, RP)
    r = tl.arange(0, RP)
    lane = tl.arange(0, TP)
    entry = lane - SHARES_AT
    block = tl.load(table + r, mask=r < ranks, other=0) + partial_at
    for t in range(tl.program_id(0), tokens, tl.num_programs(0)):
        token = tl.cast(t, tl.int64)
        i = tl.load(slot + token * ranks + r, mask=r < ranks, other=-1)
        here = i >= 0
        row = block + (me * capacity + i).to(tl.int64) * (4 * SUM_STRIDE)
        tail = row.to(tl.pointer_type(tl.float32), bitcast=True)[:, None] + HIDDEN // 2 + lane[None, :]
        carried = tl.load(tail, mask=here[:, None] & (lane < TAIL)[None, :], other=0.0)
        shares = tl.sum(tl.where((lane >= SHARES_AT)[None, :], carried, 0.0), axis=0)
        order, n = order_of(here), tl.sum(here.to(tl.int32), axis=0)
        for c in range(0, HIDDEN, BLOCK):
            h = c + tl.arange(0, BLOCK)
            total = sum_scattered(row, order, n, h, HIDDEN, BLOCK)
            tl.store(out + token * HIDDEN + h, total.to(tl.bfloat16), mask=h < HIDDEN)
        tl.store(out_weight + token * K + entry, shares, mask=(entry >= 0) & (entry < K))


def ht_reduce(
    heap: Heap,
    row: RowFormat,
    sums: SumFormat,
    y: torch.Tensor,
    arrivals: Arrivals,
    position: torch.Tensor,
    counter: torch.Tensor,
    epoch: int,
    programs: int,
    readers: range | None = None,
) -> None:
    """``y``: [expert rows, hidden] bf16 expert outputs; ``position`` as ``ht_expand`` left it. Posts; never waits.

    ``readers``: the ranks that will pull (default: all; with the two-hop path, those of the own node).
    """
    ranks, capacity, _ = heap.plan.fields["partial"].shape
    readers = readers or range(ranks)
    received = row.constants()
    reduce_kernel[(min(programs, ranks * capacity),)](
        heap.table,
        y,
        position,
        arrivals.rows,
        counter,
        heap.rank,
        ranks,
        readers.start,
        len(readers),
        capacity,
        heap.offset("row"),
        heap.offset("partial"),
        heap.offset("partial_flag"),
        epoch,
        **{name: received[name] for name in ("STRIDE", "ORIGIN_AT", "WEIGHT_AT")},
        KP=triton.next_power_of_2(sums.top_k),
        RP=triton.next_power_of_2(ranks),
        **sums.constants() | summing(ranks * capacity, sums.hidden, REDUCED),
    )


def ht_combine(
    heap: Heap, sums: SumFormat, groups: Groups, out: torch.Tensor, out_weight: torch.Tensor, epoch: int, programs: int
) -> None:
    """Wait until every rank's partial sums are ready, then add them into ``out`` ([tokens, hidden] bf16).

    ``out_weight``: [tokens, top_k] float32, the weights that went into each token: what the caller sent, if nothing was lost.
    """
    ranks, capacity, _ = heap.plan.fields["partial"].shape
    tokens = out.shape[0]
    pull_kernel[(max(1, min(programs, tokens)),)](
        heap.table,
        groups.slot,
        out,
        out_weight,
        tokens,
        heap.rank,
        ranks,
        capacity,
        heap.offset("partial"),
        heap.offset("partial_flag"),
        heap.offset("status"),
        epoch,
        RP=triton.next_power_of_2(ranks),
        **sums.constants() | summing(tokens, sums.hidden),
    )


def reduce_bytes(sums: SumFormat, received: int, expert_rows: int) -> int:
    """Every expert row read once, every partial row written once."""
    return expert_rows * 2 * sums.hidden + received * (sums.bytes + 8 * sums.top_k)


def combine_bytes(sums: SumFormat, tokens: int, copies: int) -> int:
    """Every (token, rank) row read once, every token written once."""
    return copies * sums.bytes + tokens * (2 * sums.hidden + 4 * sums.top_k)


def combine_reference(partials: torch.Tensor, slot: torch.Tensor) -> torch.Tensor:
    """``partials``: [ranks, capacity, hidden] this rank's slots on each peer; [tokens, hidden] bf16, exactly as summed."""
    total = torch.zeros(slot.shape[0], partials.shape[2], dtype=torch.float32, device=partials.device)
    for r in range(partials.shape[0]):
        sent = slot[:, r] >= 0
        total[sent] += partials[r, slot[sent, r].long()].float()
    return total.bfloat16()
