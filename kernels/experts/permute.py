"""Rows to expert order and back, inside one rank (what a single-GPU MoE does instead of dispatch and combine)."""
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls
# ruff: noqa: N803

from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def permute_kernel(x, position, out, rows, WORDS: tl.constexpr, K: tl.constexpr, KP: tl.constexpr, BLOCK: tl.constexpr):
    for row in range(tl.program_id(0), rows, tl.num_programs(0)):
        at = tl.cast(row, tl.int64)
        for c in range(0, WORDS, BLOCK):
            w = c + tl.arange(0, BLOCK)[None, :]
            words = tl.load(x + at * WORDS + w, mask=w < WORDS)
            # KP copies by one store: no copy waits for the place of the next.
            for first in range(0, K, KP):
                k = first + tl.arange(0, KP)[:, None]
                p = tl.load(position + at * K + k, mask=k < K, other=-1)
                tl.store(out + p.to(tl.int64) * WORDS + w, words, mask=(p >= 0) & (w < WORDS))


@triton.jit
def unpermute_kernel(y, position, weight, out, rows, HIDDEN: tl.constexpr, K: tl.constexpr, BLOCK: tl.constexpr):
    for row in range(tl.program_id(0), rows, tl.num_programs(0)):
        at = tl.cast(row, tl.int64)
        for c in range(0, HIDDEN, BLOCK):
            h = c + tl.arange(0, BLOCK)
            total = tl.zeros([BLOCK], tl.float32)
            for k in range(0, K):
                p = tl.load(position + at * K + k)
                if p >= 0:
                    share = tl.load(weight + at * K + k)
                    total += share * tl.load(y + p.to(tl.int64) * HIDDEN + h, mask=h < HIDDEN, other=0.0).to(tl.float32)
            tl.store(out + at * HIDDEN + h, total.to(tl.bfloat16), mask=h < HIDDEN)


def permute(x: torch.Tensor, position: torch.Tensor, out: torch.Tensor, programs: int) -> None:
    """Copy ``x[i]`` to ``out[position[i, k]]`` for each k with a position >= 0. Rows must be a multiple of 16 bytes."""
    rows, top_k = position.shape
    words = x.shape[1] * x.element_size() // 4
    if rows:
        permute_kernel[(min(programs, rows),)](
            x.view(torch.int32),
            position,
            out.view(torch.int32),
            rows,
            WORDS=words,
            K=top_k,
            KP=min(8, triton.next_power_of_2(top_k)),
            BLOCK=min(4096, triton.next_power_of_2(words)),
            num_warps=8,
        )


def unpermute(y: torch.Tensor, position: torch.Tensor, weight: torch.Tensor, out: torch.Tensor, programs: int) -> None:
    """``out[i]`` = sum over k, in order, of ``weight[i, k] * y[position[i, k]]`` in float32, rounded once to bf16."""
    rows, top_k = position.shape
    hidden = y.shape[1]
    if rows:
        unpermute_kernel[(min(programs, rows),)](
            y,
            position,
            weight,
            out,
            rows,
            HIDDEN=hidden,
            K=top_k,
            BLOCK=min(8192, triton.next_power_of_2(hidden)),
            num_warps=8,
        )


def positions(topk: torch.Tensor, place: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
    """[tokens, top_k] int32 expert row of each entry: its expert's first row plus its place there; -1 where unused."""
    first = start.index_select(0, topk.clamp(min=0).flatten().long()).view(topk.shape)
    return torch.where(topk >= 0, first + place, -1).int()


def permute_reference(x: torch.Tensor, position: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    rows, k = (position >= 0).nonzero(as_tuple=True)
    out[position[rows, k].long()] = x[rows]
    return out


def unpermute_reference(y: torch.Tensor, position: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    total = torch.zeros(position.shape[0], y.shape[1], dtype=torch.float32, device=y.device)
    for k in range(position.shape[1]):
        used = position[:, k] >= 0
        total[used] += weight[used, k, None] * y[position[used, k].long()].float()
    return total.bfloat16()


def permute_bytes(rows: int, entries: int, row_bytes: int, top_k: int) -> int:
    """Each row read once and each of ``entries`` copies written once, plus the positions."""
    return (rows + entries) * row_bytes + 4 * rows * top_k


def unpermute_bytes(rows: int, entries: int, hidden: int, top_k: int) -> int:
    return 2 * hidden * (rows + entries) + 8 * rows * top_k
