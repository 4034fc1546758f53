"""Each kernel that works inside one rank against its PyTorch reference."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from epicycle.kernels.exchange.layout import layout_experts
from epicycle.kernels.experts.grouped_gemm import grouped_gemm, grouped_gemm_reference
from epicycle.kernels.experts.int4 import dequantise_int4, int4_gemm, quantise_int4
from epicycle.kernels.experts.permute import permute, permute_reference, positions, unpermute, unpermute_reference
from epicycle.kernels.experts.quantise import quantise, quantise_reference, quantise_weight
from epicycle.kernels.experts.swiglu import swiglu, swiglu_reference
from epicycle.kernels.experts.tiles import COLUMNS, Table, Tile, row_of

TILE = Tile(16, 128, 128, 4, 2)


def _error(got: torch.Tensor, want: torch.Tensor) -> float:
    return float((got.double() - want.double()).norm() / want.double().norm())


@pytest.mark.parametrize("hidden", [128, 384, 7168])
def test_quantise(hidden: int, rng: torch.Generator) -> None:
    x = torch.randn(5, hidden, generator=rng).bfloat16()
    x[2] = 0
    out = torch.full((5, hidden), float("nan")).to(torch.float8_e4m3fn)
    scale = torch.full((5, hidden // 128), float("nan"))
    quantise(x, out, scale, programs=3)
    want, want_scale = quantise_reference(x)
    assert torch.equal(scale, want_scale)
    assert torch.equal(out.view(torch.uint8), want.view(torch.uint8))


def test_quantise_refuses_odd_hidden() -> None:
    with pytest.raises(ValueError, match="multiple of 128"):
        quantise(torch.zeros(1, 100), torch.zeros(1, 100), torch.zeros(1, 1), 1)


@pytest.mark.parametrize("top_k", [1, 3])
def test_permute_and_back(top_k: int, rng: torch.Generator) -> None:
    tokens, experts, hidden = 9, 4, 256
    x = torch.randn(tokens, hidden, generator=rng).bfloat16()
    topk = torch.rand(tokens, experts, generator=rng).topk(top_k).indices
    topk[3] = -1
    weight = torch.rand(tokens, top_k, generator=rng)
    table = layout_experts(topk, experts)
    position = positions(topk, table.place, (table.counts.cumsum(0) - table.counts).int())
    rows = int(table.counts.sum())
    assert sorted(position[position >= 0].tolist()) == list(range(rows))
    out, want = (torch.full((rows, hidden), float("nan")).bfloat16() for _ in range(2))
    permute(x, position, out, programs=2)
    assert torch.equal(out, permute_reference(x, position, want))
    back = torch.full((tokens, hidden), float("nan")).bfloat16()
    unpermute(out, position, weight, back, programs=2)
    assert torch.equal(back, unpermute_reference(out, position, weight))


def _contiguous(counts: list[int], tile: int, spare: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    tiles: list[int] = []
    for expert, n in enumerate(counts):
        tiles += [expert] * -(-n // tile)
    table = torch.tensor(tiles + [-1] * spare, dtype=torch.int32)
    return table, table.repeat_interleave(tile)


LOADS = [TILE, replace(TILE, loads="tma")]


def _operands(rows: int, experts: int, n: int, k: int, fp8: bool, rng: torch.Generator) -> tuple[torch.Tensor | None, ...]:
    """x, its scales by k, w and its scales."""
    x, w = torch.randn(rows, k, generator=rng), torch.randn(experts, n, k, generator=rng)
    if not fp8:
        return x.bfloat16(), None, w.bfloat16(), None
    (a, a_scale), (b, b_scale) = quantise_reference(x), quantise_weight(w)
    return a, a_scale.T.contiguous(), b, b_scale


@pytest.mark.parametrize("tile", LOADS, ids=["pointer", "tma"])
@pytest.mark.parametrize("fp8", [False, True], ids=["bf16", "fp8"])
@pytest.mark.parametrize("shape", [(256, 128), (128, 384)])
def test_grouped_gemm_contiguous(fp8: bool, shape: tuple[int, int], tile: Tile, rng: torch.Generator) -> None:
    n, k = shape
    tile_expert, row_expert = _contiguous([20, 0, 7, 33], tile.m)
    a, a_scale, b, b_scale = _operands(row_expert.numel(), 4, n, k, fp8, rng)
    y = torch.full((row_expert.numel(), n), float("nan")).bfloat16()
    grouped_gemm(a, b, y, tile_expert=tile_expert, x_scale=a_scale, w_scale=b_scale, tile=tile)
    real = row_expert >= 0
    want = grouped_gemm_reference(a, b, row_expert, a_scale, b_scale)
    assert _error(y[real], want[real]) < 3e-3
    assert bool(y[~real].isnan().all())


@pytest.mark.parametrize("tile", LOADS, ids=["pointer", "tma"])
@pytest.mark.parametrize("fp8", [False, True], ids=["bf16", "fp8"])
def test_grouped_gemm_masked(fp8: bool, tile: Tile, rng: torch.Generator) -> None:
    n, k, each = 128, 256, 24  # not a multiple of the tile: the last tile of an expert must not touch the next expert
    count = torch.tensor([24, 0, 17], dtype=torch.int32)
    row_expert = torch.cat([torch.where(torch.arange(each) < c, e, -1) for e, c in enumerate(count.tolist())])
    a, a_scale, b, b_scale = _operands(3 * each, 3, n, k, fp8, rng)
    y = torch.full((3 * each, n), float("nan")).bfloat16()
    grouped_gemm(a, b, y, count=count, x_scale=a_scale, w_scale=b_scale, tile=tile)
    real = row_expert >= 0
    want = grouped_gemm_reference(a, b, row_expert, a_scale, b_scale)
    assert _error(y[real], want[real]) < 3e-3
    assert bool(y[~real].isnan().all())


@pytest.mark.parametrize("masked", [False, True], ids=["contiguous", "masked"])
def test_int4_product(masked: bool, rng: torch.Generator) -> None:
    n, k, each = 192, 256, 24
    count = torch.tensor([24, 0, 17], dtype=torch.int32)
    tile_expert, row_expert = _contiguous([20, 0, 7], TILE.m)
    if masked:
        row_expert = torch.cat([torch.where(torch.arange(each) < c, e, -1) for e, c in enumerate(count.tolist())])
    x, w = torch.randn(row_expert.numel(), k, generator=rng).bfloat16(), torch.randn(3, n, k, generator=rng)
    packed, scale = quantise_int4(w)
    assert packed.numel() * 2 == w.numel()
    held = dequantise_int4(packed, scale)
    assert bool(((held - w).abs() <= scale.repeat_interleave(128, -1) * 0.5001).all())
    y = torch.full((row_expert.numel(), n), float("nan")).bfloat16()
    int4_gemm(x, packed, scale, y, tile=TILE, **({"count": count} if masked else {"tile_expert": tile_expert}))
    real = row_expert >= 0
    want = grouped_gemm_reference(x, held, row_expert)
    assert _error(y[real], want[real]) < 3e-3
    assert bool(y[~real].isnan().all())
    with pytest.raises(ValueError, match="half as wide"):
        int4_gemm(x, packed[..., 1:], scale, y, tile=TILE, count=count)


def test_the_tile_table_takes_the_most_particular_row(tmp_path: Path) -> None:
    table = Table.shipped()
    assert table.pick("bf16", 4096, 4096, 7168, "tma").n == 256
    assert table.pick("bf16", 127, 4096, 7168, "tma").m == 64
    pair = table.pair("fp8", 1, 7168, 2048, "pointer")
    assert pair.up.m == pair.down.m == 64
    own = replace(TILE, k=64, loads="tma")
    path = tmp_path / "tiles.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerow(row_of("bf16", 128, 4096, 7168, own, "bench"))
    assert table.with_file(path).pick("bf16", 200, 4096, 7168, "tma") == own
    assert table.with_file(path).pick("bf16", 200, 7168, 2048, "tma") != own
    path.write_text(path.read_text().replace("bf16", "bf17"))
    with pytest.raises(ValueError, match=r"tiles.csv, line 2: want an element \(bf16, fp8, int4\)"):
        table.with_file(path)
    with pytest.raises(ValueError, match="cannot be read"):
        table.with_file(tmp_path / "none.csv")
    with pytest.raises(ValueError, match="no tile for int4 by tma"):
        table.pick("int4", 4, 128, 128, "tma")


def test_grouped_gemm_refuses_shapes_it_cannot_scale() -> None:
    x, w, y = torch.zeros(16, 100), torch.zeros(1, 128, 100), torch.zeros(16, 128)
    with pytest.raises(ValueError, match="multiple of the tile depth"):
        grouped_gemm(x, w, y, count=torch.ones(1, dtype=torch.int32), tile=TILE)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("fp8", [False, True], ids=["bf16", "fp8"])
@pytest.mark.parametrize("inter", [128, 640])
def test_swiglu(fp8: bool, masked: bool, inter: int, rng: torch.Generator) -> None:
    tile_expert, row_expert = _contiguous([20, 3], TILE.m)
    count = torch.tensor([20, 0, 11], dtype=torch.int32)
    if masked:
        row_expert = torch.cat([torch.where(torch.arange(24) < c, e, -1) for e, c in enumerate(count.tolist())])
    rows = row_expert.numel()
    h = torch.randn(rows, 2 * inter, generator=rng).bfloat16()
    dtype = torch.float8_e4m3fn if fp8 else torch.bfloat16
    out = torch.full((rows, inter), float("nan")).to(dtype)
    scale = torch.full((inter // 128, rows), float("nan")) if fp8 else None
    order = {"count": count} if masked else {"tile_expert": tile_expert}
    swiglu(h, out, scale, tile_rows=TILE.m, **order)
    want, want_scale = swiglu_reference(h, fp8)
    real = row_expert >= 0
    if scale is not None and want_scale is not None:
        assert _error(scale[:, real], want_scale[:, real]) < 1e-6
        assert _error(out[real].float(), want[real].float()) < 2e-3  # exp differs in the last bit: a rare neighbour
    else:
        assert _error(out[real], want[real]) < 1e-3
    assert bool(out[~real].float().isnan().all())
