"""Time laws of kernels on one GPU or one node: a few physical constants each, vectorised over whole tables.

Every law is a fixed cost, and loads that overlap imperfectly (`smooth_max`): tensor cores in waves of tiles, HBM, a wire.
Shapes broadcast; results are seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial, reduce

import numpy as np
from numpy.typing import NDArray

from ..specs import Gpu
from .blocks import in_blocks

Floats = NDArray[np.float64]

#: Rows and columns of an output tile among which a GEMM library chooses: cuBLAS, DeepGEMM (columns down to 16).
TILE_ROWS = {"bf16": (64, 96, 128, 160, 192, 224, 256), "fp8": (64, 128, 256), "fp4": (64, 128, 256)}
TILE_COLUMNS = {
    "bf16": (64, 96, 128, 160, 192, 224, 256),
    "fp8": (16, 32, 64, 96, 128, 160),
    "fp4": (16, 32, 64, 96, 128, 160),
}
#: Bytes moved per element to cast activations: read as bf16, written as fp8 or fp4.
CAST_BYTES = {"bf16": 0.0, "fp8": 3.0, "fp4": 2.5}
#: Bytes of one stored element in a GEMM's operands; fp4 with one scale byte per 16 (NVFP4).
OPERAND_BYTES = {"bf16": 2.0, "fp8": 1.0, "fp4": 0.5625}
#: What counts as no load at all.
_NOTHING_S = 1e-200
_LOG_NOTHING = math.log(_NOTHING_S)


@dataclass(frozen=True, slots=True)
class Gemm:
    """Constants of a dense GEMM kernel."""

    launch: float
    host: float  # the host's path through the framework when no graph replays the kernel; runs beside the GPU
    fill: float  # prologue and epilogue of a tile
    tensor_efficiency: float
    hbm_efficiency: float
    sharpness: float


@dataclass(frozen=True, slots=True)
class Collective:
    """Constants of a NCCL collective inside a node."""

    launch: float
    step: float  # for every further rank of a ring (all-to-all: for every doubling)
    fill: float  # what a long message pays before its pipeline runs full
    fill_bytes: float  # message at which half of that shows
    nvlink_efficiency: float
    sharpness: float


def smooth_max(sharpness: float, *loads: Floats | float) -> Floats:
    """``(sum load**q)**(1/q)``, elementwise: how long loads take that overlap with sharpness q (1: they add up); 0 for none."""
    parts = [np.asarray(x, float) for x in loads if np.ndim(x) or x != 0.0]
    return in_blocks(partial(_smooth_max, sharpness), *(parts or [np.zeros(())]))


def _smooth_max(sharpness: float, *loads: Floats) -> Floats:
    logs = [np.log(np.maximum(x, _NOTHING_S)) for x in loads]
    top = reduce(np.maximum, logs)
    total = reduce(np.add, [np.exp(sharpness * (x - top)) for x in logs])
    return np.asarray(np.exp(top + np.log(total) / sharpness) * (top > _LOG_NOTHING))


def gemm_seconds(m: Floats, n: Floats, k: Floats, dtype: str, gpu: Gpu, c: Gemm) -> Floats:
    """``y[m, n] = x[m, k] w[n, k]``: the best tile's waves against the bytes. ``dtype``: "bf16", "fp8" or "fp4".

    fp8 and fp4 cast x first. A GPU without tensor cores for the dtype reads w as it is stored and multiplies in bf16.
    """
    native = dtype in gpu.tensor_flop_per_cycle_sm
    rate = gpu.tensor_flops(dtype if native else "bf16") / gpu.sms * c.tensor_efficiency  # type: ignore[arg-type]
    tensor = np.full(np.broadcast_shapes(np.shape(m), np.shape(n), np.shape(k)), np.inf)
    for rows in TILE_ROWS[dtype]:
        for columns in TILE_COLUMNS[dtype]:
            waves = np.ceil(np.ceil(m / rows) * np.ceil(n / columns) / gpu.sms)
            tensor = np.minimum(tensor, waves * (2.0 * rows * columns * k / rate + c.fill))
    rate_hbm = gpu.hbm_bandwidth * c.hbm_efficiency
    busy = c.launch + smooth_max(c.sharpness, tensor, gemm_bytes(m, n, k, dtype, native) / rate_hbm)
    if native:
        busy = busy + CAST_BYTES[dtype] * m * k / rate_hbm
    return smooth_max(8.0, busy, c.host) if c.host else np.asarray(busy)


def gemm_bytes(m: Floats, n: Floats, k: Floats, dtype: str, native: bool = True) -> Floats:
    """Bytes of both operands and the bf16 result; x is bf16 where the GPU cannot multiply in ``dtype``."""
    weight = OPERAND_BYTES[dtype]
    return k * (m * (weight if native else 2.0) + weight * n) + 2.0 * m * n


def collective_seconds(op: str, ranks: Floats, message: Floats, gpu: Gpu, c: Collective) -> Floats:
    """All-gather, reduce-scatter, all-reduce or all-to-all of ``message`` bytes (the whole gathered buffer) on ``ranks`` GPUs.

    A rank sends ``(n - 1) / n`` of the message, twice in an all-reduce (there and back); a ring pays a step a rank.
    """
    share = (ranks - 1.0) / ranks * (2.0 if op == "all_reduce" else 1.0)
    steps = np.log2(ranks) if op == "all_to_all" else ranks - 1.0
    wire = share * message / (gpu.nvlink_bandwidth * c.nvlink_efficiency)
    fill = c.fill * message / (message + c.fill_bytes)
    return np.asarray(c.launch + c.step * steps + smooth_max(c.sharpness, wire, fill))
