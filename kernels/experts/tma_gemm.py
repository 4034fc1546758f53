"""The grouped product where the GPU has a tensor memory accelerator: descriptors for loads, one program per SM walking tiles.

Same rows, order of tiles and results as ``grouped_gemm.gemm_kernel``. Programs walk only tiles that hold rows, so a launch
sized for the worst case costs nothing. A tile's loads may run over its expert's rows into another's, or over the end (read as
zeros); what they bring is never stored. The scales of float8 come one step ahead of the product they belong to.
"""
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls
# ruff: noqa: N803

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .row_order import banded
from .tiles import Tile


@triton.jit
def tma_gemm_kernel(
    x,
    x_scale,
    w,
    w_scale,
    y,
    tile_expert,
    count,
    rows_per_expert,
    rows_all,
    lanes,
    N,
    K,
    MASKED: tl.constexpr,
    SCALED: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    GROUP: tl.constexpr,
    LP: tl.constexpr,
):
    columns = (N + BN - 1) // BN
    lane = tl.arange(0, LP)
    if MASKED:
        each = (tl.load(count + lane, mask=lane < lanes, other=0) + BM - 1) // BM
        end_tile = tl.cumsum(each, 0)
        tiles = tl.sum(each, axis=0)
    else:
        tiles = tl.sum((tl.load(tile_expert + lane, mask=lane < lanes, other=-1) >= 0).to(tl.int32), axis=0)
    # Scales are carried from step to step, which a flattened loop cannot.
    for pid in tl.range(tl.program_id(0), tiles * columns, tl.num_programs(0), flatten=not SCALED and not MASKED):
        tile, column = banded(pid, tiles, columns, GROUP)
        if MASKED:
            before = (end_tile <= tile) & (lane < lanes)
            expert = tl.sum(before.to(tl.int32), axis=0)
            first = expert * rows_per_expert + (tile - tl.sum(tl.where(before, each, 0), axis=0)) * BM
            end = expert * rows_per_expert + tl.load(count + expert)
        else:
            expert = tl.load(tile_expert + tile)
            first = tile * BM
            end = first + BM
        rows = first + tl.arange(0, BM)
        at = expert * N + column * BN
        total = tl.zeros([BM, BN], tl.float32)
        if SCALED:
            steps = K // BK
            left_at = x_scale + rows
            right_at = w_scale + (expert * (N // 128) + column * BN // 128).to(tl.int64) * steps
            scale = tl.load(left_at, mask=rows < end, other=0.0) * tl.load(right_at)
            for step in range(0, steps):
                product = tl.dot(x.load([first, step * BK]), w.load([at, step * BK]).T, out_dtype=tl.float32)
                ahead = tl.minimum(step + 1, steps - 1)
                following = tl.load(left_at + ahead.to(tl.int64) * rows_all, mask=rows < end, other=0.0)
                following *= tl.load(right_at + ahead)
                total += product * scale[:, None]
                scale = following
        else:
            for k in range(0, K, BK):
                total = tl.dot(x.load([first, k]), w.load([at, k]).T, total)
        n = column * BN + tl.arange(0, BN)
        to = y + rows.to(tl.int64)[:, None] * N + n[None, :]
        tl.store(to, total.to(y.dtype.element_ty), mask=(rows < end)[:, None] & (n < N)[None, :])


def tma_gemm(
    x: torch.Tensor,
    w: torch.Tensor,
    y: torch.Tensor,
    table: torch.Tensor,
    masked: bool,
    x_scale: torch.Tensor | None,
    w_scale: torch.Tensor | None,
    tile: Tile,
    multiprocessors: int,
) -> None:
    """As ``grouped_gemm``, which checks the shapes; ``table``: tile_expert or count."""
    from triton.tools.tensor_descriptor import TensorDescriptor  # Triton 3.3 has none: only a product by TMA needs it

    (rows, k), (experts, n, _) = x.shape, w.shape
    scaled = x_scale is not None
    tall = w.view(experts * n, k)
    tma_gemm_kernel[(multiprocessors * tile.per_sm,)](
        TensorDescriptor(x, [rows, k], [k, 1], [tile.m, tile.k]),
        x_scale if scaled else table,
        TensorDescriptor(tall, [experts * n, k], [k, 1], [tile.n, tile.k]),
        w_scale if scaled else table,
        y,
        table,
        table,
        rows // experts,
        rows,
        table.numel(),
        n,
        k,
        MASKED=masked,
        SCALED=scaled,
        BM=tile.m,
        BN=tile.n,
        BK=tile.k,
        GROUP=tile.group,
        LP=triton.next_power_of_2(table.numel()),
        num_warps=tile.warps,
        num_stages=tile.stages,
    )


def has_tma(device: torch.device) -> bool:
    """Whether ``device`` is a GPU whose copies can be described to it (NVIDIA from compute capability 9.0)."""
    return device.type == "cuda" and torch.version.hip is None and torch.cuda.get_device_capability(device)[0] >= 9
