"""Which bytes running kernels move between ranks: the interpreter's loads, stores and atomics, counted by address.

Works in one process (all ranks' heaps known, launches made on behalf of one rank at a time). A store by rank r into the
heap of rank d is counted as (r, d), a load by rank r from the heap of rank s as (s, r): bytes run from source to
destination. ``matrix`` sums chosen fields and one direction, in the form of the simulator's traffic matrices.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .symmetric import Heap

STORE, LOAD, ATOMIC = "store", "load", "atomic"


class Trace:
    """Bytes by (kind, field, source, destination) of everything launched inside ``on_behalf_of``."""

    def __init__(self, heaps: list[Heap]) -> None:
        self.ranks = len(heaps)
        regions = sorted(
            (heap.block.data_ptr() + field.offset, field.bytes, heap.rank, field.name)
            for heap in heaps
            for field in heap.plan.fields.values()
        )
        self._first = np.array([r[0] for r in regions], np.int64)
        self._size = np.array([r[1] for r in regions], np.int64)
        self._owner = np.array([r[2] for r in regions], np.int64)
        self._names = [r[3] for r in regions]
        self._rank = -1
        self.moved: dict[tuple[str, str, int, int], int] = defaultdict(int)

    @contextmanager
    def on_behalf_of(self, rank: int) -> Iterator[None]:
        """Count the launches made in this block as ``rank``'s."""
        from triton.runtime.interpreter import InterpreterBuilder as Builder

        names = ("create_masked_load", "create_masked_store", "create_atomic_rmw", "create_atomic_cas")
        originals = {name: getattr(Builder, name) for name in names}

        def load(builder: Any, pointers: Any, mask: Any, *rest: Any) -> Any:
            self._count(LOAD, pointers, mask)
            return originals["create_masked_load"](builder, pointers, mask, *rest)

        def store(builder: Any, pointers: Any, value: Any, mask: Any, *rest: Any) -> Any:
            self._count(STORE, pointers, mask)
            return originals["create_masked_store"](builder, pointers, value, mask, *rest)

        def atomic(builder: Any, operation: Any, pointers: Any, value: Any, mask: Any, *rest: Any) -> Any:
            self._count(ATOMIC, pointers, mask)
            return originals["create_atomic_rmw"](builder, operation, pointers, value, mask, *rest)

        def compare(builder: Any, pointers: Any, *rest: Any) -> Any:
            self._count(ATOMIC, pointers, None)
            return originals["create_atomic_cas"](builder, pointers, *rest)

        self._rank = rank
        for name, counted in zip(names, (load, store, atomic, compare), strict=True):
            setattr(Builder, name, counted)
        try:
            yield
        finally:
            self._rank = -1
            for name, original in originals.items():
                setattr(Builder, name, original)

    def _count(self, kind: str, pointers: Any, mask: Any) -> None:
        addresses = np.asarray(pointers.data).astype(np.int64).reshape(-1)
        if mask is not None:
            addresses = addresses[np.broadcast_to(np.asarray(mask.data, bool), np.shape(pointers.data)).reshape(-1)]
        if not addresses.size:
            return
        size = max(1, pointers.get_element_ty().primitive_bitwidth // 8)
        low, high = (int(np.searchsorted(self._first, a, side="right")) - 1 for a in (addresses.min(), addresses.max()))
        if low == high and (low < 0 or addresses.max() + size <= self._first[low] + self._size[low]):
            if low >= 0:
                self._add(kind, low, addresses.size * size)
            return
        region = np.searchsorted(self._first, addresses, side="right") - 1
        inside = (region >= 0) & (addresses + size <= self._first[region] + self._size[region])
        for index, n in zip(*np.unique(region[inside], return_counts=True), strict=True):
            self._add(kind, int(index), int(n) * size)

    def _add(self, kind: str, region: int, n: int) -> None:
        owner = int(self._owner[region])
        ends = (owner, self._rank) if kind == LOAD else (self._rank, owner)
        self.moved[(kind, self._names[region], *ends)] += n

    def matrix(self, kind: str, *fields: str) -> NDArray[np.int64]:
        """[source rank, destination rank] bytes of ``kind`` in ``fields`` (all fields if none are named)."""
        total = np.zeros((self.ranks, self.ranks), np.int64)
        for (moved, field, source, destination), n in self.moved.items():
            if moved == kind and (not fields or field in fields):
                total[source, destination] += n
        return total
