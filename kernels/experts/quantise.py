"""bf16 rows to float8 e4m3 with one float32 scale per 128 values (amax / 448, never below 1e-10)."""
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls
# ruff: noqa: N803

from __future__ import annotations

import torch
import triton
import triton.language as tl

GROUP = 128
TOGETHER = 32  # groups of one program's step: 16 values to a thread of 8 warps
FP8_MAX = 448.0
FP8 = torch.float8_e4m3fn


@triton.jit
def quantise_groups(x):
    """``x``: [groups, 128] float32 -> (values scaled into float8's range, still float32; [groups] scales)."""
    scale = tl.maximum(tl.max(tl.abs(x), axis=1), 1e-10) / 448.0
    return x / scale[:, None], scale


@triton.jit
def quantise_kernel(x, out, scale, groups, G: tl.constexpr):
    """Rows do not matter to a cast: the array is one list of groups, G of them at a time."""
    lane = tl.arange(0, 128)
    for first in range(tl.program_id(0) * G, groups, tl.num_programs(0) * G):
        g = first + tl.arange(0, G)
        where = g.to(tl.int64)[:, None] * 128 + lane[None, :]
        mask = (g < groups)[:, None] & (lane < 128)[None, :]
        values, scales = quantise_groups(tl.load(x + where, mask=mask, other=0.0).to(tl.float32))
        tl.store(out + where, values.to(out.dtype.element_ty), mask=mask)
        tl.store(scale + g, scales, mask=g < groups)


def quantise(x: torch.Tensor, out: torch.Tensor, scale: torch.Tensor, programs: int) -> None:
    """``x``: [rows, hidden] bf16; ``out``: same shape, float8; ``scale``: [rows, hidden / 128] float32."""
    rows, hidden = x.shape
    if hidden % GROUP:
        raise ValueError(f"hidden ({hidden}) must be a multiple of {GROUP} for float8 with {GROUP}-wide scales")
    groups = rows * (hidden // GROUP)
    if rows:
        quantise_kernel[(min(4 * programs, -(-groups // TOGETHER)),)](x, out, scale, groups, G=TOGETHER, num_warps=8)


def quantise_reference(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    groups = x.float().unflatten(-1, (-1, GROUP))
    scale = groups.abs().amax(-1).clamp(min=1e-10) / FP8_MAX
    return (groups / scale[..., None]).flatten(-2).to(FP8), scale


def quantise_weight(w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``w``: [experts, n, k] -> float8, and [experts, n / 128, k / 128] float32 scales of 128 x 128 blocks."""
    blocks = w.float().unflatten(-1, (-1, GROUP)).unflatten(-3, (-1, GROUP))  # [experts, n/128, 128, k/128, 128]
    scale = blocks.abs().amax((-3, -1)).clamp(min=1e-10) / FP8_MAX
    scaled = blocks / scale[..., :, None, :, None]
    return scaled.flatten(-2).flatten(-3, -2).to(FP8), scale


def quantise_bytes(rows: int, hidden: int) -> int:
    return rows * (2 * hidden + hidden + 4 * hidden // GROUP)
