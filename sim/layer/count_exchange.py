"""The count exchange, hop by hop: what every rank knows after the rails and after NVLink, and the offsets that follow."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .traffic import Layout

Ints = NDArray[np.int64]


def count_exchange(counts: Ints, layout: Layout) -> dict[str, Ints]:
    """Tables of the two-hop exchange of ``counts`` [source rank, destination rank].

    ``sent``: what each source announces. ``after rails``: [holder, destination] tokens for the destination announced so far at
    the holder, summed over the sources whose rail ends there (same index, every node). ``after NVLink``: [destination, source],
    complete. ``offsets``: [destination, source] exclusive prefix sum over sources: where each source's rows begin.
    """
    ranks = layout.ranks
    index = np.arange(ranks) % layout.domain
    after_rails = np.zeros_like(counts)
    for holder in range(ranks):
        rail = np.flatnonzero(index == index[holder])
        own_node = layout.node_of == layout.node_of[holder]
        after_rails[holder] = np.where(own_node, counts[rail].sum(axis=0), 0)
    received = counts.T.copy()
    offsets = np.zeros_like(received)
    offsets[:, 1:] = np.cumsum(received, axis=1)[:, :-1]
    return {
        "counts sent [source, destination]": counts,
        "counts after the RDMA rails [holder, destination]": after_rails,
        "counts after NVLink [destination, source]": received,
        "write offsets [destination, source]": offsets,
    }
