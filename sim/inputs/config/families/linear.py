"""Families of linear attention: MiniMax-Text-01 and M1 (lightning), Kimi-Linear (KDA), Ling 2.5 and 3."""

from __future__ import annotations

from typing import Any

from ..feed_forward import SHARED, after_dense, experts, groups
from ..keys import Keys
from ..mixers import Entry, by_kind, grouped, head_dim_of, heads_of, latent, layer_count, layer_types, tables

Facts = dict[str, Any]


def lightning(heads: int, head_dim: int) -> Entry:
    """Lightning attention: queries, keys and values of all heads, an output gate, no convolution."""
    state = {"heads": heads, "key_heads": heads, "key_dim": head_dim, "value_dim": head_dim, "conv_kernel": 1}
    return {"kind": "linear", "form": "lightning", **state}


def minimax(keys: Keys) -> Facts:
    """MiniMax-Text-01 and M1: lightning attention but for the layers that ``attn_type_list`` marks 1."""
    layers = layer_count(keys)
    listed01 = keys.counts("attn_type_list")
    if listed01 is not None and len(listed01) < layers:
        keys.refuse("attn_type_list", f"lists {len(listed01)} layers, the model has {layers}")
    said = None if listed01 is None else ["full_attention" if x else "linear_attention" for x in listed01]
    if said is None and not keys.has("layer_types"):
        keys.refuse("attn_type_list", "wanted the kind of every layer (1: full attention), the file has none")
    listed = layer_types(keys, layers, None if said is None else lambda i: said[i])
    own = grouped(keys)
    kinds = {"full_attention": {"kind": "gqa", **own}, "linear_attention": lightning(own["heads"], own["head_dim"])}
    wide = keys.count("shared_intermediate_size", default=0, low=0)
    block = experts(
        keys,
        [True] * layers,
        width=("intermediate_size", "moe_intermediate_size"),
        dense_width=(),
        shared_width=("shared_intermediate_size",) if wide else (),
    )
    keys.ignore("postnorm", "shared_moe_mode", "block_size", "sliding_window", "use_mtp_head")
    for kind in ("full", "linear", "mlp", "attn"):
        for name in ("alpha", "beta"):
            keys.ignore(f"layernorm_{kind}_attention_{name}", f"layernorm_{kind}_{name}", f"{kind}_attn_{name}_factor")
            keys.ignore(f"{kind}_{name}_factor")
    return {**tables(keys), "layers": layers, "attention": by_kind(keys, listed, kinds), **block}


def kimi_linear(keys: Keys) -> Facts:
    """Kimi-Linear and Kimi-K3: Kimi delta attention, latent attention in every fourth layer; K3's experts are narrower."""
    layers = layer_count(keys)
    inside = keys.table("linear_attn_config")
    if inside is not None:
        full = set(inside.counts("full_attn_layers", low=1) or [])
        delta = set(inside.counts("kda_layers", low=1) or [])
        if full & delta or full | delta != set(range(1, layers + 1)):
            inside.refuse("kda_layers", f"with full_attn_layers it must list every layer from 1 to {layers} once")
        listed = layer_types(keys, layers, lambda i: "full_attention" if i + 1 in full else "linear_attention")
        heads, width = inside.count("num_heads"), inside.count("head_dim")
        kernel = inside.count("short_conv_kernel_size")
        whole = inside.flag("use_full_rank_gate")
        inside.ignore("gate_lower_bound")
    else:
        if not keys.has("layer_types"):
            keys.refuse("linear_attn_config", "wanted an object with the layers of each kind, the file has none")
        listed = layer_types(keys, layers)
        heads, width = keys.count("linear_num_heads"), keys.count("linear_head_dim")
        kernel = keys.count("linear_conv_kernel_dim", default=4)
        whole = keys.flag("use_full_rank_gate")
    mixer = {**kda(heads, width, kernel, rank=width), "full_gate": whole}
    kinds = {"full_attention": latent(keys, gated=keys.flag("mla_use_output_gate")), "linear_attention": mixer}
    mask = after_dense(keys, layers, "first_k_dense_replace", default=1)
    narrow = keys.count("routed_expert_hidden_size", default=0, low=0)
    block = experts(keys, mask, count=("num_experts",), shared=SHARED, moe_latent=narrow, **groups(keys))
    # Attention residuals mix the outputs of earlier blocks by one vector a layer.
    keys.ignore("use_grouped_topk", "attn_res_block_size", "latent_moe_use_norm")
    facts = {**tables(keys), "layers": layers, "attention": by_kind(keys, listed, kinds), **block}
    return facts if inside is None else {**facts, "inside": (inside,)}


def kda(heads: int, width: int, kernel: int, rank: int) -> Entry:
    """Kimi delta attention: keys and values of every head, gates through ``rank`` (0: whole projections)."""
    state = {"heads": heads, "key_heads": heads, "key_dim": width, "value_dim": width, "conv_kernel": kernel, "rank": rank}
    return {"kind": "linear", "form": "kda", **state}


def bailing_hybrid(keys: Keys) -> Facts:
    """Ling and Ring with linear attention: 2.0 (lightning and grouped), 2.5 (lightning and latent), 3 (KDA and latent)."""
    layers = layer_count(keys)
    step = keys.count("layer_group_size", default=6)
    whole = layers // step * step  # what is left over at the end is full attention (modeling_bailing_moe_linear)
    third = keys.has("short_conv_kernel_size", "linear_conv_kernel_dim")

    def kind(layer: int) -> str:
        full = (layer + 1) % step == 0 or (layer >= whole and not third)
        return "full_attention" if full else "linear_attention"

    listed = layer_types(keys, layers, kind)
    heads = heads_of(keys)
    if third:
        kernel = keys.count("short_conv_kernel_size", "linear_conv_kernel_dim")
        width = keys.optional("linear_head_dim") or head_dim_of(keys, heads)
        count = keys.count("linear_num_heads", default=heads)
        linear = kda(count, width, kernel, 0 if keys.flag("no_kda_lora", default=True) else width)
    else:
        linear = lightning(heads, head_dim_of(keys, heads))
    own = latent(keys, head_gated=third) if keys.has("kv_lora_rank") else {"kind": "gqa", **grouped(keys)}
    block = experts(
        keys,
        after_dense(keys, layers, "first_k_dense_replace"),
        count=("num_experts",),
        shared=SHARED,
        shared_width=("moe_shared_expert_intermediate_size",),
        **groups(keys),
    )
    keys.ignore("kda_safe_gate", "kda_lower_bound", "gated_attention_proj_granularity_type", "group_norm_size", "linear_silu")
    keys.ignore("num_kv_heads_for_linear_attn", "expert_swiglu_limit_list", "use_linear_gqa", "linear_scale", "linear_rope")
    keys.ignore("head_bias", "multi_gate", "num_key_value_heads", "head_dim", "linear_mode", "shared_expert_swiglu_limit_list")
    keys.ignore("moe_router_enable_shared_expert", "rope_traditional", "norm_head")
    attention = by_kind(keys, listed, {"full_attention": own, "linear_attention": linear})
    return {**tables(keys), "layers": layers, "attention": attention, **block}
