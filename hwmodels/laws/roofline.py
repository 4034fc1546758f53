"""Rooflines of one GPU: the ridge between its memory and its tensor cores, and what a decode step can reach under it.

Every number may be a float or a numpy array. Bytes, seconds, flop.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..specs import Gpu

Num = float | NDArray[np.floating[Any]]


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
