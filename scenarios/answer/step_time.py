"""A step's record for people: parts with their exposed time and bound, MFU and MBU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from ...hwmodels.specs import Cluster
from ...sim.ep.machine import machine_of
from ...sim.inputs.serving import Worker
from ...sim.inputs.serving_question import ServingQuestion
from ...sim.step.exchange import on_fabric
from ...sim.step.part import Part
from ...sim.step.step import Step
from ...sim.step.worker import Precision
from .evaluation import PartTime, StepTime

#: What a bound resource is called in a sentence.
BOUND_WORDS: Mapping[str, str] = {
    "tensor": "tensor throughput",
    "hbm": "HBM bandwidth",
    "nvlink": "NVLink",
    "nic": "the NIC",
    "pcie": "PCIe between GPU and NIC",
    "fabric": "the fabric's uplinks",
    "launch": "kernel launches and latencies",
    "host": "the engine's host",
}


def step_time(
    phase: Literal["decode", "prefill", "mixed"],
    step: Step,
    question: ServingQuestion,
    worker: Worker,
    precision: Precision,
    batch: float,
    cluster: Cluster | None = None,
) -> StepTime:
    """The step of one operating point; what its parts expose adds up to its time. ``cluster``: where, if not the question's.

    What overlap hides is taken from the shorter of communication and computing, and what that cannot hold from the other; where
    overlap costs more than it hides (SMs kept from the kernels), computing shows more than its own time.
    """
    cluster = cluster or question.cluster
    machine = machine_of(cluster)
    seconds, hidden = _one(step.seconds), _one(step.hidden_s)
    wire = sum(_one(p.step_seconds) for p in step.parts if p.group == "communication")
    work = sum(_one(p.step_seconds) for p in step.parts if p.group not in ("communication", "host"))
    shown = {True: 1.0, False: 1.0}  # what is exposed of communication, and of computing
    if hidden < 0.0:
        shown[False] = 1.0 - hidden / max(work, 1e-12)
    elif hidden > 0.0:
        shorter = wire <= work
        less, more = (wire, work) if shorter else (work, wire)
        shown[shorter] = max(0.0, 1.0 - hidden / max(less, 1e-12))
        shown[not shorter] = 1.0 - max(0.0, hidden - less) / max(more, 1e-12)
    wire_bound = _wire_bound(cluster, worker)
    parts = [_part(part, shown, wire_bound) for part in step.parts]
    stored = precision.experts if question.model.experts else precision.weights
    peak = machine.tensor_flops[stored if stored in machine.tensor_flops else "bf16"]  # what most products run in
    stages = float(worker.pp)
    bounds: dict[str, float] = {}
    for part in parts:
        bounds[part.bound] = bounds.get(part.bound, 0.0) + part.exposed_s
    return StepTime(
        phase,
        seconds,
        _one(step.tokens),
        batch,
        _one(step.flops) / stages / seconds / peak,
        _one(step.hbm_bytes) / stages / seconds / machine.hbm_bytes_per_s,
        max(bounds, key=lambda bound: bounds[bound]),
        tuple(part for part in parts if part.seconds > 0.0),
    )


def _wire_bound(cluster: Cluster, worker: Worker) -> str:
    """What an exchange over the NICs waits for: the NIC, the PCIe link that feeds it, or the fabric's uplinks."""
    machine = machine_of(cluster)
    if on_fabric(machine, cluster, worker.tp * worker.dp, worker.protocol).nic_bytes_per_s < machine.nic_bytes_per_s:
        return "fabric"
    share = cluster.node.nics / cluster.node.gpus
    return "pcie" if machine.nic_bytes_per_s < cluster.node.nic.bandwidth * share else "nic"


def _part(part: Part, shown: Mapping[bool, float], wire_bound: str) -> PartTime:
    seconds = _one(part.step_seconds)
    loads = {name: _one(load) for name, load in part.loads.items()}
    bound = max(loads, key=lambda name: loads[name]) if loads else "launch"
    if bound == "nic" and part.group == "communication" and "all-reduce" not in part.name:
        bound = wire_bound
    exposed = seconds if part.group == "host" else seconds * shown[part.group == "communication"]
    times = part.times
    return PartTime(
        part.name,
        part.group,
        seconds,
        exposed,
        bound,
        _one(part.flops) * times,
        _one(part.hbm_bytes) * times,
        _one(part.wire_bytes) * times,
        part.source,
    )


def _one(value: object) -> float:
    return float(np.asarray(value, float).ravel()[0])
