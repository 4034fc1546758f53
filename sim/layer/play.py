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
from ..ep.stage import LINKS, Join, Machine, Stage, Work
from ..fabric.flows import Gates
from ..fabric.network import FlowBatch, FlowNetwork, Tolerance, Transfer
from ..fabric.topology import Topology
from .flows import PARTS, StageFlows, of_source, stage_flows
from .routing import Drawn
from .traffic import Floats, Layout, own_seconds, rank_loads

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Step:
    """One stage of a program and the draw it sends (micro-batches have a draw each)."""

    stage: Stage | Work
    drawn: Drawn


@dataclass(slots=True)
class Trace:
    """What happened in one step. Arrays by [rank], ps: ``begin`` the join was met, ``move`` latencies were paid, ``done`` its
    own part ended, ``arrived`` its inbound was complete. ``begin_cause`` [rank]: the rank whose end met the join;
    ``arrived_from`` [rank]: the rank whose flow landed last (-1: none)."""

    step: Step
    loads: dict[str, Floats]
    own_s: Floats
    flows: StageFlows | None
    ranks: int
    transfers: dict[int, Transfer] = field(default_factory=dict)
    begin: Ints = field(init=False)
    move: Ints = field(init=False)
    done: Ints = field(init=False)
    arrived: Ints = field(init=False)
    begin_cause: Ints = field(init=False)
    arrived_from: Ints = field(init=False)

    def __post_init__(self) -> None:
        for name in ("begin", "move", "done", "arrived", "begin_cause", "arrived_from"):
            setattr(self, name, np.full(self.ranks, -1, np.int64))

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
        self.network = FlowNetwork(simulator, resources.capacity, tolerance=tolerance)
        self.traces: list[Trace] = []
        self._own: list[list[Event]] = []
        self._inbound: list[Gates] = []  # a gate a rank, and one a node for what lands on all its ranks
        self._everyone: list[_Countdown] = []

    def play(self, steps: list[Step]) -> list[Trace]:
        """Run all steps to the end. Raises RuntimeError if a rank waits for what never comes."""
        for step in steps:
            self._prepare(step)
        ranks = [self.simulator.process(self._rank(rank)) for rank in range(self.layout.ranks)]
        for process in ranks:
            self.simulator.run(process)
        self.simulator.run()
        for trace in self.traces:
            self._look_back(trace)
        return self.traces

    def _prepare(self, step: Step) -> None:
        n = self.layout.ranks
        stage = step.stage
        loads = rank_loads(stage, step.drawn, self.layout, self.machine)
        own_s = own_seconds(stage, loads, n)
        flows = None
        if isinstance(stage, Stage):
            flows = stage_flows(stage, step.drawn, self.layout, self.topology, self.machine, own_s)
        self.traces.append(Trace(step, loads, own_s, flows, n))
        expected = np.zeros(n + self.layout.nodes, np.int64)
        if flows is not None:
            expected += np.bincount(self._gate(flows.dst), minlength=len(expected))
        self._inbound.append(self.network.open(expected))
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

    def _gate(self, dst: Ints) -> Ints:
        """Gate numbers of flows' destinations: the rank, or behind the ranks the node."""
        return np.where(dst >= 0, dst, self.layout.ranks - 1 - dst)

    def _arrival(self, i: int, rank: int) -> Generator[Event, None, None]:
        gates = self._inbound[i].events
        yield gates[rank]
        yield gates[self.layout.ranks + rank // self.layout.domain]

    def _complete(self, i: int, rank: int) -> Generator[Event, None, None]:
        """The rank's part of step ``i`` ends when its inbound is in as well."""
        yield from self._arrival(i, rank)
        self._everyone[i].count(rank)

    def _join(self, i: int, rank: int, join: Join) -> Generator[Event, None, None]:
        cause = rank
        if join is Join.INBOUND:
            yield from self._arrival(i - 1, rank)
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
        tail_ps = seconds_to_ps(float(np.asarray(stage.tail_s)))
        transfer = self.network.start(
            FlowBatch(
                PARTS,
                routes,
                latency_ps=flows.extra_ps[part] + tail_ps,
                group=self._gate(flows.dst[part]),
                gates=self._inbound[i],
            )
        )
        trace.transfers[rank] = transfer
        if isinstance(stage, Stage) and stage.posts:
            local = [s[rank] for resource, s in trace.loads.items() if resource not in LINKS]
            if local and max(local) > 0.0:
                yield self.simulator.delay(seconds_to_ps(float(sum(local))))
        else:
            yield transfer.whole

    def _look_back(self, trace: Trace) -> None:
        """Fill in when each rank's inbound was complete, and whose flow landed last."""
        trace.arrived[:] = trace.done
        if trace.flows is None or not trace.transfers:
            return
        landed = np.concatenate([trace.transfers[r].landed_ps for r in sorted(trace.transfers)])
        gate = self._gate(trace.flows.dst)
        order = np.lexsort((landed, gate))
        last = order[np.append(gate[order][1:] != gate[order][:-1], True)]
        latest = np.full(self.layout.ranks + self.layout.nodes, -1, np.int64)
        source = np.full_like(latest, -1)
        latest[gate[last]], source[gate[last]] = landed[last], trace.flows.src[last]
        mine, node = np.arange(self.layout.ranks), self.layout.ranks + self.layout.node_of
        from_node = latest[node] > latest[mine]
        arrived = np.where(from_node, latest[node], latest[mine])
        trace.arrived[:] = np.where(arrived >= 0, arrived, trace.done)
        trace.arrived_from[:] = np.where(from_node, source[node], source[mine])


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
