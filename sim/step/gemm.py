"""Dense GEMMs of a model step: a fitted law on any GPU, in any precision, as parts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...hwmodels.calibration import constants_of, find_entry
from ...hwmodels.laws import Gemm, gemm_bytes, gemm_seconds
from ...hwmodels.specs import Gpu
from ..precision import Dtype
from .part import Group, Num, Part


def gemm_part(
    name: str,
    group: Group,
    shapes: tuple[tuple[Num, Num, Num], ...],
    dtype: Dtype,
    gpu: Gpu,
    system: str,
    times: float,
    *,
    kernels: float | None = None,
    extra_bytes: Num = 0.0,
    fp4_weights: float = 1.0,
) -> Part:
    """GEMMs run one after another, each ``(m, n, k)``: rows, columns, depth on this GPU; ``extra_bytes`` moved between them.

    ``seconds`` holds no launch: what lies between kernels is the engine's (`Part.kernels` counts them). A cast of the rows
    before an fp8 or fp4 GEMM is a kernel of its own. Constants: `kernel_constants`.
    """
    constants, source = kernel_constants(system, dtype)
    if dtype == "fp4":
        constants = replace(constants, hbm_efficiency=constants.hbm_efficiency * fp4_weights)
    native = dtype in gpu.tensor_flop_per_cycle_sm
    rate = gpu.tensor_flops(dtype if native else "bf16") * constants.tensor_efficiency
    hbm = gpu.hbm_bandwidth * constants.hbm_efficiency
    seconds: Num = 0.0
    flops: Num = 0.0
    moved: Num = extra_bytes
    for shape in shapes:
        m, n, k = (np.asarray(x, float) for x in shape)
        seconds = seconds + np.where(m > 0.0, gemm_seconds(m, n, k, dtype, gpu, constants), 0.0)
        flops = flops + 2.0 * m * n * k
        moved = moved + np.where(m > 0.0, gemm_bytes(m, n, k, dtype, native), 0.0)
    seconds = seconds + extra_bytes / hbm
    casts = len(shapes) if native and dtype != "bf16" else 0
    return Part(
        name,
        group,
        seconds,
        times,
        {"tensor": flops / rate, "hbm": moved / hbm},
        flops,
        moved,
        kernels=float(len(shapes) + casts) if kernels is None else kernels,
        source=f"gemm law ({dtype}), fitted on {source}",
    )


def kernel_constants(system: str, dtype: Dtype) -> tuple[Gemm, str]:
    """The GPU's side of a GEMM: no launch and no host, and the system they were measured on.

    fp8 tables were taken eagerly, so that the host hides what a small kernel takes: they tell the tensor efficiency, while tile
    fill and HBM efficiency come from the bf16 kernels, timed without a host. fp4 has no table and takes fp8's.
    """
    plain, source = find_entry(system, "gemm", "bf16", "one-node")
    constants = replace(constants_of(plain, Gemm), launch=0.0, host=0.0)
    if dtype == "bf16":
        return constants, source
    entry, source = find_entry(system, "gemm", "fp8", "one-node")
    return replace(constants, tensor_efficiency=constants_of(entry, Gemm).tensor_efficiency), source
