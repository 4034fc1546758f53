"""High-throughput combine: each expert rank weights and sums its rows of a token; the token's owner pulls the partial sums.

``ht_reduce`` (posts) writes ``partial`` [ranks, capacity, hidden] bf16 on the expert rank, slot for slot where dispatch put
the row; ``ht_combine`` (waits) reads one row per (token, rank) from the peers and sums in float32 by ascending rank. Two
bf16 roundings, a fixed order: results do not depend on timing. ``partial_flag`` [ranks] counts epochs.
"""
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls
# ruff: noqa: N803, N806

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .layout import Groups
from .notify import Arrivals
from .signal import is_last, peer, post_flags, wait_flags
from .symmetric import Heap, Plan

CHUNK = 8192


def combine_fields(plan: Plan, ranks: int, capacity: int, hidden: int) -> None:
    plan.add("partial", (ranks, capacity, hidden), torch.bfloat16)
    plan.add("partial_flag", (ranks,), torch.int32)


@triton.jit
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
    weight_at,
    partial_at,
    flag_at,
    epoch,
    HIDDEN: tl.constexpr,
    K: tl.constexpr,
    RP: tl.constexpr,
    BLOCK: tl.constexpr,
):
    programs = tl.num_programs(0)
    for row in range(tl.program_id(0), ranks * capacity, programs):
        source = row // capacity
        if row - source * capacity < tl.load(rows + source):
            at = tl.cast(row, tl.int64)
            for c in range(0, HIDDEN, BLOCK):
                h = c + tl.arange(0, BLOCK)
                total = tl.zeros([BLOCK], tl.float32)
                for k in range(0, K):
                    p = tl.load(position + at * K + k)
                    if p >= 0:
                        share = tl.load(peer(table, me, weight_at, tl.float32) + at * K + k)
                        total += share * tl.load(y + p.to(tl.int64) * HIDDEN + h, mask=h < HIDDEN, other=0.0).to(tl.float32)
                to = tl.multiple_of(peer(table, me, partial_at, tl.bfloat16) + at * HIDDEN, 16)
                tl.store(to + h, total.to(tl.bfloat16), mask=h < HIDDEN)
    if is_last(counter, programs):
        post_flags(table, first_reader, readers, flag_at + me * 4, epoch, RP)


@triton.jit
def pull_kernel(
    table,
    slot,
    out,
    tokens,
    me,
    ranks,
    capacity,
    partial_at,
    flag_at,
    status_at,
    epoch,
    HIDDEN: tl.constexpr,
    RP: tl.constexpr,
    BLOCK: tl.constexpr,
):
    wait_flags(peer(table, me, flag_at, tl.int32), epoch, peer(table, me, status_at, tl.int32), ranks, RP)
    for t in range(tl.program_id(0), tokens, tl.num_programs(0)):
        row = tl.cast(t, tl.int64)
        for c in range(0, HIDDEN, BLOCK):
            h = c + tl.arange(0, BLOCK)
            total = tl.zeros([BLOCK], tl.float32)
            for r in range(0, ranks):
                i = tl.load(slot + row * ranks + r)
                if i >= 0:
                    source = peer(table, r, partial_at, tl.bfloat16) + (me * capacity + i).to(tl.int64) * HIDDEN
                    total += tl.load(tl.multiple_of(source, 16) + h, mask=h < HIDDEN, other=0.0).to(tl.float32)
            tl.store(out + row * HIDDEN + h, total.to(tl.bfloat16), mask=h < HIDDEN)


def ht_reduce(
    heap: Heap,
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
    ranks, capacity, hidden = heap.plan.fields["partial"].shape
    readers = readers or range(ranks)
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
        heap.offset("row_weight"),
        heap.offset("partial"),
        heap.offset("partial_flag"),
        epoch,
        HIDDEN=hidden,
        K=position.shape[1],
        RP=triton.next_power_of_2(ranks),
        BLOCK=min(CHUNK, triton.next_power_of_2(hidden)),
        num_warps=8,
    )


def ht_combine(heap: Heap, groups: Groups, out: torch.Tensor, epoch: int, programs: int) -> None:
    """Wait until every rank's partial sums are ready, then sum them into ``out`` ([tokens, hidden] bf16)."""
    ranks, capacity, hidden = heap.plan.fields["partial"].shape
    tokens = out.shape[0]
    pull_kernel[(max(1, min(programs, tokens)),)](
        heap.table,
        groups.slot,
        out,
        tokens,
        heap.rank,
        ranks,
        capacity,
        heap.offset("partial"),
        heap.offset("partial_flag"),
        heap.offset("status"),
        epoch,
        HIDDEN=hidden,
        RP=triton.next_power_of_2(ranks),
        BLOCK=min(CHUNK, triton.next_power_of_2(hidden)),
        num_warps=8,
    )


def combine_row_bytes(hidden: int) -> dict[str, int]:
    """What one (token, rank) copy is made of, in bytes. A pull needs no index: the owner knows the slot."""
    return {"data": 2 * hidden}


def combine_reference(partials: torch.Tensor, slot: torch.Tensor) -> torch.Tensor:
    """``partials``: [ranks, capacity, hidden] this rank's slots on each peer; returns [tokens, hidden] bf16, exactly as summed."""
    total = torch.zeros(slot.shape[0], partials.shape[2], dtype=torch.float32, device=partials.device)
    for r in range(partials.shape[0]):
        sent = slot[:, r] >= 0
        total[sent] += partials[r, slot[sent, r].long()].float()
    return total.bfloat16()
