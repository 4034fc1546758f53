"""Families whose layers alternate between a window and the whole context: Gemma, gpt-oss, Llama 4, Command A, AFM, MiMo,
Step.
"""

from __future__ import annotations

from typing import Any

from ..feed_forward import SHARED, after_dense, agreed, dense, experts, groups
from ..keys import Keys
from ..mixers import Entry, by_kind, divide, every, grouped, heads_of, hidden_size, layer_count, layer_types, tables

Facts = dict[str, Any]


def windowed(keys: Keys, listed: list[str], window: int | None, own: Entry, local: Entry | None = None) -> list[Entry]:
    """The kinds of layer: ``own`` over the whole context, ``local`` (default: the same) over the window."""
    kinds: dict[str, Entry] = {"full_attention": {"kind": "gqa", **own}}
    if window:
        kinds["sliding_attention"] = {"kind": "sliding", "window": window, **(local or own)}
    return by_kind(keys, listed, kinds)


def gemma(keys: Keys, *, step: int, head_dim: int = 256) -> Facts:
    """Gemma 2 and 3: every ``step``-th layer sees the whole context where the file does not list them."""
    layers = layer_count(keys)
    step = keys.count("sliding_window_pattern", "_sliding_window_pattern", default=step)
    window = keys.count("sliding_window", default=4096)
    listed = layer_types(keys, layers, every(step))
    attention = windowed(keys, listed, window, grouped(keys, head_dim=None if keys.has("head_dim") else head_dim))
    keys.ignore("cache_implementation")
    return {**tables(keys, tied=True), "layers": layers, "attention": attention, **dense(keys)}


def gemma2(keys: Keys) -> Facts:
    """Gemma 2: a window in every other layer."""
    return gemma(keys, step=2)


def gemma3(keys: Keys) -> Facts:
    """Gemma 3: a window in five of six layers. Its files leave out what the library's defaults say, the vocabulary too."""
    heads = keys.count("num_attention_heads", default=8)
    kv_heads = keys.count("num_key_value_heads", default=4)
    divide(keys, heads, kv_heads)
    own = {"heads": heads, "kv_heads": kv_heads, "head_dim": keys.count("head_dim", default=256)}
    layers = layer_count(keys)
    step = keys.count("sliding_window_pattern", "_sliding_window_pattern", default=6)
    attention = windowed(keys, layer_types(keys, layers, every(step)), keys.count("sliding_window", default=4096), own)
    return {**tables(keys, tied=True, vocab=262_208), "layers": layers, "attention": attention, **dense(keys)}


def gemma4(keys: Keys) -> Facts:
    """Gemma 4: global layers with heads of their own, an MLP beside the experts, per-layer embeddings, shared caches."""
    layers, heads = layer_count(keys), heads_of(keys)
    default = ["full_attention" if (i + 1) % 6 == 0 or i == layers - 1 else "sliding_attention" for i in range(layers)]
    listed = layer_types(keys, layers, lambda i: default[i])
    own = grouped(keys)
    wide, kv = _of_global_layers(keys, listed, own)
    divide(keys, heads, kv, "num_global_key_value_heads")
    far = {**own, "head_dim": wide, "kv_heads": kv, "values_projected": not keys.flag("attention_k_eq_v")}
    window = keys.count("sliding_window")
    shared = keys.count("num_kv_shared_layers", default=0, low=0, high=layers - 1)
    attention = windowed(keys, listed[: layers - shared], window, far, own)
    if shared:
        attention += windowed(keys, listed[layers - shared :], window, {**far, "own_kv": False}, {**own, "own_kv": False})
    narrow = keys.count("hidden_size_per_layer_input", default=256, low=0)
    rows = keys.count("vocab_size_per_layer_input", default=262_144)
    width = keys.count("intermediate_size")
    doubled = keys.flag("use_double_wide_mlp")
    if keys.flag("enable_moe_block"):
        block = experts(
            keys,
            [True] * layers,
            count=("num_experts",),
            top_k=("top_k_experts", "num_experts_per_tok"),
            width=("moe_intermediate_size", "expert_intermediate_size"),
            dense_width=(),
            residual_intermediate=width,
        )
    else:
        # Layers that share a cache have MLPs of twice the width: their mean is what the layers are wide together.
        mean = round(width * (layers + shared) / layers) if doubled else width
        keys.ignore("num_experts", "top_k_experts", "moe_intermediate_size", "expert_intermediate_size")
        block = {"experts": 0, "top_k": 0, "moe_intermediate": 0, "dense_intermediate": mean}
    facts = {**tables(keys, tied=True), "layers": layers, "attention": attention, **block}
    hidden = hidden_size(keys)
    return {**facts, "lookup_params": narrow * layers * (rows + hidden) + 2 * narrow * hidden * layers if narrow else 0}


def _of_global_layers(keys: Keys, listed: list[str], own: Entry) -> tuple[int, int]:
    """Head width and KV heads of the global layers: in keys of their own, or layer by layer as transformers 5 writes them."""
    by_layer = keys.raw("per_layer_config")
    head_dim = keys.optional("global_head_dim")
    kv_heads = keys.optional("num_global_key_value_heads")
    if by_layer:
        if not isinstance(by_layer, dict) or not all(isinstance(v, dict) for v in by_layer.values()):
            keys.refuse("per_layer_config", "wanted an object of objects")
        unknown = {key for each in by_layer.values() for key in each} - {"head_dim", "num_key_value_heads"}
        said = {name: int(name) for name in by_layer if name.isdigit()}
        odd = (
            unknown
            or len(said) != len(by_layer)
            or any(n >= len(listed) or listed[n] != "full_attention" for n in said.values())
        )
        if (
            odd
            or len(said) != listed.count("full_attention")
            or len({str(sorted(each.items())) for each in by_layer.values()}) > 1
        ):
            keys.refuse("per_layer_config", "only head_dim and num_key_value_heads of all global layers alike are read")
        first = next(iter(by_layer.values()))
        if "head_dim" in first:
            head_dim = keys.checked("per_layer_config", first["head_dim"], 1, 1 << 16)
        if "num_key_value_heads" in first:
            kv_heads = keys.checked("per_layer_config", first["num_key_value_heads"], 1, 1 << 16)
    return head_dim or 512, (kv_heads if kv_heads and keys.flag("attention_k_eq_v") else None) or int(own["kv_heads"])


def gpt_oss(keys: Keys) -> Facts:
    """gpt-oss: a window in every other layer, experts everywhere."""
    layers = layer_count(keys)
    listed = layer_types(keys, layers, every(2))
    attention = windowed(keys, listed, keys.count("sliding_window"), grouped(keys))
    block = experts(keys, [True] * layers, width=("intermediate_size",), dense_width=())
    return {**tables(keys), "layers": layers, "attention": attention, **block}


def llama4(keys: Keys) -> Facts:
    """Llama 4: chunks in three of four layers, one shared expert as wide as a routed one, experts in every so many layers."""
    layers = layer_count(keys)
    step = keys.count("no_rope_layer_interval", default=4)
    rope = keys.counts("no_rope_layers") or [int((i + 1) % step != 0) for i in range(layers)]
    if len(rope) < layers:
        keys.refuse("no_rope_layers", f"lists {len(rope)} layers, the model has {layers}")
    chunk = keys.optional("attention_chunk_size", low=0)
    listed = layer_types(keys, layers, lambda i: "chunked_attention" if rope[i] and chunk else "full_attention")
    own = grouped(keys)
    kinds: dict[str, Entry] = {"full_attention": {"kind": "gqa", **own}}
    if chunk:
        kinds["chunked_attention"] = {"kind": "sliding", "window": chunk, **own}
    every_so = keys.count("interleave_moe_layer_step", default=1)
    at = keys.counts("moe_layers")
    mask = [(i + 1) % every_so == 0 if at is None else i in at for i in range(layers)]
    block = experts(keys, mask, width=("intermediate_size",), dense_width=("intermediate_size_mlp",), shared_default=1)
    shared = {"shared_experts": 1, "shared_intermediate": block["moe_intermediate"]}
    keys.ignore("for_llm_compressor")
    return {**tables(keys), "layers": layers, "attention": by_kind(keys, listed, kinds), **block, **shared}


def cohere(keys: Keys) -> Facts:
    """Command A: a window in three of four layers, dense or with experts after a dense prefix."""
    layers = layer_count(keys)
    first = keys.count("first_k_dense_replace", default=0, low=0)
    step = keys.count("sliding_window_pattern", "_sliding_window_pattern", "layer_switch", default=4)
    early = keys.count("prefix_dense_sliding_window_pattern", default=1)
    keys.ignore(
        "order_of_interleaved_layers", "cache_implementation", "use_parallel_block", "use_gated_activation", "layer_switch"
    )
    keys.ignore("use_embedding_sharing", "use_parallel_embedding", "rotary_embedding_layer_norm", "pool_config")
    kinds = [every(early)(i) if i < first else every(step)(i - first) for i in range(layers)]
    listed = layer_types(keys, layers, lambda i: kinds[i])
    own = grouped(keys, head_dim=None)
    attention = windowed(keys, listed, keys.optional("sliding_window"), own)
    facts = {**tables(keys, tied=True), "layers": layers, "attention": attention}
    if not keys.has("num_experts"):
        return {**facts, **dense(keys)}
    mask = agreed(keys, layers, [i >= first for i in range(layers)])
    width = ("intermediate_size",)
    block = experts(
        keys, mask, width=width, dense_width=("prefix_dense_intermediate_size",), shared=(*SHARED, "moe_num_shared_experts")
    )
    return {**facts, **block}


def afmoe(keys: Keys) -> Facts:
    """Arcee Trinity: gated attention, a window in three of four layers, shared experts."""
    layers = layer_count(keys)
    step = keys.count("global_attn_every_n_layers", default=4)
    listed = layer_types(keys, layers, every(step))
    attention = windowed(keys, listed, keys.count("sliding_window"), grouped(keys, gated=True))
    block = experts(
        keys,
        after_dense(keys, layers, "num_dense_layers"),
        count=("num_experts",),
        shared=("num_shared_experts",),
        **_groups(keys),
    )
    return {**tables(keys), "layers": layers, "attention": attention, **block}


def _groups(keys: Keys) -> dict[str, Any]:
    """AFM counts its groups under other names too."""
    if keys.has("num_expert_groups"):
        number, kept = keys.count("num_expert_groups"), keys.count("num_limited_groups", default=1)
        keys.ignore("n_group", "topk_group")
        return {"expert_groups": number, "groups_kept": kept}
    return groups(keys)


def mimo(keys: Keys) -> Facts:
    """MiMo-V2-Flash: layers of two head layouts by ``hybrid_layer_pattern`` (1: a window), values narrower than keys."""
    layers = layer_count(keys)
    pattern = keys.counts("hybrid_layer_pattern")
    if pattern is not None and len(pattern) < layers:
        keys.refuse("hybrid_layer_pattern", f"lists {len(pattern)} layers, the model has {layers}")
    default = [i == 0 or (i + 1) % 6 == 0 for i in range(layers)]
    full = [p == 0 for p in pattern[:layers]] if pattern is not None else default
    listed = layer_types(keys, layers, lambda i: "full_attention" if full[i] else "sliding_attention")
    own = grouped(keys)
    own["v_head_dim"] = keys.count("v_head_dim", default=own["head_dim"])
    resaved = pattern is None and keys.has("layer_types")
    local = {
        "heads": keys.count("swa_num_attention_heads", default=own["heads"]),
        # As transformers 5 re-saves it, the window's layers have twice the KV heads and no keys of their own.
        "kv_heads": keys.count("swa_num_key_value_heads", default=own["kv_heads"] * (2 if resaved else 1)),
        "head_dim": keys.count("swa_head_dim", default=own["head_dim"]),
        "v_head_dim": keys.count("swa_v_head_dim", default=own["v_head_dim"]),
    }
    divide(keys, local["heads"], local["kv_heads"], "swa_num_key_value_heads")
    size, other = keys.optional("sliding_window"), keys.optional("sliding_window_size")
    keys.ignore("add_full_attention_sink_bias", "add_swa_attention_sink_bias", "attention_chunk_size", "hybrid_block_size")
    keys.ignore("attention_projection_layout")
    mask = after_dense(keys, layers, "first_k_dense_replace", default=0 if keys.has("moe_layer_freq") else 1)
    block = experts(keys, mask, shared=SHARED, **groups(keys))
    attention = windowed(keys, listed, size or other, own, local)
    return {**tables(keys), "layers": layers, "attention": attention, **block}


def minimax_m3(keys: Keys) -> Facts:
    """MiniMax-M3: block-sparse attention with an indexer after a few full layers."""
    layers = layer_count(keys)
    own: Entry = grouped(keys, gated=keys.flag("attention_output_gate"))
    block = experts(
        keys,
        after_dense(keys, layers, "first_k_dense_replace"),
        width=("intermediate_size", "moe_intermediate_size"),
        dense_width=("dense_intermediate_size",),
        shared=SHARED,
        shared_width=("shared_intermediate_size",),
        shared_default=1,
    )
    inside = keys.table("sparse_attention_config")
    names = ("index_n_heads", "index_head_dim", "index_topk_blocks", "index_block_size")
    old = ("sparse_num_index_heads", "sparse_index_dim", "sparse_topk_blocks", "sparse_block_size")
    source = inside or keys
    heads, width, blocks, size = (source.count(name) for name in (old if inside else names))
    sparse = {"kind": "gqa", **own, "indexer": {"heads": heads, "head_dim": width, "top_k": blocks * size, "weighted": False}}
    said = inside.counts("sparse_attention_freq") if inside else None
    if inside:
        inside.ignore("sparse_disable_index_value", "sparse_init_block", "sparse_local_block", "sparse_score_type")
        if not inside.flag("use_sparse_attention", default=True):
            said = [0] * layers
    keys.ignore("index_local_blocks", "num_mtp_modules")
    listed = keys.words("layer_types") or ["minimax_m3_sparse" if x else "full_attention" for x in said or [1] * layers]
    if len(listed) < layers:
        keys.refuse("layer_types", f"lists {len(listed)} layers, the model has {layers}")
    attention = by_kind(keys, listed[:layers], {"full_attention": {"kind": "gqa", **own}, "minimax_m3_sparse": sparse})
    facts = {**tables(keys), "layers": layers, "attention": attention, **block}
    return {**facts, "inside": (inside,)} if inside else facts
