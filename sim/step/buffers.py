"""What a step needs beside its weights on each GPU: the exchange's buffers and the activations that live at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from ...hwmodels.specs import Cluster
from ..ep import memory
from ..ep.protocols import elastic, high_throughput, one_sided
from ..ep.protocols.collectives import padded_rows
from ..ep.shape import Shape
from ..inputs.attention import Compressed, Linear, Mla
from ..inputs.deployment import Deployment
from ..inputs.model import MoeModel
from ..precision import PAYLOAD_BYTES
from .part import Num
from .weights import Layer
from .worker import Arrangement, Precision

#: Least capacity of the low-latency slabs, as `ep.program` has it (whose import would bring the event engine along).
LOW_LATENCY_TOKENS = 128.0
#: Slot size of the padded all-to-all over the rows a pair of ranks expects.
CAPACITY_FACTOR: float = Deployment.model_fields["capacity_factor"].default
#: Rows of a step whose logits are held at once: sequences that decode together at most (`inputs.serving.Worker.batch`).
SAMPLED_ROWS = 1024.0
_BF16 = 2.0


def exchange_buffers(
    model: MoeModel, a: Arrangement, precision: Precision, cluster: Cluster, tokens_per_step: Num
) -> Iterator[tuple[str, Num]]:
    """The exchange's buffers; nothing is exchanged by a protocol where ``dp`` or ``ep`` is 1."""
    if model.experts == 0:
        return
    exchanged = (np.asarray(a.dp) > 1) & (np.asarray(a.ep) > 1)
    tokens, ranks = np.ceil(tokens_per_step * a.dp / a.ep), np.asarray(a.ep, float)
    domain = np.minimum(cluster.nvlink_domain_gpus, ranks)
    shape = _shape(model, a, precision, tokens, domain)
    slots = np.ceil((model.experts + a.redundant) / ranks) * ranks

    def kept(size: Num) -> Num:
        return np.where(exchanged, size, 0.0)

    if a.protocol == "low-latency":
        capacity = np.maximum(tokens, LOW_LATENCY_TOKENS)
        size = _each(lambda t, e: memory.low_latency_buffer(int(t), model.expert_width, int(e)), capacity, slots)
        yield "low-latency slabs", kept(size)
    elif a.protocol == "high-throughput":
        channels, nodes = np.floor(np.asarray(a.comm_sms) / 2.0), np.ceil(ranks / domain)
        nvlink = _each(lambda c, d, n: memory.nvlink_rings(int(c), int(d), int(n), model.expert_width), channels, domain, nodes)
        rdma = _each(lambda c, n: memory.rdma_rings(int(c), int(n), model.expert_width), channels, nodes)
        row: Num = np.where(
            nodes > 1, high_throughput.dispatch_row_bytes(shape, True), high_throughput.dispatch_row_bytes(shape, False)
        )
        yield "NVLink rings", kept(nvlink)
        yield "RDMA rings", kept(rdma)
        yield "received rows", kept(np.ceil(_received(shape)) * row)
    elif a.protocol == "elastic":
        row, back = elastic.dispatch_row_bytes(shape), elastic.combine_row_bytes(shape)
        slots_of = partial(_elastic_slots, model.top_k)
        yield "elastic slots", kept(_each(slots_of, tokens, domain, np.ceil(ranks / domain), row, back))
        # Under CUDA graphs no host waits for the counts: room for all that may come, a row for each local expert.
        worst = tokens * ranks * np.minimum(model.top_k, slots / ranks)
        yield "ordered rows", kept((worst if a.graphs else np.ceil(_received(shape))) * row)
    elif a.protocol in ("one-sided", "two-sided"):
        row = one_sided.dispatch_row_bytes(shape) + one_sided.combine_row_bytes(shape)
        yield "exchange slots", kept(np.ceil(tokens * ranks * row))
    elif a.protocol == "all-gather":
        yield "gathered tokens", kept(tokens * ranks * (shape.payload_bytes + _BF16 * model.expert_width))
    else:
        rows = padded_rows(shape, CAPACITY_FACTOR) * ranks
        yield "padded slots", kept(rows * (shape.payload_bytes + _BF16 * model.expert_width))


def _elastic_slots(top_k: int, tokens: float, domain: float, nodes: float, row: float, back: float) -> int:
    return memory.elastic_slots(int(tokens), int(domain), int(nodes), top_k, row, back)


def _received(shape: Shape) -> Num:
    """Rows on the busiest rank, expected, one per (token, distinct rank)."""
    reached = shape.distinct(shape.ranks)
    return shape.busiest(shape.tokens * reached, np.minimum(reached / shape.ranks, 1.0))


def activation_bytes(model: MoeModel, a: Arrangement, precision: Precision, tokens_per_step: Num) -> Num:
    """The largest step's tensors that live at once (bf16 unless a row travels narrower)."""
    tokens, hidden = np.asarray(tokens_per_step, float), model.hidden
    widest = max((_attention_width(kind) for kind in model.attention), default=0.0)
    attention = tokens * _BF16 * widest / a.tp
    dense_width = max(model.dense_intermediate, model.beside_width)
    mlp = tokens * _BF16 * 3.0 * dense_width / a.tp
    logits = np.minimum(tokens, SAMPLED_ROWS) * model.vocab / a.tp * (_BF16 + 4.0)
    experts: Num = 0.0
    if model.experts:
        ranks = np.asarray(a.ep, float)
        exchanged = (np.asarray(a.dp) > 1) & (ranks > 1)
        on_rank = np.ceil(tokens * a.dp / a.ep)
        slots = np.ceil((model.experts + a.redundant) / ranks)
        rows = on_rank * model.top_k  # every rank computes as many (token, expert) rows as its tokens ask for, on average
        if a.protocol == "low-latency":  # packed by expert into a rectangle that could hold every token of every rank
            rows = np.where(exchanged, slots * ranks * np.maximum(on_rank, LOW_LATENCY_TOKENS), rows)
        arrived = model.expert_width * np.where(exchanged, PAYLOAD_BYTES[precision.payload], _BF16)
        width = model.moe_intermediate / a.moe_tp
        experts = rows * np.maximum(arrived + 2 * _BF16 * width, _BF16 * width + _BF16 * model.expert_width)
    live = np.maximum(np.maximum(attention, mlp), np.maximum(experts, logits))
    total: Num = 2.0 * _BF16 * tokens * hidden + live
    return total


def _attention_width(kind: Layer) -> float:
    """Elements of one token's query, key, value and output over all heads."""
    if isinstance(kind, Mla):
        return kind.heads * (2.0 * (kind.nope_head_dim + kind.rope_head_dim) + 2.0 * kind.v_head_dim)
    if isinstance(kind, Linear):
        return kind.columns() + kind.inner
    if isinstance(kind, Compressed):
        return 2.0 * kind.heads * kind.head_dim
    return (2.0 * kind.heads + 2.0 * kind.kv_heads) * kind.mean_dim


def _shape(model: MoeModel, a: Arrangement, precision: Precision, tokens: Num, domain: Num) -> Shape:
    return Shape(
        tokens=np.maximum(tokens, 1.0),
        hidden=float(model.expert_width),
        top_k=float(model.top_k),
        experts=np.ceil((model.experts + np.asarray(a.redundant, float)) / a.ep) * a.ep,
        ranks=np.asarray(a.ep, float),
        domain=domain,
        payload_bytes=model.expert_width * PAYLOAD_BYTES[precision.payload],
        comm_sms=a.comm_sms,
    )


def _each(formula: Callable[..., int], *values: Num) -> Num:
    """``formula`` of scalars over broadcast arrays, computed once for every distinct combination."""
    columns = np.broadcast_arrays(*(np.asarray(v, float) for v in values))
    rows, back = np.unique(np.stack([c.ravel() for c in columns]), axis=1, return_inverse=True)
    sizes = np.array([float(formula(*row)) for row in rows.T])
    return sizes[back.ravel()].reshape(columns[0].shape)
