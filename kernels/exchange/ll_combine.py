"""Low-latency combine: each expert's row returns to a slot of its own, (token, k), and the owner sums them in top-k order.

``return_x`` [capacity, top_k, hidden] bf16 on the token's owner; ``return_flag`` [experts] counts epochs: every expert posts
to every rank, also when it had no rows, so that a rank that has received all flags knows its buffers are free again.
"""
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls
# ruff: noqa: N803

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .listed import order_of, sum_listed, summing
from .ll_dispatch import Packed
from .signal import is_last, peer, wait_flags
from .symmetric import Heap, Plan


def ll_combine_fields(plan: Plan, experts: int, capacity: int, hidden: int, top_k: int) -> None:
    plan.add("return_x", (capacity, top_k, hidden), torch.bfloat16)
    plan.add("return_flag", (experts,), torch.int32)


@triton.jit(do_not_specialize=["me", "epoch"])
def send_kernel(
    table,
    y,
    header,
    count,
    first,
    counter,
    me,
    ranks,
    rows_per_expert,
    local_experts,
    splits,
    x_at,
    flag_at,
    epoch,
    HIDDEN: tl.constexpr,
    K: tl.constexpr,
    BLOCK: tl.constexpr,
):
    pid = tl.program_id(0)
    pair, split = pid // splits, pid % splits
    expert, target = pair // ranks, pair % ranks
    begin, total = tl.load(first + pair), tl.load(count + expert)
    end = tl.where(target < ranks - 1, tl.load(first + pair + 1, mask=target < ranks - 1, other=0), total)
    for i in range(begin + split, end, splits):
        row = (expert * rows_per_expert + i).to(tl.int64)
        token, k = tl.load(header + row * 4), tl.load(header + row * 4 + 1)
        slot = token * K + k
        to = tl.multiple_of(peer(table, target, x_at, tl.bfloat16) + slot.to(tl.int64) * HIDDEN, 16)
        for c in range(0, HIDDEN, BLOCK):
            h = c + tl.arange(0, BLOCK)
            tl.store(to + h, tl.load(y + row * HIDDEN + h, mask=h < HIDDEN), mask=h < HIDDEN)
    if is_last(counter + pair, splits):
        flag = peer(table, target, flag_at, tl.int32) + me * local_experts + expert
        tl.atomic_xchg(flag, epoch, sem="release", scope="sys")


@triton.jit(do_not_specialize=["me", "epoch"])
def sum_kernel(
    table,
    topk,
    weight,
    out,
    tokens,
    me,
    experts,
    x_at,
    flag_at,
    status_at,
    epoch,
    HIDDEN: tl.constexpr,
    K: tl.constexpr,
    KP: tl.constexpr,
    EP: tl.constexpr,
    BLOCK: tl.constexpr,
):
    # All experts' flags, not only this token's: the next epoch may only start when no expert still writes here.
    wait_flags(peer(table, me, flag_at, tl.int32), epoch, peer(table, me, status_at, tl.int32), experts, EP)
    k = tl.arange(0, KP)
    for t in range(tl.program_id(0), tokens, tl.num_programs(0)):
        row = tl.cast(t, tl.int64)
        here = tl.load(topk + row * K + k, mask=k < K, other=-1) >= 0
        share = tl.load(weight + row * K + k, mask=here, other=0.0)
        order, n = order_of(here), tl.sum(here.to(tl.int32), axis=0)
        start = tl.load(table + me) + x_at + row * (K * 2 * HIDDEN)
        for c in range(0, HIDDEN, BLOCK):
            h = c + tl.arange(0, BLOCK)
            total = sum_listed(start, k, share, order, n, h, HIDDEN, BLOCK)
            tl.store(out + row * HIDDEN + h, total.to(tl.bfloat16), mask=h < HIDDEN)


def ll_return(heap: Heap, y: torch.Tensor, packed: Packed, counter: torch.Tensor, epoch: int, splits: int) -> None:
    """``y``: [local_experts, ranks * capacity, hidden] bf16; ``counter``: [experts] int32 zeros. Posts; never waits."""
    local_experts, rows, hidden = y.shape
    _, top_k, _ = heap.plan.fields["return_x"].shape
    send_kernel[(local_experts * heap.ranks * splits,)](
        heap.table,
        y,
        packed.header,
        packed.count,
        packed.first,
        counter,
        heap.rank,
        heap.ranks,
        rows,
        local_experts,
        splits,
        heap.offset("return_x"),
        heap.offset("return_flag"),
        epoch,
        HIDDEN=hidden,
        K=top_k,
        BLOCK=min(8192, triton.next_power_of_2(hidden)),
        num_warps=8,
    )


def ll_combine(heap: Heap, topk: torch.Tensor, weight: torch.Tensor, out: torch.Tensor, epoch: int, programs: int) -> None:
    """Wait for every expert's flag, then ``out[t]`` ([tokens, hidden] bf16) = weighted float32 sum in top-k order."""
    tokens, hidden = out.shape
    (experts,) = heap.plan.fields["return_flag"].shape
    sum_kernel[(max(1, min(programs, tokens)),)](
        heap.table,
        topk,
        weight,
        out,
        tokens,
        heap.rank,
        experts,
        heap.offset("return_x"),
        heap.offset("return_flag"),
        heap.offset("status"),
        epoch,
        HIDDEN=hidden,
        K=topk.shape[1],
        KP=triton.next_power_of_2(topk.shape[1]),
        EP=triton.next_power_of_2(experts),
        **summing(tokens, hidden),
    )


def return_bytes(hidden: int) -> dict[str, int]:
    """What one (token, expert) return is made of, in bytes."""
    return {"data": 2 * hidden}


def ll_combine_reference(returned: torch.Tensor, topk: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """``returned``: [tokens, top_k, hidden]; the sum exactly as the kernel makes it."""
    total = torch.zeros(topk.shape[0], returned.shape[2], dtype=torch.float32, device=returned.device)
    for k in range(topk.shape[1]):
        used = topk[:, k] >= 0
        total[used] += weight[used, k, None] * returned[used, k].float()
    return total.bfloat16()
