"""Reads a Hugging Face ``config.json``: the field names of each family, turned into the fields of ``MoeModel``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from ...hwmodels.errors import BadInput
from .hf_hybrid import blocks, hybrid_attention, hybrid_layers, is_hybrid

_EXPERTS = ("n_routed_experts", "num_experts", "num_local_experts")
_TOP_K = ("num_experts_per_tok", "experts_per_token", "moe_topk")
_SHARED_WIDTH = ("shared_expert_intermediate_size", "shared_intermediate_size", "moe_shared_expert_intermediate_size")
_EVERY_MODEL = ("num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size", "max_position_embeddings")
# Families whose plain ``intermediate_size`` is the width of one expert.
_PLAIN_WIDTH_IS_EXPERT = ("mixtral", "gpt_oss", "minimax_m2", "minimax", "llama4_text")


def facts(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Fields of ``MoeModel`` but name and sources. Raises BadInput in one line naming ``where`` and the missing fields."""
    nested = config.get("text_config")
    if nested is not None and not isinstance(nested, Mapping):
        raise BadInput(f"{where}: text_config: wanted an object, got {nested!r}")
    text = dict(nested or config)
    for shared in ("quantization_config", "tie_word_embeddings", "torch_dtype"):
        if shared in config:
            text.setdefault(shared, config[shared])
    found = blocks(text, where) if is_hybrid(text) else None
    if found is not None:
        text["num_hidden_layers"] = found.total()
    missing = [key for key in _EVERY_MODEL if not isinstance(text.get(key), int)]
    if missing:
        kind = (config.get("architectures") or [config.get("model_type", "no architecture named")])[0]
        raise BadInput(f"{where}: {kind} is not a model this reads: no {', '.join(missing)}")
    return {
        "layers": text["num_hidden_layers"],
        "hidden": text["hidden_size"],
        "vocab": text["vocab_size"],
        "max_context": text["max_position_embeddings"],
        "tied_embeddings": bool(text.get("tie_word_embeddings")),
        "mtp_layers": _mtp_layers(text),
        "attention": _attention(text, where) if found is None else hybrid_attention(text, found, _gqa(text), where),
        **_precision(text),
        **_feed_forward(text, where, experts_run=found is None or found["moe"] > 0),
        **({} if found is None else hybrid_layers(found)),
    }


def _feed_forward(text: Mapping[str, Any], where: str, experts_run: bool) -> dict[str, Any]:
    experts = next((text[key] for key in _EXPERTS if text.get(key)), 0) if experts_run else 0
    matrices = {"mlp_matrices": 2 if "relu2" in (text.get("mlp_hidden_act"), text.get("hidden_act")) else 3}
    if not experts:
        _need(text, where, "intermediate_size")
        width = text["intermediate_size"]
        return {"experts": 0, "top_k": 0, "moe_intermediate": 0, "dense_intermediate": width, **matrices}
    top_k = next((text[key] for key in _TOP_K if text.get(key)), None)
    if top_k is None:
        raise BadInput(f"{where}: {experts} experts but none of {', '.join(_TOP_K)}")
    plain_width = text.get("model_type") in _PLAIN_WIDTH_IS_EXPERT
    _need(text, where, "intermediate_size" if plain_width else "moe_intermediate_size")
    width = text["intermediate_size"] if plain_width else text["moe_intermediate_size"]
    step = text.get("interleave_moe_layer_step") or text.get("decoder_sparse_step") or text.get("moe_layer_freq") or 1
    dense = text.get("first_k_dense_replace") or 0
    if text.get("mlp_only_layers") not in (None, [], list(range(dense))):
        raise BadInput(f"{where}: mlp_only_layers {text['mlp_only_layers']} is a pattern of dense layers this does not read")
    has_dense_layers = dense > 0 or step > 1 or is_hybrid(text)
    return {
        "experts": experts,
        "top_k": top_k,
        "moe_intermediate": width,
        "first_dense_layers": dense,
        "moe_layer_step": step,
        "dense_intermediate": text.get("intermediate_size_mlp", text.get("intermediate_size", 0)) if has_dense_layers else 0,
        "expert_groups": text.get("n_group") or 1,
        "groups_kept": text.get("topk_group") or 1,
        "moe_latent": text.get("moe_latent_size") or 0,
        **matrices,
        **_shared_experts(text, width),
    }


def _shared_experts(text: Mapping[str, Any], width: int) -> dict[str, int]:
    own_width = next((text[key] for key in _SHARED_WIDTH if text.get(key)), None)
    count = text.get("n_shared_experts") or (1 if own_width else 0)
    if text.get("model_type") == "llama4_text":  # one shared expert as wide as a routed one, in every MoE layer
        count = 1
    return {"shared_experts": count, "shared_intermediate": (own_width or width) if count else 0}


def _mtp_layers(text: Mapping[str, Any]) -> int:
    if text.get("use_mtp"):
        return int(text.get("num_mtp_modules", 0)) * int(text.get("mtp_transformer_layers", 1))
    return int(text.get("num_nextn_predict_layers") or text.get("mtp_num_hidden_layers") or 0)


def _precision(text: Mapping[str, Any]) -> dict[str, str]:
    """Four bits, whatever their format (MXFP4, NVFP4, int4), are fp4; in MoE checkpoints of four bits only the experts' are."""
    quantised = text.get("quantization_config") or {}
    weights = [group.get("weights") or {} for group in (quantised.get("config_groups") or {}).values()]
    bits = {quantised.get("bits"), *(w.get("num_bits") for w in weights)}
    method = f"{quantised.get('quant_method', '')} {quantised.get('quant_algo', '')}".lower()
    narrow = "fp4" in method or 4 in bits
    stored = "fp8" if "fp8" in method or (8 in bits and not narrow) else "bf16"
    if narrow and not any(text.get(key) for key in _EXPERTS):
        stored = "fp4"
    return {"weight_dtype": stored, "expert_dtype": "fp4" if narrow else text.get("expert_dtype", stored)}


def _attention(text: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    layers, heads = text["num_hidden_layers"], text["num_attention_heads"]
    indexer = (
        {"heads": text["index_n_heads"], "head_dim": text["index_head_dim"], "top_k": text["index_topk"]}
        if (text.get("index_topk"))
        else None
    )
    if "compress_ratios" in text:
        return _compressed(text, indexer, where)
    if text.get("kv_lora_rank"):
        _need(text, where, "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim")
        mla = {"kind": "mla", "layers": layers, "heads": heads, "kv_lora_rank": text["kv_lora_rank"], "indexer": indexer}
        mla |= {"rope_head_dim": text["qk_rope_head_dim"], "nope_head_dim": text["qk_nope_head_dim"]}
        return [mla | {"v_head_dim": text["v_head_dim"], "q_lora_rank": text.get("q_lora_rank")}]
    return [_plain(kind, count, _gqa(text), text, where) for kind, count in Counter(_layer_types(text, where)).items()]


def _gqa(text: Mapping[str, Any]) -> dict[str, int]:
    heads = text["num_attention_heads"]
    head_dim = text.get("head_dim") or text.get("attention_head_dim") or text["hidden_size"] // heads
    return {"heads": heads, "kv_heads": text.get("num_key_value_heads") or heads, "head_dim": head_dim}


def _layer_types(text: Mapping[str, Any], where: str) -> list[str]:
    layers = text["num_hidden_layers"]
    if "layer_types" in text:
        if len(text["layer_types"]) != layers:
            raise BadInput(f"{where}: layer_types lists {len(text['layer_types'])} layers, num_hidden_layers says {layers}")
        return list(text["layer_types"])
    if text.get("attention_chunk_size"):  # Llama 4: every fourth layer has no rotary embedding and sees the whole context
        full_every = text.get("no_rope_layer_interval") or 4
        return ["full_attention" if (i + 1) % full_every == 0 else "chunked_attention" for i in range(layers)]
    every = text.get("sliding_window_pattern")
    if text.get("sliding_window") and isinstance(every, int):  # Gemma 3, Cohere: every n-th layer sees the whole context
        return ["full_attention" if (i + 1) % every == 0 else "sliding_attention" for i in range(layers)]
    return [
        "sliding_attention" if text.get("sliding_window") and text.get("use_sliding_window", True) else "full_attention"
    ] * layers


def _plain(kind: str, count: int, gqa: dict[str, int], text: Mapping[str, Any], where: str) -> dict[str, Any]:
    if kind == "full_attention":
        return {"kind": "gqa", "layers": count, "gated": bool(text.get("attn_output_gate")), **gqa}
    if kind == "sliding_attention":
        _need(text, where, "sliding_window")
        return {"kind": "sliding", "layers": count, "window": text["sliding_window"], **gqa}
    if kind == "chunked_attention":
        return {"kind": "sliding", "layers": count, "window": text["attention_chunk_size"], **gqa}
    if kind == "linear_attention":
        linear = ("linear_num_value_heads", "linear_num_key_heads", "linear_key_head_dim", "linear_value_head_dim")
        _need(text, where, *linear, "linear_conv_kernel_dim")
        own = ("heads", "key_heads", "key_dim", "value_dim")
        sizes = {ours: text[theirs] for ours, theirs in zip(own, linear, strict=True)}
        return {"kind": "linear", "layers": count, "conv_kernel": text["linear_conv_kernel_dim"], **sizes}
    raise BadInput(f"{where}: layer type {kind!r} is none of full_, sliding_, chunked_ and linear_attention")


def _compressed(text: Mapping[str, Any], indexer: dict[str, int] | None, where: str) -> list[dict[str, Any]]:
    _need(text, where, "sliding_window", "head_dim", "qk_rope_head_dim", "q_lora_rank", "o_groups", "o_lora_rank")
    common = {"kind": "compressed", "heads": text["num_attention_heads"], "window": text["sliding_window"]}
    common |= {"head_dim": text["head_dim"], "rope_head_dim": text["qk_rope_head_dim"], "q_lora_rank": text["q_lora_rank"]}
    common |= {"o_groups": text["o_groups"], "o_lora_rank": text["o_lora_rank"]}
    # The list may go on with the MTP layers. Only layers of ratio 4 select entries by their index.
    counted = Counter(text["compress_ratios"][: text["num_hidden_layers"]])
    return [
        {**common, "layers": count, "ratio": ratio or None, "indexer": indexer if ratio == 4 else None}
        for ratio, count in counted.items()
    ]


def _need(text: Mapping[str, Any], where: str, *keys: str) -> None:
    missing = [key for key in keys if not text.get(key)]
    if missing:
        raise BadInput(f"{where}: {text.get('model_type', 'this model')} needs {', '.join(missing)}, which the file lacks")
