"""Decoders of one kind of layer, dense or with experts in every few layers: Llama, Qwen, Mixtral, OLMoE, Granite, Phi,
GLM-4.
"""

from __future__ import annotations

from typing import Any

from ..document import shown
from ..feed_forward import EXPERTS, SHARED, after_dense, agreed, dense, every_step, experts, groups
from ..keys import Keys
from ..mixers import by_kind, every, grouped, layer_count, layer_types, longest, tables

Facts = dict[str, Any]


def attention(keys: Keys, layers: int, *, used: bool = True, **extra: Any) -> list[dict[str, Any]]:
    """Grouped-query attention, over a window where the file has one and ``used``; by layer where ``layer_types`` lists them."""
    own = grouped(keys, **extra)
    window = keys.optional("sliding_window", low=0) or None
    used = keys.flag("use_sliding_window", default=used) and window is not None
    endless = window is not None and window >= longest(keys)  # as long as the context: no window (Phi-3.5-MoE)
    step = keys.raw("sliding_window_pattern")
    if isinstance(step, str):  # a word of letters such as LLLG
        listed = layer_types(keys, layers, lambda i: "full_attention" if step[i % len(step)] == "G" else "sliding_attention")
    elif used and step is not None:
        listed = layer_types(keys, layers, every(keys.checked("sliding_window_pattern", step, 1, 1 << 16)))
    else:
        listed = layer_types(keys, layers, (lambda _: "sliding_attention") if used else None)
    if endless:
        listed = ["full_attention" if word == "sliding_attention" else word for word in listed]
    kinds = {"full_attention": {"kind": "gqa", **own}}
    if window:
        kinds["sliding_attention"] = {"kind": "sliding", "window": window, **own}
    return by_kind(keys, listed, kinds)


def llama(keys: Keys) -> Facts:
    """Dense: Llama, Qwen2 and 3, Mistral, Phi-3, OLMo, Granite, Seed, SmolLM."""
    layers = layer_count(keys)
    if keys.word("hidden_act", default="silu") in ("relu2", "relu", "gelu_new"):
        keys.refuse("hidden_act", f"{keys.word('hidden_act')} goes with an MLP of two matrices, this family has three")
    return {**tables(keys), "layers": layers, "attention": attention(keys, layers), **dense(keys)}


def arcee(keys: Keys) -> Facts:
    """Arcee's dense models: an MLP of two matrices, squared ReLU between."""
    layers = layer_count(keys)
    keys.ignore("hidden_act")
    return {**tables(keys), "layers": layers, "attention": attention(keys, layers), **dense(keys), "mlp_matrices": 2}


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


def minimax_m2(keys: Keys) -> Facts:
    """MiniMax-M2: full attention in every layer, experts everywhere."""
    kinds = keys.counts("attn_type_list")
    if kinds and not all(kinds):
        keys.refuse("attn_type_list", "layers of linear attention (0) are MiniMax-01's, not M2's")
    for kind in ("full_attention", "linear_attention", "mlp"):
        keys.ignore(f"layernorm_{kind}_alpha", f"layernorm_{kind}_beta")
    keys.ignore("shared_moe_mode", "postnorm")
    return mixtral(keys)


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


def sarvam(keys: Keys) -> Facts:
    """Sarvam's MoE: one dense layer first where no key says otherwise."""
    layers = layer_count(keys)
    block = experts(
        keys,
        after_dense(keys, layers, "first_k_dense_replace", default=1),
        shared=SHARED,
        shared_width=("moe_shared_expert_intermediate_size",),
        **groups(keys),
    )
    return {**tables(keys), "layers": layers, "attention": attention(keys, layers), **block}


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
    keys.ignore("moe_router_enable_shared_expert", "moe_shared_expert_overlap")
    keys.ignore("multi_gate", "head_bias", "embedding_dropout", "output_dropout", "norm_softmax")
    return {**tables(keys), "layers": layers, "attention": attention(keys, layers), **block}


def exaone_moe(keys: Keys) -> Facts:
    """K-EXAONE: windows by a word of letters, a few dense layers first."""
    layers = layer_count(keys)
    placing = after_dense(keys, layers)
    listed = keys.raw("is_moe_layer")
    if listed is not None:
        if not isinstance(listed, list) or len(listed) < layers or not all(isinstance(item, bool) for item in listed):
            keys.refuse("is_moe_layer", f"wanted true or false for each of {layers} layers, got {shown(listed)}")
        if listed[:layers] != placing:
            keys.refuse("is_moe_layer", "disagrees with first_k_dense_replace or mlp_layer_types: keep one of them")
    block = experts(keys, placing, shared=SHARED, **groups(keys))
    return {**tables(keys), "layers": layers, "attention": attention(keys, layers), **block}


def ernie(keys: Keys) -> Facts:
    """ERNIE-4.5: MoE layers from a first to a last one, every so many; shared experts as wide as routed ones."""
    layers = layer_count(keys)
    first = keys.level("moe_layer_start_index", default=0, low=0)
    end = keys.level("moe_layer_end_index", default=-1, low=-1)
    last = layers - 1 if end == -1 else end
    keys.ignore("use_moe")
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


#: Keys of Hunyuan's files that speak of its classifier heads, its image encoder, or of what its other models have.
_HUNYUAN = """
num_shared_expert moe_layer_num_skipped num_media_embeds dense_list org_vocab_size use_mla kv_lora_rank q_lora_rank
qk_nope_head_dim qk_rope_head_dim v_head_dim group_limited_greedy n_group topk_group add_classification_head class_num
mask_init_id moe_random_routing_dropped_token pool_type position_embedding_xdrope xdrope_section skip_cls_token
use_rotary_pos_emb vit_add_patchemb_bias vit_input_resolution vit_mapping_type vit_norm_type vit_patch vit_path
vit_remove_prenorm vit_token vit_type vit_used_rms_norm video_end_id video_start_id image_token_id
"""


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
    keys.ignore(*_HUNYUAN.split())
    own = grouped(keys)
    share = keys.count("cla_share_factor", default=1)
    if not keys.flag("use_cla") or share == 1:
        kinds = [{"kind": "gqa", "layers": layers, **own}]
    else:
        owners = -(-layers // share)
        kinds = [{"kind": "gqa", "layers": owners, **own}, {"kind": "gqa", "layers": layers - owners, "own_kv": False, **own}]
    return {**tables(keys), "layers": layers, "attention": kinds, **block}


def aria(keys: Keys) -> Facts:
    """Aria's language model: experts of the plain width, shared ones beside."""
    layers = layer_count(keys)
    block = experts(
        keys,
        [True] * layers,
        count=("moe_num_experts",),
        top_k=("moe_topk",),
        width=("intermediate_size", "moe_intermediate_size"),
        dense_width=(),
        shared=("moe_num_shared_experts",),
        shared_default=2,
    )
    keys.ignore("moe_z_loss_coeff", "moe_aux_loss_coeff")
    return {**tables(keys), "layers": layers, "attention": attention(keys, layers), **block}


def deepseek_moe(keys: Keys) -> Facts:
    """DeepSeek-MoE (the first): grouped attention, dense layers first, shared experts."""
    layers = layer_count(keys)
    block = experts(keys, after_dense(keys, layers), shared=SHARED, **groups(keys))
    return {**tables(keys), "layers": layers, "attention": attention(keys, layers), **block}


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


#: Keys of Grok's files that speak of soft caps and of how attention is scaled with the context.
_GROK = """
sequence_parallel attn_temperature_len xai_temperature_len attn_logit_softcapping_method max_attn_val max_attn_value
attn_logit_softcap router_logit_softcap final_logit_softcap
"""


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
    if keys.raw("sliding_window_size") not in (None, -1) or keys.raw("global_attn_every_n") not in (None, 1):
        keys.refuse("sliding_window_size", "only full attention in every layer is read (-1, and global_attn_every_n 1)")
    keys.ignore(*_GROK.split())
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
