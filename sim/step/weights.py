"""The weights and the KV cache of one pipeline stage, on each of its GPUs.

Tensor parallelism splits what has heads or columns and repeats the rest; the experts lie on their own ranks. Fields of the
`Arrangement` may be arrays.
"""

from __future__ import annotations

import numpy as np

from ..inputs.attention import Compressed, Gqa, Linear, Mla, Sliding
from ..inputs.model import MoeModel
from ..inputs.stored import KINDS
from ..precision import ELEMENT_BYTES
from .part import Num
from .worker import Arrangement, Precision

Layer = Mla | Gqa | Sliding | Linear | Compressed
#: Embeddings, LM head and router stay in bf16 in quantised checkpoints (DeepSeek-V3, gpt-oss, Kimi K2, MiniMax M2).
_BF16 = 2.0


def stage_weights(model: MoeModel, arrangement: Arrangement, precision: Precision, stage: int, mtp: int = 0) -> dict[str, Num]:
    """Bytes of weights on each GPU of pipeline stage ``stage`` (0 where the pipeline has no such stage), name -> bytes."""
    return stage_of(model, arrangement, precision, stage, mtp)[0]


def stage_of(model: MoeModel, a: Arrangement, precision: Precision, number: int, mtp: int) -> tuple[dict[str, Num], Num]:
    """Weights of one stage, and how many layers' cache it holds as a share of the model's.

    Stage s holds layers ``floor(L s / pp)`` to ``floor(L (s + 1) / pp)``; kinds of attention are spread evenly.
    """
    pp = np.asarray(a.pp, float)
    here = number < pp
    start = np.floor(model.layers * np.minimum(number, pp) / pp)
    stop = np.floor(model.layers * np.minimum(number + 1, pp) / pp)
    blocks = _blocks_before(model, stop) - _blocks_before(model, start)
    moe = _moe_before(model, stop) - _moe_before(model, start)
    dense = blocks - moe
    share = (stop - start) / model.layers
    first, last = here & (number == 0), here & (number == pp - 1)
    attention_bytes, dense_bytes, shared_bytes, expert_bytes, head_bytes = map(precision.weight_bytes, KINDS)
    attention = sum((kind.layers * _projection_params(kind, model.hidden, a.tp) for kind in model.attention), 0.0)
    slots = np.ceil((model.experts + a.redundant) / a.ep) if model.experts else 0.0
    routed = slots * model.expert_params / a.moe_tp
    table = model.vocab * model.hidden / a.tp
    head = table * (_BF16 if model.tied_embeddings else head_bytes)
    embeddings = (0.0 if model.tied_embeddings else table * _BF16) + model.lookup_params * _BF16 / a.tp
    draft: Num = 0.0
    if mtp and model.mtp_layers:
        block = attention / model.layers * attention_bytes + model.shared_params / a.tp * shared_bytes
        block = block + 2 * model.hidden**2 * dense_bytes + model.residual_params / a.tp * dense_bytes
        draft = model.mtp_layers * (block + routed * expert_bytes + model.router_params * _BF16)
    weights: dict[str, Num] = {
        "attention weights": attention * share * attention_bytes,
        "dense and shared MLP weights": (
            (model.dense_params * dense + model.residual_params * moe) * dense_bytes + model.shared_params * moe * shared_bytes
        )
        / a.tp,
        "routed expert weights": routed * moe * expert_bytes,
        "router weights": model.router_params * moe * _BF16,
        "embeddings and LM head": np.where(first, embeddings, 0.0)
        + np.where(last, head, np.where(first, head if model.tied_embeddings else 0.0, 0.0)),
        "MTP layers": np.where(last, draft, 0.0),
    }
    cached = share + np.where(last, model.mtp_layers / model.layers if mtp else 0.0, 0.0)
    return weights, cached


def _blocks_before(model: MoeModel, layer: Num) -> Num:
    """Feed-forward blocks among the first ``layer`` layers; layers without one are spread evenly."""
    return np.floor(layer * (1.0 - model.bare_layers / model.layers) + 1e-9)


def _moe_before(model: MoeModel, layer: Num) -> Num:
    """MoE layers among the first ``layer`` layers."""
    if model.experts == 0:
        return 0.0 * layer
    if model.moe_at:
        return np.asarray(np.searchsorted(np.asarray(model.moe_at), np.asarray(layer, float)), float)
    return np.floor(np.maximum(_blocks_before(model, layer) - model.first_dense_layers, 0.0) / model.moe_layer_step)


def _projection_params(kind: Layer, hidden: int, tp: Num) -> Num:
    """Weights of one layer's projections on one of ``tp`` GPUs: per head what can be split, whole what cannot."""
    whole, by_kv_head, kv_heads = unsplit_params(kind, hidden)
    split = kind.params(hidden) - whole - by_kv_head
    return whole + by_kv_head / np.minimum(tp, kv_heads) + split / tp


def unsplit_params(kind: Layer, hidden: int) -> tuple[float, float, float]:
    """Weights of one layer that tensor parallelism does not split freely: (replicated, of KV heads, number of those heads).

    MLA's down-projections, sparse-attention indexers and a single latent KV head are on every GPU (vLLM and SGLang's
    ReplicatedLinear); KV heads are split, and repeated when there are more GPUs than heads.
    """
    if isinstance(kind, Mla):
        down = hidden * (kind.kv_lora_rank + kind.rope_head_dim) + hidden * (kind.q_lora_rank or 0)
        return down + (kind.indexer.params(hidden, kind.q_lora_rank or hidden) if kind.indexer else 0), 0.0, 1.0
    if isinstance(kind, Compressed):
        heads = kind.heads * kind.head_dim
        per_head = heads * kind.q_lora_rank + heads * kind.o_lora_rank + kind.o_groups * kind.o_lora_rank * hidden
        return kind.params(hidden) - per_head, 0.0, 1.0
    if isinstance(kind, Linear):
        if kind.form in ("mamba", "conv"):
            return 0.0, 0.0, 1.0
        return 0.0, (hidden + kind.conv_kernel) * 2.0 * kind.key_heads * kind.key_dim, kind.key_heads
    return hidden * float(kind.q_rank or 0), kind.kv_params(hidden), kind.kv_heads


def cache_bytes(model: MoeModel, a: Arrangement, precision: Precision, context: Num, share: Num) -> tuple[Num, Num]:
    """Bytes on one GPU of one more token of context, and of a sequence of ``context`` tokens; ``share``: of the layers."""
    size = ELEMENT_BYTES[precision.kv]
    token: Num = 0.0
    whole: Num = 0.0
    for kind in model.attention:
        split = np.minimum(a.tp, kind.kv_heads) if isinstance(kind, Gqa | Sliding) else 1.0
        split = np.minimum(a.tp, kind.heads) if isinstance(kind, Linear) else split
        split = a.dcp if isinstance(kind, Mla) else split
        grown = kind.layers * kind.cache_bytes_per_token(size) / split * share
        token = token + grown
        whole = whole + grown * context + kind.layers * _constant(kind, context, size) / split * share
    return token, whole


def _constant(kind: Layer, context: Num, size: float) -> Num:
    """Bytes of one layer that stop growing: a window's, or a linear state."""
    if isinstance(kind, Linear):
        return kind.cache_bytes(0, size)
    if isinstance(kind, Sliding | Compressed):
        full = kind.cache_bytes(kind.window, size) - kind.cache_bytes_per_token(size) * kind.window
        return np.minimum(context, kind.window) / kind.window * full
    return 0.0
