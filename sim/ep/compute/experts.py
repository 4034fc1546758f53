"""Expert compute: two grouped GEMMs and the activation between them, in tiles and waves on the SMs left to them.

A tile is one piece of one expert's output; an SM works through a tile at its tensor rate; the tiles of all local experts run
in waves, so ``ceil(tiles / SMs)`` tile times is what a GEMM takes, however empty its last wave. Beside it the weights of every
expert that has a token, and the activations, come from HBM. Then come kernels that only move bytes (`Side`).

*Contiguous* packs each expert's rows padded to whole tiles (prefill); *masked* keeps a fixed buffer per expert and skips what
is empty (decode, CUDA graphs); both are DeepGEMM's. *Triton* is vLLM's fused MoE kernel: its tile depends on the batch
(`triton_tile`), and a rank walks the (token, expert) pairs of the whole group: other ranks' tiles are launched only to write
zeros, and the activation and the sum over a token's experts pass over all pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ....hwmodels.laws.kernels import smooth_max
from ...precision import ELEMENT_BYTES, Dtype
from ..shape import Num
from ..stage import Join, Machine, Work

Kind = Literal["contiguous", "masked", "triton"]
TILE = 128  # rows and columns of a tile (DeepGEMM's block for large and for small batches)
#: Mean rows of an expert up to which DeepGEMM's masked kernels take half of that (its heuristics: ``block_m`` 64 if m <= 64).
FEW_ROWS = 64.0

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ExpertConstants:
    """Fitted constants of the expert block on one system."""

    launch: float  # all its kernels: launches, first tiles
    tensor_efficiency: float  # reached share of the tensor rate inside a full tile
    hbm_efficiency: float
    side_hbm_efficiency: float  # of the kernels around the GEMMs, which only move bytes
    host: float  # the host's launches when no CUDA graph replays them; runs beside the GPU
    sharpness: float
    idle_tile: float = 0.0  # Triton: SM time of a tile of another rank's expert


@dataclass(frozen=True, slots=True)
class ExpertShape:
    """One expert's two GEMMs: [rows, hidden] x [hidden, 2 inter], activation, [rows, inter] x [inter, hidden].

    ``projections``: 3 (gate, up and down), or 2 for an expert without a gate, whose first GEMM is [hidden, inter].
    ``widened_per_s``: weights that an SM widens in a second to what its tensor cores take, 0 where they take them as stored:
    every tile widens its share of the weights again (Marlin's and Triton's mxfp4 kernels do so in registers).
    """

    hidden: Num
    inter: Num
    weights: Dtype
    activations: Dtype
    projections: Num = 3.0
    widened_per_s: float = 0.0

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
    """What one rank computes, or expects to. ``tiles(n)``: row tiles of n rows that its experts' rows fill; ``others(n)``:
    those of all other ranks' experts; ``busy``: experts with a row; ``rows``: their rows; ``tokens`` and ``pairs``: tokens and
    (token, expert) pairs of the whole EP group; ``walked``: tokens that reached the rank."""

    tiles: Callable[[Num], Num]
    others: Callable[[Num], Num]
    busy: Num
    rows: Num
    tokens: Num
    pairs: Num
    walked: Num


@dataclass(frozen=True, slots=True)
class Side:
    """Bytes through HBM of the kernels around the GEMMs. ``activation``: activation and cast (Triton: and the sum over a
    token's experts); ``permute``: rows put in the experts' order and back; ``walk``: tokens read for it and results written."""

    activation: Num
    permute: Num
    walk: Num

    @property
    def total(self) -> Num:
        return self.activation + self.permute + self.walk


@dataclass(frozen=True, slots=True)
class Block:
    """Seconds of an expert block's parts: ``tensor_s`` and ``hbm_s`` overlap in its GEMMs; the others come on top."""

    tensor_s: Num
    hbm_s: Num
    activation_s: Num
    permute_s: Num
    walk_s: Num
    idle_s: Num
    hbm_bytes: Num

    @property
    def side_s(self) -> Num:
        return self.activation_s + self.permute_s + self.walk_s


def counted(rows: Floats, tokens: Num) -> Counts:
    """The counts of drawn ``rows`` [rank, expert slot] of a group of ``tokens`` tokens; every field [rank] or one for all.

    ``walked``: expected of a rank of the group's mean rows, as if slots were chosen independently.
    """

    def tiles(size: Num) -> Num:
        return np.asarray(np.ceil(rows / np.asarray(size, float)[..., None]).sum(axis=-1))

    def others(size: Num) -> Num:
        mine = tiles(size)
        return np.asarray(np.sum(mine) - mine)

    chance = np.minimum(rows.mean() / np.maximum(tokens, 1e-300), 1.0)
    walked = tokens * (1.0 - (1.0 - chance) ** rows.shape[-1])
    busy, mine = np.asarray((rows > 0).sum(axis=-1), float), np.asarray(rows.sum(axis=-1))
    return Counts(tiles, others, busy, mine, tokens, rows.sum(), walked)


def tensor_dtype(shape: ExpertShape, machine: Machine) -> Dtype:
    """The tensor rate used: the wider of weights' and activations' dtypes if the GPU has it, else the next wider one."""
    order: tuple[Dtype, ...] = ("fp4", "fp8", "bf16")
    for dtype in order[max(order.index(shape.weights), order.index(shape.activations)) :]:
        if dtype in machine.tensor_flops:
            return dtype
    return "bf16"


def triton_tile(tokens: Num, computed: Dtype) -> tuple[Num, Num]:
    """(rows, columns) of the fused kernel's tile for a batch of ``tokens``.

    vLLM's defaults since February 2026 (its pull request 34846): 16 to 128 rows as the batch grows; block-scaled fp8 takes 16
    rows up to 64 tokens, then 64, and the columns of its scales.
    """
    t = np.asarray(tokens, float)
    if computed == "bf16":
        return np.select([t <= 32, t <= 96, t <= 512], [16.0, 32.0, 64.0], 128.0), np.where(t <= 64, 64.0, 128.0)
    return np.where(t <= 64, 16.0, 64.0), np.full(t.shape, 128.0)


def side_bytes(kind: Kind, counts: Counts, shape: ExpertShape) -> Side:
    """What the kernels around the GEMMs read and write.

    Contiguous: a token that reached the rank is read and its result written, a row written in its expert's order and its result
    read again; the activation and the cast are two kernels (masked: one, and nothing is permuted). Triton: the first output
    read by the activation and the second by the sum, over all pairs, whose outputs the GEMMs write (other ranks' as zeros);
    without a gate, squared ReLU in two passes.
    """
    element = ELEMENT_BYTES[shape.activations]
    casts = shape.activations != "bf16"
    if kind == "masked":
        return Side(counts.rows * (2.0 * shape.first_width + element * shape.inter), 0.0, 0.0)
    if kind == "contiguous":
        cast = 2.0 + element if casts else 0.0
        activation = counts.rows * (2.0 * shape.first_width + (2.0 + cast) * shape.inter)
        each = (element + 2.0) * shape.hidden
        return Side(activation, counts.rows * each, counts.walked * each)
    cast = 2.0 + element if casts else 0.0
    passes = np.where(np.asarray(shape.projections) > 2.0, 2.0, 4.0)
    pair = 2.0 * passes * shape.first_width + (2.0 + cast) * shape.inter + 4.0 * shape.hidden
    return Side(counts.pairs * pair, 0.0, counts.tokens * shape.hidden * (2.0 + cast))


def widened_rows(counts: Counts) -> Num:
    """Rows of a tile of the kernels that widen 4-bit weights: an expert's mean rows, to the next power of two from 16 to 128.

    As triton_kernels chooses them (vLLM 0.33, matmul_ogs_details/opt_flags.py); an expert without rows counts too, but at
    batches that leave many without any the least tile is taken anyway.
    """
    mean = np.maximum(np.asarray(counts.rows, float) / np.maximum(counts.busy, 1.0), 1.0)
    return np.clip(2.0 ** np.ceil(np.log2(mean) - 1e-9), 16.0, float(TILE))


def _tile(kind: Kind, counts: Counts, shape: ExpertShape) -> tuple[Num, Num]:
    """Rows and columns of a tile."""
    if kind == "triton":
        rows, columns = triton_tile(counts.tokens, shape.activations)
        return (widened_rows(counts), float(TILE)) if shape.widened_per_s else (rows, columns)
    if kind == "contiguous":
        return float(TILE), float(TILE)
    mean = counts.rows / np.maximum(counts.busy, 1.0)
    return np.where(np.asarray(mean) <= FEW_ROWS, FEW_ROWS, float(TILE)), float(TILE)


def block(kind: Kind, counts: Counts, shape: ExpertShape, machine: Machine, k: ExpertConstants, sms: Num) -> Block:
    """The loads of both GEMMs and what lies around them, on a rank with ``counts``."""
    element = ELEMENT_BYTES[shape.activations]
    rate = machine.tensor_flops[tensor_dtype(shape, machine)] / machine.sms * k.tensor_efficiency
    height, breadth = _tile(kind, counts, shape)
    tiles = counts.tiles(height)
    foreign = counts.others(height) if k.idle_tile else 0.0
    tensor: Num = 0.0
    idle: Num = 0.0
    for width, depth in ((shape.first_width, shape.hidden), (shape.hidden, shape.inter)):
        columns = np.ceil(width / breadth)
        tile = 2.0 * height * breadth * depth / rate + (breadth * depth / shape.widened_per_s if shape.widened_per_s else 0.0)
        tensor = tensor + np.ceil(tiles * columns / sms) * tile
        idle = idle + foreign * columns
    # Triton's outputs are written for every pair and counted there.
    outputs = 0.0 if kind == "triton" else 2.0 * (shape.first_width + shape.hidden)
    moved = counts.busy * shape.weight_bytes + counts.rows * ((shape.hidden + shape.inter) * element + outputs)
    side = side_bytes(kind, counts, shape)
    rate_side = machine.hbm_bytes_per_s * k.side_hbm_efficiency
    return Block(
        tensor_s=tensor,
        hbm_s=moved / (machine.hbm_bytes_per_s * k.hbm_efficiency),
        activation_s=side.activation / rate_side,
        permute_s=side.permute / rate_side,
        walk_s=side.walk / rate_side,
        idle_s=idle * k.idle_tile / sms,
        hbm_bytes=moved + side.total,
    )


def loads(
    rows: Floats, shape: ExpertShape, machine: Machine, k: ExpertConstants, sms: Num, kind: Kind = "contiguous"
) -> tuple[tuple[str, Floats], ...]:
    """Seconds of tensor cores and of HBM for the GEMMs of ``rows`` [rank, expert slot]; result [rank]. DeepGEMM's kinds."""
    found = block(kind, counted(rows, 0.0), shape, machine, k, sms)
    return ("tensor", np.asarray(found.tensor_s)), ("hbm", np.asarray(found.hbm_s))


def block_seconds(found: Block, k: ExpertConstants, *, graphs: bool | NDArray[np.bool_]) -> Num:
    """Seconds of the whole block run alone: the GPU's kernels one after another, or the host's launches if they last longer."""
    gemms = smooth_max(k.sharpness, np.asarray(found.tensor_s, float), np.asarray(found.hbm_s, float))
    kernels = k.launch + gemms + found.side_s + found.idle_s
    return np.asarray(np.maximum(kernels, np.where(np.asarray(graphs, bool), 0.0, k.host)))


def compute(kind: Kind, rows: Floats, tokens: Num, shape: ExpertShape, machine: Machine, k: ExpertConstants, sms: Num) -> Work:
    """The expert block of every rank: ``rows`` [rank, local slot], ``tokens`` of the whole group.

    Without the contiguous layout's gather and scatter, which are works of their own (`works`). What a rank's rows cost
    in the kernels around its GEMMs lengthens both their loads; what all ranks share is latency.
    """
    found = block(kind, counted(rows, tokens), shape, machine, k, sms)
    own = 0.0 if kind == "triton" else found.activation_s
    fixed: tuple[tuple[str, Num], ...] = (("expert kernel launches", k.launch),)
    if kind == "triton":
        # Other ranks' tiles and pairs are nearly the same for every rank: the mean, so that the latency is one number.
        idle = float(np.mean(np.asarray(found.idle_s)))
        walk = found.activation_s + found.walk_s
        fixed = (*fixed, ("activation and sum over experts", walk), ("tiles of other ranks' experts", idle))
    parts = (("tensor", found.tensor_s + own), ("hbm", found.hbm_s + own))
    return Work(f"experts.{kind}", "compute", Join.INBOUND, parts, fixed, k.sharpness)


def works(
    kind: Kind,
    rows: Floats,
    walked: Floats,
    tokens: Num,
    shape: ExpertShape,
    machine: Machine,
    k: ExpertConstants,
    sms: Num,
    *,
    graphs: bool,
) -> list[Work]:
    """The whole block of every rank in order: contiguous rows are gathered before the GEMMs and scattered after them.

    ``rows`` [rank, local slot]; ``walked``: tokens that reached each rank, [rank], which are read once and written once.
    ``graphs``: replayed, so that the host's launches cost nothing.
    """
    body = compute(kind, rows, tokens, shape, machine, k, sms)
    if kind != "contiguous":
        return [body] if graphs else [body, _launches(k, [body])]
    found = block(kind, replace(counted(rows, tokens), walked=walked), shape, machine, k, sms)
    moved = found.permute_s + found.walk_s
    element = ELEMENT_BYTES[shape.activations]  # rows go in as activations, results come out in bf16
    into, out = (moved * size / (element + 2.0) for size in (element, 2.0))
    gather = Work("experts.permute", "compute", Join.INBOUND, (("hbm", into),), ())
    scatter = Work("experts.unpermute", "compute", Join.OWN, (("hbm", out),), ())
    kernels = [gather, replace(body, waits=Join.OWN), scatter]
    return kernels if graphs else [*kernels, _launches(k, kernels)]


def _launches(k: ExpertConstants, kernels: list[Work]) -> Work:
    """What of the host's launches the kernels do not hide: they take the longer of the two, as `block_seconds` has it."""
    busy: Num = 0.0
    for work in kernels:
        busy = busy + work.latency_s + smooth_max(work.sharpness, *(np.asarray(s, float) for _, s in work.loads))
    return Work("experts.host", "compute", Join.OWN, (("host", np.maximum(k.host - busy, 0.0)),), ())
