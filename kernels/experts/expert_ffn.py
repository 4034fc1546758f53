"""The experts of one rank: product, SwiGLU, product, over contiguous or masked rows."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .grouped_gemm import grouped_gemm
from .quantise import quantise_weight
from .swiglu import swiglu
from .tiles import Tiles


@dataclass(frozen=True)
class MoeShape:
    """One MoE layer over ``ranks`` ranks. ``capacity``: most tokens a rank may bring; ``fp8``: payload and products in float8.

    ``max_rows``: expert rows a rank's high-throughput buffers hold (default: the worst case, every token of every rank).
    """

    ranks: int
    experts: int
    top_k: int
    hidden: int
    inter: int
    capacity: int
    fp8: bool = False
    max_rows: int | None = None

    def __post_init__(self) -> None:
        if self.experts % self.ranks:
            raise ValueError(f"experts ({self.experts}) do not divide over ranks ({self.ranks})")
        if not 1 <= self.top_k <= self.experts:
            raise ValueError(f"top_k ({self.top_k}) must lie between 1 and experts ({self.experts})")
        if self.hidden % 128 or self.inter % 128:
            raise ValueError(f"hidden ({self.hidden}) and inter ({self.inter}) must be multiples of 128")

    @property
    def local_experts(self) -> int:
        return self.experts // self.ranks

    @property
    def rows(self) -> int:
        """Expert rows to make room for."""
        return self.max_rows or self.ranks * self.capacity * min(self.top_k, self.local_experts)


@dataclass(frozen=True)
class ExpertWeights:
    """``gate_up``: [local_experts, 2 * inter, hidden]; ``down``: [local_experts, hidden, inter]; float8: with block scales."""

    gate_up: torch.Tensor
    down: torch.Tensor
    gate_up_scale: torch.Tensor | None = None
    down_scale: torch.Tensor | None = None

    @classmethod
    def of(cls, gate_up: torch.Tensor, down: torch.Tensor, fp8: bool) -> ExpertWeights:
        if not fp8:
            return cls(gate_up.bfloat16(), down.bfloat16())
        (a, a_scale), (b, b_scale) = quantise_weight(gate_up), quantise_weight(down)
        return cls(a, b, a_scale, b_scale)


class ExpertFfn:
    """Buffers for ``rows`` expert rows and the three launches over them."""

    def __init__(self, shape: MoeShape, weights: ExpertWeights, rows: int, tiles: Tiles) -> None:
        device = weights.gate_up.device
        self.weights, self.tiles = weights, tiles
        self.hidden_rows = torch.zeros(rows, 2 * shape.inter, dtype=torch.bfloat16, device=device)
        dtype = torch.float8_e4m3fn if shape.fp8 else torch.bfloat16
        self.active = torch.zeros(rows, shape.inter, dtype=dtype, device=device)
        self.active_scale = torch.zeros(shape.inter // 128, rows, device=device) if shape.fp8 else None
        self.y = torch.zeros(rows, shape.hidden, dtype=torch.bfloat16, device=device)

    def run(
        self,
        x: torch.Tensor,
        scale: torch.Tensor | None,
        *,
        tile_expert: torch.Tensor | None = None,
        count: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """``x``: [rows, hidden], ``scale``: [hidden / 128, rows] -> [rows, hidden] bf16, valid on real rows."""
        w, order = self.weights, {"tile_expert": tile_expert, "count": count}
        grouped_gemm(x, w.gate_up, self.hidden_rows, x_scale=scale, w_scale=w.gate_up_scale, tile=self.tiles.up, **order)
        swiglu(self.hidden_rows, self.active, self.active_scale, tile_rows=self.tiles.m, **order)
        grouped_gemm(
            self.active, w.down, self.y, x_scale=self.active_scale, w_scale=w.down_scale, tile=self.tiles.down, **order
        )
        return self.y


def dense_moe(
    x: torch.Tensor, topk: torch.Tensor, weight: torch.Tensor, gate_up: torch.Tensor, down: torch.Tensor
) -> torch.Tensor:
    """The whole layer on one device in float64. ``x``: [tokens, hidden]; ``gate_up``: [experts, 2 * inter, hidden]."""
    out = torch.zeros(x.shape, dtype=torch.float64, device=x.device)
    for e in range(gate_up.shape[0]):
        t, k = (topk == e).nonzero(as_tuple=True)
        if t.numel():
            gate, up = (x[t].double() @ gate_up[e].double().T).chunk(2, -1)
            y = (torch.nn.functional.silu(gate) * up) @ down[e].double().T
            out.index_add_(0, t, weight[t, k, None].double() * y)
    return out
