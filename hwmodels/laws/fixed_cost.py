"""A device that pays a fixed cost for a call and is bound by compute or memory after it; and a pipeline of such calls.

Every number may be a float or a numpy array. Seconds, bytes, flop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Num = float | NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Device:
    """``fixed`` seconds a call, ``flops`` flop/s and ``bandwidth`` bytes/s as sustained."""

    fixed: float
    flops: float
    bandwidth: float

    def gemm_seconds(self, m: Num, n: Num, k: Num, bytes_per_weight: float) -> Num:
        """One [m, k] x [k, n] product whose weights are read once; activations are left out."""
        return self.fixed + np.maximum(2.0 * m * n * k / self.flops, n * k * bytes_per_weight / self.bandwidth)


def pipeline_seconds(stages: Sequence[float], pieces: int) -> float:
    """A pipeline of ``stages`` (seconds of the whole work each) cut into ``pieces``: the first fills it, the slowest rules."""
    return (sum(stages) + (pieces - 1) * max(stages)) / pieces


def idle_share(load: float, compute: float, stages: int) -> float:
    """Share of a tile's time in which the tensor cores wait.

    ``load`` and ``compute``: seconds of a tile; with one stage in flight they follow each other (the sum), with two or more
    producer and consumer run beside each other (the larger).
    """
    whole = load + compute if stages < 2 else max(load, compute)
    return 1.0 - compute / whole
