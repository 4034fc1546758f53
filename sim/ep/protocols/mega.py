"""DeepGEMM's Mega MoE: dispatch, both GEMMs and combine in one persistent kernel, inside one NVLink domain.

Counts and source indices first, a barrier; then warps pull the rows of every (token, expert) from their sources while blocks of
GEMM run as their rows are in, and push each finished piece of a result into its source's buffer; a barrier, and every warp sums
its tokens' rows, before a last barrier. A row goes to every expert, also of one rank. What runs together is `FusedExperts`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ....hwmodels.calibration import Entry, Scope, constants_of, find_entry
from ..buffer import Buffer, Demand
from ..compute.experts import ExpertConstants
from ..compute.fused_experts import BLOCK_ROWS, HOPPER_BLOCK_ROWS, FusedExperts
from ..limit import hopper_or_blackwell, made_for, most_top_k
from ..protocol import Context, Loan, Op, Protocol
from ..shape import Path, Rows, Shape
from ..stage import Join, Load, Machine, Move, Stage

DISPATCH, COMBINE, COMPUTE = "dispatch", "combine", "compute"
NAME = "mega-moe"
#: Its authors' notes in the kernel: counts by 64-bit atomics, indices at 512 tokens, a barrier over NVLink, one token's sum.
COUNT_S, INDEX_S, INDEX_TOKENS, BARRIER_S, REDUCE_S = 6.5e-6, 2e-6, 512.0, 4e-6, 3e-6
#: HBM rate at which its test takes the reduction out of a time: 6.5 of a B200's 8 TB/s.
REDUCE_HBM_EFFICIENCY = 0.81
#: assumed: share of the NVLink rate that pulls and pushes reach, as the fitted kernels' stores.
NVLINK_EFFICIENCY = 0.78
#: Tokens that the capacity is a multiple of; tokens a rank from which the ring has a fixed size, and rows of that ring; else
#: room for 4,096 tokens of 72 ranks, six experts each.
TOKENS_A_BLOCK, RING_FROM, RING_ROWS, POOL_ROWS = 384.0, 6144.0, 768.0 * 1024.0, 4096.0 * 72.0 * 6.0


@dataclass(frozen=True, slots=True)
class FillConstants:
    """What is fitted to its own rows: ``fill``: seconds of a block beside its product, one for every wave of a GEMM."""

    fill: float


def _head(shape: Shape, machine: Machine, k: Any, context: Context) -> tuple[Stage, ...]:
    index = INDEX_S * np.maximum(shape.tokens / INDEX_TOKENS, 1.0)
    paid = (("counts", COUNT_S), ("source indices", index), ("barrier", BARRIER_S))
    return (Stage("dispatch.counts", DISPATCH, Join.OWN, (), paid),)


def _tail(shape: Shape, machine: Machine, k: Any, context: Context) -> tuple[Stage, ...]:
    row_s = 2.0 * shape.hidden * (1.0 + shape.top_k) / (machine.hbm_bytes_per_s * REDUCE_HBM_EFFICIENCY)
    sums = Move(Rows.TOKEN, Path.SELF, 0.0, (Load("hbm", row_s),))
    return (Stage("combine.sum", COMBINE, Join.ALL, (sums,), (("two barriers", 2.0 * BARRIER_S), ("a token's sum", REDUCE_S))),)


def own_entry(system: str) -> tuple[Entry, str]:
    """The fitted fill on ``system`` or its relative. Raises Uncalibrated."""
    return find_entry(system, NAME, COMPUTE, "one-node")


def lend(system: str, op: str, scope: Scope) -> Loan:
    """Steps before and after the products take what its authors say, on every GPU; the entry is the products'."""
    entry, source = own_entry(system)
    return Loan(constants_of(entry, FillConstants), entry, source, "")


def fused(system: str) -> FusedExperts:
    """The products' constants on ``system``. Raises Uncalibrated if nobody measured the masked kernels or the fill."""
    masked, _ = find_entry(system, "expert-compute", "masked", "one-node")
    entry, source = own_entry(system)
    fill = constants_of(entry, FillConstants).fill
    rows = HOPPER_BLOCK_ROWS if source == "h100_sxm" else BLOCK_ROWS
    return FusedExperts(constants_of(masked, ExpertConstants), fill, NVLINK_EFFICIENCY, rows, entry, source)


def buffers(need: Demand) -> Iterator[Buffer]:
    """The ring of rows and of what lies between the GEMMs, and the results of every (token, expert)."""
    capacity = np.ceil(need.tokens / TOKENS_A_BLOCK) * TOKENS_A_BLOCK
    rows = np.where(capacity >= RING_FROM, RING_ROWS, POOL_ROWS)
    yield Buffer(
        "ring of rows", rows * (need.shape.hidden + need.inter), "rows and activations, one byte each", (("rows", rows),)
    )
    size = need.shape.top_k * capacity * 2.0 * need.shape.hidden
    yield Buffer("results", size, "a bf16 row for every token and expert", (("tokens a rank", capacity),))


PROTOCOLS = (
    Protocol(
        name=NAME,
        what="dispatch, both GEMMs and combine in one kernel: tiles run as their tokens arrive",
        holds="a ring of rows, a result for every token and expert",
        kernels="DeepGEMM's Mega MoE",
        before=(Op(DISPATCH, FillConstants, _head),),
        after=(Op(COMBINE, FillConstants, _tail),),
        buffers=buffers,
        near="one-node",
        far="one-node",
        one_domain=True,
        rows=Rows.EXPERT,
        layout="masked",
        lend=lend,
        fused=fused,
        caveats=(
            "counts, barriers and the last sum take what the kernel's authors note, whatever the GPU",
            "on Hopper its variants are forks; small kernels under CUDA graphs have been seen twice as fast at decode",
        ),
        limits=(
            made_for("NVIDIA", "DeepGEMM's Mega MoE"),
            hopper_or_blackwell("DeepGEMM's Mega MoE"),
            most_top_k(32, "DeepGEMM's Mega MoE keeps at most 32 experts a token"),
        ),
        offered=("sglang",),
    ),
)
