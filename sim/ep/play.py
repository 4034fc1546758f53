"""The event interpreter: a program of stages played rank by rank on the clock, its flows sharing the network.

Each rank is a process that takes the stages in order. It waits as the stage says (`Join`), pays the stage's latencies, and
starts its flows; it is done when they have landed (or, for a stage that only posts, when its own work is). A rank's
inbound is complete when every flow to it has landed. What each rank waited for is kept, so that the critical path can
be walked back from the end.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from simpy.events import Event

from ..engine import Simulator, seconds_to_ps
from ..network import FlowBatch, FlowNetwork, Tolerance, Transfer
from ..topology import Topology
from .flows import StageFlows, of_source, stage_flows
from .routing import Drawn
from .stage import Join, Machine, Stage, Work
from .traffic import Floats, Layout, own_seconds, rank_loads

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Step:
    """One stage of a program and the draw it sends (micro-batches have a draw each)."""

    stage: Stage | Work
    drawn: Drawn


@dataclass(slots=True)
class Trace:
    """What happened in one step. Arrays by [rank], ps: ``begin`` the join was met, ``move`` latencies were paid, ``done`` its own
    part ended, ``arrived`` its inbound was complete. ``begin_cause`` [rank]: the rank whose end met the join;
    ``arrived_from`` [rank]: the rank whose flow landed last (-1: none)."""

    step: Step
    begin: Ints
    move: Ints
    done: Ints
    arrived: Ints
    begin_cause: Ints
    arrived_from: Ints
    loads: dict[str, Floats]
    own_s: Floats
    flows: StageFlows | None
    transfers: dict[int, Transfer] = field(default_factory=dict)

    def end(self) -> Ints:
        """[rank] when both its own part and its inbound were complete."""
        return np.maximum(self.done, self.arrived)


class Player:
    """Plays steps on ``topology`` (whose resources include ``pace``). Use once: ``play`` returns a `Trace` a step."""

    def __init__(
        self, simulator: Simulator, topology: Topology, layout: Layout, machine: Machine, tolerance: Tolerance | None = None
    ) -> None:
        self.simulator, self.topology, self.layout, self.machine = simulator, topology, layout, machine
        resources = topology.resources
        self.network = FlowNetwork(simulator, resources.capacity, tolerance=tolerance, resource_kind=resources.kind_of)
        self.traces: list[Trace] = []
        self._own: list[list[Event]] = []
        self._inbound: list[_Countdowns] = []
        self._everyone: list[_Countdown] = []

    def play(self, steps: list[Step]) -> list[Trace]:
        """Run all steps to the end. Raises RuntimeError if a rank waits for what never comes."""
        for step in steps:
            self._prepare(step)
        ranks = [self.simulator.process(self._rank(rank)) for rank in range(self.layout.ranks)]
        for process in ranks:
            self.simulator.run(process)
        return self.traces

    def _prepare(self, step: Step) -> None:
        n = self.layout.ranks
        stage = step.stage
        loads = rank_loads(stage, step.drawn, self.layout, self.machine)
        own_s = own_seconds(stage, loads, n)
        flows = None
        if isinstance(stage, Stage):
            flows = stage_flows(stage, step.drawn, self.layout, self.topology, self.machine, own_s)
        blank = [np.full(n, -1, np.int64) for _ in range(6)]
        self.traces.append(Trace(step, *blank, loads, own_s, flows))
        expected = np.zeros(n, np.int64)
        if flows is not None:
            direct = flows.dst >= 0
            expected += np.bincount(flows.dst[direct], minlength=n)
            expected += np.bincount(-1 - flows.dst[~direct], minlength=self.layout.nodes)[self.layout.node_of]
        self._inbound.append(_Countdowns(self.simulator, expected))
        self._own.append([self.simulator.event() for _ in range(n)])
        self._everyone.append(_Countdown(self.simulator, n))

    def _rank(self, rank: int) -> Generator[Event, None, None]:
        for i, trace in enumerate(self.traces):
            stage = trace.step.stage
            if i:
                yield from self._join(i, rank, stage.waits)
            trace.begin[rank] = self.simulator.now_ps
            latency = seconds_to_ps(float(np.asarray(stage.latency_s)))
            if latency:
                yield self.simulator.delay(latency)
            trace.move[rank] = self.simulator.now_ps
            yield from self._move(i, rank, trace)
            trace.done[rank] = self.simulator.now_ps
            self._own[i][rank].succeed()
            self.simulator.process(self._complete(i, rank))

    def _complete(self, i: int, rank: int) -> Generator[Event, None, None]:
        """The rank's part of step ``i`` ends when its inbound is in as well."""
        trace = self.traces[i]
        yield self._inbound[i].event(rank)
        if trace.arrived[rank] < 0:
            trace.arrived[rank] = trace.done[rank]
        self._everyone[i].count(rank)

    def _join(self, i: int, rank: int, join: Join) -> Generator[Event, None, None]:
        before = self.traces[i - 1]
        cause = rank
        if join is Join.INBOUND:
            yield self._inbound[i - 1].event(rank)
            if before.arrived[rank] > before.done[rank]:
                cause = int(before.arrived_from[rank])
        elif join is Join.ALL:
            yield self._everyone[i - 1].event
            cause = self._everyone[i - 1].last
        self.traces[i].begin_cause[rank] = cause

    def _move(self, i: int, rank: int, trace: Trace) -> Generator[Event, None, None]:
        stage, flows = trace.step.stage, trace.flows
        own_ps = seconds_to_ps(float(trace.own_s[rank]))
        if flows is None or not len(flows.src):
            if own_ps:
                yield self.simulator.delay(own_ps)
            return
        part, routes = of_source(flows, rank)
        if part.start == part.stop:
            if own_ps:
                yield self.simulator.delay(own_ps)
            return
        destinations, group = np.unique(flows.dst[part], return_inverse=True)
        tail_ps = seconds_to_ps(float(np.asarray(stage.tail_s)))
        transfer = self.network.start(
            FlowBatch(
                flows.bytes[part], routes, latency_ps=flows.extra_ps[part] + tail_ps, group=group, groups=len(destinations)
            )
        )
        trace.transfers[rank] = transfer
        count = np.bincount(group, minlength=len(destinations))
        left = _Countdown(self.simulator, len(destinations))
        for number, (destination, landed) in enumerate(zip(destinations.tolist(), transfer.landed, strict=True)):
            assert landed.callbacks is not None
            landed.callbacks.append(self._landing(i, rank, destination, int(count[number]), left))
        if isinstance(stage, Stage) and stage.posts:
            local = [s[rank] for resource, s in trace.loads.items() if resource not in ("nvlink", "nic", "nic_msg")]
            if local and max(local) > 0.0:
                yield self.simulator.delay(seconds_to_ps(float(sum(local))))
        else:
            yield left.event

    def _landing(self, i: int, source: int, destination: int, flows: int, left: _Countdown):  # type: ignore[no-untyped-def]
        trace, inbound = self.traces[i], self._inbound[i]
        first = destination if destination >= 0 else (-1 - destination) * self.layout.domain
        last = first + 1 if destination >= 0 else min(first + self.layout.domain, self.layout.ranks)

        def landed(_: Event) -> None:
            now = self.simulator.now_ps
            for rank in range(first, last):
                trace.arrived[rank] = now
                trace.arrived_from[rank] = source
                inbound.count(rank, flows)
            left.count(source)

        return landed


class _Countdown:
    """An event that fires after ``n`` counts; ``last`` is who counted last."""

    __slots__ = ("_left", "event", "last")

    def __init__(self, simulator: Simulator, n: int) -> None:
        self._left = n
        self.event = simulator.event()
        self.last = -1
        if n == 0:
            self.event.succeed()

    def count(self, who: int) -> None:
        self._left -= 1
        self.last = who
        if self._left == 0:
            self.event.succeed()


class _Countdowns:
    """One event a rank, fired when as many flows as ``expected`` [rank] have landed there."""

    __slots__ = ("_events", "_left")

    def __init__(self, simulator: Simulator, expected: Ints) -> None:
        self._left = expected.tolist()
        self._events = [simulator.event() for _ in self._left]
        for left, event in zip(self._left, self._events, strict=True):
            if left == 0:
                event.succeed()

    def count(self, rank: int, flows: int) -> None:
        self._left[rank] -= flows
        if self._left[rank] == 0:
            self._events[rank].succeed()

    def event(self, rank: int) -> Event:
        return self._events[rank]
