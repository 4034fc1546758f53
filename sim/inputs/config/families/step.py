"""Step-3 (multi-matrix factorised attention) and Step-3.5 (two head layouts, gates by head)."""

from __future__ import annotations

from typing import Any

from ..feed_forward import agreed, experts
from ..keys import Keys
from ..mixers import divide, grouped, layer_count, layer_types, tables
from .windows import windowed

Facts = dict[str, Any]
_EXPERTS: dict[str, Any] = {
    "count": ("moe_num_experts", "n_routed_experts", "num_local_experts"),
    "top_k": ("moe_top_k", "num_experts_per_tok"),
    "shared_width": ("share_expert_dim", "share_expert_dims"),
}


def enumerated(keys: Keys, layers: int) -> list[bool]:
    """MoE layers as ``moe_layers_enum`` lists them: numbers with commas between, or a list; all but the first three if
    unsaid.
    """
    said = keys.raw("moe_layers_enum")
    if said is None:
        step, offset = keys.count("moe_every_n_layer", default=1), keys.count("moe_layer_offset", default=3, low=0)
        return agreed(keys, layers, [i >= offset and (i - offset) % step == 0 for i in range(layers)])
    keys.ignore("moe_every_n_layer", "moe_layer_offset")
    parts = said.split(",") if isinstance(said, str) else said
    if not isinstance(parts, list) or not all(str(part).strip().isdigit() for part in parts):
        keys.refuse("moe_layers_enum", "wanted layer numbers with commas between")
    at = {int(str(part)) for part in parts}
    return agreed(keys, layers, [i in at for i in range(layers)])


def step3(keys: Keys) -> Facts:
    """Step-3: queries of all heads through a shared narrow projection, one key and value for all."""
    layers = layer_count(keys)
    own = grouped(keys)
    own["q_rank"] = keys.count("share_q_dim")
    block = experts(keys, enumerated(keys, layers), **_EXPERTS)
    keys.ignore("use_mfa", "att_impl_type", "use_moe")
    return {**tables(keys), "layers": layers, "attention": [{"kind": "gqa", "layers": layers, **own}], **block}


def step35(keys: Keys) -> Facts:
    """Step-3.5: layers over a window have heads of their own (``attention_other_setting``)."""
    layers = layer_count(keys)
    listed = layer_types(keys, layers)
    gated = keys.flag("use_head_wise_attn_gate", default=True)
    own = {**grouped(keys), "head_gated": gated}
    inside = keys.table("attention_other_setting")
    local = dict(own)
    by_layer = keys.raw("per_layer_config")
    if inside is not None:
        local["heads"] = inside.count("num_attention_heads")
        local["kv_heads"] = inside.count("num_attention_groups", "num_key_value_heads", default=own["kv_heads"])
        local["head_dim"] = inside.count("head_dim", default=own["head_dim"])
        inside.ignore("attention_type", "true_head_dim")
    local["heads"] = keys.count("num_sliding_attention_heads", default=local["heads"])
    if by_layer:
        heads = {each.get("num_attention_heads") for each in by_layer.values() if isinstance(each, dict)}
        if heads != {local["heads"]} or len(by_layer) != listed.count("sliding_attention"):
            keys.refuse("per_layer_config", "only num_attention_heads of the sliding layers is read")
    divide(keys, local["heads"], local["kv_heads"], "attention_other_setting")
    window = keys.optional("sliding_window")
    block = experts(keys, enumerated(keys, layers), **_EXPERTS)
    keys.ignore(
        "use_moe", "att_impl_type", "use_moe_router_bias", "need_fp32_gate", "norm_expert_weight", "moe_router_activation"
    )
    keys.ignore("yarn_only_types", "mtp_layer_types", "mtp_mlp_layer_types", "use_rope_layers", "sink", "share_expert_dims")
    keys.ignore("zero_centered", "partial_rotary_factors")
    facts = {**tables(keys), "layers": layers, "attention": windowed(keys, listed, window, own, local), **block}
    return facts if inside is None else {**facts, "inside": (inside,)}
