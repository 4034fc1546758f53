"""Tokens to their experts and back in a model step: the closed form of the EP protocols, as parts.

Data-parallel attention leaves every token on the ``tp`` GPUs of one attention group; each takes its share of the group's
tokens to the experts. With ``dp == 1`` there is nothing to exchange.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ...hwmodels.calibration import Scope
from ...hwmodels.specs import Cluster
from ..ep.bound import program_bytes, program_seconds, stage_loads
from ..ep.machine import machine_of
from ..ep.protocol import Context, describe, find_protocol
from ..ep.shape import Rows, Shape
from ..ep.stage import Machine, Stage
from ..ep.transport import over
from ..fabric.tiers import slowdown
from ..inputs.model import MoeModel
from ..precision import PAYLOAD_BYTES
from .part import Num, Part
from .worker import EVEN, Arrangement, Precision, Skew

#: How the loads of a protocol's stages count in a step's terms.
_RESOURCE = {"nvlink": "nvlink", "nic": "nic", "nic_msg": "nic", "queue_pair": "nic", "host": "host", "hbm": "hbm"}


def exchange_parts(
    model: MoeModel,
    arrangement: Arrangement,
    tokens: Num,
    precision: Precision,
    cluster: Cluster,
    skew: Skew = EVEN,
    imbalance: Num = 1.0,
) -> Iterator[Part]:
    """One part for each op of the protocol; ``tokens`` are on one GPU. Zero seconds where an arrangement exchanges nothing.

    ``imbalance``: rows of the busiest rank over the mean under skewed routing; all wait for the fullest inbox (`inbox_share`).
    """
    ranks = np.asarray(arrangement.tp * arrangement.dp, float)
    needed = (np.asarray(arrangement.dp) > 1.0) & (np.asarray(tokens) > 0.0)
    domain_gpus = float(cluster.nvlink_domain_gpus)
    cluster = over(cluster, arrangement.protocol, arrangement.transport)
    machine = on_fabric(machine_of(cluster), cluster, ranks, arrangement.protocol)
    width = np.maximum(ranks, 2.0)
    skewed = inbox_share(arrangement.protocol, imbalance, float(model.top_k), width, domain_gpus)
    groups = np.maximum(width / domain_gpus, 1.0) if skew.groups is None else skew.groups
    shape = Shape(
        tokens=np.maximum(tokens, 1e-9) * skewed,
        hidden=float(model.expert_width),
        top_k=float(model.top_k),
        experts=model.experts + np.asarray(arrangement.redundant, float),
        ranks=width,
        domain=np.minimum(width, domain_gpus),
        payload_bytes=model.expert_width * PAYLOAD_BYTES[precision.payload],
        comm_sms=arrangement.comm_sms,
        routing=skew.routing,
        groups=groups,
        groups_kept=np.minimum(groups, skew.groups_kept or 4.0),
    )
    even = replace(shape, tokens=np.maximum(tokens, 1e-9))  # a GPU sends its own tokens, whoever is popular
    context = Context(gpus_per_node=float(cluster.node.gpus), fields=2.0 if precision.payload == "fp4" else 1.0)
    local = np.asarray(width <= domain_gpus)
    for op in find_protocol(arrangement.protocol).ops:
        mine = (op, arrangement.protocol, local, shape)
        seconds, loads, wire, source = _op(*mine, even, machine, cluster, context)
        waits: Num = 0.0
        if arrangement.overlap and not find_protocol(arrangement.protocol).on_comm_sms:
            waits = seconds - _op(*mine, even, _without_wire(machine), cluster, context)[0]
        yield Part(
            op.replace("_", " "),
            "communication",
            np.where(needed, seconds, 0.0),
            float(model.moe_layers),
            {name: np.where(needed, s, 0.0) for name, s in loads.items()},
            wire_bytes=np.where(needed, wire, 0.0),
            kernels=0.0,
            wire_wait_s=np.where(needed, waits, 0.0),
            source=source,
        )


def inbox_share(protocol: str, imbalance: Num, top_k: float, ranks: Num, domain_gpus: float) -> Num:
    """What the busiest receiver of an exchange gets over the mean one, where the busiest rank computes ``imbalance`` times the
    mean rows.

    A row for every (token, expert) is as much more as it computes. One for every token goes once to a receiver, which ``top_k``
    draws of share ``m / n`` reach with chance ``1 - (1 - m / n)^k``: a rank, or beyond an NVLink domain a node, whose other
    ranks are as busy as the mean. Collectives move the same whatever the router says.
    """
    rows = find_protocol(protocol).rows
    if np.all(np.asarray(imbalance) == 1.0) or rows is Rows.PAIR:
        return 1.0
    if rows is Rows.EXPERT:
        return imbalance
    inside = ranks <= domain_gpus
    receivers = np.where(inside, ranks, ranks / domain_gpus)
    share = np.where(inside, imbalance, 1.0 + (np.asarray(imbalance) - 1.0) / domain_gpus)
    reached = 1.0 - (1.0 - np.minimum(share / receivers, 1.0)) ** top_k
    return np.asarray(reached / (1.0 - (1.0 - 1.0 / receivers) ** top_k))


def on_fabric(machine: Machine, cluster: Cluster, ranks: Num, protocol: str) -> Machine:
    """The machine whose NIC is as fast as the fabric lets all nodes be at once."""
    slower = slowdown(cluster, ranks, on_rails=find_protocol(protocol).rails)
    return machine if np.all(slower == 1.0) else replace(machine, nic_bytes_per_s=machine.nic_bytes_per_s / slower)  # type: ignore[arg-type]


def _without_wire(machine: Machine) -> Machine:
    """The machine whose NIC takes no time for bytes and messages."""
    return replace(machine, nic_bytes_per_s=np.inf, nic_messages_per_s=np.inf, nic_message_s=0.0)


def _op(
    op: str,
    protocol: str,
    local: NDArray[np.bool_],
    shape: Shape,
    even: Shape,
    machine: Machine,
    cluster: Cluster,
    context: Context,
) -> tuple[Num, dict[str, Num], Num, str]:
    """Seconds, loads, bytes on wires and source of one op: one-node constants where all ranks share a domain, multi-node ones
    elsewhere. ``even``: the shape of a GPU that sends what the mean one does."""
    seconds: Num = 0.0
    wire: Num = 0.0
    loads: dict[str, Num] = {}
    sources = []
    for scope, here in _scopes(protocol, local):
        found = describe(protocol, op, scope, cluster.calibration, shape, machine, context)
        seconds = seconds + np.where(here, program_seconds(found.stages, shape, machine), 0.0)
        sent = program_bytes(found.stages, even)
        wire = wire + np.where(here, sent["nvlink"] + sent["rdma"], 0.0)
        for name, value in _loads(found.stages, shape, machine).items():
            loads[name] = loads.get(name, 0.0) + np.where(here, value, 0.0)
        fitted = f"by the fit of {found.lender} on" if found.lender else "fitted on"
        sources.append(f"{protocol} {op} ({scope}), {fitted} {found.calibrated_on}")
    return seconds, loads, wire, "; ".join(sources)


def _scopes(protocol: str, local: NDArray[np.bool_]) -> Iterator[tuple[Scope, bool | NDArray[np.bool_]]]:
    """Every scope that some candidates' exchange has, and which candidates'."""
    record = find_protocol(protocol)
    near, far = record.near, record.far
    if near == far or np.all(local):
        yield near, True
    elif not np.any(local):
        yield far, True
    else:
        yield near, local
        yield far, ~local


def _loads(stages: tuple[Stage, ...], shape: Shape, machine: Machine) -> dict[str, Num]:
    """Seconds by a step's resource: of every stage its latency, and its loads by what they use (SM copy loops: NVLink)."""
    total: dict[str, Num] = {"launch": 0.0}
    for stage in stages:
        total["launch"] = total["launch"] + stage.latency_s + stage.tail_s
        mine: dict[str, Num] = {}
        for name, seconds in stage_loads(stage, shape, machine).items():
            resource = _RESOURCE.get(name, "nvlink")
            mine[resource] = np.maximum(mine.get(resource, 0.0), seconds)
        for name, seconds in mine.items():
            total[name] = total.get(name, 0.0) + seconds
    return total
