"""Flows over shared resources, on the clock: who sends how fast, and when everything has landed.

Between two re-timings all rates are constant, so every flow's finish is known in closed form. A re-timing happens when
flows start, when a capacity changes, and when enough flows have ended that somebody else should go faster.

**Window.** Re-sharing after every single end would cost one fair share per flow. Instead the flows that end within
a window after the first end are retired together: each has its own exact finish under the rates in force, and only the
bandwidth they free waits, until the last of them has ended. The window is ``max(floor_ps, fraction * least)``, ``least``
being the time that the busiest resource (or the longest flow at its cap) still needs, a lower bound of what is left.
When the window ends, the flows that now speed up are paid what stood idle, resource by resource and never more
(``filling.backdate``), so a resource never moves more than its capacity allows over any window. What remains is the
error of flows that ended inside a window without having sped up there. Measured on one draw of
tests/benchmarks/engine_speed.py, both phases together: 0.002 % longer at 16 ranks and 0.06 % at 64 than with
``Tolerance(0, 0.0)``; 0.08 % at 256 than with ``Tolerance(0, 0.002)``. Single flows may be off by a window.
Ends that nobody waits for (no flow is bound by a resource they used) change no rate and cost no re-sharing.

**Exactness.** A finish is rounded up to the next picosecond. A group's event fires at the picosecond its last flow has
landed, not at the window's end. Arrivals and capacity changes are never delayed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from simpy.events import Event

from ..engine import NORMAL, RETIME, Simulator
from .fairshare import check_capacities, check_caps
from .flows import Arrival, FlowBatch, Gates, LiveFlows

__all__ = ["FlowBatch", "FlowNetwork", "Tolerance", "Transfer"]


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How long freed bandwidth may wait: see the module's text. ``Tolerance(0, 0.0)`` re-shares at every end."""

    floor_ps: int = 1_000
    fraction: float = 0.015

    def __post_init__(self) -> None:
        if self.floor_ps < 0 or not 0 <= self.fraction < 1:
            raise ValueError(f"tolerance needs floor_ps >= 0 and 0 <= fraction < 1, got {self.floor_ps} and {self.fraction}")


class Transfer:
    """A started batch. ``landed`` [group]: events that fire (value: ps) when every flow of that group has landed.

    ``whole`` fires when every flow of the batch has. The records are [flow] in the batch's order, int64 ps, -1 until known;
    ``bound_s`` is float32 [flow, kind] seconds bound by (0) the flow's own cap and (k + 1) resources of kind k;
    ``bottleneck`` int32 [flow] is what bound it last.
    """

    __slots__ = ("_first", "_flows", "_network", "batch", "landed", "whole")

    def __init__(self, network: FlowNetwork, batch: FlowBatch, first: int, landed: tuple[Event, ...], whole: Event) -> None:
        self._network, self._first, self._flows = network, first, batch.flows
        self.batch = batch
        self.landed = landed
        self.whole = whole

    @property
    def start_ps(self) -> NDArray[np.int64]:
        return self._network._start_ps[self._first : self._first + self._flows]

    @property
    def finish_ps(self) -> NDArray[np.int64]:
        return self._network._finish_ps[self._first : self._first + self._flows]

    @property
    def landed_ps(self) -> NDArray[np.int64]:
        return np.where(self.finish_ps < 0, -1, self.finish_ps + self.batch.latency_ps)

    @property
    def bottleneck(self) -> NDArray[np.int32]:
        return self._network._bottleneck[self._first : self._first + self._flows]

    @property
    def bound_s(self) -> NDArray[np.float32]:
        return self._network._bound_s[self._first : self._first + self._flows]


class FlowNetwork:
    """Resources with ``capacities`` [resource] units/s and the flows over them.

    ``resource_kind`` [resource] ints 0..K-1 turns on ``Transfer.bound_s``. Raises ValueError for bad capacities.
    """

    def __init__(
        self,
        simulator: Simulator,
        capacities: ArrayLike,
        *,
        tolerance: Tolerance | None = None,
        resource_kind: ArrayLike | None = None,
    ) -> None:
        from . import filling

        self._loops = filling
        self._simulator = simulator
        self.tolerance = tolerance or Tolerance()
        self.capacity = check_capacities(capacities)
        self.peak = np.zeros(self.capacity.size)  # highest share of the capacity ever in use, [resource]
        self.retimings = 0
        self._moved = np.zeros(self.capacity.size)
        self._kind = np.zeros(self.capacity.size, np.int64)
        self._kinds = 0
        if resource_kind is not None:
            self._kind = np.asarray(resource_kind, np.int64) + 1
            self._kinds = int(self._kind.max(initial=0)) + 1
            if self._kind.shape != self.capacity.shape or self._kind.min(initial=1) < 1:
                raise ValueError(f"resource_kind: expected {self.capacity.size} numbers >= 0")
        self._live = LiveFlows(self.capacity.size)
        self._capacity_then = self.capacity  # when the rates in force were shared
        self._used = np.zeros(self.capacity.size)  # by the rates in force
        self._least_s = 0.0  # the flows in flight need at least this long
        self._waiting = np.zeros(self.capacity.size, np.int64)  # live flows bound by each resource
        self._arrivals: list[Arrival] = []
        self._called = False  # a settling is already on the calendar for this instant
        self._dirty = False  # a capacity changed, or what a gate waits for
        self._since = 0  # rates in force since
        self._plan = 0  # number of the plan in force; calls of older plans do nothing
        self._landings: list[tuple[int, int, int]] = []  # (last end, group, landed) within the window, latest first
        # Records: [flow] and [group] of everything ever started
        self._flows = 0
        self._start_ps = np.empty(0, np.int64)
        self._finish_ps = np.empty(0, np.int64)
        self._bottleneck = np.empty(0, np.int32)
        self._bound_s = np.empty((0, self._kinds), np.float32)
        self._events: list[Event] = []
        self._group_left = np.empty(0, np.int64)
        self._group_landed = np.empty(0, np.int64)
        self._group_sent = np.empty(0, bool)
        self._group_scratch = np.empty((0, 3), np.int64)

    def start(self, batch: FlowBatch) -> Transfer:
        """Start every flow of ``batch`` now. Raises ValueError for unknown resources or a flow that nothing bounds."""
        check_caps(batch.routes, batch.cap, self.capacity.size)
        now = self._simulator.now_ps
        first = self._flows
        self._flows += batch.flows
        self._start_ps = _grown(self._start_ps, self._flows, -1)
        self._finish_ps = _grown(self._finish_ps, self._flows, -1)
        self._bottleneck = _grown(self._bottleneck, self._flows, self._loops.OWN_CAP)
        self._bound_s = _grown(self._bound_s, self._flows, 0)
        self._start_ps[first : self._flows] = now

        owner = self._new_groups(1, np.array([batch.flows]))
        if batch.gates is None:
            first_group = self._new_groups(batch.groups, np.bincount(batch.group, minlength=batch.groups))
        else:
            first_group = batch.gates.first
        events = tuple(self._events[first_group : first_group + batch.groups])
        moving = np.flatnonzero(batch.bytes > 0)
        empty = np.flatnonzero(batch.bytes == 0)
        self._finish_ps[first + empty] = now
        for groups in (batch.group[empty] + first_group, np.full(empty.size, owner)):
            np.maximum.at(self._group_landed, groups, now + batch.latency_ps[empty])
            np.subtract.at(self._group_left, groups, 1)
        touched = (
            np.arange(first_group, first_group + batch.groups) if batch.gates is None else batch.group[empty] + first_group
        )
        self._land_complete(np.append(touched, owner))
        if moving.size:
            self._arrivals.append(Arrival(batch, moving, first, first_group, owner))
            self._settle_soon()
        elif batch.gates is not None and empty.size:  # the plan counts flows still to come that have just landed
            self._dirty = True
            self._settle_soon()
        return Transfer(self, batch, first, events, self._events[owner])

    def open(self, expected: ArrayLike) -> Gates:
        """Gates that fire when ``expected`` [gate] flows, of whatever batches, have landed; at once where none is expected."""
        counts = np.asarray(expected, np.int64)
        first = self._new_groups(counts.size, counts)
        self._land_complete(first + np.flatnonzero(counts == 0))
        return Gates(first, tuple(self._events[first:]))

    def _new_groups(self, number: int, left: NDArray[np.int64]) -> int:
        """Add groups that wait for ``left`` [group] flows each; returns the first one's number."""
        first = len(self._events)
        self._events += [self._simulator.event() for _ in range(number)]
        self._group_left = _grown(self._group_left, len(self._events), 0)
        self._group_landed = _grown(self._group_landed, len(self._events), 0)
        self._group_sent = _grown(self._group_sent, len(self._events), 0)
        self._group_scratch = _grown(self._group_scratch, len(self._events), 0)
        self._group_left[first : len(self._events)] = left
        self._group_landed[first : len(self._events)] = self._simulator.now_ps
        return first

    def set_capacity(self, resource: ArrayLike, capacity: ArrayLike) -> None:
        """Give ``resource`` (one or several) another capacity from now on, units/s; 0 stalls its flows until it is back."""
        changed = self.capacity.copy()
        changed[np.asarray(resource, np.int64)] = capacity
        self.capacity = check_capacities(changed)
        self._dirty = True
        self._settle_soon()

    @property
    def active(self) -> int:
        """Flows that still have bytes to send."""
        return self._live.count + sum(arrival.pick.size for arrival in self._arrivals)

    @property
    def moved(self) -> NDArray[np.float64]:
        """Units moved so far [resource]; after the last flow has ended, the sum of coefficient * bytes."""
        live = self._live
        spent = (self._simulator.now_ps - self._since) * 1e-12
        sent = np.where(live.alive, live.size - np.maximum(live.remaining - live.rate * spent, 0.0), 0.0)
        indptr, resource, coefficient = live.csr
        part = np.bincount(resource, coefficient * np.repeat(sent, np.diff(indptr)), minlength=self.capacity.size)
        return np.asarray(self._moved + part)

    def _settle_soon(self) -> None:
        if not self._called:
            self._called = True
            self._simulator.call(self._settle, 0, RETIME)

    def _settle(self) -> None:
        """Bring the network to this instant: retire what ended, admit what started, share anew if a rate would change."""
        self._called = False
        now = self._simulator.now_ps
        if now == self._since and not self._arrivals and not self._dirty:
            return
        live, loops = self._live, self._loops
        changed = self._dirty or bool(self._arrivals)
        wait_s, idle = 0.0, self._used
        if live.count:
            loops.advance(
                self._since,
                now,
                live.alive,
                live.finish_ps,
                live.rate,
                live.remaining,
                live.bottleneck,
                self._kind,
                live.flow,
                self._bound_s,
            )
            gone = loops.ending(now, live.alive, live.finish_ps)
            if gone.size:
                wait_s = (now - int(live.finish_ps[gone].min())) * 1e-12
                idle = (self._capacity_then - self._used) * wait_s
                changed |= self._retire(gone, idle)
        self._since = now
        if self._arrivals or (changed and 2 * live.count < live.alive.size):
            live.admit(self._arrivals)
            self._arrivals = []
        if changed and live.count:
            self._share(wait_s, idle)
        self._dirty = False
        self._make_plan()

    def _retire(self, gone: NDArray[np.int32], idle: NDArray[np.float64]) -> bool:
        live = self._live
        flow = live.flow[gone]
        self._finish_ps[flow] = live.finish_ps[gone]
        self._bottleneck[flow] = live.bottleneck[gone]
        live.count -= gone.size
        ends = (live.group, live.owner, live.finish_ps, live.latency_ps)
        for g in self._loops.completed(gone, *ends, self._group_left, self._group_landed, self._group_sent):
            self._land(int(g), max(int(self._group_landed[g]), self._simulator.now_ps))
        now, rates = self._simulator.now_ps, (live.finish_ps, live.rate)
        books = (live.size, live.alive, live.bottleneck, self._waiting, self._moved, idle)
        return bool(self._loops.retire(gone, now, *rates, *live.csr, *books))

    def _share(self, wait_s: float, idle: NDArray[np.float64]) -> None:
        live = self._live
        before = live.rate.copy()
        self._used = self._loops.fill(
            self.capacity,
            *live.csr,
            *live.by_resource,
            *live.newer,
            live.cap,
            live.cap_order,
            live.alive,
            live.rate,
            live.bottleneck,
        )
        self._capacity_then = self.capacity
        self.retimings += 1
        with np.errstate(invalid="ignore", divide="ignore"):
            np.fmax(self.peak, self._used / self.capacity, out=self.peak)
        if wait_s > 0:
            self._loops.backdate(wait_s, idle, *live.csr, live.alive, before, live.rate, live.remaining)
        self._least_s = self._loops.least_time(self.capacity, *live.csr, live.alive, live.remaining, live.cap)
        self._loops.predict(self._since, live.remaining, live.rate, live.alive, live.bottleneck, live.finish_ps, self._waiting)

    def _make_plan(self) -> None:
        """Choose the window's end, and when on the way a group's last flow ends; call at each of those instants."""
        self._plan += 1
        live, loops = self._live, self._loops
        if not live.count:
            return
        first = int(loops.earliest(live.alive, live.finish_ps))
        if first == loops.NEVER:
            return
        window = max(self.tolerance.floor_ps, int(self.tolerance.fraction * self._least_s * 1e12))
        gone = loops.ending(first + window, live.alive, live.finish_ps)
        ends = (live.group, live.owner, live.finish_ps, live.latency_ps)
        found = loops.completing(gone, *ends, self._group_left, self._group_landed, self._group_scratch)
        self._landings = [(int(end), int(g), int(landed)) for end, g, landed in found[np.argsort(-found[:, 0], kind="stable")]]
        self._call_landings(self._plan)
        self._simulator.call(partial(self._end_window, self._plan), int(live.finish_ps[gone].max()) - self._since, RETIME)

    def _end_window(self, plan: int) -> None:
        if plan == self._plan:
            self._settle()

    def _call_landings(self, plan: int) -> None:
        """Send the events of the groups whose last flow has ended by now on their way; call again for the next."""
        if plan != self._plan:
            return
        now = self._simulator.now_ps
        while self._landings and self._landings[-1][0] <= now:
            _, group, landed = self._landings.pop()
            self._land(group, landed)
        if self._landings:
            self._simulator.call(partial(self._call_landings, plan), self._landings[-1][0] - now, NORMAL)

    def _land_complete(self, groups: NDArray[np.int64]) -> None:
        """Send the events of those of ``groups`` that wait for no further flow, unless the plan already has."""
        for g in np.unique(groups[(self._group_left[groups] == 0) & ~self._group_sent[groups]]):
            self._land(int(g), max(int(self._group_landed[g]), self._simulator.now_ps))

    def _land(self, group: int, landed_ps: int) -> None:
        self._group_sent[group] = True
        self._simulator.fire(self._events[group], landed_ps - self._simulator.now_ps, landed_ps)


def _grown(column: NDArray[Any], rows: int, blank: int) -> NDArray[Any]:
    """``column`` with room for ``rows`` rows (doubling, so that many small batches cost linear time)."""
    if rows <= column.shape[0]:
        return column
    more = np.full((max(rows, 2 * column.shape[0]) - column.shape[0], *column.shape[1:]), blank, column.dtype)
    return np.concatenate([column, more])
