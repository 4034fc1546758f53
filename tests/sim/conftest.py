"""Questions from the gallery with a few keys changed, and the programs that answer them, played."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from epicycle.scenarios.ask.scenario import load_scenario
from epicycle.sim.engine import Simulator
from epicycle.sim.fabric.topology import Topology
from epicycle.sim.inputs.question import Question
from epicycle.sim.inputs.traffic import Routing
from epicycle.sim.layer.play import Player, Trace
from epicycle.sim.layer.program import Program, build
from epicycle.sim.layer.result import TrafficMatrix
from epicycle.sim.layer.routing import Drawn, Router, draw
from epicycle.sim.layer.timeline import traffic


@dataclass
class Played:
    """One protocol's layer with everything the engine left behind."""

    program: Program
    topology: Topology
    player: Player
    traces: list[Trace]

    @property
    def makespan_ps(self) -> int:
        return int(max(trace.end().max() for trace in self.traces))

    @property
    def matrices(self) -> tuple[TrafficMatrix, ...]:
        return traffic(self.traces, self.program.layout)

    def bytes(self, stage: str, medium: str) -> np.ndarray:
        """[source, destination] bytes of one stage over one medium."""
        (found,) = [m.bytes for m in self.matrices if (m.stage, m.medium) == (stage, medium)]
        return found

    def rows(self, stage: str, medium: str) -> np.ndarray:
        (found,) = [m.rows for m in self.matrices if (m.stage, m.medium) == (stage, medium)]
        return found


@pytest.fixture(scope="session")
def ask() -> Callable[..., Question]:
    """``ask(ep=16, nodes=2, …)``: DeepSeek-V3 on H100; other keywords are dotted keys with ``__`` for the dot."""

    def question(scenario: str = "deepseek-v3-decode-ep32", **keys: Any) -> Question:
        short = {
            "ep": "deployment.ep",
            "protocol": "deployment.protocol",
            "nodes": "cluster.nodes",
            "tokens": "traffic.tokens_per_rank",
            "routing": "traffic.routing.kind",
        }
        if scenario == "deepseek-v3-decode-ep32":
            keys = {"deployment__compare": "[]", **keys}
        if "ep" in keys and "nodes" not in keys:
            keys["nodes"] = max(1, -(-keys["ep"] // 8))
        return load_scenario(scenario, [f"{short.get(k, k.replace('__', '.'))}={v}" for k, v in keys.items()]).resolve()

    return question


@pytest.fixture(scope="session")
def play() -> Callable[[Question], Played]:
    """Play a question's own protocol."""

    def played(question: Question) -> Played:
        program = build(question, question.deployment.protocol, Simulator(question.seed))
        topology = Topology(question.cluster, program.layout.ranks)
        topology.resources.add("pace", 1.0, program.layout.ranks)
        player = Player(Simulator(question.seed), topology, program.layout, program.machine)
        return Played(program, topology, player, player.play(list(program.steps)))

    return played


@pytest.fixture(scope="session")
def drawn() -> Callable[..., Drawn]:
    """``drawn("uniform", experts, top_k, tokens)`` with ``tokens`` [rank]; ``domain`` ranks a node."""

    def one(
        kind: str, experts: int, top_k: int, tokens: Any, *, domain: int = 8, groups: int = 1, kept: int = 1,
        redundant: int = 0, placement: str = "contiguous", seed: int = 0, **routing: Any,
    ) -> Drawn:  # fmt: skip
        router = Router(Routing(kind=kind, **routing), experts, top_k, groups, kept)
        return draw(router, np.array(tokens, np.int64), placement, redundant, domain, Simulator(seed).stream("test"))

    return one
