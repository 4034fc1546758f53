"""Hybrids of attention and state: Qwen3-Next and 3.5, Jamba, Nemotron-H, Granite 4, Bamba, Falcon-H1, LFM2."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ..document import clipped, shown
from ..feed_forward import SHARED, after_dense, dense, every_step, experts, groups
from ..keys import Keys
from ..mixers import Entry, by_kind, delta_net, every, grouped, hidden_size, layer_count, layer_types, mamba2, tables

Facts = dict[str, Any]


def qwen_next(keys: Keys) -> Facts:
    """Qwen3-Next and Qwen3.5: gated delta nets, gated attention in every fourth layer, dense or with experts."""
    layers = layer_count(keys)
    listed = layer_types(keys, layers, every(keys.count("full_attention_interval", default=4), other="linear_attention"))
    gate = keys.flag("attn_output_gate", default=True)
    kinds = {"full_attention": {"kind": "gqa", **grouped(keys, gated=gate)}, "linear_attention": delta_net(keys)}
    facts = {**tables(keys), "layers": layers, "attention": by_kind(keys, listed, kinds)}
    keys.ignore("sliding_window", "use_sliding_window", "mamba_ssm_dtype", "output_gate_type")
    if not keys.has("num_experts", "num_local_experts") and "moe" not in str(keys.raw("model_type")):
        return {**facts, **dense(keys)}
    block = experts(keys, every_step(keys, layers), shared_width=("shared_expert_intermediate_size",))
    return {**facts, **block}


def jamba(keys: Keys) -> Facts:
    """Jamba: the first Mamba, attention and experts each in one layer of a period."""
    layers = layer_count(keys)
    period, offset = keys.count("attn_layer_period", default=8), keys.count("attn_layer_offset", default=4, low=0)
    listed = layer_types(keys, layers, lambda i: "full_attention" if i % period == offset else "linear_attention")
    inner = keys.count("mamba_expand", default=2) * hidden_size(keys)
    rank = keys.raw("mamba_dt_rank")
    mixer = {
        "kind": "linear",
        "form": "mamba",
        "heads": inner,
        "value_dim": 1,
        "key_heads": 1,
        "key_dim": keys.count("mamba_d_state", default=16),
        "conv_kernel": keys.count("mamba_d_conv", default=4),
        "rank": -(-hidden_size(keys) // 16) if rank in (None, "auto") else keys.checked("mamba_dt_rank", rank, 1, 1 << 16),
    }
    kinds = {"full_attention": {"kind": "gqa", **grouped(keys)}, "linear_attention": mixer}
    every_so, first = keys.count("expert_layer_period", default=2), keys.count("expert_layer_offset", default=1, low=0)
    facts = {**tables(keys), "layers": layers, "attention": by_kind(keys, listed, kinds)}
    keys.ignore("mamba_inner_layernorms", "calc_logits_for_entire_prompt", "sliding_window", "mamba_dt_rank")
    if keys.count("num_experts", default=16) == 1:
        keys.ignore("num_experts_per_tok")
        return {**facts, **dense(keys)}
    mask = [i % every_so == first for i in range(layers)]
    return {**facts, **experts(keys, mask, width=("intermediate_size", "moe_intermediate_size"))}


#: Letters of ``hybrid_override_pattern``, and words of ``layers_block_type`` as files first published and re-saved give them.
_LETTERS = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}
_BLOCKS = {"linear_attention": "mamba", "full_attention": "attention", **{word: word for word in _LETTERS.values()}}


def nemotron(keys: Keys) -> Facts:
    """Nemotron-H and Nemotron 3: layers are single blocks, a mixer or a feed-forward block each, in a written order."""
    found = _blocks(keys)
    mixers, blocks = found["mamba"] + found["attention"], found["mlp"] + found["moe"]
    kinds: list[Entry] = []
    if found["mamba"]:
        keys.ignore("expand", "mamba_expand")
        state = {
            "key_heads": keys.count("n_groups", "mamba_n_groups"),
            "key_dim": keys.count("ssm_state_size", "mamba_d_state"),
        }
        state |= {"heads": keys.count("mamba_num_heads"), "value_dim": keys.count("mamba_head_dim")}
        state |= {"conv_kernel": keys.count("conv_kernel", "mamba_d_conv")}
        kinds.append({"kind": "linear", "form": "mamba2", "layers": found["mamba"], **state})
    own = grouped(keys)
    if found["attention"]:
        kinds.append({"kind": "gqa", "layers": found["attention"], **own})
    keys.ignore(
        "sliding_window", "moe_shared_expert_overlap", "mtp_layers_block_type", "mtp_hybrid_override_pattern", "norm_eps"
    )
    facts = {**tables(keys), "layers": mixers, "attention": kinds, "bare_layers": mixers - blocks}
    matrices = 2 if keys.word("mlp_hidden_act", default="relu2") == "relu2" else 3
    if not found["moe"]:
        keys.ignore(
            "n_routed_experts", "num_experts_per_tok", "n_shared_experts", "moe_intermediate_size", "n_group", "topk_group"
        )
        keys.ignore("moe_shared_expert_intermediate_size", "moe_latent_size")
        return {**facts, **dense(keys), "mlp_matrices": matrices}
    block = experts(
        keys,
        [True] * found["moe"] + [False] * found["mlp"],
        shared=SHARED,
        shared_width=("moe_shared_expert_intermediate_size",),
        **groups(keys),
    )
    block |= {
        "first_dense_layers": found["mlp"],
        "moe_layer_step": 1,
        "moe_latent": keys.optional("moe_latent_size", low=0) or 0,
    }
    block.pop("moe_at", None)
    return {**facts, **block, "mlp_matrices": matrices}


def _blocks(keys: Keys) -> Counter[str]:
    """How many layers are mamba, attention, mlp and moe. Raises BadInput for a block of another kind, or a wrong count."""
    pattern = keys.raw("hybrid_override_pattern")
    listed: list[str] | None = keys.words("layers_block_type", "layer_types")
    if pattern is not None:
        if not isinstance(pattern, str) or not pattern:
            keys.refuse("hybrid_override_pattern", f"wanted letters such as M*-E, one a layer, got {shown(pattern)}")
        spelt = [_LETTERS.get(letter, letter) for letter in pattern]
        if listed is not None and [_BLOCKS.get(word, word) for word in listed] != spelt:
            keys.refuse("layers_block_type", "disagrees with hybrid_override_pattern: keep one of them")
        listed = spelt
    if not listed:
        keys.refuse("hybrid_override_pattern", "wanted letters such as M*-E, one a layer, the file has none")
    unknown = sorted(set(listed) - set(_BLOCKS))
    if unknown:
        kinds = ", ".join(_LETTERS.values())
        keys.refuse("hybrid_override_pattern", f"layers of kind {clipped(', '.join(unknown), 40)} are none of {kinds}")
    said = keys.optional("num_hidden_layers", high=10_000)
    if said is not None and said != len(listed):
        keys.refuse("num_hidden_layers", f"says {said}, the pattern lists {len(listed)} layers")
    found = Counter(_BLOCKS[word] for word in listed)
    mixers, blocks = found["mamba"] + found["attention"], found["mlp"] + found["moe"]
    if blocks > mixers:
        keys.refuse(
            "hybrid_override_pattern", f"more feed-forward layers ({blocks}) than mixers ({mixers}): one each is read at most"
        )
    return found


def granite(keys: Keys) -> Facts:
    """Granite 4: Mamba-2 and attention by layer, experts (or none) beside a shared MLP."""
    layers = layer_count(keys)
    listed = layer_types(keys, layers, lambda _: "linear_attention")
    kinds: dict[str, Entry] = {"full_attention": {"kind": "gqa", **grouped(keys)}}
    if "linear_attention" in listed:
        kinds["linear_attention"] = mamba2(keys)
    else:
        keys.ignore("mamba_n_heads", "mamba_n_groups", "mamba_d_state", "mamba_d_head", "mamba_d_conv", "mamba_expand")
    facts = {**tables(keys), "layers": layers, "attention": by_kind(keys, listed, kinds)}
    if keys.count("num_local_experts", default=0, low=0) == 0:
        keys.ignore("num_experts_per_tok", "intermediate_size")
        return {**facts, **dense(keys, "shared_intermediate_size")}
    width: dict[str, Any] = {"width": ("intermediate_size",), "dense_width": (), "shared_width": ("shared_intermediate_size",)}
    return {**facts, **experts(keys, [True] * layers, **width)}


def bamba(keys: Keys) -> Facts:
    """Bamba: Mamba-2 but for the layers that ``attn_layer_indices`` lists."""
    layers = layer_count(keys)
    at = keys.counts("attn_layer_indices")
    listed = layer_types(keys, layers, lambda i: "full_attention" if i in (at or ()) else "linear_attention")
    kinds = {"full_attention": {"kind": "gqa", **grouped(keys)}, "linear_attention": mamba2(keys)}
    keys.ignore("attn_rotary_emb")
    return {**tables(keys), "layers": layers, "attention": by_kind(keys, listed, kinds), **dense(keys)}


def falcon_h1(keys: Keys) -> Facts:
    """Falcon-H1: attention and Mamba-2 side by side in every layer."""
    layers = layer_count(keys)
    keys.ignore("mamba_use_mlp", "mamba_rms_norm", "mamba_norm_before_gate", "attn_layer_indices", "mlp_expansion_factor")
    keys.ignore("layers_block_type", "layer_types")
    attention = [{"kind": "gqa", "layers": layers, **grouped(keys)}, {**mamba2(keys, beside=True), "layers": layers}]
    return {**tables(keys), "layers": layers, "attention": attention, **dense(keys)}


def lfm2(keys: Keys) -> Facts:
    """LFM2: short convolutions and attention by layer, dense or with experts after dense layers."""
    layers = layer_count(keys)
    at = keys.counts("full_attn_idxs")
    listed = layer_types(keys, layers, None if at is None else lambda i: "full_attention" if i in at else "conv")
    hidden = hidden_size(keys)
    conv = {"kind": "linear", "form": "conv", "heads": hidden, "key_heads": 1, "key_dim": 1, "value_dim": 1}
    conv["conv_kernel"] = keys.count("conv_L_cache", default=3)
    kinds = {"full_attention": {"kind": "gqa", **grouped(keys)}, "conv": conv}
    keys.ignore("conv_dim", "conv_dim_out", "block_dim", "block_out_dim", "block_use_swiglu", "block_use_xavier_init")
    keys.ignore("block_mlp_init_scale", "block_norm_eps", "block_init_scale", "use_pos_enc", "num_heads", "theta", "max_seqlen")
    if keys.has("conv_dim") and keys.raw("conv_dim") != hidden:
        keys.refuse("conv_dim", f"only a convolution as wide as the model ({hidden}) is read")
    facts = {**tables(keys, tied=True), "layers": layers, "attention": by_kind(keys, listed, kinds)}
    if keys.has("num_experts"):
        keys.ignore("block_auto_adjust_ff_dim", "block_multiple_of", "block_ffn_dim_multiplier", "block_ff_dim")
        mask = after_dense(keys, layers, "num_dense_layers", default=2)
        return {**facts, **experts(keys, mask, count=("num_experts",))}
    width = keys.count("intermediate_size", "block_ff_dim")
    multiple, factor = keys.count("block_multiple_of", default=256), keys.raw("block_ffn_dim_multiplier")
    if keys.flag("block_auto_adjust_ff_dim", default=True):
        width = int(2 * width / 3)
        width = int(float(factor) * width) if isinstance(factor, int | float) and not isinstance(factor, bool) else width
        width = multiple * -(-width // multiple)
    return {**facts, "experts": 0, "top_k": 0, "moe_intermediate": 0, "dense_intermediate": width}
