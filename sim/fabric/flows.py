"""A batch of flows that start together, and the columns of those in flight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from simpy.events import Event

from .fairshare import Entries, Routes, rising


@dataclass(frozen=True, slots=True)
class Gates:
    """Events that several batches share: ``events[g]`` fires (value: ps) when as many flows as were expected have landed."""

    first: int  # the network's number of gate 0
    events: tuple[Event, ...]


class FlowBatch:
    """Flows that start at one instant. Scalars broadcast over the flows.

    ``bytes`` [flow] payload, >= 0; ``routes`` the resources each uses; ``cap`` [flow] bytes/s (inf: none);
    ``latency_ps`` [flow] integer, from the last byte leaving to landing; ``group`` [flow] in 0..groups-1, flows whose
    common landing somebody waits for; ``groups`` how many there are (a group without flows lands at once). With ``gates`` the
    groups are those gates, which other batches fill as well.
    Raises ValueError for arrays of another length, negative or NaN bytes and latencies, groups out of range.
    """

    __slots__ = ("bytes", "cap", "gates", "group", "groups", "latency_ps", "routes")

    def __init__(
        self,
        bytes: ArrayLike,  # noqa: A002
        routes: Routes,
        *,
        cap: ArrayLike = np.inf,
        latency_ps: ArrayLike = 0,
        group: ArrayLike = 0,
        groups: int | None = None,
        gates: Gates | None = None,
    ) -> None:
        n = routes.flows
        if np.asarray(latency_ps).dtype.kind not in "iu":
            raise ValueError(f"latency_ps must be integer picoseconds, got {np.asarray(latency_ps).dtype}")
        self.routes = routes
        self.bytes: NDArray[np.float64] = _column("bytes", bytes, n, np.float64)
        self.cap: NDArray[np.float64] = _column("cap", cap, n, np.float64)
        self.latency_ps: NDArray[np.int64] = _column("latency_ps", latency_ps, n, np.int64)
        self.group: NDArray[np.int64] = _column("group", group, n, np.int64)
        self.gates = gates
        if gates is not None:
            groups = len(gates.events)
        self.groups = groups if groups is not None else int(self.group.max(initial=0)) + 1
        if not (np.isfinite(self.bytes) & (self.bytes >= 0)).all():
            raise ValueError("bytes of a flow must be finite and >= 0")
        if (self.latency_ps < 0).any():
            raise ValueError(f"latency_ps must be >= 0, got {self.latency_ps.min()}")
        if n and (self.group.min() < 0 or self.group.max() >= self.groups):
            raise ValueError(f"group must lie in 0..{self.groups - 1}, got {self.group.min()}..{self.group.max()}")

    @property
    def flows(self) -> int:
        return self.routes.flows


def _column(name: str, values: ArrayLike, n: int, dtype: Any) -> NDArray[Any]:
    array = np.asarray(values, dtype)
    if array.shape not in ((), (n,)):
        raise ValueError(f"{name}: expected one value or [{n}], got shape {array.shape}")
    return np.ascontiguousarray(np.broadcast_to(array, (n,)))


@dataclass(frozen=True, slots=True)
class Arrival:
    """Flows to admit: those of ``batch`` that ``pick`` names, its first record and group, and the group of the whole batch."""

    batch: FlowBatch
    pick: NDArray[np.int64]
    first: int
    first_group: int
    owner: int


class LiveFlows:
    """The flows in flight, columns by [slot]. Slots of ended flows (``alive`` 0) stay until the next :meth:`admit`."""

    def __init__(self, resources: int) -> None:
        self.resources = resources
        self.flow = np.empty(0, np.int64)  # its row in the network's records
        self.group = np.empty(0, np.int64)
        self.owner = np.empty(0, np.int64)  # the group of the whole batch
        self.size = np.empty(0)  # bytes at the start
        self.remaining = np.empty(0)
        self.cap = np.empty(0)
        self.latency_ps = np.empty(0, np.int64)
        self.rate = np.empty(0)
        self.bottleneck = np.empty(0, np.int32)
        self.finish_ps = np.empty(0, np.int64)  # predicted under the rates in force
        self.alive = np.empty(0, np.uint8)
        self.csr: Entries = (np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0))
        self.by_resource: Entries = (np.zeros(resources + 1, np.int64), *self.csr[1:])
        self.cap_order = np.empty(0, np.int64)
        self.count = 0  # alive

    def admit(self, arrivals: list[Arrival]) -> None:
        """Drop the slots of ended flows and append the arrivals in order."""
        from . import filling

        stay = np.flatnonzero(self.alive)
        self.flow = np.concatenate([self.flow[stay], *(a.first + a.pick for a in arrivals)])
        self.group = np.concatenate([self.group[stay], *(a.batch.group[a.pick] + a.first_group for a in arrivals)])
        self.owner = np.concatenate([self.owner[stay], *(np.full(a.pick.size, a.owner) for a in arrivals)])
        self.size = np.concatenate([self.size[stay], *(a.batch.bytes[a.pick] for a in arrivals)])
        self.remaining = np.concatenate([self.remaining[stay], *(a.batch.bytes[a.pick] for a in arrivals)])
        self.cap = np.concatenate([self.cap[stay], *(a.batch.cap[a.pick] for a in arrivals)])
        self.latency_ps = np.concatenate([self.latency_ps[stay], *(a.batch.latency_ps[a.pick] for a in arrivals)])
        n = self.flow.size
        self.rate = np.concatenate([self.rate[stay], np.full(n - stay.size, np.inf)])  # before the sharing to come
        self.bottleneck = np.full(n, filling.OWN_CAP, np.int32)
        self.finish_ps = np.full(n, filling.NEVER, np.int64)
        self.alive = np.ones(n, np.uint8)
        self.count = n

        parts = [_rows(self.csr, stay)]
        parts += [_rows(a.batch.routes.csr, a.pick) for a in arrivals]
        indptr = np.zeros(n + 1, np.int64)
        np.cumsum(np.concatenate([lengths for lengths, _, _ in parts]), out=indptr[1:])
        self.csr = (indptr, np.concatenate([p[1] for p in parts]), np.concatenate([p[2] for p in parts]))
        self.by_resource = filling.transpose(self.resources, *self.csr)
        self.cap_order = rising(self.cap)


def _rows(csr: Entries, pick: NDArray[np.int64]) -> Entries:
    """(lengths, resource, coefficient) of the rows ``pick`` (rising) of ``csr``."""
    indptr, resource, coefficient = csr
    lengths = np.diff(indptr)
    if pick.size == lengths.size:
        return lengths, resource, coefficient
    kept = np.zeros(lengths.size, bool)
    kept[pick] = True
    entries = np.repeat(kept, lengths)
    return lengths[pick], resource[entries], coefficient[entries]
