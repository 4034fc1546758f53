"""Decoders of one kind of layer, dense or with experts in every few layers: Llama, Qwen, Mixtral, OLMoE, Granite, Phi,
GLM-4.
"""

from __future__ import annotations

from typing import Any

from ..feed_forward import EXPERTS, SHARED, after_dense, agreed, dense, every_step, experts, groups
from ..keys import Keys
from ..mixers import by_kind, every, grouped, layer_count, layer_types, tables

Facts = dict[str, Any]


def attention(keys: Keys, layers: int, *, used: bool = True, **extra: Any) -> list[dict[str, Any]]:
    """Grouped-query attention, over a window where the file has one and ``used``; by layer where ``layer_types`` lists them."""
    own = grouped(keys, **extra)
    window = keys.optional("sliding_window", low=0) or None
    used = keys.flag("use_sliding_window", default=used) and window is not None
    step = keys.raw("sliding_window_pattern")
    if isinstance(step, str):  # a word of letters such as LLLG
        listed = layer_types(keys, layers, lambda i: "full_attention" if step[i % len(step)] == "G" else "sliding_attention")
    elif used and step is not None:
        listed = layer_types(keys, layers, every(keys.checked("sliding_window_pattern", step, 1, 1 << 16)))
    else:
        listed = layer_types(keys, layers, (lambda _: "sliding_attention") if used else None)
    kinds = {"full_attention": {"kind": "gqa", **own}}
    if window:
        kinds["sliding_attention"] = {"kind": "sliding", "window": window, **own}
    return by_kind(keys, listed, kinds)


def llama(keys: Keys) -> Facts:
    """Dense: Llama, Qwen2 and 3, Mistral, Phi-3, OLMo, Granite, Seed, SmolLM."""
    layers = layer_count(keys)
    return {**tables(keys), "layers": layers, "attention": attention(keys, layers), **dense(keys)}


def qwen_dense(keys: Keys) -> Facts:
    """Qwen2 and Qwen3: a window only where ``use_sliding_window`` says so."""
    layers = layer_count(keys)
    return {**tables(keys), "layers": layers, "attention": attention(keys, layers, used=False), **dense(keys)}


def mixtral(keys: Keys) -> Facts:
    """Experts of the plain width in every layer: Mixtral, MiniMax-M2, OLMoE, Phi-3.5-MoE, Granite MoE."""
    layers = layer_count(keys)
    block = experts(
        keys,
        [True] * layers,
        width=("intermediate_size", "moe_intermediate_size"),
        dense_width=(),
        shared_width=("shared_intermediate_size",),
    )
    return {**tables(keys), "layers": layers, "attention": attention(keys, layers), **block}


def qwen_moe(keys: Keys) -> Facts:
    """Qwen2-MoE, Qwen3-MoE, and their language models inside Qwen3-VL and Qwen3-Omni."""
    layers = layer_count(keys)
    shared = ("shared_expert_intermediate_size",) if keys.has("shared_expert_intermediate_size") else ()
    block = experts(keys, every_step(keys, layers), shared_width=shared)
    return {**tables(keys), "layers": layers, "attention": attention(keys, layers, used=False), **block}


def glm_moe(keys: Keys) -> Facts:
    """GLM-4.5 to 4.7, dots.llm1, Solar, Hunyuan 3: shared experts, a few dense layers first."""
    layers = layer_count(keys)
    block = experts(keys, after_dense(keys, layers), shared=SHARED, **groups(keys))
    return {**tables(keys), "layers": layers, "attention": attention(keys, layers, used=False), **block}


def hy_v3(keys: Keys) -> Facts:
    """Hunyuan 3: one dense layer first where neither key says otherwise."""
    layers = layer_count(keys)
    block = experts(
        keys,
        after_dense(keys, layers, "first_k_dense_replace", default=1),
        width=("moe_intermediate_size", "expert_hidden_dim"),
        shared=SHARED,
        **groups(keys),
    )
    return {**tables(keys), "layers": layers, "attention": attention(keys, layers), **block}


def bailing(keys: Keys) -> Facts:
    """Ling and Ring, versions 1 and 2: shared experts, dense layers first."""
    layers = layer_count(keys)
    block = experts(
        keys,
        after_dense(keys, layers),
        count=("num_experts",),
        shared=("num_shared_experts",),
        shared_width=("moe_shared_expert_intermediate_size",),
        **groups(keys),
    )
    keys.ignore("multi_gate", "head_bias", "embedding_dropout", "output_dropout", "norm_softmax")
    return {**tables(keys), "layers": layers, "attention": attention(keys, layers), **block}


def exaone_moe(keys: Keys) -> Facts:
    """K-EXAONE: windows by a word of letters, a few dense layers first."""
    layers = layer_count(keys)
    mask = keys.raw("is_moe_layer")
    if mask is not None:
        listed = [keys.flag("is_moe_layer")] * layers if isinstance(mask, bool) else [bool(x) for x in keys.raw("is_moe_layer")]
        keys.ignore("first_k_dense_replace")
        placing = agreed(keys, layers, listed[:layers])
    else:
        placing = after_dense(keys, layers)
    block = experts(keys, placing, shared=SHARED, **groups(keys))
    return {**tables(keys), "layers": layers, "attention": attention(keys, layers), **block}


def ernie(keys: Keys) -> Facts:
    """ERNIE-4.5: MoE layers from a first to a last one, every so many; shared experts as wide as routed ones."""
    layers = layer_count(keys)
    first = keys.level("moe_layer_start_index", default=0, low=0)
    last = keys.level("moe_layer_end_index", default=layers - 1, low=0)
    step = keys.count("moe_layer_interval", default=1)
    said = [first <= layer <= last and (layer + 1) % step == 0 for layer in range(layers)]
    block = experts(
        keys,
        agreed(keys, layers, said),
        count=("moe_num_experts",),
        top_k=("moe_k",),
        shared=("moe_num_shared_experts",),
    )
    return {**tables(keys, tied=True), "layers": layers, "attention": attention(keys, layers), **block}


def hunyuan(keys: Keys) -> Facts:
    """Hunyuan-A13B and Hunyuan-Large, which shares the cache of a layer with the next ones (``use_cla``)."""
    layers = layer_count(keys)
    block = experts(
        keys,
        [True] * layers,
        count=("num_experts",),
        top_k=("moe_topk",),
        width=("moe_intermediate_size",) if keys.has("moe_intermediate_size") else ("intermediate_size",),
        dense_width=("intermediate_size",),
        shared=("num_shared_expert",) if keys.flag("use_mixed_mlp_moe", default=keys.has("num_shared_expert")) else (),
    )
    keys.ignore("num_shared_expert", "moe_layer_num_skipped", "num_media_embeds", "dense_list")
    own = grouped(keys)
    share = keys.count("cla_share_factor", default=1)
    if not keys.flag("use_cla") or share == 1:
        kinds = [{"kind": "gqa", "layers": layers, **own}]
    else:
        owners = -(-layers // share)
        kinds = [{"kind": "gqa", "layers": owners, **own}, {"kind": "gqa", "layers": layers - owners, "own_kv": False, **own}]
    return {**tables(keys), "layers": layers, "attention": kinds, **block}


def dbrx(keys: Keys) -> Facts:
    """DBRX: attention and experts in objects of their own."""
    layers = layer_count(keys)
    inside, block = keys.table("attn_config"), keys.table("ffn_config")
    if inside is None or block is None:
        keys.refuse("attn_config" if inside is None else "ffn_config", "wanted an object, the file has none")
    heads = keys.count("n_heads", "num_attention_heads")
    hidden = keys.count("d_model", "hidden_size")
    kv_heads = inside.count("kv_n_heads", default=1)
    if keys.optional("num_key_value_heads") not in (None, kv_heads):
        keys.refuse("num_key_value_heads", f"disagrees with attn_config, {kv_heads}")
    return {
        **tables(keys),
        "layers": layers,
        "attention": [{"kind": "gqa", "layers": layers, "heads": heads, "kv_heads": kv_heads, "head_dim": hidden // heads}],
        "experts": block.count("moe_num_experts"),
        "top_k": block.count("moe_top_k"),
        "moe_intermediate": block.count("ffn_hidden_size"),
        "inside": (inside, _without(block, "hidden_size", "moe_jitter_eps", "moe_normalize_expert_weights", "moe_loss_weight")),
    }


def _without(keys: Keys, *names: str) -> Keys:
    keys.ignore(*names)
    return keys


def grok(keys: Keys) -> Facts:
    """Grok-1 and Grok-2, whose experts have a dense MLP beside them (``residual_moe``)."""
    layers = layer_count(keys)
    residual = keys.flag("residual_moe")
    wide = keys.count("intermediate_size")
    own = keys.optional("moe_intermediate_size")
    block = experts(
        keys,
        [True] * layers,
        count=EXPERTS,
        width=("moe_intermediate_size",) if own else ("intermediate_size",),
        dense_width=(),
    )
    if residual:
        block["residual_intermediate"] = wide
    keys.ignore("sequence_parallel", "attn_temperature_len", "attn_logit_softcapping_method", "mlp_only_layers", "max_attn_val")
    return {**tables(keys, tied=not residual), "layers": layers, "attention": attention(keys, layers), **block}


def arctic(keys: Keys) -> Facts:
    """Snowflake Arctic: experts in every so many layers, beside a dense MLP as wide as the model."""
    layers = layer_count(keys)
    step = keys.count("moe_layer_frequency", default=2)
    block = experts(
        keys,
        [(layer + 1) % step == 0 for layer in range(layers)],
        width=("intermediate_size",),
        dense_width=("intermediate_size",),
    )
    if keys.flag("use_residual"):
        block["residual_intermediate"] = keys.count("hidden_size")
    keys.ignore("parallel_attn_mlp_res", "moe_min_capacity", "moe_token_dropping", "moe_eval_capacity_factor")
    keys.ignore("moe_train_capacity_factor", "enable_expert_tensor_parallelism", "quantization")
    return {**tables(keys), "layers": layers, "attention": attention(keys, layers), **block}
