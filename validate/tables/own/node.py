"""Rows of our own kernels on a node or several, as the launches of each op: what a torchrun of bench writes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ....hwmodels.calibration import Scope
from ....hwmodels.specs import Cluster
from ....sim.ep.bound import program_seconds
from ....sim.ep.compute.own_kernels import OwnMove
from ....sim.ep.machine import machine_of
from ....sim.ep.protocol import Context, describe, find_protocol
from ....sim.ep.protocols.epicycle import HT, LL, TWO_HOP
from ....sim.ep.shape import Shape
from .rows import OwnRow

_COUNTED = ("layout", "notify_post", "notify_wait")
#: Launches of an op of a node's row, by its column ``op``; the cast runs before the timed dispatch.
LAUNCHES: dict[str, dict[str, tuple[str, ...]]] = {
    HT: {"notify": _COUNTED, "dispatch": ("dispatch", "expand"), "combine": ("reduce", "combine")},
    TWO_HOP: {"notify": _COUNTED, "dispatch": ("dispatch", "expand"), "combine": ("reduce", "combine")},
    LL: {"dispatch": ("dispatch_send", "dispatch_receive"), "combine": ("combine_send", "combine_receive")},
}
#: The launch of an op whose rows cross links.
CROSSING = {
    HT: {"dispatch": "dispatch", "combine": "combine"}, TWO_HOP: {"dispatch": "dispatch", "combine": "combine"},
    LL: {"dispatch": "dispatch_send", "combine": "combine_send"},
}  # fmt: skip


def is_of_node(row: OwnRow) -> bool:
    """Whether a row is of our protocols on real links."""
    return row.protocol in LAUNCHES and row.scope != "kernel" and row.op in LAUNCHES[row.protocol]


def shape_of(row: OwnRow) -> Shape:
    """The exchange of a node's row, uniform routing."""
    v = row.values
    per_node, nodes = float(v["gpus_per_node"]), float(v["nodes"])
    hidden = float(v["hidden"])
    payload = hidden * (1.0 + 4.0 / 128.0) if v["payload_dtype"] == "fp8" else 2.0 * hidden
    # Hosts of one NVLink domain are as one node: nothing crosses a NIC.
    domain = nodes * per_node if row.scope == "nvlink-domain" else per_node
    return Shape(float(row.tokens), hidden, float(v["top_k"]), float(v["experts"]), nodes * per_node, domain, payload)


def links_of(row: OwnRow) -> Scope:
    """The scope of the entry that holds the efficiency of the links which a row crossed."""
    return "multi-node" if row.scope == "multi-node" else "one-node"


def node_seconds(row: OwnRow, cluster: Cluster, links: Mapping[str, float] | None = None) -> float:
    """Seconds of a node's row; ``links``: link efficiencies in place of those that `describe` finds."""
    shape, machine, total = shape_of(row), machine_of(cluster), 0.0
    scope = links_of(row)
    for op in LAUNCHES[row.protocol][row.op]:
        if links is None:
            stages = describe(row.protocol, op, scope, row.system, shape, machine, Context()).stages
        else:
            loan = find_protocol(row.protocol).lend
            assert loan is not None
            stages = (
                find_protocol(row.protocol)
                .ops[op]
                .describe(shape, machine, _linked(loan(row.system, op, scope).constants, links), Context())
            )
        total += float(np.sum(program_seconds(stages, shape, machine)))
    return total


def _linked(k: OwnMove, links: Mapping[str, float]) -> OwnMove:
    from dataclasses import replace

    return replace(k, **links)
