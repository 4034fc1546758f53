"""What a rank's HBM holds under a protocol: weights, the protocol's buffers, and what is left for KV cache."""

from __future__ import annotations

from math import ceil

import numpy as np

from ...hwmodels.units import format_bytes
from ..ep import memory
from ..ep.protocols import elastic, high_throughput, one_sided
from ..inputs.question import Question, Unanswerable
from ..precision import WEIGHT_BYTES
from .program import LOW_LATENCY_TOKENS, Program, replayed
from .result import MemoryItem

#: CUDA context, NCCL/NVSHMEM heaps and workspaces that no formula here counts.
RUNTIME_BYTES = 3 * 2**30


def holdings(question: Question, program: Program) -> tuple[MemoryItem, ...]:
    """Items of one rank's HBM, the busiest rank's where they differ.

    Raises Unanswerable if they do not fit, saying by how much and what would help.
    """
    model, deployment = question.model, question.deployment
    slots = program.drawn.placement.slots_per_rank
    experts = ceil(slots * model.expert_params * WEIGHT_BYTES[deployment.weights] * model.moe_layers)
    rest = ceil((model.total_params - model.total_expert_params) * WEIGHT_BYTES[model.weight_dtype])
    items = [
        MemoryItem(
            "expert weights", experts, f"{slots} experts x {model.moe_layers} layers in {deployment.weights} ({model.name})"
        ),
        MemoryItem(
            "other weights",
            rest,
            f"attention, shared experts, embeddings, in {model.weight_dtype}, on every rank (data-parallel attention)",
        ),
        *_buffers(question, program),
        MemoryItem("runtime", RUNTIME_BYTES, "assumed: CUDA context, communication heaps, workspaces"),
    ]
    have = int(question.cluster.node.gpu.hbm_capacity)
    used = sum(item.bytes for item in items)
    if used > have:
        largest = max(items, key=lambda item: item.bytes)
        raise Unanswerable(
            ("deployment", "ep"),
            f"memory does not fit on {question.cluster.node.gpu.label}: "
            f"{program.protocol} needs {format_bytes(used, binary=True)}, "
            f"{format_bytes(used - have, binary=True)} more than its {format_bytes(have, binary=True)}; the largest part is "
            f"{largest.name} ({format_bytes(largest.bytes, binary=True)}): {_lever(largest.name, question)}",
        )
    return tuple(items)


def _buffers(question: Question, program: Program) -> list[MemoryItem]:
    model, deployment, shape = question.model, question.deployment, program.shape
    tokens, ranks = int(shape.tokens), program.layout.ranks
    drawn = program.drawn
    if program.protocol == "low-latency":
        capacity = deployment.max_tokens or max(LOW_LATENCY_TOKENS, tokens)
        size = memory.low_latency_buffer(capacity, model.hidden, model.experts + deployment.redundant_experts)
        return [
            MemoryItem("low-latency slabs", size, f"DeepEP layout for {capacity} tokens a rank, two halves (sim/ep/memory.py)")
        ]
    if program.protocol == "high-throughput":
        channels = deployment.comm_sms // 2
        received = int(drawn.rank_rows.sum(axis=0).max())
        two_hop = program.layout.nodes > 1
        row = float(np.asarray(high_throughput.dispatch_row_bytes(shape, two_hop)))
        items = [
            MemoryItem(
                "NVLink rings",
                memory.nvlink_rings(channels, program.layout.domain, program.layout.nodes, model.hidden),
                f"DeepEP layout, {channels} channels (sim/ep/memory.py)",
            ),
            MemoryItem(
                "RDMA rings",
                memory.rdma_rings(channels, program.layout.nodes, model.hidden),
                f"DeepEP layout, {channels} channels, {program.layout.nodes} nodes (sim/ep/memory.py)",
            ),
            MemoryItem("received rows", memory.exact_rows(received, row), f"exact, {received} rows on the busiest rank"),
        ]
        return [item for item in items if item.bytes]
    if program.protocol == "elastic":
        return _elastic_buffers(question, program)
    if program.protocol in ("one-sided", "two-sided"):
        rows = float(np.asarray(one_sided.dispatch_row_bytes(shape))), float(np.asarray(one_sided.combine_row_bytes(shape)))
        size = memory.one_sided_slots(tokens, ranks, *rows)
        return [
            MemoryItem("exchange slots", size, f"worst case, {tokens} tokens of each of {ranks} ranks, dispatch and combine")
        ]
    if program.protocol == "all-gather":
        size = ceil(tokens * ranks * (float(np.asarray(shape.payload_bytes)) + 2.0 * model.hidden))
        return [MemoryItem("gathered tokens", size, f"every token of {ranks} ranks, and the partial results to be summed")]
    from ..ep.protocols.collectives import padded_rows

    rows_per_pair = float(np.asarray(padded_rows(shape, deployment.capacity_factor)))
    size = ceil(rows_per_pair * ranks * (float(np.asarray(shape.payload_bytes)) + 2.0 * model.hidden))
    return [MemoryItem("padded slots", size, f"{rows_per_pair:.0f} rows for every pair of ranks, dispatch and combine")]


def _elastic_buffers(question: Question, program: Program) -> list[MemoryItem]:
    """Slots, and the rows that the second kernel orders: one a token and rank that came, once a host knows how many.

    Under CUDA graphs none does: one a token and local expert, as many as may come (csrc/elastic/buffer.hpp, expanded layout).
    """
    shape, layout = program.shape, program.layout
    tokens = int(shape.tokens)
    row = float(np.asarray(elastic.dispatch_row_bytes(shape)))
    back = float(np.asarray(elastic.combine_row_bytes(shape)))
    slots = memory.elastic_slots(tokens, layout.domain, layout.nodes, int(shape.top_k), row, back)
    most = min(int(shape.top_k), program.drawn.placement.slots_per_rank)
    rows, counted = tokens * layout.ranks * most, f"worst case, {tokens} tokens of {layout.ranks} ranks to {most} local experts"
    if not replayed(question, program.protocol):
        rows = int(program.drawn.rank_rows.sum(axis=0).max())
        counted = f"exact, {rows} rows on the busiest rank"
    return [
        MemoryItem("elastic slots", slots, f"DeepEP V2 layout, {tokens} tokens a rank, both ways in turn (sim/ep/memory.py)"),
        MemoryItem("ordered rows", memory.exact_rows(rows, row), counted),
    ]


def _lever(largest: str, question: Question) -> str:
    deployment = question.deployment
    if largest == "low-latency slabs":
        return "lower deployment.max_tokens, or use protocol=high-throughput"
    if largest in ("exchange slots", "gathered tokens", "padded slots", "received rows", "elastic slots", "ordered rows"):
        return "lower traffic.tokens_per_rank"
    narrower = {"bf16": "fp8", "fp8": "fp4"}.get(deployment.weights)
    wider = f"raise deployment.ep above {deployment.ep}"
    return wider + (f", or store the experts in {narrower}" if narrower and largest == "expert weights" else "")
