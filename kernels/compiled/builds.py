"""Which kernel variants are compiled ahead of a device: types, constants and what their machine code must contain.

The shapes are those of a DeepSeek-V3-like layer (hidden 7168, top-8, 256 experts over 8 ranks).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import triton.language as tl

from ..exchange import ht_combine, ht_dispatch, layout, ll_combine, ll_dispatch, notify, rail
from ..exchange.listed import FEW, summing
from ..exchange.row import RowFormat, SumFormat
from ..experts import permute, quantise, swiglu
from ..experts.grouped_gemm import gemm_kernel
from ..experts.int4 import int4_gemm_kernel
from ..experts.tiles import Table, Tile
from ..experts.tma_gemm import tma_gemm_kernel

HIDDEN = 7168
FP8 = tl.float8e4nv
TYPES = {
    "table": "*i64",
    "topk": "*i64",
    "message_count": "*i64",
    "weight": "*fp32",
    "scale": "*fp32",
    "out_scale": "*fp32",
    "out_weight": "*fp32",
    "x_scale": "*fp32",
    "w_scale": "*fp32",
    "y": "*bf16",
    "h": "*bf16",
}
INTEGERS = {
    "me", "ranks", "tokens", "capacity", "epoch", "local_experts", "groups", "per_group", "splits", "tiles", "rows_per_expert",
    "N", "K", "out_rows", "experts", "nodes", "local_ranks", "programs", "first_reader", "readers", "rows_all", "lanes",
}  # fmt: skip
ALIGNED = {"N", "K", "rows_all", "out_rows"}  # multiples of 16 in every launch, beside all pointers and byte offsets


@dataclass(frozen=True)
class Build:
    """One variant. ``types`` overrides the usual type of a named argument; ``constants`` fixes the constexpr ones."""

    name: str
    kernel: Any
    constants: dict[str, Any]
    types: dict[str, str] = field(default_factory=dict)
    warps: int = 4
    stages: int = 3
    remote_stores: bool = False
    tensor_core: bool = False
    fp8: bool = False
    tma: bool = False
    externs: bool = False
    tile: Tile | None = None

    def signature(self) -> dict[str, str]:
        """Type of each argument by name: pointers to int32 unless known otherwise."""
        types = {}
        for name in self.kernel.arg_names:
            if name in self.constants:
                types[name] = "constexpr"
            elif name in self.types:
                types[name] = self.types[name]
            elif name in TYPES:
                types[name] = TYPES[name]
            elif name.endswith("_at") or name in INTEGERS:
                types[name] = "i32"
            else:
                types[name] = "*i32"
        return types

    def divisible(self) -> list[int]:
        """Positions of arguments that are multiples of 16."""
        known = [n.endswith("_at") or n in ALIGNED for n in self.kernel.arg_names]
        types = self.signature().values()
        return [i for i, t in enumerate(types) if t.startswith("*") or (known[i] and t != "constexpr")]


def _gemm(name: str, tile: Tile, fp8: bool, masked: bool) -> Build:
    kind = "fp8e4nv" if fp8 else "bf16"
    constants = {"MASKED": masked, "SCALED": fp8, "BM": tile.m, "BN": tile.n, "BK": tile.k, "GROUP": tile.group}
    types = {"x": f"*{kind}", "w": f"*{kind}"}
    kernel, tma = gemm_kernel, tile.loads == "tma"
    if tma:
        kernel, constants = tma_gemm_kernel, constants | {"LP": 8 if masked else 512}
        types = {"x": f"tensordesc<{kind}[{tile.m}, {tile.k}]>", "w": f"tensordesc<{kind}[{tile.n}, {tile.k}]>"}
    return Build(name, kernel, constants, types, tile.warps, tile.stages, tensor_core=True, fp8=fp8, tma=tma, tile=tile)


def _gemms() -> list[Build]:
    """Both row orders in bf16 and float8, by pointers and by TMA, and with int4 weights; a tall tile and a low one of each."""
    table, found = Table.shipped(), []
    for loads in ("pointer", "tma"):
        for element in ("bf16", "fp8"):
            for masked, rows in ((False, 4096), (True, 16)):
                tile = table.pick(element, rows, 4096, HIDDEN, loads)
                kind = "masked" if masked else "contiguous"
                name = f"gemm_{kind}_{element}{'_tma' if loads == 'tma' else ''}"
                found.append(_gemm(name, tile, element == "fp8", masked))
    for masked, rows in ((False, 4096), (True, 16)):
        tile = table.pick("int4", rows, 4096, HIDDEN, "pointer")
        constants = {"MASKED": masked, "BM": tile.m, "BN": tile.n, "GROUP": tile.group}
        name = f"gemm_{'masked' if masked else 'contiguous'}_int4"
        types = {"x": "*bf16", "w": "*u8"}
        found.append(Build(name, int4_gemm_kernel, constants, types, tile.warps, tile.stages, tensor_core=True, tile=tile))
    return found


def builds() -> list[Build]:
    """All variants, in the order of a layer."""
    fp8_row, bf16_row = (RowFormat.of(HIDDEN, 8, fp8).constants() for fp8 in (True, False))
    sums = SumFormat(HIDDEN, 8).constants()
    part = {**{n: fp8_row[n] for n in ("STRIDE", "ORIGIN_AT", "WEIGHT_AT")}, **sums, "KP": 8, "RP": 8}
    fp8_words = {"WORDS": HIDDEN // 4, "SCALES": HIDDEN // 128, "SP": 64, "RP": 8, "BLOCK": 2048}
    bf16_words = {"WORDS": HIDDEN // 2, "SCALES": 0, "SP": 1, "RP": 8, "BLOCK": 4096}
    message = {"HIDDEN": HIDDEN, "K": 8, "KP": 8, "EP": 256, "G": 64, "BLOCK": 8192}
    wide = {"HIDDEN": HIDDEN, "BLOCK": 8192}
    act = {"INTER": 2048, "TILE": 128, "BM": 8, "COLUMNS": 512}
    fp8_out, bf16 = {"out": "*fp8e4nv", "x": "*bf16"}, {"x": "*bf16", "out": "*bf16"}
    return [
        Build("layout_groups", layout.groups_kernel, {"K": 8, "KP": 8, "BLOCK": 1024}),
        Build("layout_experts", layout.experts_kernel, {"K": 8, "KP": 8, "BLOCK": 1024}),
        Build("notify_post", notify.post_kernel, {"LP": 32, "NVSHMEM": False}),
        Build("notify_wait", notify.wait_kernel, {"ALIGN": 128, "RP": 8, "LP": 32, "TILES": 64}),
        Build("quantise", quantise.quantise_kernel, {"G": quantise.TOGETHER}, fp8_out, 8, fp8=True),
        Build("ht_dispatch_fp8", ht_dispatch.send_kernel, _dispatch(fp8_row), warps=8, remote_stores=True),
        Build("ht_dispatch_bf16", ht_dispatch.send_kernel, _dispatch(bf16_row), warps=8, remote_stores=True),
        Build("ht_expand_fp8", ht_dispatch.expand_kernel, _expand(fp8_row), warps=8),
        Build("ht_expand_bf16", ht_dispatch.expand_kernel, _expand(bf16_row), warps=8),
        *_summing("ht_reduce", ht_combine.reduce_kernel, part, {}, ht_combine.REDUCED),
        *_summing("ht_combine", ht_combine.pull_kernel, {**sums, "RP": 8}, bf16),
        Build("ll_send_fp8", ll_dispatch.send_kernel, {**message, "FLOAT8": FP8}, bf16, 8, remote_stores=True, fp8=True),
        Build("ll_send_bf16", ll_dispatch.send_kernel, {**message, "FLOAT8": None}, bf16, 8, remote_stores=True),
        Build("ll_receive_fp8", ll_dispatch.receive_kernel, fp8_words, warps=8),
        Build("ll_receive_bf16", ll_dispatch.receive_kernel, bf16_words, warps=8),
        Build("ll_return", ll_combine.send_kernel, {**wide, "K": 8}, warps=8, remote_stores=True),
        *_summing("ll_combine", ll_combine.sum_kernel, {**wide, "K": 8, "KP": 8, "EP": 256}, bf16),
        Build("permute", permute.permute_kernel, {"WORDS": HIDDEN // 2, "K": 8, "KP": 8, "BLOCK": 4096}, {"rows": "i32"}, 8),
        Build("unpermute", permute.unpermute_kernel, {**wide, "K": 8}, {**bf16, "rows": "i32"}, 8),
        *_gemms(),
        Build("swiglu_bf16", swiglu.swiglu_kernel, {**act, "MASKED": False, "SCALED": False}, bf16),
        Build("swiglu_fp8", swiglu.swiglu_kernel, {**act, "MASKED": False, "SCALED": True}, fp8_out, fp8=True),
        *_rail_builds(),
    ]


def _summing(name: str, kernel: Any, constants: dict[str, Any], types: dict[str, str], most: int = 8192) -> list[Build]:
    """As launched for few rows and for many."""
    found = []
    for rows, suffix in ((FEW, ""), (FEW + 1, "_many")):
        chosen = summing(rows, HIDDEN, most)
        warps = chosen.pop("num_warps")
        found.append(Build(name + suffix, kernel, constants | chosen, types, warps))
    return found


def _only(constants: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: constants[name] for name in names}


def _dispatch(row: dict[str, Any]) -> dict[str, Any]:
    return _only(row, "WORDS", "SCALES", "K", "STRIDE", "TAIL", "TP", "BLOCK") | {"RP": 8, "FP": 8}


def _expand(row: dict[str, Any]) -> dict[str, Any]:
    names = ("WORDS", "SCALES", "SP", "K", "KP", "STRIDE", "INDEX_AT", "TWO_HOP", "BLOCK")
    return _only(row, *names) | {"RP": 8}


def _rail_builds() -> list[Build]:
    row = RowFormat.of(HIDDEN, 8, fp8=True, two_hop=True).constants()
    put = _only(row, *rail.PUT_CONSTANTS)
    sums = SumFormat(HIDDEN, 8, two_hop=True).constants()
    slots = {"K": 8, "STRIDE": row["STRIDE"], "INDEX_AT": row["INDEX_AT"], "BLOCK": 1024}
    forward = {"STRIDE": row["STRIDE"], "TRAVELS": row["TRAVELS"], "LP": 8, "BLOCK": 2048}
    back = {name: value for name, value in sums.items() if name != "K"} | {"LP": 8}
    return [
        Build("notify_post_nvshmem", notify.post_kernel, {"LP": 32, "NVSHMEM": True}, externs=True),
        Build("rail_put", rail.put_kernel, {**put, "NVSHMEM": False}, warps=8, remote_stores=True),
        Build("rail_put_nvshmem", rail.put_kernel, {**put, "NVSHMEM": True}, warps=8, externs=True),
        Build("rail_slots", rail.slots_kernel, slots),
        Build("rail_forward", rail.forward_kernel, forward, warps=8, remote_stores=True),
        Build("rail_return", rail.return_kernel, {**back, "NVSHMEM": False}, warps=8, remote_stores=True),
        Build("rail_return_nvshmem", rail.return_kernel, {**back, "NVSHMEM": True}, warps=8, externs=True),
        Build("rail_combine", rail.home_kernel, sums, {"out": "*bf16"}, 8),
    ]
