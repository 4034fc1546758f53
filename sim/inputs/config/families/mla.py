"""Families of multi-head latent attention: DeepSeek V2 to V4, Kimi K2, GLM-5, GLM-4.7-Flash, Mistral 4, LongCat-Flash."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ..feed_forward import SHARED, after_dense, experts, groups, placed
from ..keys import Keys
from ..mixers import Entry, by_kind, grouped, indexer, latent, layer_count, layer_types, tables

Facts = dict[str, Any]


def deepseek(keys: Keys) -> Facts:
    """DeepSeek V2, V3 and V3.2, Kimi K2, GLM-4.7-Flash, GLM-5, Mistral 4: dense layers first, then experts with shared ones."""
    layers = layer_count(keys)
    if not keys.flag("use_mla", default=True):
        keys.ignore("use_mla", "qk_nope_head_dim", "qk_rope_head_dim", "kv_lora_rank", "q_lora_rank", "v_head_dim")
        attention = [{"kind": "gqa", "layers": layers, **grouped(keys)}]
    else:
        attention = sparse(keys, layers, latent(keys))
    block = experts(keys, after_dense(keys, layers), shared=SHARED, **groups(keys))
    return {**tables(keys), "layers": layers, "attention": attention, **block}


def pangu(keys: Keys) -> Facts:
    """openPangu Ultra MoE: DeepSeek-V3's shape, as its first files and its later ones spell it."""
    layers = layer_count(keys)
    keys.ignore("num_key_value_heads", "sandwich_norm", "router_enable_expert_bias")
    own = {
        "kind": "mla",
        "heads": keys.count("num_attention_heads"),
        "kv_lora_rank": keys.count("kv_lora_rank", "attention_kv_lora_dim"),
        "rope_head_dim": keys.count("qk_rope_head_dim", "attention_qk_rope_dim"),
        "nope_head_dim": keys.count("qk_nope_head_dim", "attention_qk_dim"),
        "v_head_dim": keys.count("v_head_dim", "attention_v_dim"),
        "q_lora_rank": keys.optional("q_lora_rank", "attention_q_lora_dim"),
    }
    mask = after_dense(keys, layers, "first_k_dense_replace", "num_dense_layers")
    block = experts(keys, mask, count=("n_routed_experts", "num_routed_experts"), shared=SHARED, **groups(keys))
    return {**tables(keys), "layers": layers, "attention": [{**own, "layers": layers}], **block}


def lite(keys: Keys) -> Facts:
    """Of the same shape, with one dense layer first where no key says otherwise."""
    layers = layer_count(keys)
    mask = after_dense(keys, layers, "first_k_dense_replace", default=1)
    block = experts(keys, mask, shared=SHARED, **groups(keys))
    return {**tables(keys), "layers": layers, "attention": sparse(keys, layers, latent(keys)), **block}


def sparse(keys: Keys, layers: int, own: Entry) -> list[Entry]:
    """``own`` in every layer, with its indexer where the file has one: each layer's own, or an earlier one's by
    ``indexer_types``.
    """
    index = indexer(keys)
    keys.ignore("indexer_rope_interleave", "index_share_for_mtp_iteration", "use_index_cache")
    layer_types(keys, layers)
    if index is None:
        return [{**own, "layers": layers}]
    words = keys.words("indexer_types")
    step, offset = keys.count("index_topk_freq", default=1), keys.count("index_skip_topk_offset", default=1, low=0)
    pattern = keys.word("index_topk_pattern")
    if pattern is not None:
        words = [{"F": "full", "S": "shared"}.get(letter, letter) for letter in pattern]
    elif words is None:
        words = ["shared" if max(layer - offset + 1, 0) % step else "full" for layer in range(layers)]
    if len(words) < layers:
        keys.refuse("indexer_types", f"lists {len(words)} layers, the model has {layers}")
    kinds = {"full": {**own, "indexer": index}, "shared": {**own, "indexer": {**index, "shared": True}}}
    return by_kind(keys, words[:layers], kinds)


def deepseek_v4(keys: Keys) -> Facts:
    """DeepSeek-V4: compressed entries by layer, experts in every layer."""
    layers = layer_count(keys)
    heads = keys.count("num_attention_heads")
    keys.ignore(
        "num_key_value_heads",
        "num_hash_layers",
        "hc_mult",
        "hc_eps",
        "hc_sinkhorn_iters",
        "mlp_layer_types",
        "qk_nope_head_dim",
    )
    common = {
        "kind": "compressed",
        "heads": heads,
        "window": keys.count("sliding_window"),
        "head_dim": keys.count("head_dim"),
        "rope_head_dim": keys.count("qk_rope_head_dim"),
        "q_lora_rank": keys.count("q_lora_rank"),
        "o_groups": keys.count("o_groups"),
        "o_lora_rank": keys.count("o_lora_rank"),
    }
    ratios = keys.counts("compress_ratios")
    rates = keys.table("compress_rates")
    words = keys.words("layer_types")
    if ratios is None and words is not None and rates is not None:
        known = {"compressed_sparse_attention", "heavily_compressed_attention"}
        ratios = [rates.count(word) if word in known else 0 for word in words]
    elif ratios is None:
        keys.refuse("compress_ratios", "wanted the ratio of every layer, the file has none")
    if len(ratios) < layers:
        keys.refuse("compress_ratios", f"lists {len(ratios)} layers, num_hidden_layers says {layers}")
    index = indexer(keys)
    # The list may go on with the MTP layers. Only layers of ratio 4 select entries by their index.
    kinds = [
        {**common, "layers": count, "ratio": ratio or None, "indexer": index if ratio == 4 else None}
        for ratio, count in Counter(ratios[:layers]).items()
    ]
    block = experts(keys, [True] * layers, dense_width=(), shared=SHARED, **groups(keys))
    facts = {**tables(keys), "layers": layers, "attention": kinds, **block}
    return facts if rates is None else {**facts, "inside": (rates,)}


def longcat(keys: Keys) -> Facts:
    """LongCat-Flash: a layer has two attentions and two dense MLPs, and experts beside the second, some of which do nothing."""
    layers = layer_count(keys)
    real, nothing = keys.count("n_routed_experts"), keys.count("zero_expert_num", default=0, low=0)
    asked = keys.count("moe_topk", "num_experts_per_tok")
    keys.ignore("zero_expert_type", "mla_scale_q_lora", "mla_scale_kv_lora", "attention_method", "router_bias")
    mask = [layer % 2 == 1 for layer in range(2 * layers)]
    wide = keys.count("ffn_hidden_size", "intermediate_size")
    return {
        **tables(keys),
        "layers": 2 * layers,
        "attention": [{**latent(keys), "layers": 2 * layers}],
        "experts": real,
        "zero_experts": nothing,
        "top_k": max(1, round(asked * real / (real + nothing))),
        "moe_intermediate": keys.count("expert_ffn_hidden_size", "moe_intermediate_size"),
        "dense_intermediate": wide,
        "residual_intermediate": wide,
        **placed(mask),
    }


def mistral_params(keys: Keys) -> Facts:
    """Mistral's own ``params.json`` (Mistral Large 3): latent attention, experts in an object ``moe``."""
    layers, moe = layer_count(keys), keys.table("moe")
    if moe is None:
        keys.refuse("moe", "wanted an object with the experts, the file has none")
    own = {
        "kind": "mla",
        "heads": keys.count("n_heads"),
        "kv_lora_rank": keys.count("kv_lora_rank"),
        "rope_head_dim": keys.count("qk_rope_head_dim"),
        "nope_head_dim": keys.count("qk_nope_head_dim"),
        "v_head_dim": keys.count("v_head_dim"),
        "q_lora_rank": keys.optional("q_lora_rank"),
        "layers": layers,
    }
    keys.ignore("n_kv_heads", "head_dim", "yarn", "llama_4_scaling", "max_batch_size", "sliding_window", "vision_encoder")
    first, step = moe.count("first_k_dense_replace", default=0, low=0), moe.count("route_every_n", default=1)
    shared = moe.count("num_shared_experts", default=0, low=0)
    width = moe.count("expert_hidden_dim")
    moe.ignore("expert_model_parallel", "expert_parallel", "routed_scale", "use_gating_softmax", "use_sinkhorn")
    mask = [layer >= first and layer % step == 0 for layer in range(layers)]
    moe.ignore("num_expert_groups", "num_expert_groups_per_tok", "num_redundant_experts")
    return {
        **tables(keys),
        "layers": layers,
        "attention": [own],
        "experts": moe.count("num_experts"),
        "top_k": moe.count("num_experts_per_tok"),
        "moe_intermediate": width,
        "dense_intermediate": keys.count("hidden_dim") if not all(mask) else 0,
        "shared_experts": shared,
        "shared_intermediate": width if shared else 0,
        **placed(mask),
        "inside": (moe,),
    }
