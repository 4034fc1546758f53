"""Collectives at line rate: ring and tree all-reduce of one message, the bandwidth and the latency term.

Every number may be a float or a numpy array. Bytes and seconds. Sources: Patarasuk and Yuan (2009) for the ring; Sanders, Speck
and Traeff (2009) for two trees that share the data.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Num = float | NDArray[np.floating[Any]]


def ring_all_reduce_seconds(size_bytes: Num, ranks: Num, bandwidth: Num, hop_seconds: Num = 0.0) -> Num:
    """A ring all-reduce at ``bandwidth`` bytes/s a rank and direction: every rank sends ``2 (n - 1) / n`` of the data.

    ``hop_seconds``: what each of the ``2 (n - 1)`` steps costs whatever it carries.
    """
    steps = 2.0 * (ranks - 1.0)
    return steps / ranks * size_bytes / bandwidth + steps * hop_seconds


def tree_all_reduce_seconds(size_bytes: Num, ranks: Num, bandwidth: Num, hop_seconds: Num = 0.0) -> Num:
    """A double binary tree, pipelined: twice the data over a rank's link, up and down ``ceil(log2 n)`` levels of latency."""
    return 2.0 * size_bytes / bandwidth + 2.0 * np.ceil(np.log2(ranks)) * hop_seconds
