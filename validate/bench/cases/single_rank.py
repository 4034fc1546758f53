"""Cases inside one rank: cast, permute, activation, grouped products."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ....hwmodels.errors import BadInput
from ....kernels.experts.grouped_gemm import (
    dequantise,
    dequantise_weight,
    gemm_bytes,
    gemm_flops,
    grouped_gemm,
    grouped_gemm_reference,
)
from ....kernels.experts.int4 import dequantise_int4, int4_bytes, int4_gemm, quantise_int4
from ....kernels.experts.permute import permute, permute_bytes, unpermute, unpermute_bytes
from ....kernels.experts.quantise import quantise, quantise_bytes, quantise_reference, quantise_weight
from ....kernels.experts.swiglu import swiglu, swiglu_bytes, swiglu_reference
from .case import Case, Problem, Setup, Tensors


@dataclass(frozen=True)
class Point:
    """One operating point of a layer: ``tokens`` on each of ``ranks`` ranks."""

    tokens: int
    hidden: int
    inter: int
    experts: int
    top_k: int
    ranks: int = 8

    @property
    def rows_each(self) -> int:
        """Rows of one expert if all are equally popular."""
        return max(1, self.tokens * self.ranks * self.top_k // self.experts)

    def __str__(self) -> str:
        return f"{self.tokens}x{self.hidden}x{self.inter}x{self.experts}x{self.top_k}"

    @classmethod
    def parse(cls, text: str, ranks: int = 8) -> Point:
        """``tokens x hidden x inter x experts x top_k``, for example ``128x7168x2048x64x8``. Raises BadInput."""
        parts = text.lower().split("x")
        if len(parts) != 5 or not all(p.isdigit() and int(p) > 0 for p in parts):
            raise BadInput(f"shape {text!r}: give tokens x hidden x inter x experts x top_k, for example 128x7168x2048x64x8")
        tokens, hidden, inter, experts, top_k = map(int, parts)
        return cls(tokens, hidden, inter, experts, top_k, ranks)


def single_rank_cases(point: Point, setup: Setup) -> list[Case]:
    """Every kernel that works inside one rank; of an expert's two products, "down" is the second."""
    device, programs = setup.device, setup.programs
    cases = [_quantise(point, device, programs), _permute(point, device, programs), _unpermute(point, device, programs)]
    for element in ("bf16", "fp8", "int4"):
        if element != "int4":
            cases.append(_swiglu(point, device, element == "fp8"))
        for down in (False, True):
            cases += [_gemm(point, setup, element, masked, down) for masked in (False, True)]
    return cases


def _labels(point: Point, kernel: str, dtype: str) -> dict[str, Any]:
    return {
        "library": "epicycle-triton",
        "kernel": kernel,
        "dtype": dtype,
        "routing": "uniform",
        "tokens": point.tokens * point.ranks,
        "hidden": point.hidden,
        "inter": point.inter,
        "top_k": point.top_k,
        "experts": point.experts,
        "ep": point.ranks,
    }


def _randn(seed: int, device: str, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator(device).manual_seed(seed), device=device).bfloat16()


def _quantise(point: Point, device: str, programs: int) -> Case:
    rows = point.tokens

    def make(seed: int) -> Problem:
        x = _randn(seed, device, rows, point.hidden)
        out = torch.empty(rows, point.hidden, dtype=torch.float8_e4m3fn, device=device)
        scale = torch.empty(rows, point.hidden // 128, device=device)
        return Problem(
            {"x": x},
            {"out": out, "scale": scale},
            lambda: quantise(x, out, scale, programs),
            lambda: {"values": x},
            ("x",),
            finish=lambda: {"values": dequantise(out.double(), scale)},
            torch_run=lambda: quantise_reference(x),
        )

    labels = _labels(point, "quantise", "fp8_block")
    return Case("quantise", "grouped_gemm", labels, make, 0.04, quantise_bytes(rows, point.hidden))


def _positions(point: Point, seed: int, device: str) -> torch.Tensor:
    """A random order of all (token, k) entries, as expert sorting gives: [tokens, top_k] int32."""
    order = torch.randperm(point.tokens * point.top_k, generator=torch.Generator().manual_seed(seed))
    return order.view(point.tokens, point.top_k).int().to(device)


def _permute(point: Point, device: str, programs: int) -> Case:
    entries = point.tokens * point.top_k

    def make(seed: int) -> Problem:
        x, position = _randn(seed, device, point.tokens, point.hidden), _positions(point, seed, device)
        out = torch.empty(entries, point.hidden, dtype=torch.bfloat16, device=device)
        source = torch.empty(entries, dtype=torch.long, device=device)
        source[position.flatten().long()] = torch.arange(entries, device=device) // point.top_k
        return Problem(
            {"x": x, "position": position},
            {"out": out},
            lambda: permute(x, position, out, programs),
            lambda: {"out": x[source]},
            ("x",),
            torch_run=lambda: torch.index_select(x, 0, source, out=out),
        )

    size = permute_bytes(point.tokens, entries, 2 * point.hidden, point.top_k)
    return Case("permute", "grouped_gemm", _labels(point, "permute", "bfloat16"), make, 0.0, size)


def _unpermute(point: Point, device: str, programs: int) -> Case:
    entries = point.tokens * point.top_k

    def make(seed: int) -> Problem:
        y, position = _randn(seed, device, entries, point.hidden), _positions(point, seed, device)
        weight = torch.rand(point.tokens, point.top_k, generator=torch.Generator().manual_seed(seed)).to(device)
        out = torch.empty(point.tokens, point.hidden, dtype=torch.bfloat16, device=device)
        index = position.long()

        def plain() -> None:
            torch.sum(y[index] * weight[..., None].bfloat16(), 1, out=out)

        def expected() -> Tensors:
            total = torch.zeros(point.tokens, point.hidden, dtype=torch.float64, device=device)
            for k in range(point.top_k):
                total += weight[:, k, None].double() * y[index[:, k]].double()
            return {"out": total}

        return Problem(
            {"y": y, "position": position, "weight": weight},
            {"out": out},
            lambda: unpermute(y, position, weight, out, programs),
            expected,
            ("y",),
            torch_run=plain,
        )

    size = unpermute_bytes(point.tokens, entries, point.hidden, point.top_k)
    return Case("unpermute", "grouped_gemm", _labels(point, "unpermute", "bfloat16"), make, 0.004, size)


def _order(point: Point, tile: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """(tile_expert, row_expert) of one rank's experts with equal shares of the rows."""
    local = point.experts // point.ranks
    rows = torch.full((local,), point.rows_each)
    tiles = torch.arange(local).repeat_interleave(-(-rows // tile))
    row_expert = tiles.repeat_interleave(tile)
    return tiles.int().to(device), row_expert.to(device)


def _swiglu(point: Point, device: str, fp8: bool) -> Case:
    tile_expert, row_expert = _order(point, 64, device)
    rows = row_expert.numel()

    def make(seed: int) -> Problem:
        h = _randn(seed, device, rows, 2 * point.inter)
        out = torch.empty(rows, point.inter, dtype=torch.float8_e4m3fn if fp8 else torch.bfloat16, device=device)
        scale = torch.empty(point.inter // 128, rows, device=device) if fp8 else None

        def expected() -> Tensors:
            gate, up = h.double().chunk(2, -1)
            return {"values": torch.nn.functional.silu(gate) * up}

        return Problem(
            {"h": h},
            {"out": out} | ({"scale": scale} if scale is not None else {}),
            lambda: swiglu(h, out, scale, tile_expert=tile_expert, tile_rows=64),
            expected,
            ("h",),
            finish=lambda: {"values": dequantise(out.double(), scale.T if scale is not None else None)},
            torch_run=lambda: swiglu_reference(h, fp8),
        )

    name = "swiglu_fp8" if fp8 else "swiglu_bf16"
    labels = _labels(point, "swiglu", "fp8_block" if fp8 else "bfloat16")
    return Case(name, "grouped_gemm", labels, make, 0.04 if fp8 else 0.004, swiglu_bytes(rows, point.inter, fp8))


def products(point: Point, setup: Setup, element: str, down: bool) -> Case:
    """One expert product over contiguous rows."""
    return _gemm(point, setup, element, False, down)


def _gemm(point: Point, setup: Setup, element: str, masked: bool, down: bool) -> Case:
    local, each, device = point.experts // point.ranks, point.rows_each, setup.device
    pair = setup.tiles(element, each, point.hidden, point.inter)
    n, k, tile = (point.hidden, point.inter, pair.down) if down else (2 * point.inter, point.hidden, pair.up)
    fp8 = element == "fp8"
    if masked:
        room = -(-each // tile.m) * tile.m
        row_expert = torch.where(torch.arange(room) < each, 0, -1).repeat(local)
        row_expert = torch.where(row_expert >= 0, torch.arange(local).repeat_interleave(room), -1).to(device)
        order = {"count": torch.full((local,), each, dtype=torch.int32, device=device)}
    else:
        tile_expert, row_expert = _order(point, tile.m, device)
        order = {"tile_expert": tile_expert}
    rows = int((row_expert >= 0).sum())
    held = {"bf16": lambda w: (w, None), "fp8": quantise_weight, "int4": quantise_int4}[element]

    def make(seed: int) -> Problem:
        x = _randn(seed, device, row_expert.numel(), k)
        w = torch.cat([_randn(seed + 77 * e, device, 1, n, k) for e in range(local)]) / k**0.5
        a, a_scale = quantise_reference(x) if fp8 else (x, None)
        by_k = a_scale.T.contiguous() if a_scale is not None else None
        b, b_scale = held(w)
        y = torch.empty(row_expert.numel(), n, dtype=torch.bfloat16, device=device)
        real = row_expert >= 0
        wide = dequantise_int4(b, b_scale) if element == "int4" else dequantise_weight(b, b_scale)
        wide16 = wide.bfloat16()

        def run() -> None:
            if element == "int4":
                int4_gemm(a, b, b_scale, y, tile=tile, **order)
            else:
                grouped_gemm(a, b, y, x_scale=by_k, w_scale=b_scale, tile=tile, **order)

        def plain() -> None:
            for e in range(local):
                part = slice(e * row_expert.numel() // local, (e + 1) * row_expert.numel() // local)
                torch.mm(x[part], wide16[e].T, out=y[part])

        scales = {"x_scale": by_k, "w_scale": b_scale}
        return Problem(
            {"x": a, "w": b} | {name: scale for name, scale in scales.items() if scale is not None},
            {"y": y},
            run,
            lambda: {"y": grouped_gemm_reference(a, wide, row_expert, by_k)},
            ("x",),
            written=lambda: {"y": real},
            torch_run=plain,
        )

    kind, part = ("masked" if masked else "contiguous"), ("-down" if down else "")
    dtype = {"bf16": "bfloat16", "fp8": "fp8_block", "int4": "int4_block"}[element]
    labels = _labels(point, f"gemm-{kind}{part}", dtype)
    size = int4_bytes(rows, local, n, k) if element == "int4" else gemm_bytes(rows, local, n, k, 1 if fp8 else 2)
    name = f"gemm_{kind}_{element}{part.replace('-', '_')}"
    return Case(name, "grouped_gemm", labels, make, 0.01, size, gemm_flops(rows, n, k), "matmul", tile=tile)
