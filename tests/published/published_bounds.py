"""Bounds that need no simulation: rooflines of a GPU, and of an expert-parallel decode step that only communicates.

Every number may be a float or a numpy array. Bytes, seconds, flop.
"""

from __future__ import annotations

from typing import Literal

from epicycle.hwmodels.specs import Gpu
from epicycle.sim.step.part import Num


def ridge_flop_per_byte(gpu: Gpu, dtype: Literal["bf16", "fp8", "fp4"] = "bf16") -> float:
    """The arithmetic intensity at which ``gpu`` is as long at the tensor cores as at its memory: peak flop/s over bytes/s."""
    return gpu.tensor_flops(dtype) / gpu.hbm_bandwidth


def decode_intensity(batch: Num, bytes_per_weight: Num = 2.0) -> Num:
    """Flop per byte of a decode step whose traffic is its weights: two flop a weight and token, every weight read once."""
    return 2.0 * batch / bytes_per_weight


def decode_mfu(batch: Num, gpu: Gpu, dtype: Literal["bf16", "fp8", "fp4"] = "bf16", bytes_per_weight: Num = 2.0) -> Num:
    """Model flop utilisation of such a step at the memory's speed: its intensity over the ridge (below the ridge only)."""
    return decode_intensity(batch, bytes_per_weight) / ridge_flop_per_byte(gpu, dtype)


def memory_roof_tokens_per_second(bytes_per_step: Num, gpu: Gpu, batch: Num = 1.0) -> Num:
    """Tokens a second of a decode step that reads ``bytes_per_step`` from memory and does nothing else."""
    return batch * gpu.hbm_bandwidth / bytes_per_step


def exchange_seconds(
    tokens: Num, experts: Num, hidden: Num, bandwidth: Num, dispatch_bytes: Num = 1.0, combine_bytes: Num = 2.0
) -> Num:
    """One layer's dispatch and combine of one micro-batch at line rate: ``(1 + 2) * tokens * experts * hidden / bandwidth``.

    ``dispatch_bytes`` and ``combine_bytes`` are of one element. Every (token, expert) crosses the link, local ones too. Source:
    Insights into DeepSeek-V3 (arXiv 2505.09343), section 2.3.2.
    """
    return (dispatch_bytes + combine_bytes) * tokens * experts * hidden / bandwidth


def exchange_bound_tpot_seconds(exchange: Num, layers: int, micro_batches: int = 2) -> Num:
    """Time per output token of a model whose layers do nothing but exchange, ``micro_batches`` of them one after the other.

    Compute hides behind the other micro-batch's exchange, so this is a lower bound of a step that the network limits. Source:
    arXiv 2505.09343, section 2.3.2 (61 layers, two micro-batches).
    """
    return layers * micro_batches * exchange


def ring_all_reduce_seconds(size_bytes: Num, ranks: Num, bandwidth: Num) -> Num:
    """A ring all-reduce at ``bandwidth`` bytes/s a rank and direction: every rank sends ``2 (n - 1) / n`` of the data."""
    return 2.0 * (ranks - 1.0) / ranks * size_bytes / bandwidth
