"""Families that gate what leaves attention, by head or by value: Laguna, Beam, Muse Spark, Hunyuan 4; Lara with its nets."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ..feed_forward import SHARED, agreed, experts, groups
from ..keys import Keys
from ..mixers import Entry, by_kind, delta_net, divide, grouped, latent, layer_count, layer_types, tables
from .mla import sparse
from .windows import windowed

Facts = dict[str, Any]


def laguna(keys: Keys) -> Facts:
    """Laguna: query heads layer by layer over the same KV heads, a gate a head or a value, a shared expert."""
    layers, own = layer_count(keys), grouped(keys)
    said = keys.raw("gating")
    if said not in (True, "per-head", "per-value", "per-channel", "elementwise"):
        keys.refuse("gating", f"wanted true, per-head or elementwise, got {said!r}")
    own |= {"head_gated": True} if said in (True, "per-head") else {"gated": True}
    heads = keys.counts("num_attention_heads_per_layer", low=1) or [own["heads"]] * layers
    if len(heads) < layers:
        keys.refuse("num_attention_heads_per_layer", f"lists {len(heads)} layers, the model has {layers}")
    window = keys.optional("sliding_window", low=0) or None
    attention: list[Entry] = []
    for (word, count), number in Counter(zip(layer_types(keys, layers), heads[:layers], strict=True)).items():
        divide(keys, count, own["kv_heads"], "num_attention_heads_per_layer")
        (kind,) = windowed(keys, [word], window, {**own, "heads": count})
        attention.append({**kind, "layers": number})
    keys.ignore("moe_apply_router_weight_on_input", "moe_router_logit_softcapping", "swa_attention_sink_enabled")
    only = keys.counts("mlp_only_layers") or []
    block = experts(
        keys,
        agreed(keys, layers, [layer not in only for layer in range(layers)]),
        shared_width=("shared_expert_intermediate_size",),
    )
    return {**tables(keys), "layers": layers, "attention": attention, **block}


def beam(keys: Keys) -> Facts:
    """Beam: windows by layer, a gate for every value, dense layers first, no shared experts."""
    layers, own = layer_count(keys), grouped(keys, gated=True)
    attention = windowed(keys, layer_types(keys, layers), keys.count("sliding_window"), own)
    block = experts(keys, agreed(keys, layers, [True] * layers), **groups(keys))
    return {**tables(keys), "layers": layers, "attention": attention, **block}


def muse_spark(keys: Keys) -> Facts:
    """Muse Spark: windows by layer, a gate for every value, experts that work on a narrower stream."""
    layers, own = layer_count(keys), grouped(keys, gated=True)
    attention = windowed(keys, layer_types(keys, layers), keys.count("sliding_window"), own)
    keys.ignore("residual_gate_temperature", "output_multiplier", "qk_scale_factor")
    narrow = keys.count("moe_hidden_size", default=0, low=0)
    block = experts(keys, agreed(keys, layers, [True] * layers), moe_latent=narrow)
    return {**tables(keys), "layers": layers, "attention": attention, **block}


def hunyuan4(keys: Keys) -> Facts:
    """Hunyuan 4: latent attention over chosen tokens, a gate for every value, hyper-connections of no size to speak of."""
    layers = layer_count(keys)
    keys.ignore("hc_mult", "hc_eps", "hc_magnitude", "hc_sinkhorn_iters")
    attention = sparse(keys, layers, latent(keys, gated=True))
    block = experts(keys, agreed(keys, layers, [layer > 0 for layer in range(layers)]), shared=SHARED, **groups(keys))
    return {**tables(keys), "layers": layers, "attention": attention, **block}


def lara(keys: Keys) -> Facts:
    """Lara mini: gated delta nets, windows and whole contexts by layer, experts everywhere beside a shared one."""
    layers, own = layer_count(keys), grouped(keys)
    kinds: dict[str, Entry] = {
        "full_attention": {"kind": "gqa", **own},
        "sliding_attention": {"kind": "sliding", "window": keys.count("sliding_window"), **own},
        "linear_attention": delta_net(keys),
    }
    block = experts(keys, [True] * layers, shared_width=("shared_expert_intermediate_size",))
    return {**tables(keys), "layers": layers, "attention": by_kind(keys, layer_types(keys, layers), kinds), **block}
