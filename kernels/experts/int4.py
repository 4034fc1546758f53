"""Grouped product with int4 weights in blocks of 128: half the bytes of float8, multiplied as bf16.

A weight is a signed 4-bit number times its block's float32 scale, one block per row of the weight and 128 of k. Two numbers
share a byte so that a block unpacks without shuffling: byte i of a block holds k = i in its low half and k = i + 64 in its
high half, both stored plus 8. Row orders and tiles as in ``grouped_gemm``; x stays bf16 (W4A16).
"""
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls
# ruff: noqa: N803

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .row_order import RowOrder, banded, tile_rows
from .tiles import Tile

BLOCK = 128


@triton.jit
def int4_gemm_kernel(
    x,
    w,
    w_scale,
    y,
    tile_expert,
    count,
    rows_per_expert,
    tiles,
    N,
    K,
    MASKED: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    GROUP: tl.constexpr,
):
    tile, column = banded(tl.program_id(0), tiles, (N + BN - 1) // BN, GROUP)
    expert, first, end = tile_rows(tile, tile_expert, count, rows_per_expert, MASKED, BM)
    if expert >= 0:
        rows = first + tl.arange(0, BM)
        n = column * BN + tl.arange(0, BN)
        k = tl.arange(0, 64)
        safe = tl.where(rows < end, rows, first).to(tl.int64)
        row_of_w = expert.to(tl.int64) * N + tl.where(n < N, n, 0)
        a = x + safe[:, None] * K + k[None, :]
        b = w + row_of_w[None, :] * (K // 2) + k[:, None]
        total = tl.zeros([BM, BN], tl.float32)
        for step in range(0, K // 128):
            packed = tl.load(b)
            low = ((packed & 0xF).to(tl.float32) - 8.0).to(tl.bfloat16)
            high = ((packed >> 4).to(tl.float32) - 8.0).to(tl.bfloat16)
            product = tl.dot(tl.load(a), low, out_dtype=tl.float32)
            product = tl.dot(tl.load(a + 64), high, product)
            total += product * tl.load(w_scale + row_of_w * (K // 128) + step)[None, :]
            a += 128
            b += 64
        to = y + rows.to(tl.int64)[:, None] * N + n[None, :]
        tl.store(to, total.to(y.dtype.element_ty), mask=(rows < end)[:, None] & (n < N)[None, :])


def int4_gemm(
    x: torch.Tensor,
    w: torch.Tensor,
    w_scale: torch.Tensor,
    y: torch.Tensor,
    *,
    tile_expert: torch.Tensor | None = None,
    count: torch.Tensor | None = None,
    tile: Tile,
) -> None:
    """``x``: [rows, k] bf16; ``w``: [experts, n, k / 2] uint8; ``w_scale``: [experts, n, k / 128]; ``y``: [rows, n] bf16.

    Raises ValueError if k is not a multiple of 128, or not exactly one of ``tile_expert`` and ``count`` is given.
    """
    (rows, k), (experts, n, packed) = x.shape, w.shape
    if k % BLOCK or packed * 2 != k:
        raise ValueError(f"k ({k}) must be a multiple of {BLOCK}, and int4 weights half as wide, not {packed}")
    order = RowOrder.of(rows, experts, tile.m, tile_expert, count)
    int4_gemm_kernel[(order.tiles * -(-n // tile.n),)](
        x,
        w,
        w_scale,
        y,
        order.table,
        order.table,
        order.per_expert,
        order.tiles,
        n,
        k,
        MASKED=order.masked,
        BM=tile.m,
        BN=tile.n,
        GROUP=tile.group,
        num_warps=tile.warps,
        num_stages=tile.stages,
    )


def quantise_int4(w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``w``: [experts, n, k] -> packed [experts, n, k / 2] uint8 and [experts, n, k / 128] float32 scales (amax / 7)."""
    blocks = w.float().unflatten(-1, (-1, BLOCK))
    scale = blocks.abs().amax(-1).clamp(min=1e-10) / 7
    numbers = (blocks / scale[..., None]).round().clamp(-8, 7).to(torch.int32) + 8
    low, high = numbers[..., : BLOCK // 2], numbers[..., BLOCK // 2 :]
    return (low | high << 4).to(torch.uint8).flatten(-2), scale


def dequantise_int4(w: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """[experts, n, k] float64."""
    blocks = w.unflatten(-1, (-1, BLOCK // 2)).to(torch.int32)
    numbers = torch.cat([blocks & 0xF, blocks >> 4], -1) - 8
    return (numbers.double() * scale.double()[..., None]).flatten(-2)


def int4_bytes(real_rows: int, experts_used: int, n: int, k: int) -> int:
    """x and the packed weights once, a scale per 128 of them, outputs (bf16) once."""
    return 2 * real_rows * k + experts_used * n * (k // 2 + 4 * k // BLOCK) + 2 * real_rows * n
