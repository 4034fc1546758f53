"""Grouped matrix product: rows sorted by expert times that expert's weight, ``y[m] = x[m] @ w[expert(m)].T``.

Two row orders share the kernel, contiguous and masked (``row_order``). Tiles without rows return at once, but each of their
programs costs some 2 us on the SM it passes through: a launch sized for the worst case should be persistent.
bf16, or float8 with scales of 1 x 128 on x and 128 x 128 on w, accumulated in float32 and scaled per 128 of k. The scales of x
lie by k, [k / 128, rows]: the rows of a tile then read theirs from one or two lines. The tile says how operands are loaded: by
pointers (here: any GPU, the interpreter) or by TMA descriptors in a persistent grid (``tma_gemm``).
"""
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls
# ruff: noqa: N803

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .row_order import RowOrder, banded, tile_rows
from .tiles import Tile
from .tma_gemm import tma_gemm


@triton.jit
def gemm_kernel(
    x,
    x_scale,
    w,
    w_scale,
    y,
    tile_expert,
    count,
    rows_per_expert,
    rows_all,
    tiles,
    N,
    K,
    MASKED: tl.constexpr,
    SCALED: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    GROUP: tl.constexpr,
):
    tile, column = banded(tl.program_id(0), tiles, (N + BN - 1) // BN, GROUP)
    expert, first, end = tile_rows(tile, tile_expert, count, rows_per_expert, MASKED, BM)
    if expert >= 0:
        rows = first + tl.arange(0, BM)
        n = column * BN + tl.arange(0, BN)
        k = tl.arange(0, BK)
        # Rows beyond the end belong to nobody: read a real row in their place and never store it.
        safe = tl.where(rows < end, rows, first).to(tl.int64)
        wrapped = tl.where(n < N, n, 0).to(tl.int64)
        a = x + safe[:, None] * K + k[None, :]
        b = w + expert.to(tl.int64) * N * K + wrapped[None, :] * K + k[:, None]
        total = tl.zeros([BM, BN], tl.float32)
        for step in range(0, K // BK):
            if SCALED:
                product = tl.dot(tl.load(a), tl.load(b), out_dtype=tl.float32)
                left = tl.load(x_scale + step * rows_all.to(tl.int64) + safe)
                right = tl.load(w_scale + (expert * (N // 128) + column * BN // 128).to(tl.int64) * (K // BK) + step)
                total += product * (left * right)[:, None]
            else:
                total = tl.dot(tl.load(a), tl.load(b), total)
            a += BK
            b += BK
        to = y + rows.to(tl.int64)[:, None] * N + n[None, :]
        tl.store(to, total.to(y.dtype.element_ty), mask=(rows < end)[:, None] & (n < N)[None, :])


def grouped_gemm(
    x: torch.Tensor,
    w: torch.Tensor,
    y: torch.Tensor,
    *,
    tile_expert: torch.Tensor | None = None,
    count: torch.Tensor | None = None,
    x_scale: torch.Tensor | None = None,
    w_scale: torch.Tensor | None = None,
    tile: Tile,
) -> None:
    """``x``: [rows, k]; ``w``: [experts, n, k]; ``y``: [rows, n] bf16, written on real rows only (contiguous: whole tiles).

    Give ``tile_expert`` (contiguous; its tiles are ``tile.m`` rows high, -1 only after the last) or ``count`` (masked; rows =
    experts * rows each). ``x_scale``: [k / 128, rows], ``w_scale``: [experts, n / 128, k / 128], both float32.
    Raises ValueError if k is not a multiple of the tile's, or for float8 if n is not a multiple of 128 and k-tiles are not 128.
    """
    (rows, k), (experts, n, _) = x.shape, w.shape
    scaled = x_scale is not None
    if k % tile.k:
        raise ValueError(f"k ({k}) must be a multiple of the tile depth {tile.k}")
    if scaled and (n % 128 or tile.k != 128 or tile.n != 128):
        raise ValueError(f"float8 needs n ({n}) a multiple of 128 and a tile of 128 columns and 128 deep, not {tile}")
    order = RowOrder.of(rows, experts, tile.m, tile_expert, count)
    table = order.table
    if tile.loads == "tma":
        multiprocessors = torch.cuda.get_device_properties(x.device).multi_processor_count if x.is_cuda else 2
        tma_gemm(x, w, y, table, order.masked, x_scale, w_scale, tile, multiprocessors)
        return
    gemm_kernel[(order.tiles * -(-n // tile.n),)](
        x,
        x_scale if scaled else table,
        w,
        w_scale if scaled else table,
        y,
        table,
        table,
        order.per_expert,
        rows,
        order.tiles,
        n,
        k,
        MASKED=order.masked,
        SCALED=scaled,
        BM=tile.m,
        BN=tile.n,
        BK=tile.k,
        GROUP=tile.group,
        num_warps=tile.warps,
        num_stages=tile.stages,
    )


def grouped_gemm_reference(
    x: torch.Tensor,
    w: torch.Tensor,
    row_expert: torch.Tensor,
    x_scale: torch.Tensor | None = None,
    w_scale: torch.Tensor | None = None,
) -> torch.Tensor:
    """[rows, n] float64; ``x_scale`` by k; ``row_expert``: [rows], -1 for rows that belong to nobody (zero in the result)."""
    a, b = dequantise(x, None if x_scale is None else x_scale.T), dequantise_weight(w, w_scale)
    y = torch.zeros(x.shape[0], w.shape[1], dtype=torch.float64, device=x.device)
    for e in range(w.shape[0]):
        mine = row_expert == e
        y[mine] = a[mine] @ b[e].T
    return y


def dequantise(x: torch.Tensor, scale: torch.Tensor | None) -> torch.Tensor:
    """``scale``: by row, [rows, k / 128]."""
    return x.double() if scale is None else x.double() * scale.double().repeat_interleave(128, -1)


def dequantise_weight(w: torch.Tensor, scale: torch.Tensor | None) -> torch.Tensor:
    return w.double() if scale is None else w.double() * scale.double().repeat_interleave(128, -1).repeat_interleave(128, -2)


def gemm_flops(real_rows: int, n: int, k: int) -> int:
    return 2 * real_rows * n * k


def gemm_bytes(real_rows: int, experts_used: int, n: int, k: int, element_bytes: int) -> int:
    """Inputs once, outputs (bf16) once; float8 (1 byte) adds its scales."""
    scales = 4 * (real_rows * k // 128 + experts_used * n * k // 128**2) if element_bytes == 1 else 0
    return element_bytes * (real_rows * k + experts_used * n * k) + scales + 2 * real_rows * n
