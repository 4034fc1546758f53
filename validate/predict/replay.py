"""Predict measured rows event by event: each row's routing drawn with a fixed seed, its kernel played on its cluster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...hwmodels.specs import Cluster
from ...sim.engine import Simulator
from ...sim.ep.machine import machine_of
from ...sim.ep.protocol import describe
from ...sim.fabric.topology import Topology
from ...sim.inputs.traffic import Routing
from ...sim.layer.play import Player, Step
from ...sim.layer.routing import Drawn, Router, draw
from ...sim.layer.traffic import Layout
from ..tables.ep_rows import PROTOCOL_NAMES, Group

SEED = 0


def replay(group: Group, cluster: Cluster, step: Callable[[int], None] | None) -> tuple[NDArray[np.float64], str]:
    """Seconds of every row of ``group`` (from the op's first start to its last end), and the system of its constants."""
    machine = machine_of(cluster)
    shapes, contexts = group.shape(), group.context()
    seconds, source = [], ""
    for i, row in enumerate(group.rows):
        shape, context = _scalar(shapes, i), _scalar(contexts, i)
        described = describe(PROTOCOL_NAMES[group.protocol], group.op, group.scope, group.system, shape, machine, context)
        source = described.calibrated_on
        ranks = row.nodes * row.gpus_per_node
        layout = Layout(ranks, int(shape.domain))
        drawn = _drawn(
            row.tokens, ranks, row.experts, row.top_k, shape.routing, int(shape.groups), int(shape.groups_kept), layout.domain
        )
        here = cluster.model_copy(update={"nodes": max(1, -(-ranks // cluster.node.gpus))})
        topology = Topology(here, ranks)
        topology.resources.add("pace", 1.0, ranks)
        player = Player(Simulator(SEED), topology, layout, machine)
        traces = player.play([Step(stage, drawn) for stage in described.stages])
        seconds.append((max(t.end().max() for t in traces) - min(t.begin.min() for t in traces)) * 1e-12)
        if step:
            step(i + 1)
    return np.array(seconds), source


def _scalar(record: Any, i: int) -> Any:
    """Row ``i`` of a record of arrays, as a record of numbers."""
    names = record.__dataclass_fields__
    values = {n: getattr(record, n) for n in names}
    return replace(record, **{n: float(v[i]) for n, v in values.items() if isinstance(v, np.ndarray)})


@lru_cache(maxsize=64)
def _drawn(tokens: int, ranks: int, experts: int, top_k: int, kind: str, groups: int, kept: int, domain: int) -> Drawn:
    router = Router(Routing.model_validate({"kind": kind}), experts, top_k, max(groups, 1), max(kept, 1))
    each = np.full(ranks, tokens, np.int64)
    return draw(router, each, "contiguous", 0, domain, Simulator(SEED).stream("routing"))
