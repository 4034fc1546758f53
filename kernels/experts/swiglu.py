"""SwiGLU between the two expert products, optionally requantised to float8 in the same pass.

``h``: [rows, 2 * inter] bf16, gate first, up second; result ``silu(gate) * up``: [rows, inter]. Row order and tiles as in
``grouped_gemm``; tiles without rows return at once.
"""
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls
# ruff: noqa: N803

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .quantise import quantise_groups, quantise_reference
from .row_order import tile_rows


@triton.jit
def swiglu_kernel(
    h,
    out,
    scale,
    tile_expert,
    count,
    rows_per_expert,
    rows_all,
    INTER: tl.constexpr,
    MASKED: tl.constexpr,
    SCALED: tl.constexpr,
    TILE: tl.constexpr,
    BM: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    pid = tl.program_id(0)
    per_tile = TILE // BM
    columns = (INTER + COLUMNS - 1) // COLUMNS
    block, column = pid // columns, pid % columns
    expert, first, end = tile_rows(block // per_tile, tile_expert, count, rows_per_expert, MASKED, TILE)
    first += block % per_tile * BM
    if (expert >= 0) & (first < end):
        row = (first + tl.arange(0, BM)).to(tl.int64)
        c = column * COLUMNS + tl.arange(0, COLUMNS)
        mask = (row < end)[:, None] & (c < INTER)[None, :]
        at = row[:, None] * (2 * INTER) + c[None, :]
        gate = tl.load(h + at, mask=mask, other=0.0).to(tl.float32)
        up = tl.load(h + at + INTER, mask=mask, other=0.0).to(tl.float32)
        value = gate / (1.0 + tl.exp(-gate)) * up
        to = row[:, None] * INTER + c[None, :]
        if SCALED:
            groups: tl.constexpr = COLUMNS // 128
            values, scales = quantise_groups(tl.reshape(value, [BM * groups, 128]))
            tl.store(out + to, tl.reshape(values, [BM, COLUMNS]).to(out.dtype.element_ty), mask=mask)
            g = column * groups + tl.arange(0, groups)
            at_scale = g.to(tl.int64)[None, :] * rows_all + row[:, None]
            good = (row < end)[:, None] & (g < INTER // 128)[None, :]
            tl.store(scale + at_scale, tl.reshape(scales, [BM, groups]), mask=good)
        else:
            tl.store(out + to, value.to(out.dtype.element_ty), mask=mask)


def swiglu(
    h: torch.Tensor,
    out: torch.Tensor,
    scale: torch.Tensor | None,
    *,
    tile_expert: torch.Tensor | None = None,
    count: torch.Tensor | None = None,
    tile_rows: int,
) -> None:
    """``out``: [rows, inter], bf16, or float8 with ``scale`` by k, [inter / 128, rows]; ``tile_rows`` as the product's tile."""
    rows, inter = out.shape
    if scale is not None and inter % 128:
        raise ValueError(f"inter ({inter}) must be a multiple of 128 for float8 with 128-wide scales")
    table = tile_expert if tile_expert is not None else count
    if table is None:
        raise ValueError("give tile_expert (contiguous rows) or count (masked rows)")
    masked = tile_expert is None
    per_expert = rows // table.numel() if masked else 0
    tiles = table.numel() * (-(-per_expert // tile_rows) if masked else 1)
    block, columns = min(8, tile_rows), min(512, max(128, triton.next_power_of_2(inter)))
    swiglu_kernel[(tiles * (tile_rows // block) * -(-inter // columns),)](
        h,
        out,
        scale if scale is not None else table,
        table,
        table,
        per_expert,
        rows,
        INTER=inter,
        MASKED=masked,
        SCALED=scale is not None,
        TILE=tile_rows,
        BM=block,
        COLUMNS=columns,
    )


def swiglu_reference(h: torch.Tensor, quantised: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
    gate, up = h.float().chunk(2, -1)
    value = gate / (1 + torch.exp(-gate)) * up
    if not quantised:
        return value.bfloat16(), None
    out, scale = quantise_reference(value)
    return out, scale.T


def swiglu_bytes(real_rows: int, inter: int, quantised: bool) -> int:
    return real_rows * (4 * inter + (inter + inter // 32 if quantised else 2 * inter))


def swiglu_flops(real_rows: int, inter: int) -> int:
    """exp, add, divide, two multiplies: five per value, on the vector units."""
    return 5 * real_rows * inter
