"""What a rank's HBM holds under a protocol: weights, the protocol's buffers, and what is left for KV cache."""

from __future__ import annotations

from math import ceil

import numpy as np

from ...hwmodels.units import format_bytes
from ..ep.buffer import Buffer, Demand, MemoryItem
from ..inputs.question import Question, Unanswerable
from ..precision import WEIGHT_BYTES
from .program import Program, replayed

#: CUDA context, NCCL/NVSHMEM heaps and workspaces that no formula here counts.
RUNTIME_BYTES = 3 * 2**30


def holdings(question: Question, program: Program) -> tuple[MemoryItem, ...]:
    """Items of one rank's HBM, the busiest rank's where they differ; without the model's weights where a layer is asked alone.

    Raises Unanswerable if they do not fit, saying by how much and what would help.
    """
    model, deployment = question.model, question.deployment
    slots = program.drawn.placement.slots_per_rank
    experts = ceil(slots * model.expert_params * WEIGHT_BYTES[deployment.weights] * model.moe_layers)
    buffers = list(program.protocol.buffers(_demand(question, program)))
    rest = ceil((model.total_params - model.total_expert_params) * WEIGHT_BYTES[model.weight_dtype])
    weights = [
        MemoryItem(
            "expert weights", experts, f"{slots} experts x {model.moe_layers} layers in {deployment.weights} ({model.name})"
        ),
        MemoryItem(
            "other weights",
            rest,
            f"attention, shared experts, embeddings, in {model.weight_dtype}, on every rank (data-parallel attention)",
        ),
    ]
    items = [
        *(weights if question.memory == "check" else ()),
        *(MemoryItem(b.name, ceil(size), b.said) for b in buffers if (size := float(np.asarray(b.bytes))) > 0.0),
        MemoryItem("runtime", RUNTIME_BYTES, "assumed: CUDA context, communication heaps, workspaces"),
    ]
    have = int(question.cluster.node.gpu.hbm_capacity)
    used = sum(item.bytes for item in items)
    if used > have:
        largest = max(items, key=lambda item: item.bytes)
        raise Unanswerable(
            ("deployment", "ep"),
            f"memory does not fit on {question.cluster.node.gpu.label}: "
            f"{program.protocol.name} needs {format_bytes(used, binary=True)}, "
            f"{format_bytes(used - have, binary=True)} more than its {format_bytes(have, binary=True)}; the largest part is "
            f"{largest.name} ({format_bytes(largest.bytes, binary=True)}): {_lever(question, largest.name, buffers)}"
            f"{', or ask for the layer alone (memory=ignore)' if largest in weights else ''}",
        )
    return tuple(items)


def _demand(question: Question, program: Program) -> Demand:
    """What the drawn routing asks of the buffers, on the busiest rank."""
    return Demand(
        shape=program.shape,
        tokens=program.shape.tokens,
        slots=program.drawn.placement.slots_per_rank,
        received=float(program.drawn.rank_rows.sum(axis=0).max()),
        replayed=replayed(question, program.protocol),
        max_tokens=question.deployment.max_tokens,
        capacity_factor=question.deployment.capacity_factor,
        inter=float(question.model.moe_intermediate),
    )


def _lever(question: Question, largest: str, buffers: list[Buffer]) -> str:
    """What would make the largest part smaller."""
    for buffer in buffers:
        if buffer.name == largest and buffer.lever:
            return buffer.lever
    deployment = question.deployment
    narrower = {"bf16": "fp8", "fp8": "fp4"}.get(deployment.weights)
    wider = f"raise deployment.ep above {deployment.ep}"
    return wider + (f", or store the experts in {narrower}" if narrower and largest == "expert weights" else "")
