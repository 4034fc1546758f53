"""Low-latency dispatch: one message per (token, expert), sent without any exchange of counts first.

A message from source s lands in slot i of ``message_*[e, s]`` on the rank of local expert e; slots are handed out by an
atomic counter, the order within (e, s) is free. The last program of the launch posts each (e, s) count together with the
epoch in one 8-byte flag ``message_count``: ``epoch << 32 | rows``. Per message: header of 16 bytes (token, k, source,
slot), payload (float8 with one fp32 scale per 128 values, cast while sending; or bf16 words).

``ll_receive`` (a launch of its own, so that it can be split from the send around compute) packs an expert's rows by source
rank, then slot, into [local_experts, ranks * capacity] rows for the masked product.
"""
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls
# ruff: noqa: N803

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from ..experts.quantise import quantise_groups
from .notify import check_tokens
from .signal import POLLS, is_last, peer
from .symmetric import Heap, Plan


@dataclass(frozen=True)
class Packed:
    """``x``: [local_experts, ranks * capacity, hidden]; ``scale`` (fp8): [hidden / 128, local_experts, ranks * capacity];
    ``header``: [.., 4] int32; ``count``: [local_experts] int32; ``first``: [local_experts, ranks] first row of each source."""

    x: torch.Tensor
    scale: torch.Tensor | None
    header: torch.Tensor
    count: torch.Tensor
    first: torch.Tensor


def ll_dispatch_fields(plan: Plan, ranks: int, local_experts: int, capacity: int, hidden: int, fp8: bool) -> None:
    slots = (local_experts, ranks, capacity)
    plan.add("message_x", (*slots, hidden if fp8 else hidden * 2), torch.uint8)
    if fp8:
        plan.add("message_scale", (*slots, hidden // 128), torch.float32)
    plan.add("message_header", (*slots, 4), torch.int32)
    plan.add("message_count", (local_experts, ranks), torch.int64)


def new_packed(ranks: int, local_experts: int, capacity: int, hidden: int, fp8: bool, device: torch.device) -> Packed:
    rows = ranks * capacity
    x = torch.zeros(local_experts, rows, hidden, dtype=torch.float8_e4m3fn if fp8 else torch.bfloat16, device=device)
    scale = torch.zeros(hidden // 128, local_experts, rows, device=device) if fp8 else None

    def table(*shape: int) -> torch.Tensor:
        return torch.zeros(shape, dtype=torch.int32, device=device)

    return Packed(x, scale, table(local_experts, rows, 4), table(local_experts), table(local_experts, ranks))


@triton.jit(do_not_specialize=["me", "epoch"])
def send_kernel(
    table,
    x,
    topk,
    used,
    counter,
    tokens,
    me,
    ranks,
    capacity,
    local_experts,
    x_at,
    scale_at,
    header_at,
    count_at,
    epoch,
    HIDDEN: tl.constexpr,
    K: tl.constexpr,
    KP: tl.constexpr,
    EP: tl.constexpr,
    G: tl.constexpr,
    BLOCK: tl.constexpr,
    FLOAT8: tl.constexpr,
):
    programs = tl.num_programs(0)
    lane = tl.arange(0, 4)
    k = tl.arange(0, KP)
    for t in range(tl.program_id(0), tokens, programs):
        row = tl.cast(t, tl.int64)
        # Every slot of the token is asked for at once: one atomic's time, not top-k of them.
        expert = tl.load(topk + row * K + k, mask=k < K, other=-1).to(tl.int32)
        sent = expert >= 0
        slot = tl.atomic_add(used + expert, tl.zeros([KP], tl.int32) + 1, mask=sent, sem="relaxed", scope="gpu")
        target = tl.where(sent, expert, 0) // local_experts
        at = (((expert - target * local_experts) * ranks + me) * capacity + slot).to(tl.int64)
        block = tl.load(table + target, mask=sent, other=0)
        if FLOAT8 is not None:
            g = tl.arange(0, G)
            inside = g[:, None] * 128 + tl.arange(0, 128)[None, :]
            mask = inside < HIDDEN
            values, scales = quantise_groups(tl.load(x + row * HIDDEN + inside, mask=mask, other=0.0).to(tl.float32))
            to = (block + x_at + at * HIDDEN).to(tl.pointer_type(FLOAT8), bitcast=True)[:, None, None]
            to = tl.multiple_of(to, [1, 1, 16]) + inside[None, :, :]
            tl.store(to, values.to(FLOAT8)[None, :, :], mask=sent[:, None, None] & mask[None, :, :])
            to_scale = (block + scale_at + at * (HIDDEN // 32)).to(tl.pointer_type(tl.float32), bitcast=True)
            tl.store(to_scale[:, None] + g[None, :], scales[None, :], mask=sent[:, None] & (g < HIDDEN // 128)[None, :])
        else:
            inside = tl.arange(0, BLOCK)[None, :]
            values = tl.load(x + row * HIDDEN + inside, mask=inside < HIDDEN)
            to = (block + x_at + at * (2 * HIDDEN)).to(tl.pointer_type(tl.bfloat16), bitcast=True)[:, None]
            tl.store(tl.multiple_of(to, [1, 16]) + inside, values, mask=sent[:, None] & (inside < HIDDEN))
        who = tl.where(lane == 0, t, tl.where(lane == 2, me, 0))[None, :]
        head = who + tl.where(lane[None, :] == 1, k[:, None], tl.where(lane[None, :] == 3, slot[:, None], 0))
        to_head = (block + header_at + at * 16).to(tl.pointer_type(tl.int32), bitcast=True)[:, None]
        tl.store(tl.multiple_of(to_head, [1, 16]) + lane[None, :], head, mask=sent[:, None] & (lane < 4)[None, :])
    if is_last(counter, programs):
        e = tl.arange(0, EP)
        experts = ranks * local_experts
        mask = e < experts
        n = tl.atomic_add(used + e, tl.zeros([EP], tl.int32), mask=mask, sem="relaxed", scope="gpu")
        tl.store(used + e, tl.zeros([EP], tl.int32), mask=mask)
        base = tl.load(table + e // local_experts, mask=mask, other=0) + count_at
        flag = (base + ((e % local_experts) * ranks + me).to(tl.int64) * 8).to(tl.pointer_type(tl.int64), bitcast=True)
        value = (tl.zeros([EP], tl.int64) + epoch << 32) | n.to(tl.int64)
        tl.atomic_xchg(flag, value, mask=mask, sem="release", scope="sys")


@triton.jit
def wait_count(flag, epoch, status, source):
    """Rows announced by an 8-byte flag once its epoch has come; 0 and a note in ``status`` if it never does."""
    seen = tl.atomic_add(flag, tl.cast(0, tl.int64), sem="acquire", scope="sys")
    polls = 0
    while ((seen >> 32) < epoch) & (polls < POLLS):
        seen = tl.atomic_add(flag, tl.cast(0, tl.int64), sem="acquire", scope="sys")
        polls += 1
    n = (seen & 0xFFFFFFFF).to(tl.int32)
    if (seen >> 32) < epoch:
        tl.store(status, source + 1)
        n = tl.cast(0, tl.int32)
    return n


@triton.jit
def wait_counts(flags, lane, n, epoch, status, first_source):
    """As ``wait_count`` for ``flags[0..n)`` together: a vector like ``lane``, 0 where masked."""
    zero = tl.zeros_like(lane).to(tl.int64)
    seen = tl.atomic_add(flags + lane, zero, mask=lane < n, sem="acquire", scope="sys")
    late = tl.max(tl.where((lane < n) & ((seen >> 32) < epoch), lane + 1, 0), axis=0)
    if late > 0:
        polls = 0
        while (late > 0) & (polls < POLLS):
            again = tl.atomic_add(flags + lane, zero, mask=lane < n, sem="acquire", scope="sys")
            late = tl.max(tl.where((lane < n) & ((again >> 32) < epoch), lane + 1, 0), axis=0)
            polls += 1
        seen = tl.atomic_add(flags + lane, zero, mask=lane < n, sem="acquire", scope="sys")
        if late > 0:
            tl.store(status, first_source + late)
    return tl.where((lane < n) & ((seen >> 32) >= epoch), (seen & 0xFFFFFFFF).to(tl.int32), 0)


@triton.jit(do_not_specialize=["me", "epoch"])
def receive_kernel(
    table,
    out,
    out_scale,
    header,
    count,
    first,
    me,
    ranks,
    capacity,
    rows_all,
    splits,
    x_at,
    scale_at,
    header_at,
    count_at,
    status_at,
    epoch,
    WORDS: tl.constexpr,
    SCALES: tl.constexpr,
    SP: tl.constexpr,
    RP: tl.constexpr,
    BLOCK: tl.constexpr,
):
    pid = tl.program_id(0)
    pair, split = pid // splits, pid % splits
    expert, source = pair // ranks, pair % ranks
    flags = peer(table, me, count_at, tl.int64) + expert * ranks
    status = peer(table, me, status_at, tl.int32)
    peers = tl.arange(0, RP)
    counts = wait_counts(flags, peers, ranks, epoch, status, 0)
    begin = tl.sum(tl.where(peers < source, counts, 0), axis=0)
    n = tl.sum(tl.where(peers == source, counts, 0), axis=0)
    if split == 0:
        tl.store(first + pair, begin)
        if source == ranks - 1:
            tl.store(count + expert, begin + n)
    lane, part = tl.arange(0, 4), tl.arange(0, SP)
    for i in range(split, n, splits):
        at = (pair * capacity + i).to(tl.int64)
        to = (expert * ranks * capacity + begin + i).to(tl.int64)
        head = tl.load(peer(table, me, header_at, tl.int32) + at * 4 + lane)
        if SCALES > 0:
            scales = tl.load(peer(table, me, scale_at, tl.float32) + at * SCALES + part, mask=part < SCALES)
        for c in range(0, WORDS, BLOCK):
            w = c + tl.arange(0, BLOCK)
            words = tl.load(tl.multiple_of(peer(table, me, x_at, tl.int32) + at * WORDS, 16) + w, mask=w < WORDS)
            tl.store(out + to * WORDS + w, words, mask=w < WORDS)
        tl.store(header + to * 4 + lane, head)
        if SCALES > 0:
            tl.store(out_scale + part.to(tl.int64) * rows_all + to, scales, mask=part < SCALES)


def ll_send(
    heap: Heap, x: torch.Tensor, topk: torch.Tensor, used: torch.Tensor, counter: torch.Tensor, epoch: int, programs: int
) -> None:
    """Send each row of ``x`` ([tokens, hidden] bf16) to each of its experts. Posts; never waits.

    ``used``: [experts] int32 zeros.

    Raises CapacityError, before anything is written, if there are more tokens than slots per (expert, source).
    """
    (tokens, hidden), top_k = x.shape, topk.shape[1]
    local_experts, ranks, capacity, row = heap.plan.fields["message_x"].shape
    check_tokens(tokens, capacity)
    fp8 = row == hidden
    send_kernel[(max(1, min(programs, tokens)),)](
        heap.table,
        x,
        topk,
        used,
        counter,
        tokens,
        heap.rank,
        ranks,
        capacity,
        local_experts,
        heap.offset("message_x"),
        heap.offset("message_scale") if fp8 else 0,
        heap.offset("message_header"),
        heap.offset("message_count"),
        epoch,
        HIDDEN=hidden,
        K=top_k,
        KP=triton.next_power_of_2(top_k),
        EP=triton.next_power_of_2(used.numel()),
        G=triton.next_power_of_2(-(-hidden // 128)),
        BLOCK=triton.next_power_of_2(hidden),
        FLOAT8=tl.float8e4nv if fp8 else None,
        num_warps=8,
    )


def ll_receive(heap: Heap, out: Packed, epoch: int, splits: int) -> None:
    """Wait for every source's counts of ``epoch`` and pack the rows; ``splits`` programs share a (expert, source) pair."""
    local_experts, ranks, capacity, row = heap.plan.fields["message_x"].shape
    words, scales = row // 4, out.scale.shape[0] if out.scale is not None else 0
    receive_kernel[(local_experts * ranks * splits,)](
        heap.table,
        out.x.view(torch.int32),
        out.scale if out.scale is not None else out.count,
        out.header,
        out.count,
        out.first,
        heap.rank,
        ranks,
        capacity,
        local_experts * ranks * capacity,
        splits,
        heap.offset("message_x"),
        heap.offset("message_scale") if scales else 0,
        heap.offset("message_header"),
        heap.offset("message_count"),
        heap.offset("status"),
        epoch,
        WORDS=words,
        SCALES=scales,
        SP=triton.next_power_of_2(max(scales, 1)),
        RP=triton.next_power_of_2(ranks),
        BLOCK=min(4096, triton.next_power_of_2(words)),
        num_warps=8,
    )


def message_bytes(hidden: int, fp8: bool) -> dict[str, int]:
    """What one (token, expert) message is made of, in bytes."""
    return {"data": hidden if fp8 else 2 * hidden, "scales": 4 * (hidden // 128) if fp8 else 0, "header": 16}
