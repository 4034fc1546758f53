"""The kernels that all parts of a step share on one GPU: GEMMs, passes over rows, and an attention core's two loads.

Their constants are the calibration's ``gemm`` entries. The bf16 rows were timed from graphs. The fp8 rows were launched one by
one: below some 100 us they show the host, so only what large ones show is taken from that entry, the tensor efficiency. Launch,
tile fill, sharpness and HBM efficiency are the bf16 entry's: fp4 has no table and takes fp8's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ...hwmodels.calibration import constants_of, find_entry
from ...hwmodels.laws.attention import OVERLAP
from ...hwmodels.laws.kernels import CAST_BYTES, Gemm, gemm_bytes, gemm_seconds, smooth_max
from ...hwmodels.specs import Gpu
from ..precision import Dtype
from .part import Num
from .tensor import Reach
from .work import Work


@dataclass(frozen=True, slots=True)
class GpuKernels:
    """One GPU and its fitted GEMM constants. ``source``: whose they are. ``fp4_weights``: the rate at which 4-bit GEMMs read
    weights over wider ones'. ``fp8_rate``: tensor rate of block-scaled fp8 GEMMs over the tabled ones'."""

    gpu: Gpu
    bf16: Gemm
    narrow: Gemm
    source: str
    reach: Reach
    fp4_weights: float = 1.0
    fp8_rate: float = 1.0

    @staticmethod
    def of(gpu: Gpu, system: str, fp4_weights: float = 1.0, fp8_rate: float = 1.0) -> GpuKernels:
        """Constants of ``system`` or its nearest relative. Raises Uncalibrated or UnknownName."""
        (bf16, own), (fp8, _) = (find_entry(system, "gemm", op, "one-node") for op in ("bf16", "fp8"))
        borrowed = "" if own == system else f", borrowed from {own}"
        wide = constants_of(bf16, Gemm)
        reach = Reach.of(gpu, system)
        narrow = replace(wide, host=0.0, tensor_efficiency=reach.same_dtype(constants_of(fp8, Gemm).tensor_efficiency))
        return GpuKernels(
            gpu, wide, narrow, f"gemm constants fitted on {bf16.fit.table}{borrowed}", reach, fp4_weights, fp8_rate
        )

    def constants(self, stored: Dtype) -> Gemm:
        """Constants of a GEMM on weights kept as ``stored``."""
        if stored == "bf16":
            return self.bf16
        if stored == "fp4":
            return replace(self.narrow, hbm_efficiency=self.narrow.hbm_efficiency * self.fp4_weights)
        if stored == "fp8":
            return replace(self.narrow, tensor_efficiency=self.narrow.tensor_efficiency * self.fp8_rate)
        return self.narrow

    @property
    def hbm_bytes_per_s(self) -> float:
        """What a kernel that streams large operands gets."""
        return self.gpu.hbm_bandwidth * self.bf16.hbm_efficiency

    def flops_per_s(self, stored: Dtype) -> float:
        """Peak of the tensor cores on weights stored so: in that dtype, or in bf16 if they have no such rate."""
        return self.gpu.tensor_flops(stored if stored in self.gpu.tensor_flop_per_cycle_sm else "bf16")

    def gemm(self, rows: Num, columns: Num, inner: Num, stored: Dtype) -> Work:
        """``y[rows, columns] = x[rows, inner] w``, ``w`` kept as ``stored``; narrow dtypes cast ``x`` in a kernel before."""
        native = stored in self.gpu.tensor_flop_per_cycle_sm
        c = self.constants(stored)
        shape, (m, n, k), back = _distinct(rows, columns, inner)
        busy = gemm_seconds(m, n, k, stored, self.gpu, replace(c, launch=0.0, host=0.0))
        moved = gemm_bytes(m, n, k, stored, native) + (CAST_BYTES[stored] * m * k if native else 0.0)
        flops = 2.0 * m * n * k
        tensor = flops / (self.flops_per_s(stored) * c.tensor_efficiency)
        kernels = 2.0 if native and stored != "bf16" else 1.0
        launch = kernels * c.launch
        hbm = moved / (self.gpu.hbm_bandwidth * c.hbm_efficiency)
        whole = [launch + busy, tensor, hbm, launch + 0.0 * m, flops, moved, kernels + 0.0 * m]
        return Work(*(value[back].reshape(shape) for value in whole)).where(rows)

    def stream(self, moved_bytes: Num, kernels: Num = 1.0) -> Work:
        """Elementwise kernels that read and write ``moved_bytes`` together, each with a GEMM's launch."""
        launch, hbm = kernels * self.bf16.launch, moved_bytes / self.hbm_bytes_per_s
        return Work(launch + hbm, 0.0, hbm, launch, 0.0, moved_bytes, kernels)

    def core(self, tensor: Num, hbm: Num, flops: Num, hbm_bytes: Num, kernels: Num = 1.0) -> Work:
        """An attention kernel whose two loads hide each other, after its launches and one tile's prologue and epilogue."""
        launch = kernels * self.bf16.launch
        busy = self.bf16.fill + smooth_max(OVERLAP, tensor, hbm)
        return Work(launch + busy, tensor, hbm, launch, flops, hbm_bytes, kernels)


def _distinct(*values: Num) -> tuple[tuple[int, ...], list[NDArray[np.float64]], NDArray[np.intp]]:
    """Broadcast shape, the distinct tuples as one array for each value, and for every point the index of its tuple."""
    arrays = np.broadcast_arrays(*(np.asarray(v, float) for v in values))
    if arrays[0].size == 1:
        return arrays[0].shape, [a.ravel() for a in arrays], np.zeros(1, np.intp)
    code = np.zeros(arrays[0].size, np.int64)
    for array in arrays:
        if array.strides == (0,) * array.ndim:  # one value for all points
            continue
        found, at = np.unique(array.ravel(), return_inverse=True)
        code = code * len(found) + at
    _, first, back = np.unique(code, return_index=True, return_inverse=True)
    return arrays[0].shape, [a.ravel()[first] for a in arrays], back
