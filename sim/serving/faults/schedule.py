"""Failures and repairs as a list of changes in time, before anything is played: no failure depends on what is served.

A lost GPU takes its attention group along, and, unless the group's protocol is elastic, the whole worker: its collectives hang
until the loss is noticed, then everything restarts. A spare takes the place of a broken GPU at once; a repaired one comes back
as a spare.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...inputs.requests import Fault, Faults
from ..requests.loop import layout as at
from .pools import Group

#: Table of a worker that lost ranks or whose NICs are left with a share of their rate: (group, ranks lost, share) -> place.
TableOf = Callable[[Group, int, float], int]
_PS = 1e12
#: The last time that a loop's picoseconds count (106 days): what comes later comes never.
_NEVER_PS = int(np.iinfo(np.int64).max)


@dataclass(frozen=True, slots=True)
class Happening:
    """One failure, in words for the report. ``until_s``: when the worker was whole again (inf: not within the run)."""

    at_s: float
    until_s: float
    words: str
    gpus: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """``changes``: layout.CHANGE by time. ``spares_short``: failures that found no spare."""

    changes: Any
    happenings: tuple[Happening, ...]
    spares_short: int


def schedule(faults: Faults, groups: Sequence[Group], until_s: float, seed: int, table_of: TableOf) -> Schedule:
    """Everything that fails before ``until_s``."""
    events = sorted([*faults.at, *_drawn(faults, groups, until_s, seed)], key=lambda f: f.at)
    return _Clock(faults, groups, table_of).run([f for f in events if f.at < until_s])


def _drawn(faults: Faults, groups: Sequence[Group], until_s: float, seed: int) -> Iterator[Fault]:
    """Failures by chance: of each kind a Poisson process over all its parts."""
    kinds = (("gpu", faults.gpu_hours), ("nic", faults.nic_hours), ("node", faults.node_hours))
    for number, (what, hours) in enumerate(kinds):
        if hours is None:
            continue
        rng = np.random.default_rng([seed, 77, number])
        parts = np.array([g.gpus if what != "node" else max(1, g.gpus // g.gpus_per_node) for g in groups], float)
        rate, now = parts.sum() / (hours * 3600.0), 0.0
        while True:
            now += float(rng.exponential(1.0 / rate))
            if now >= until_s:
                break
            group = groups[int(rng.choice(len(groups), p=parts / parts.sum()))]
            drawn: dict[str, Any] = {"at": now, "what": what, "pool": group.pool, "worker": group.number}
            yield Fault.model_construct(**drawn)


def _gpus(count: int) -> str:
    return f"{count} GPU{'s' if count != 1 else ''}"


class _Clock:
    """Walks through the failures in time; repairs come in between."""

    def __init__(self, faults: Faults, groups: Sequence[Group], table_of: TableOf) -> None:
        self.faults, self.table_of = faults, table_of
        self.groups = {(g.pool, g.number): g for g in groups}
        self.changes: list[tuple[float, int, int, int, float]] = []
        self.told: list[Happening] = []
        self.spares, self.short = faults.spares, 0
        self.repaired: list[float] = []  # when GPUs come back as spares
        self.down: dict[int, float] = {}  # worker -> until when
        self.lost: dict[int, dict[int, float]] = {g.worker: {} for g in groups}  # worker -> rank -> until when

    def run(self, failures: list[Fault]) -> Schedule:
        for fault in failures:
            group = self.groups[fault.pool, fault.worker]
            if self.down.get(group.worker, 0.0) > fault.at:
                continue  # it is down already: what breaks meanwhile is mended with it
            while self.repaired and self.repaired[0] <= fault.at:
                heapq.heappop(self.repaired)
                self.spares += 1
            if fault.what == "nic":
                self._slowed(fault, group)
            elif self.faults.protocol == "elastic" and group.ranks > 1:
                self._shrunk(fault, group)
            else:
                self._stopped(fault, group)
        self.changes.sort(key=lambda c: c[0])
        out = np.zeros(len(self.changes), at.CHANGE)
        for i, (seconds, what, worker, arg, share) in enumerate(self.changes):
            out[i] = (_ps(seconds), what, worker, arg, share)
        return Schedule(out, tuple(self.told), self.short)

    def _broken(self, fault: Fault, group: Group) -> int:
        return min(group.gpus, fault.count * (group.gpus_per_node if fault.what == "node" else 1))

    def _replaced_s(self, when: float, gpus: int) -> float:
        """When that many GPUs stand ready in place of the broken ones: at once from the spares, else repaired."""
        taken = min(gpus, self.spares)
        self.spares -= taken
        ready = when + self.faults.repair
        for _ in range(taken):
            heapq.heappush(self.repaired, ready)
        if taken < gpus:
            self.short += 1
            return ready
        return when

    def _stopped(self, fault: Fault, group: Group) -> None:
        f, gpus = self.faults, self._broken(fault, group)
        announced = self._announced(fault)
        if announced:
            self.changes.append((max(0.0, fault.at - f.warning), at.DRAIN, group.worker, 0, 1.0))
        noticed = fault.at + f.detect
        back = self._replaced_s(noticed, gpus) + f.restart
        self._change(fault.at, at.STALL, group, _ps(noticed))
        self._change(noticed, at.STOP, group)
        self._change(back, at.START, group)
        self._change(back, at.RETABLE, group, group.table)
        self.down[group.worker] = back
        words = f"{_gpus(gpus)} of {group.pool} worker {group.number}"
        self.told.append(Happening(fault.at, back, f"{words}: it stops{', drained before' if announced else ''}", gpus))

    def _shrunk(self, fault: Fault, group: Group) -> None:
        f, gpus = self.faults, self._broken(fault, group)
        ranks = -(-gpus // group.gpus_per_rank)
        alive = [rank for rank in range(group.ranks) if self.lost[group.worker].get(rank, 0.0) <= fault.at]
        if ranks >= len(alive):
            self._stopped(fault, group)
            return
        again = fault.at + f.detect + f.regroup
        self._change(fault.at, at.STALL, group, _ps(again))
        back = self._replaced_s(again, gpus) + f.restart
        for rank in alive[-ranks:]:
            self._change(fault.at, at.LOSE_RANK, group, rank)
            self.lost[group.worker][rank] = back
        self._change(again, at.RETABLE, group, self.table_of(group, group.ranks - len(alive) + ranks, 1.0))
        left = [rank for rank, until in self.lost[group.worker].items() if until > back]
        self._change(back, at.STALL, group, _ps(back + f.regroup))
        for rank in alive[-ranks:]:
            self._change(back, at.REGAIN_RANK, group, rank)
        self._change(back, at.RETABLE, group, self.table_of(group, len(left), 1.0))
        self.told.append(
            Happening(fault.at, back, f"{_gpus(gpus)} of {group.pool} worker {group.number} lost: it goes on", gpus)
        )

    def _slowed(self, fault: Fault, group: Group) -> None:
        until = fault.at + fault.lasts
        self._change(fault.at, at.RETABLE, group, self.table_of(group, 0, fault.share))
        self._change(fault.at, at.LINK, group, 0, fault.share * group.port_bytes_per_s)
        self._change(until, at.RETABLE, group, group.table)
        self._change(until, at.LINK, group, 0, group.port_bytes_per_s)
        words = f"a NIC of {group.pool} worker {group.number} is left with {fault.share:.0%} of its rate"
        self.told.append(Happening(fault.at, until, words, 0))

    def _announced(self, fault: Fault) -> bool:
        """Whether this failure shows beforehand: by a hash of its time, so that no draw depends on another's."""
        chance = int(np.float64(fault.at).view(np.uint64)) * 0x9E3779B97F4A7C15 % 2**64 / 2**64
        return fault.what == "gpu" and chance < self.faults.precursors

    def _change(self, when: float, what: int, group: Group, arg: int = 0, share: float = 1.0) -> None:
        self.changes.append((when, what, group.worker, arg, share))


def _ps(seconds: float) -> int:
    return min(round(seconds * _PS), _NEVER_PS)
