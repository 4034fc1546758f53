"""Time laws of this project's own Triton kernels: what moves rows, and the grouped product by tiles. Vectorised; seconds.

A kernel that moves rows pays its launch, then the longer of a chain (what one program waits for from its first load to its
last store: flags, tables, rows one after another) and its bytes over HBM; how well one hides the other is its sharpness. The
product pays waves of tiles against the bytes of weights and rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ....hwmodels.laws.kernels import OPERAND_BYTES, smooth_max
from ....hwmodels.specs import Gpu

Floats = NDArray[np.float64]
Num = Floats | float

#: Tiles of the kernels as measured on 2026-11-27 (kernels/experts/tiles.csv, loads by pointer): rows, columns.
TALL = {"bf16": (128, 256), "fp8": (128, 128)}
LOW = {"bf16": (64, 128), "fp8": (64, 128)}
TALL_FROM = 128  # rows per expert


@dataclass(frozen=True, slots=True)
class OwnMove:
    """Constants of a kernel that moves rows. ``chain``: with its rows in L2; ``chain_cold``: with its rows in HBM."""

    launch: float
    chain: float
    chain_cold: float
    hbm_efficiency: float
    sharpness: float
    chain_row: float = 0.0  # every further row that one program copies after its first
    nvlink_efficiency: float = 1.0
    nic_efficiency: float = 1.0

    def waits(self, cold: Num = 1.0, further_rows: Num = 0.0) -> Floats:
        """Seconds of the chain; ``cold``: share of its rows not in L2; ``further_rows``: of one program, one by one."""
        return np.asarray(
            self.chain + (self.chain_cold - self.chain) * np.asarray(cold) + self.chain_row * np.asarray(further_rows)
        )


@dataclass(frozen=True, slots=True)
class OwnProduct:
    """Constants of the grouped product in one precision. ``fill``: prologue and epilogue of a tile."""

    launch: float
    fill: float
    tensor_efficiency: float
    hbm_efficiency: float
    sharpness: float


def move_seconds(moved_bytes: Num, gpu: Gpu, k: OwnMove, cold: Num = 1.0, further_rows: Num = 0.0) -> Floats:
    """A kernel that reads and writes ``moved_bytes`` together; ``cold`` and ``further_rows`` as `OwnMove.waits`."""
    chain = k.waits(cold, further_rows)
    return k.launch + smooth_max(k.sharpness, chain, np.asarray(moved_bytes) / (gpu.hbm_bandwidth * k.hbm_efficiency))


def tile_of(rows_each: Num, dtype: str) -> tuple[Floats, Floats]:
    """(rows, columns) of the tile that ``rows_each`` rows per expert get."""
    tall = np.asarray(rows_each) >= TALL_FROM
    return tuple(np.where(tall, a, b).astype(float) for a, b in zip(TALL[dtype], LOW[dtype], strict=True))  # type: ignore[return-value]


def row_tiles(rows_each: Num, dtype: str, drawn: bool) -> tuple[Floats, Floats]:
    """(tiles, share of experts with rows) of one expert that gets ``rows_each`` rows, exactly or ``drawn`` (Poisson)."""
    from scipy.stats import poisson  # slow to import, and only our own kernels ask

    height = tile_of(rows_each, dtype)[0]
    mean = np.asarray(rows_each, float)
    if not drawn:
        return np.ceil(mean / height), np.ones_like(mean)
    if mean.ndim == 0:
        tiles, used = _drawn_tiles(float(mean), float(height))
        return np.asarray(tiles), np.asarray(used)
    most = int(np.max((mean + 8.0 * np.sqrt(mean)) / height)) + 2
    found = np.zeros_like(mean)
    for j in range(most):
        found = found + np.asarray(poisson.sf(j * height, mean), float)
    return found, np.asarray(poisson.sf(0, mean), float)


@cache
def _drawn_tiles(mean: float, height: float) -> tuple[float, float]:
    from scipy.stats import poisson

    below = np.arange(int((mean + 8.0 * mean**0.5) / height) + 2) * height
    return float(poisson.sf(below, mean).sum()), float(poisson.sf(0, mean))


def product_loads(tiles: Num, each: Num, n: Num, k: Num, dtype: str, sms: Num, rate: float, c: OwnProduct) -> Floats:
    """Seconds of tensor cores: ``tiles`` row tiles of all experts times the columns' on ``sms`` SMs of ``rate`` flop/s each."""
    height, width = tile_of(each, dtype)
    count = np.asarray(tiles) * np.ceil(np.asarray(n) / width)
    # Two tiles on an SM take twice as long as one that has it for itself, as the last may: how many it gets is what matters.
    per_sm = np.maximum(np.ceil(count / sms), 1.0)
    return np.asarray(per_sm * (2.0 * height * width * np.asarray(k) / rate + c.fill))


def product_seconds(
    rows_each: Num, experts: Num, n: Num, k: Num, dtype: str, gpu: Gpu, c: OwnProduct, drawn: bool = False
) -> Floats:
    """``y = x w[e].T`` for ``experts`` experts of [n, k] with ``rows_each`` rows each (``drawn``: on average)."""
    tiles, used = row_tiles(rows_each, dtype, drawn)
    rate = gpu.tensor_flops(dtype) / gpu.sms * c.tensor_efficiency  # type: ignore[arg-type]
    tensor = product_loads(tiles * np.asarray(experts), rows_each, n, k, dtype, gpu.sms, rate, c)
    rows = np.asarray(rows_each) * np.asarray(experts)
    weight, moved = OPERAND_BYTES[dtype], np.asarray(experts) * used * np.asarray(n) * np.asarray(k)
    moved = weight * (moved + rows * np.asarray(k)) + 2.0 * rows * np.asarray(n)
    return c.launch + smooth_max(c.sharpness, tensor, moved / (gpu.hbm_bandwidth * c.hbm_efficiency))
