"""The expert block inside one persistent kernel: tiles begin as their tokens arrive, results leave as tiles end.

Both GEMMs run as blocks of one output tile each, in waves over all SMs; beside them rows are pulled from and pushed to the
peers' memory. So the block takes the longer of the two, smoothly, and not their sum; what cannot overlap (counts, barriers,
the last reduction) is the protocol's own. Every block pays a fill: the first tiles of its operands, the epilogue with
activation and cast, the counters of the next one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ....hwmodels.calibration import Entry
from ....hwmodels.laws.kernels import smooth_max
from ...precision import ELEMENT_BYTES
from ..bound import program_seconds
from ..shape import Num, Path, Rows, Shape
from ..stage import Join, Load, Machine, Move, Stage
from .experts import Counts, ExpertConstants, ExpertShape, tensor_dtype

Floats = NDArray[np.float64]
#: Expected tokens of an expert up to which a block has so many rows (DeepGEMM's Mega MoE heuristics); beyond: the last one.
BLOCK_ROWS = ((8.5, 16.0), (16.5, 32.0), (32.5, 64.0), (64.5, 96.0), (96.5, 128.0), (np.inf, 192.0))
#: The same on Hopper, whose tensor cores take 64 rows at least: below 64 expected tokens, and beyond.
HOPPER_BLOCK_ROWS = ((64.0, 64.0), (np.inf, 128.0))
BLOCK_COLUMNS = 128.0
#: Rows of a product below which Blackwell's tensor cores take as long: their operand with 128 rows is the weights.
LEAST_ROWS = 16.0


@dataclass(frozen=True, slots=True)
class FusedExperts:
    """``base``: the masked kernels' tensor and HBM efficiencies; ``fill``: seconds of a block beside its product.

    ``entry`` and ``system``: of the fitted fill. ``rows``: block rows by expected tokens; ``nvlink_efficiency``: of pulls and
    pushes, whose warps wait for one round trip a row.
    """

    base: ExpertConstants
    fill: float
    nvlink_efficiency: float
    rows: tuple[tuple[float, float], ...]
    entry: Entry
    system: str

    def block_rows(self, each: Num) -> Floats:
        """Rows of a block where an expert expects ``each`` tokens."""
        limits, sizes = zip(*self.rows, strict=True)
        return np.asarray(np.array(sizes)[np.searchsorted(np.array(limits), np.asarray(each, float))], float)

    def gemm_seconds(self, counts: Counts, each: Num, shape: ExpertShape, machine: Machine) -> Floats:
        """Seconds of both GEMMs on ranks with ``counts``: waves of blocks, or the weights from HBM."""
        height, rate = self.block_rows(each), machine.tensor_flops[tensor_dtype(shape, machine)] / machine.sms
        tiles: Num = counts.tiles(height)
        tensor, waves = np.zeros(()), np.zeros(())
        for width, depth in ((shape.first_width, shape.hidden), (shape.hidden, shape.inter)):
            wave = np.ceil(tiles * np.ceil(width / BLOCK_COLUMNS) / machine.sms)
            block_s = 2.0 * np.maximum(height, LEAST_ROWS) * BLOCK_COLUMNS * depth / (rate * self.base.tensor_efficiency)
            tensor, waves = tensor + wave * block_s, waves + wave
        moved = counts.busy * shape.weight_bytes * _scaled(shape)
        moved = moved + counts.rows * (shape.hidden + shape.inter) * ELEMENT_BYTES[shape.activations]
        hbm = moved / (machine.hbm_bytes_per_s * self.base.hbm_efficiency)
        products = smooth_max(self.base.sharpness, np.asarray(tensor, float), np.asarray(hbm, float))
        return np.asarray(products + waves * self.fill, float)

    def stage(self, exchange: Shape, gemm_s: Num) -> Stage:
        """The products and, beside them, every (token, expert) row pulled to its expert and pushed back in bf16."""
        pull, push = exchange.payload_bytes, 2.0 * exchange.hidden
        near = self.nvlink_efficiency
        moves = (
            Move(Rows.EXPERT, Path.SELF, pull, ()),
            Move(Rows.EXPERT, Path.NVLINK, pull, (Load("nvlink", pull, efficiency=near),)),
            Move(Rows.EXPERT, Path.SELF, push, (), back=True),
            Move(Rows.EXPERT, Path.NVLINK, push, (Load("nvlink", push, efficiency=near),), back=True),
        )
        return Stage("experts.tiles", "compute", Join.ALL, moves, floor_s=gemm_s, sharpness=self.base.sharpness)

    def seconds(self, exchange: Shape, gemm_s: Num, machine: Machine) -> Floats:
        """The block in closed form."""
        return np.asarray(program_seconds((self.stage(exchange, gemm_s),), exchange, machine), float)


def _scaled(shape: ExpertShape) -> float:
    """Weights and their scales over the weights: one byte for 32 fp4 values, four for 128 x 128 fp8 ones."""
    return 1.0625 if shape.weights == "fp4" else 1.0
