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
#: Programs of those tiles that one SM holds, tall and low: what their stages take of its 227 KiB of shared memory.
RESIDENT = {"bf16": (1, 2), "fp8": (1, 3)}


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
    """Constants of the grouped product in one precision. ``fill``: prologue and epilogue of a tile.

    ``empty``: a program that reads how many rows there are and finds none; persistent launches have no such programs.
    """

    launch: float
    fill: float
    tensor_efficiency: float
    hbm_efficiency: float
    sharpness: float
    empty: float = 0.0


def move_seconds(moved_bytes: Num, gpu: Gpu, k: OwnMove, cold: Num = 1.0, further_rows: Num = 0.0) -> Floats:
    """A kernel that reads and writes ``moved_bytes`` together; ``cold`` and ``further_rows`` as `OwnMove.waits`."""
    chain = k.waits(cold, further_rows)
    return k.launch + smooth_max(k.sharpness, chain, np.asarray(moved_bytes) / (gpu.hbm_bandwidth * k.hbm_efficiency))


def tile_of(rows_each: Num, dtype: str) -> tuple[Floats, Floats]:
    """(rows, columns) of the tile that ``rows_each`` rows per expert get."""
    tall = np.asarray(rows_each) >= TALL_FROM
    return tuple(np.where(tall, a, b).astype(float) for a, b in zip(TALL[dtype], LOW[dtype], strict=True))  # type: ignore[return-value]


def row_tiles(rows_each: float, dtype: str, drawn: float = 0.0) -> tuple[float, float]:
    """(tiles, share of experts with rows) of one expert that gets ``rows_each`` rows, exactly or ``drawn`` by so many tokens.

    Every token chooses an expert once or not at all, so that its rows are binomial.
    """
    height = float(tile_of(rows_each, dtype)[0])
    return _drawn_tiles(rows_each, drawn, height) if drawn else (float(np.ceil(rows_each / height)), 1.0)


@cache
def _drawn_tiles(mean: float, tokens: float, height: float) -> tuple[float, float]:
    from scipy.stats import binom  # slow to import, and only our own kernels ask

    below = np.arange(int(tokens / height) + 2) * height
    beyond = binom.sf(below, tokens, mean / tokens)
    return float(beyond.sum()), float(beyond[0])


def product_loads(tiles: Num, each: Num, n: Num, k: Num, dtype: str, sms: Num, rate: float, c: OwnProduct) -> Floats:
    """Seconds of tensor cores: ``tiles`` row tiles of all experts times the columns' on ``sms`` SMs of ``rate`` flop/s each."""
    height, width = tile_of(each, dtype)
    count = np.asarray(tiles) * np.ceil(np.asarray(n) / width)
    # Two tiles on an SM take twice as long as one that has it for itself, as the last may: how many it gets is what matters.
    per_sm = np.maximum(np.ceil(count / sms), 1.0)
    return np.asarray(per_sm * (2.0 * height * width * np.asarray(k) / rate + c.fill))


def product_seconds(
    rows_each: Num,
    experts: Num,
    n: Num,
    k: Num,
    dtype: str,
    gpu: Gpu,
    c: OwnProduct,
    drawn: tuple[Num, Num] | None = None,
    room: Num = 0.0,
) -> Floats:
    """``y = x w[e].T`` for ``experts`` experts of [n, k], each of ``rows_each`` rows, or on average so many.

    ``drawn``: (row tiles of an expert, share of experts with rows) where rows are drawn, as `row_tiles` gives them; ``room``:
    row tiles that the launch has programs for, where it has one for every tile that could be needed.
    """
    tiles, used = drawn or (np.ceil(np.asarray(rows_each) / tile_of(rows_each, dtype)[0]), 1.0)
    rate = gpu.tensor_flops(dtype) / gpu.sms * c.tensor_efficiency  # type: ignore[arg-type]
    count = np.asarray(tiles) * np.asarray(experts)
    tensor = product_loads(count, rows_each, n, k, dtype, gpu.sms, rate, c)
    tensor = tensor + empty_programs(np.maximum(np.asarray(room) - count, 0.0), rows_each, n, dtype, gpu.sms, c)
    rows = np.asarray(rows_each) * np.asarray(experts)
    weight, moved = OPERAND_BYTES[dtype], np.asarray(experts) * np.asarray(used) * np.asarray(n) * np.asarray(k)
    moved = weight * (moved + rows * np.asarray(k)) + 2.0 * rows * np.asarray(n)
    return c.launch + smooth_max(c.sharpness, tensor, moved / (gpu.hbm_bandwidth * c.hbm_efficiency))


def empty_programs(tiles: Num, each: Num, n: Num, dtype: str, sms: Num, c: OwnProduct) -> Floats:
    """Seconds of the programs of ``tiles`` row tiles without rows: each waits for the count of rows before it can return."""
    tall, low = RESIDENT[dtype]
    resident = np.where(np.asarray(each) >= TALL_FROM, tall, low)
    return np.asarray(np.asarray(tiles) * np.ceil(np.asarray(n) / tile_of(each, dtype)[1]) / (sms * resident) * c.empty)
