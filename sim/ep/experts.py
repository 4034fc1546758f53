"""Expert compute: two grouped GEMMs and the activation between them, in tiles and waves on the SMs left to them.

A tile is 128 x 128 of one expert's output; an SM works through a tile at its tensor rate; the tiles of all local experts run in
waves, so ``ceil(tiles / SMs)`` tile times is what a GEMM takes, however empty its last wave. Beside it the weights of every
expert that has a token, and the activations, come from HBM. *Contiguous* packs each expert's rows padded to whole
tiles (prefill); *masked* keeps a fixed buffer per expert and skips what is empty (decode, CUDA graphs).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..inputs.deployment import Dtype
from ..inputs.model import ELEMENT_BYTES
from .shape import Num
from .stage import Join, Machine, Work

Kind = Literal["contiguous", "masked"]
TILE = 128  # rows and columns of a tile (DeepGEMM's block for large and for small batches)

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
    """One expert's two GEMMs: [rows, hidden] x [hidden, 2 inter], activation, [rows, inter] x [inter, hidden]."""

    hidden: Num
    inter: Num
    weights: Dtype
    activations: Dtype

    @property
    def weight_bytes(self) -> Num:
        return 3.0 * self.hidden * self.inter * ELEMENT_BYTES[self.weights]

    @property
    def flops_per_row(self) -> Num:
        return 6.0 * self.hidden * self.inter


def tensor_dtype(shape: ExpertShape, machine: Machine) -> Dtype:
    """The tensor rate used: the weights' dtype if the GPU has it, else the next wider one."""
    order: tuple[Dtype, ...] = ("fp4", "fp8", "bf16")
    for dtype in order[order.index(shape.weights) :]:
        if dtype in machine.tensor_flops:
            return dtype
    return "bf16"


def loads(rows: Floats, shape: ExpertShape, machine: Machine, k: Constants, sms: Num) -> tuple[tuple[str, Floats], ...]:
    """Seconds of tensor cores and of HBM for ``rows`` [..., expert slot] on one rank's slots; result [...].

    Tensor: waves x tile time, for both GEMMs. HBM: weights of the slots that have rows, activations in and out, and the
    intermediate written and read.
    """
    rate = machine.tensor_flops[tensor_dtype(shape, machine)] / machine.sms * k.tensor_efficiency
    row_tiles = np.ceil(rows / TILE).sum(axis=-1)
    tensor = np.zeros(row_tiles.shape)
    for width, depth in ((2.0 * shape.inter, shape.hidden), (shape.hidden, shape.inter)):
        waves = np.ceil(row_tiles * np.ceil(width / TILE) / sms)
        tensor = tensor + waves * (2.0 * TILE * TILE * depth / rate)
    busy = (rows > 0).sum(axis=-1)
    total = rows.sum(axis=-1)
    element = ELEMENT_BYTES[shape.activations]
    activations = total * (
        shape.hidden * element + 2.0 * 2.0 * 2.0 * shape.inter + shape.inter * element * 2.0 + 2.0 * shape.hidden
    )
    hbm = (busy * shape.weight_bytes + activations) / (machine.hbm_bytes_per_s * k.hbm_efficiency)
    return ("tensor", tensor), ("hbm", hbm)


def compute(
    kind: Kind, rows: Floats, tokens: Num, shape: ExpertShape, machine: Machine, k: Constants, sms: Num, *, graphs: bool
) -> Work:
    """The expert block of every rank: ``rows`` [rank, local slot], ``tokens`` of the whole group; ``graphs``: replayed."""
    launch = (("expert kernel launches", k.launch), ("gather and scatter", k.token * tokens))
    host = ("host", 0.0 if graphs else k.host)
    return Work(f"experts.{kind}", "compute", Join.INBOUND, (*loads(rows, shape, machine, k, sms), host), launch, k.sharpness)


def permute(name: str, op: str, rows: Floats, row_bytes: Num, machine: Machine, hbm_efficiency: float, waits: Join) -> Work:
    """Rows moved once through HBM (by-source to by-expert order, or back): ``rows`` [rank]; read and written."""
    seconds = 2.0 * rows * row_bytes / (machine.hbm_bytes_per_s * hbm_efficiency)
    return Work(name, op, waits, (("hbm", seconds),), ())
