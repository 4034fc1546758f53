"""Which kernel variants are compiled ahead of a device: types, constants and what their machine code must contain.

The shapes are those of a DeepSeek-V3-like layer (hidden 7168, top-8, 256 experts over 8 ranks).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import triton.language as tl

from ..exchange import ht_combine, ht_dispatch, layout, ll_combine, ll_dispatch, notify, rail
from ..exchange.row import RowFormat, SumFormat
from ..experts import permute, quantise, swiglu
from ..experts.grouped_gemm import BF16_SMALL, BF16_TILE, FP8_SMALL, FP8_TILE, Tile, gemm_kernel

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
    "N", "K", "out_rows", "experts", "nodes", "local_ranks", "programs", "first_reader", "readers",
}  # fmt: skip
ALIGNED = {"N", "K"}  # multiples of 16 in every launch, beside all pointers and byte offsets


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
    kind = "*fp8e4nv" if fp8 else "*bf16"
    constants = {"MASKED": masked, "SCALED": fp8, "BM": tile.m, "BN": tile.n, "BK": tile.k, "GROUP": tile.group}
    types = {"x": kind, "w": kind, "rows_per_expert": "i32"}
    return Build(name, gemm_kernel, constants, types, tile.warps, tile.stages, tensor_core=True, fp8=fp8, tile=tile)


def builds() -> list[Build]:
    """All variants, in the order of a layer."""
    fp8_row, bf16_row = (_without(RowFormat.of(HIDDEN, 8, fp8).constants(), "TWO_HOP") for fp8 in (True, False))
    sums = SumFormat(HIDDEN, 8).constants()
    part = {**{n: fp8_row[n] for n in ("STRIDE", "ORIGIN_AT", "WEIGHT_AT")}, **sums, "RP": 8}
    fp8_words = {"WORDS": HIDDEN // 4, "SCALES": HIDDEN // 128, "SP": 64, "BLOCK": 2048}
    bf16_words = {"WORDS": HIDDEN // 2, "SCALES": 0, "SP": 1, "BLOCK": 4096}
    message = {"HIDDEN": HIDDEN, "K": 8, "EP": 256, "G": 64, "BLOCK": 8192}
    wide = {"HIDDEN": HIDDEN, "BLOCK": 8192}
    act = {"INTER": 2048, "TILE": 128, "BM": 8, "COLUMNS": 512}
    fp8_out, bf16 = {"out": "*fp8e4nv", "x": "*bf16"}, {"x": "*bf16", "out": "*bf16"}
    return [
        Build("layout_groups", layout.groups_kernel, {"K": 8, "KP": 8, "BLOCK": 1024}),
        Build("layout_experts", layout.experts_kernel, {"K": 8, "KP": 8, "BLOCK": 1024}),
        Build("notify_post", notify.post_kernel, {"LP": 32, "NVSHMEM": False}),
        Build("notify_wait", notify.wait_kernel, {"ALIGN": 128, "RP": 8, "LP": 32, "TILES": 64}),
        Build("quantise", quantise.quantise_kernel, {"HIDDEN": HIDDEN, "G": 64}, {**fp8_out, "rows": "i32"}, 8, fp8=True),
        Build("ht_dispatch_fp8", ht_dispatch.send_kernel, {**fp8_row, "RP": 8}, warps=8, remote_stores=True),
        Build("ht_dispatch_bf16", ht_dispatch.send_kernel, {**bf16_row, "RP": 8}, warps=8, remote_stores=True),
        Build("ht_expand_fp8", ht_dispatch.expand_kernel, _expand(fp8_row), warps=8),
        Build("ht_expand_bf16", ht_dispatch.expand_kernel, _expand(bf16_row), warps=8),
        Build("ht_reduce", ht_combine.reduce_kernel, part, warps=8),
        Build("ht_combine", ht_combine.pull_kernel, {**sums, "RP": 8}, bf16, 8),
        Build("ll_send_fp8", ll_dispatch.send_kernel, {**message, "FLOAT8": FP8}, bf16, 8, remote_stores=True, fp8=True),
        Build("ll_send_bf16", ll_dispatch.send_kernel, {**message, "FLOAT8": None}, bf16, 8, remote_stores=True),
        Build("ll_receive_fp8", ll_dispatch.receive_kernel, fp8_words, warps=8),
        Build("ll_receive_bf16", ll_dispatch.receive_kernel, bf16_words, warps=8),
        Build("ll_return", ll_combine.send_kernel, {**wide, "K": 8}, warps=8, remote_stores=True),
        Build("ll_combine", ll_combine.sum_kernel, {**wide, "K": 8, "EP": 256}, bf16, 8),
        Build("permute", permute.permute_kernel, {"WORDS": HIDDEN // 2, "K": 8, "BLOCK": 4096}, {"rows": "i32"}, 8),
        Build("unpermute", permute.unpermute_kernel, {**wide, "K": 8}, {**bf16, "rows": "i32"}, 8),
        _gemm("gemm_contiguous_bf16", BF16_TILE, False, False),
        _gemm("gemm_masked_bf16", BF16_SMALL, False, True),
        _gemm("gemm_contiguous_fp8", FP8_TILE, True, False),
        _gemm("gemm_masked_fp8", FP8_SMALL, True, True),
        Build("swiglu_bf16", swiglu.swiglu_kernel, {**act, "MASKED": False, "SCALED": False}, bf16),
        Build("swiglu_fp8", swiglu.swiglu_kernel, {**act, "MASKED": False, "SCALED": True}, fp8_out, fp8=True),
        *_rail_builds(),
    ]


def _without(constants: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in constants.items() if name not in names}


def _expand(row: dict[str, Any]) -> dict[str, Any]:
    return _without(row, "KP", "ORIGIN_AT", "WEIGHT_AT") | {"TWO_HOP": False, "RP": 8}


def _rail_builds() -> list[Build]:
    row = _without(RowFormat.of(HIDDEN, 8, fp8=True, two_hop=True).constants(), "TWO_HOP")
    sums = SumFormat(HIDDEN, 8, two_hop=True).constants()
    slots = {"K": 8, "STRIDE": row["STRIDE"], "INDEX_AT": row["INDEX_AT"], "BLOCK": 1024}
    forward = {"STRIDE": row["STRIDE"], "LP": 8, "BLOCK": 2048}
    back = _without(sums, "K") | {"LP": 8}
    return [
        Build("notify_post_nvshmem", notify.post_kernel, {"LP": 32, "NVSHMEM": True}, externs=True),
        Build("rail_put", rail.put_kernel, {**row, "NVSHMEM": False}, warps=8, remote_stores=True),
        Build("rail_put_nvshmem", rail.put_kernel, {**row, "NVSHMEM": True}, warps=8, externs=True),
        Build("rail_slots", rail.slots_kernel, slots),
        Build("rail_forward", rail.forward_kernel, forward, warps=8, remote_stores=True),
        Build("rail_return", rail.return_kernel, {**back, "NVSHMEM": False}, warps=8, remote_stores=True),
        Build("rail_return_nvshmem", rail.return_kernel, {**back, "NVSHMEM": True}, warps=8, externs=True),
        Build("rail_combine", rail.home_kernel, sums, {"out": "*bf16"}, 8),
    ]
