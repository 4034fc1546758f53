"""A batch of flows that start together, and the columns of those in flight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

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
    """The flows in flight, columns by [slot]. Slots of ended flows (``alive`` 0) stay until they are more than half.

    ``csr``: what each flow uses; ``by_resource`` and ``newer``: the same entries by resource, of older and of the newest flows,
    so that an admission sorts few of them anew.
    """

    _COLUMNS: ClassVar[dict[str, type]] = {
        "flow": np.int64,  # its row in the network's records
        "group": np.int64,
        "owner": np.int64,  # the group of the whole batch
        "size": np.float64,  # bytes at the start
        "remaining": np.float64,
        "cap": np.float64,
        "latency_ps": np.int64,
        "rate": np.float64,
        "bottleneck": np.int32,
        "finish_ps": np.int64,  # predicted under the rates in force
        "alive": np.uint8,
    }
    flow: NDArray[np.int64]
    group: NDArray[np.int64]
    owner: NDArray[np.int64]
    size: NDArray[np.float64]
    remaining: NDArray[np.float64]
    cap: NDArray[np.float64]
    latency_ps: NDArray[np.int64]
    rate: NDArray[np.float64]
    bottleneck: NDArray[np.int32]
    finish_ps: NDArray[np.int64]
    alive: NDArray[np.uint8]

    def __init__(self, resources: int) -> None:
        self.resources = resources
        self._room: dict[str, NDArray[Any]] = {}
        for name, kind in self._COLUMNS.items():
            self._put(name, np.empty(0, kind))
        self.csr: Entries = (np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0))
        self._room.update(zip(("starts", "resource", "coefficient"), self.csr, strict=True))
        self.by_resource: Entries = (np.zeros(resources + 1, np.int64), *self.csr[1:])
        self.newer = self.by_resource
        self._sorted = 0  # flows in by_resource
        self.cap_order = np.empty(0, np.int64)
        self.count = 0  # alive

    def admit(self, arrivals: list[Arrival]) -> None:
        """Append the arrivals in order; first drop the slots of ended flows if they are many."""
        from . import filling

        if 2 * self.count < self.alive.size:
            self._drop_ended()
        before = self.alive.size
        if arrivals:
            self._append("flow", [a.first + a.pick for a in arrivals])
            self._append("group", [a.batch.group[a.pick] + a.first_group for a in arrivals])
            self._append("owner", [np.full(a.pick.size, a.owner) for a in arrivals])
            sizes = [a.batch.bytes[a.pick] for a in arrivals]
            self._append("size", sizes)
            self._append("remaining", sizes)
            self._append("cap", [a.batch.cap[a.pick] for a in arrivals])
            self._append("latency_ps", [a.batch.latency_ps[a.pick] for a in arrivals])
            new = self.flow.size - before
            for name, value in (("rate", np.inf), ("bottleneck", filling.OWN_CAP), ("finish_ps", filling.NEVER), ("alive", 1)):
                self._append(name, [np.full(new, value, self._COLUMNS[name])])
            rows = [_rows(a.batch.routes.csr, a.pick) for a in arrivals]
            ends = self.csr[0][-1] + np.cumsum(np.concatenate([lengths for lengths, _, _ in rows]))
            starts = self._grow("starts", self.csr[0].size, [ends])
            entries = self.csr[1].size
            self.csr = (
                starts,
                self._grow("resource", entries, [p[1] for p in rows]),
                self._grow("coefficient", entries, [p[2] for p in rows]),
            )
            self.count += new
        newer = self.csr[1].size - int(self.csr[0][self._sorted])
        if newer * _NEWER > self.csr[1].size:
            self._sorted = self.alive.size
            self.by_resource = filling.transpose(self.resources, *self.csr)
        self.newer = filling.transpose(self.resources, *self.csr, self._sorted)
        if np.isfinite(self.cap[before:]).any():
            self.cap_order = rising(self.cap)

    def _drop_ended(self) -> None:
        stay = np.flatnonzero(self.alive)
        lengths, resource, coefficient = _rows(self.csr, stay)
        for name in self._COLUMNS:
            self._put(name, getattr(self, name)[stay])
        starts = np.concatenate(([0], np.cumsum(lengths)))
        self.csr = (starts, resource, coefficient)
        self._room.update(starts=starts, resource=resource, coefficient=coefficient)
        self.cap_order = rising(self.cap)
        self._sorted = 0

    def _put(self, name: str, values: NDArray[Any]) -> None:
        self._room[name] = values
        setattr(self, name, values)

    def _append(self, name: str, parts: list[NDArray[Any]]) -> None:
        setattr(self, name, self._grow(name, getattr(self, name).size, parts))

    def _grow(self, name: str, used: int, parts: list[NDArray[Any]]) -> NDArray[Any]:
        """The column ``name``, of which ``used`` rows are taken, with ``parts`` behind them; room doubles when it runs out."""
        total = used + sum(part.size for part in parts)
        room = self._room[name]
        if total > room.size:
            room = np.empty(max(total, 2 * used), room.dtype)
            room[:used] = self._room[name][:used]
            self._room[name] = room
        for part in parts:
            room[used : used + part.size] = part
            used += part.size
        return room[:total]


#: Newer flows are kept apart until they have one in so many of all entries.
_NEWER = 8


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
