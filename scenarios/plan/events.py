"""The best few deployments once more, with one layer's exchange of their decode step played event by event.

The closed form sends what uniform routing is expected to; the events draw the routing, so that some ranks receive more, and
share links max-min fairly. A decode step gets the played time of its exchange, what lies on the layer's critical path; all
else stays.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...hwmodels.errors import BadInput
from ...sim.ep.protocol import find_protocol
from ...sim.inputs.deployment import Deployment
from ...sim.inputs.question import Question
from ...sim.inputs.serving import Worker
from ...sim.inputs.traffic import Routing, Traffic
from ...sim.serving.steady import Setting, decode_step
from ...sim.step.worker import arrangement_of


def longer_tpot_s(
    setting: Setting, routing: Routing, worker: Worker, batch: float, seed: int, play: Callable[..., float | None]
) -> float | None:
    """What the played exchange adds to the closed form's time per token of decode ``worker`` at ``batch`` sequences a group.

    ``play``: `played_seconds`, or that function somewhere else. None if no exchange can be played for this worker.
    """
    if worker.dp == 1 or not setting.model.moe_layers:
        return None
    halves = 2.0 if worker.overlap else 1.0
    rows = batch * (1 + setting.speculation.drafts) / worker.pp / halves / worker.tp
    layer_s = play(setting, routing, worker, max(1, round(rows)), seed)
    if layer_s is None:
        return None
    step = decode_step(setting, arrangement_of(worker), batch)
    travel = [part for part in step.parts if part.group == "communication"]
    ops = [op.replace("_", " ") for op in find_protocol(worker.protocol).ops]
    exchange = [part for part in travel if part.name in ops]
    longer = layer_s * float(exchange[0].times) - sum(_one(part.step_seconds) for part in exchange)
    if worker.overlap:  # what travels longer shows only beyond what is computed meanwhile
        whole = sum(_one(part.step_seconds) for part in travel)
        computed = sum(_one(p.step_seconds) for p in step.parts if p.group != "communication" and p.name != "host")
        longer = max(whole + longer, computed) - max(whole, computed)
    return longer / setting.speculation.accepted


def played_seconds(setting: Setting, routing: Routing, worker: Worker, rows: int, seed: int) -> float | None:
    """Seconds of one layer's exchange on its critical path, ``rows`` tokens on every rank. None where it cannot be played."""
    # The event engine takes a while to load, and most of a plan does without.
    from ...sim.engine import Simulator
    from ...sim.fabric.topology import Topology
    from ...sim.layer.play import Player
    from ...sim.layer.program import build
    from ...sim.layer.timeline import critical_path

    deployment = Deployment(
        ep=worker.tp * worker.dp,
        protocol=worker.protocol,
        payload=setting.precision.payload,
        weights=setting.precision.experts,
        comm_sms=worker.comm_sms,
        redundant_experts=worker.redundant_experts,
        transport=worker.transport,
    )
    traffic = Traffic(tokens_per_rank=rows, routing=routing)
    try:
        layer = Question("plan", "", setting.model, setting.cluster, traffic, deployment, seed)
        program = build(layer, worker.protocol, Simulator(seed))
    except BadInput:
        return None
    topology = Topology(program.cluster, program.layout.ranks)
    topology.resources.add("pace", 1.0, program.layout.ranks)
    traces = Player(Simulator(seed), topology, program.layout, program.machine).play(list(program.steps))
    path = critical_path(traces, topology)
    return sum(segment.end_ps - segment.start_ps for segment in path if segment.op != "compute") / 1e12


def get_ready(setting: Setting, seed: int) -> None:
    """Play a little layer, so that everything is loaded and compiled."""
    played_seconds(setting, Routing(), Worker(dp=2, ep=2), 1, seed)


def _one(value: object) -> float:
    return float(np.asarray(value, float).ravel()[0])
