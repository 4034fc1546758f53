"""Which protocol has which ops, and how each op is described: the one place that lists them.

A new protocol is a file beside `low_latency` and a row here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, Protocol

import numpy as np

from ...hwmodels.calibration import Entry, Scope, constants_of, find_entry, load_calibration
from ...hwmodels.catalog import load_cluster
from .protocols import collectives, elastic, high_throughput, low_latency, one_sided
from .shape import Num, Path, Shape
from .stage import Machine, Stage


class Describe(Protocol):
    """From a shape, a machine and an op's constants to its stages. ``gpus_per_node`` and ``fields`` as `Context`."""

    def __call__(self, shape: Shape, machine: Machine, constants: Any, context: Context) -> tuple[Stage, ...]: ...


@dataclass(frozen=True, slots=True)
class Context:
    """What a few protocols need beyond the shape: GPUs of one server, separate wire fields of a row (fp4: values and
    scales), slot size of a padded all-to-all."""

    gpus_per_node: Num = 8.0
    fields: Num = 1.0
    capacity_factor: Num = 1.0


@dataclass(frozen=True, slots=True)
class Op:
    """One kernel (or kernel pair) of a protocol: the record of its constants and its description."""

    constants: type
    describe: Describe


def _elastic(op: str, shape: Shape, machine: Machine, k: Any, context: Context) -> tuple[Stage, ...]:
    return elastic.transfer(shape, machine, k, op)


def _transfer(op: str, shape: Shape, machine: Machine, k: Any, context: Context) -> tuple[Stage, ...]:
    return high_throughput.transfer(shape, machine, k, op)


def _notify(op: str, shape: Shape, machine: Machine, k: Any, context: Context) -> tuple[Stage, ...]:
    return high_throughput.notify(shape, machine, k, op)


def _one_sided(op: str, shape: Shape, machine: Machine, k: Any, context: Context) -> tuple[Stage, ...]:
    return one_sided.transfer(shape, machine, k, op, gpus_per_node=context.gpus_per_node, fields=context.fields)


def _all_gather(op: str, shape: Shape, machine: Machine, k: Any, context: Context) -> tuple[Stage, ...]:
    return collectives.all_gather(shape, machine, k, op)


def _padded(op: str, shape: Shape, machine: Machine, k: Any, context: Context) -> tuple[Stage, ...]:
    return collectives.padded_all_to_all(shape, machine, k, op, context.capacity_factor)


PROTOCOLS: dict[str, dict[str, Op]] = {
    "high-throughput": {
        "dispatch_notify": Op(high_throughput.Notify, partial(_notify, "dispatch_notify")),
        "dispatch": Op(high_throughput.Transfer, partial(_transfer, "dispatch")),
        "combine_notify": Op(high_throughput.Notify, partial(_notify, "combine_notify")),
        "combine": Op(high_throughput.Transfer, partial(_transfer, "combine")),
    },
    "elastic": {
        "dispatch": Op(elastic.Constants, partial(_elastic, "dispatch")),
        "combine": Op(elastic.Constants, partial(_elastic, "combine")),
    },
    "low-latency": {
        "dispatch": Op(
            low_latency.Constants, lambda shape, machine, constants, context: low_latency.dispatch(shape, machine, constants)
        ),
        "combine": Op(
            low_latency.Constants, lambda shape, machine, constants, context: low_latency.combine(shape, machine, constants)
        ),
    },
    "one-sided": {
        "dispatch": Op(one_sided.Constants, partial(_one_sided, "dispatch")),
        "combine": Op(one_sided.Constants, partial(_one_sided, "combine")),
    },
    "two-sided": {
        "prepare": Op(one_sided.Constants, lambda shape, machine, constants, context: one_sided.prepare(shape, constants)),
        "dispatch": Op(one_sided.Constants, partial(_one_sided, "dispatch")),
        "combine": Op(one_sided.Constants, partial(_one_sided, "combine")),
    },
    "all-gather": {
        "dispatch": Op(collectives.Constants, partial(_all_gather, "dispatch")),
        "combine": Op(collectives.Constants, partial(_all_gather, "combine")),
    },
    "padded-all-to-all": {
        "dispatch": Op(collectives.Constants, partial(_padded, "dispatch")),
        "combine": Op(collectives.Constants, partial(_padded, "combine")),
    },
}


@dataclass(frozen=True, slots=True)
class Described:
    """An op's stages on a calibrated system, and where its constants came from.

    ``lender``: the other protocol whose kernels were measured, where nobody measured this one's.
    """

    stages: tuple[Stage, ...]
    calibrated_on: str
    entry: Any
    lender: str = ""


def scope_of(protocol: str, one_domain: bool) -> Scope:
    """Which measurements describe an exchange: of one NVLink domain, of one node, or, beyond ``one_domain``, of several."""
    if protocol in ("one-sided", "two-sided"):
        return "nvlink-domain"
    if protocol in ("all-gather", "padded-all-to-all"):
        return "one-node"
    return "one-node" if one_domain else "multi-node"


def describe(protocol: str, op: str, scope: Scope, system: str, shape: Shape, machine: Machine, context: Context) -> Described:
    """The stages of ``op`` with ``system``'s constants (or its nearest relative's). Raises BadInput if nobody measured it."""
    kernel = PROTOCOLS[protocol][op]
    # The count exchange was timed across nodes only; on one node its per-doubling terms vanish.
    measured: Scope = "multi-node" if kernel.constants is high_throughput.Notify else scope
    lender = ""
    if kernel.constants is elastic.Constants:
        constants, entry, source = _lent(system, op, scope)
        lender = "high-throughput" if scope == "multi-node" else "one-sided"
    else:
        entry, source = find_entry(system, protocol, op, measured)
        constants = constants_of(entry, kernel.constants)
    stages = kernel.describe(shape, machine, constants, context)
    reference = _nic_latency(load_calibration(source).cluster)
    return Described(tuple(_other_wire(s, machine.wire_latency_s - reference) for s in stages), source, entry, lender)


@cache
def _nic_latency(cluster: str) -> float:
    return load_cluster(cluster).node.nic.latency


def _lent(system: str, op: str, scope: Scope) -> tuple[elastic.Constants, Entry, str]:
    """What the elastic protocol borrows on ``system``, the entry that weighs most in it, and whose that is."""
    entry, source = find_entry(system, "one-sided", op, "nvlink-domain")
    near, far = constants_of(entry, one_sided.Constants), None
    if scope == "multi-node":
        entry, source = find_entry(system, "high-throughput", op, scope)
        far = constants_of(entry, high_throughput.Transfer)
    return elastic.Constants(near, far), entry, source


def _other_wire(stage: Stage, extra_s: float) -> Stage:
    """The stage on a NIC whose one-way latency differs by ``extra_s`` from the one its launch was fitted with."""
    if extra_s == 0.0 or not any(move.path in (Path.RDMA, Path.RAIL) for move in stage.moves):
        return stage
    more = np.maximum(extra_s * stage.crossings, -np.asarray(stage.latency_s))
    return replace(stage, latencies=(*stage.latencies, ("NIC latency against the calibrated NIC", more)))
