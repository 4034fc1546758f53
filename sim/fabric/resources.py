"""The table of shared resources a simulation is built from: number -> name, kind, index, capacity."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Resources:
    """Grows kind by kind; the numbers it hands out index every [resource] array of the flow network.

    A kind's entries are numbered together: ``ids(kind)`` [index] are resource numbers, names are ``kind[index]``.
    """

    def __init__(self) -> None:
        self._kinds: dict[str, NDArray[np.int32]] = {}
        self._capacity = np.empty(0)
        self._kind_of = np.empty(0, np.int64)

    def add(self, kind: str, capacity: ArrayLike, count: int | None = None) -> NDArray[np.int32]:
        """Add ``kind`` with ``capacity`` [index] units/s (or one value for ``count``); returns their numbers.

        Raises ValueError if the kind is there already or a capacity is negative or not finite.
        """
        if kind in self._kinds:
            raise ValueError(f"resource kind {kind!r} is already in the table")
        values = np.asarray(capacity, np.float64)
        values = np.broadcast_to(values, (count,)) if count is not None else np.atleast_1d(values)
        if not (np.isfinite(values) & (values >= 0)).all():
            raise ValueError(f"{kind}: a capacity must be finite and >= 0 units/s, got {values[~(values >= 0)][:1]}")
        ids = np.arange(self._capacity.size, self._capacity.size + values.size, dtype=np.int32)
        self._kind_of = np.concatenate([self._kind_of, np.full(values.size, len(self._kinds), np.int64)])
        self._kinds[kind] = ids
        self._capacity = np.concatenate([self._capacity, values])
        return ids

    @property
    def size(self) -> int:
        return self._capacity.size

    @property
    def capacity(self) -> NDArray[np.float64]:
        """[resource] units/s."""
        return self._capacity.copy()

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(self._kinds)

    @property
    def kind_of(self) -> NDArray[np.int64]:
        """[resource] position of its kind in ``kinds``: the network's ``resource_kind``."""
        return self._kind_of.copy()

    def ids(self, kind: str) -> NDArray[np.int32]:
        """Resource numbers of ``kind`` by index. Raises KeyError for a kind that is not there."""
        return self._kinds[kind]

    def kind(self, resource: int) -> str:
        return self.kinds[int(self._kind_of[resource])]

    def index(self, resource: int) -> int:
        return int(resource - self._kinds[self.kind(resource)][0])

    def name(self, resource: int) -> str:
        return f"{self.kind(resource)}[{self.index(resource)}]"
