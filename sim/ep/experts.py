"""Expert compute: two grouped GEMMs and the activation between them, in tiles and waves on the SMs left to them.

A tile is one piece of one expert's output; an SM works through a tile at its tensor rate; the tiles of all local experts run
in waves, so ``ceil(tiles / SMs)`` tile times is what a GEMM takes, however empty its last wave. Beside it the weights of every
expert that has a token, and the activations, come from HBM. *Contiguous* packs each expert's rows padded to whole
tiles (prefill); *masked* keeps a fixed buffer per expert and skips what is empty (decode, CUDA graphs); both are DeepGEMM's.
*Triton* is vLLM's fused MoE kernel: a rank walks the (token, expert) pairs of the whole group, its own experts' in tiles whose
shape is tuned to the batch, the others' by writing zeros that the activation and the final sum read again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ...hwmodels.laws import smooth_max
from ..inputs.deployment import Dtype
from ..inputs.model import ELEMENT_BYTES
from .shape import Num
from .stage import Join, Machine, Work

Kind = Literal["contiguous", "masked", "triton"]
TILE = 128  # rows and columns of a tile (DeepGEMM's block for large and for small batches)
#: (rows, columns) of the Triton kernel's tiles, of which vLLM's tuned configurations take the fastest for a batch.
TRITON_TILES = ((16, 128), (64, 128), (128, 128))

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Constants:
    """Fitted constants of the expert block on one system."""

    launch: float  # all its kernels: launches, quantisation, first tiles
    tensor_efficiency: float  # reached share of the tensor rate inside a full tile
    hbm_efficiency: float
    token: float  # seconds per token of the whole EP group (routing, gather and scatter of the contiguous layout)
    host: float  # the host's launches when no CUDA graph replays them; runs beside the GPU
    sharpness: float


@dataclass(frozen=True, slots=True)
class ExpertShape:
    """One expert's two GEMMs: [rows, hidden] x [hidden, 2 inter], activation, [rows, inter] x [inter, hidden].

    ``projections``: 3 (gate, up and down), or 2 for an expert without a gate, whose first GEMM is [hidden, inter].
    """

    hidden: Num
    inter: Num
    weights: Dtype
    activations: Dtype
    projections: Num = 3.0

    @property
    def weight_bytes(self) -> Num:
        return self.projections * self.hidden * self.inter * ELEMENT_BYTES[self.weights]

    @property
    def flops_per_row(self) -> Num:
        return 2.0 * self.projections * self.hidden * self.inter

    @property
    def first_width(self) -> Num:
        """Columns of the first GEMM's output."""
        return (self.projections - 1.0) * self.inter


@dataclass(frozen=True, slots=True)
class Counts:
    """What one rank computes, or expects to. ``tiles(n)``: row tiles of n rows that its experts' rows fill; ``busy``: experts
    with a row; ``rows``: their rows; ``tokens`` and ``pairs``: tokens and (token, expert) pairs of the whole EP group."""

    tiles: Callable[[int], Num]
    busy: Num
    rows: Num
    tokens: Num
    pairs: Num


def counted(rows: Floats, tokens: Num, pairs: Num | None = None) -> Counts:
    """The counts of drawn ``rows`` [..., expert slot]; every field [...]. ``pairs``: default, all rows of the table."""
    return Counts(
        tiles=lambda size: np.asarray(np.ceil(rows / size).sum(axis=-1)),
        busy=np.asarray((rows > 0).sum(axis=-1), float),
        rows=np.asarray(rows.sum(axis=-1)),
        tokens=tokens,
        pairs=rows.sum() if pairs is None else pairs,
    )


def tensor_dtype(shape: ExpertShape, machine: Machine) -> Dtype:
    """The tensor rate used: the weights' dtype if the GPU has it, else the next wider one."""
    order: tuple[Dtype, ...] = ("fp4", "fp8", "bf16")
    for dtype in order[order.index(shape.weights) :]:
        if dtype in machine.tensor_flops:
            return dtype
    return "bf16"


def tensor_seconds(kind: Kind, counts: Counts, shape: ExpertShape, machine: Machine, k: Constants, sms: Num) -> Num:
    """Both GEMMs on the tensor cores: waves x tile time."""
    rate = machine.tensor_flops[tensor_dtype(shape, machine)] / machine.sms * k.tensor_efficiency
    shapes = TRITON_TILES if kind == "triton" else ((TILE, TILE),)
    best: Num = np.inf
    for height, breadth in shapes:
        tiles = counts.tiles(height)
        seconds: Num = 0.0
        for width, depth in ((shape.first_width, shape.hidden), (shape.hidden, shape.inter)):
            waves = np.ceil(tiles * np.ceil(width / breadth) / sms)
            seconds = seconds + waves * (2.0 * height * breadth * depth / rate)
        best = np.minimum(best, seconds)
    return best


def moved_bytes(kind: Kind, counts: Counts, shape: ExpertShape) -> Num:
    """Bytes through HBM: weights of the experts that have rows, activations in and out, and the intermediate."""
    element = ELEMENT_BYTES[shape.activations]
    weights = counts.busy * shape.weight_bytes
    if kind != "triton":
        row = shape.hidden * element + 2.0 * 2.0 * shape.first_width + shape.inter * element * 2.0 + 2.0 * shape.hidden
        return weights + counts.rows * row
    # The first GEMM's output written and read, the activation's written (and cast), the second's written and read by the sum.
    pair = 2.0 * (2.0 * shape.first_width + shape.inter) + 4.0 * shape.hidden
    cast = 0.0 if shape.activations == "bf16" else 2.0 + element
    mine = counts.rows * (shape.hidden + shape.inter) * element
    return weights + mine + counts.pairs * (pair + cast * shape.inter) + counts.tokens * shape.hidden * (4.0 + cast)


def loads(
    rows: Floats,
    shape: ExpertShape,
    machine: Machine,
    k: Constants,
    sms: Num,
    *,
    kind: Kind = "contiguous",
    tokens: Num = 0.0,
    pairs: Num | None = None,
) -> tuple[tuple[str, Floats], ...]:
    """Seconds of tensor cores and of HBM for ``rows`` [..., expert slot] on one rank's slots; result [...].

    ``tokens`` and ``pairs`` of the whole group matter to the Triton kernel (default: all rows of ``rows``).
    """
    counts = counted(rows, tokens, pairs)
    tensor = np.asarray(tensor_seconds(kind, counts, shape, machine, k, sms))
    hbm = np.asarray(moved_bytes(kind, counts, shape) / (machine.hbm_bytes_per_s * k.hbm_efficiency))
    return ("tensor", tensor), ("hbm", hbm)


def block_seconds(tensor_s: Num, hbm_s: Num, tokens: Num, k: Constants, *, graphs: bool | NDArray[np.bool_]) -> Num:
    """Seconds of the whole block from its loads: the same sum as a `compute` stage that runs alone."""
    busy = smooth_max(k.sharpness, tensor_s, hbm_s, np.where(np.asarray(graphs, bool), 0.0, k.host))
    return np.asarray(k.launch + k.token * tokens + busy)


def compute(
    kind: Kind, rows: Floats, tokens: Num, shape: ExpertShape, machine: Machine, k: Constants, sms: Num, *, graphs: bool
) -> Work:
    """The expert block of every rank: ``rows`` [rank, local slot], ``tokens`` of the whole group; ``graphs``: replayed."""
    launch = (("expert kernel launches", k.launch), ("gather and scatter", k.token * tokens))
    host = ("host", 0.0 if graphs else k.host)
    parts = loads(rows, shape, machine, k, sms, kind=kind, tokens=tokens)
    return Work(f"experts.{kind}", "compute", Join.INBOUND, (*parts, host), launch, k.sharpness)


def permute(name: str, op: str, rows: Floats, row_bytes: Num, machine: Machine, hbm_efficiency: float, waits: Join) -> Work:
    """Rows moved once through HBM (by-source to by-expert order, or back): ``rows`` [rank]; read and written."""
    seconds = 2.0 * rows * row_bytes / (machine.hbm_bytes_per_s * hbm_efficiency)
    return Work(name, op, waits, (("hbm", seconds),), ())
