"""The order of rows that products and SwiGLU share, and the order in which a product's programs walk its tiles.

*Contiguous*: each expert's rows start at a multiple of the tile height, ``tile_expert`` names the expert of each tile
(prefill). *Masked*: expert e owns rows ``e * rows_per_expert ..`` of which the first ``count[e]`` are real (decode; shapes
fixed for graphs).
"""
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls
# ruff: noqa: N803

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl


@triton.jit
def tile_rows(tile, tile_expert, count, rows_per_expert, MASKED: tl.constexpr, BLOCK: tl.constexpr):
    """(expert or -1, first row, end of the expert's real rows) of one tile of BLOCK rows."""
    if MASKED:
        per = (rows_per_expert + BLOCK - 1) // BLOCK
        expert = tile // per
        inside = (tile - expert * per) * BLOCK
        n = tl.load(count + expert)
        first = expert * rows_per_expert + inside
        end = expert * rows_per_expert + n
        expert = tl.where(inside < n, expert, -1)
    else:
        expert = tl.load(tile_expert + tile)
        first = tile * BLOCK
        end = first + BLOCK
    return expert, first, end


@triton.jit
def banded(pid, tiles, columns, GROUP: tl.constexpr):
    """(row tile, column tile) of program ``pid``: GROUP row tiles advance together over the columns, so that a weight tile is
    read by neighbours while in L2."""
    band = pid // (GROUP * columns)
    height = min(tiles - band * GROUP, GROUP)
    inside = pid - band * GROUP * columns
    return band * GROUP + inside % height, inside // height


@dataclass(frozen=True)
class RowOrder:
    """``table``: tile_expert or count; ``per_expert``: rows an expert owns where masked; ``tiles``: row tiles there may be."""

    table: torch.Tensor
    masked: bool
    per_expert: int
    tiles: int

    @classmethod
    def of(cls, rows: int, experts: int, height: int, tile_expert: torch.Tensor | None, count: torch.Tensor | None) -> RowOrder:
        """Tiles of ``height`` rows. Raises ValueError unless exactly one of ``tile_expert`` and ``count`` is given."""
        if tile_expert is not None and count is None:
            return cls(tile_expert, False, rows // experts, tile_expert.numel())
        if count is not None and tile_expert is None:
            per_expert = rows // experts
            return cls(count, True, per_expert, experts * -(-per_expert // height))
        raise ValueError("give tile_expert (contiguous rows) or count (masked rows), not both")
