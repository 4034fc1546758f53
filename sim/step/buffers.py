"""What a step needs beside its weights on each GPU: the exchange's buffers and the activations that live at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ...hwmodels.specs import Cluster
from ..ep.buffer import Buffer, Demand, rectangle
from ..ep.protocol import find_protocol
from ..ep.shape import Shape
from ..inputs.attention import Compressed, Linear, Mla
from ..inputs.deployment import Deployment
from ..inputs.model import MoeModel
from ..precision import PAYLOAD_BYTES
from .part import Num
from .weights import Layer
from .worker import Arrangement, Precision

#: Slot size of the padded all-to-all over the rows a pair of ranks expects.
CAPACITY_FACTOR: float = Deployment.model_fields["capacity_factor"].default
#: Rows of a step whose logits are held at once: sequences that decode together at most (`inputs.serving.Worker.batch`).
SAMPLED_ROWS = 1024.0
_BF16 = 2.0


def exchange_buffers(
    model: MoeModel, a: Arrangement, precision: Precision, cluster: Cluster, tokens_per_step: Num
) -> Iterator[Buffer]:
    """The exchange's buffers; nothing is exchanged by a protocol where ``dp`` or ``ep`` is 1."""
    if model.experts == 0:
        return
    exchanged = (np.asarray(a.dp) > 1) & (np.asarray(a.ep) > 1)
    tokens, ranks = np.ceil(tokens_per_step * a.dp / a.ep), np.asarray(a.ep, float)
    shape = _shape(model, a, precision, tokens, np.minimum(cluster.nvlink_domain_gpus, ranks))
    need = Demand(
        shape=shape,
        tokens=tokens,
        slots=shape.experts / ranks,
        received=_received(shape),
        replayed=a.graphs,
        capacity_factor=CAPACITY_FACTOR,
        inter=float(model.moe_intermediate),
    )
    for buffer in find_protocol(a.protocol).buffers(need):
        yield replace(buffer, bytes=np.where(exchanged, buffer.bytes, 0.0))


def _received(shape: Shape) -> Num:
    """Rows on the busiest rank, expected, one per (token, distinct rank)."""
    return shape.busiest(shape.tokens * shape.ranks_reached, np.minimum(shape.ranks_reached / shape.ranks, 1.0))


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
        protocol = find_protocol(a.protocol)
        if protocol.packed:
            rows = np.where(exchanged, rectangle(np.maximum(on_rank, protocol.capacity or 0), ranks, slots, 1.0), rows)
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
