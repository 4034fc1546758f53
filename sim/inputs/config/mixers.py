"""Attention and other mixers of a config, as the entries of ``MoeModel.attention``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from .keys import Keys

Entry = dict[str, Any]
#: Keys that bound the context, the first one written counts.
_LONGEST = (
    "max_position_embeddings",
    "max_position_embedding",
    "model_max_length",
    "max_seq_len",
    "max_seq_length",
    "max_sequence_length",
    "seq_length",
    "seq_len",
    "n_positions",
    "max_model_len",
)


def layer_count(keys: Keys) -> int:
    """Decoder layers."""
    return keys.count("num_hidden_layers", "num_layers", "n_layers", "n_layer", high=10_000)


def hidden_size(keys: Keys) -> int:
    """Width of the residual stream."""
    return keys.count("hidden_size", "d_model", "n_embd", "dim")


def longest(keys: Keys) -> int:
    """Tokens of the longest context, or more than any model's where the file does not say."""
    said = [keys.optional(name, high=1 << 40) for name in _LONGEST]
    return next((value for value in said if value), 1 << 40)


def tables(keys: Keys, *, tied: bool = False, vocab: int | None = None) -> dict[str, Any]:
    """Vocabulary (``vocab``: if unsaid), hidden size, whether the head is the embedding (``tied``: if unsaid), longest
    context.
    """
    context = longest(keys)
    return {
        "hidden": hidden_size(keys),
        "vocab": keys.count("vocab_size", default=vocab),
        "tied_embeddings": keys.flag(
            "tie_word_embeddings", "tie_embedding", "tied_embeddings", "use_tied_embeddings", default=tied
        ),
        "max_context": None if context > 1 << 24 else context,
    }


def heads_of(keys: Keys) -> int:
    """Query heads."""
    return keys.count("num_attention_heads", "n_heads", "n_head", high=1 << 16)


def head_dim_of(keys: Keys, heads: int, default: int | None = None) -> int:
    """Width of a head: written, else ``default``, else the hidden size shared out."""
    said = keys.optional("head_dim", "attention_head_dim", "kv_channels", high=1 << 16)
    if said or default:
        return said or default or 1
    hidden = hidden_size(keys)
    if hidden % heads:
        keys.refuse("head_dim", f"hidden size {hidden:,} does not divide over {heads} heads, and the file gives no head_dim")
    return hidden // heads


def divide(keys: Keys, heads: int, kv_heads: int, name: str = "num_key_value_heads") -> None:
    """Raises BadInput unless query heads divide over KV heads."""
    if kv_heads > heads or heads % kv_heads:
        keys.refuse(name, f"{heads} heads do not divide over {kv_heads} KV heads")


def grouped(keys: Keys, *, head_dim: int | None = None, **extra: Any) -> Entry:
    """Grouped-query attention of the usual keys; ``extra``: more fields of the entry. Kind and layers are not in it yet."""
    heads = heads_of(keys)
    kv_heads = keys.count("num_key_value_heads", "num_attention_groups", "kv_n_heads", default=heads, high=1 << 16)
    divide(keys, heads, kv_heads)
    return {"heads": heads, "kv_heads": kv_heads, "head_dim": head_dim_of(keys, heads, head_dim), **extra}


def latent(keys: Keys, **extra: Any) -> Entry:
    """Multi-head latent attention of DeepSeek's keys; ``extra``: more fields of the entry."""
    keys.ignore(
        "head_dim", "qk_head_dim", "num_key_value_heads", "mla_use_nope", "use_mla", "rope_head_dim", "mla_scale_q_lora"
    )
    return {
        "kind": "mla",
        "heads": heads_of(keys),
        "kv_lora_rank": keys.count("kv_lora_rank"),
        "rope_head_dim": keys.count("qk_rope_head_dim"),
        "nope_head_dim": keys.count("qk_nope_head_dim"),
        "v_head_dim": keys.count("v_head_dim"),
        "q_lora_rank": keys.optional("q_lora_rank"),
        **extra,
    }


def indexer(keys: Keys) -> Entry | None:
    """DeepSeek's sparse indexer, if the file has one."""
    if not keys.has("index_topk", "index_n_heads", "index_head_dim"):
        return None
    keys.ignore("indexer_rope_interleave")
    return {"heads": keys.count("index_n_heads"), "head_dim": keys.count("index_head_dim"), "top_k": keys.count("index_topk")}


def delta_net(keys: Keys) -> Entry:
    """A gated delta net of Qwen3-Next's keys."""
    return {
        "kind": "linear",
        "heads": keys.count("linear_num_value_heads"),
        "key_heads": keys.count("linear_num_key_heads"),
        "key_dim": keys.count("linear_key_head_dim"),
        "value_dim": keys.count("linear_value_head_dim"),
        "conv_kernel": keys.count("linear_conv_kernel_dim"),
    }


def mamba2(keys: Keys, **extra: Any) -> Entry:
    """A Mamba-2 mixer of the keys that Bamba, Granite and Falcon-H1 share."""
    heads, width = keys.count("mamba_n_heads"), keys.raw("mamba_d_head")
    inner = keys.optional("mamba_d_ssm") or keys.count("mamba_expand", default=2) * hidden_size(keys)
    keys.optional("mamba_expand")
    head_dim = inner // heads if width in (None, "auto") else keys.checked("mamba_d_head", width, 1, 1 << 16)
    if heads * head_dim != inner:
        keys.refuse("mamba_n_heads", f"{heads} heads of {head_dim} are not the mixer's {inner:,} channels")
    return {
        "kind": "linear",
        "form": "mamba2",
        "heads": heads,
        "key_heads": keys.count("mamba_n_groups"),
        "key_dim": keys.count("mamba_d_state"),
        "value_dim": head_dim,
        "conv_kernel": keys.count("mamba_d_conv"),
        **extra,
    }


#: What files call one kind of layer: transformers 5 writes some under other names than the files first published.
_SAME = {
    "attention": "full_attention",
    "full": "full_attention",
    "mamba": "linear_attention",
    "recurrent": "linear_attention",
    "indexed_attention": "full_attention",
    "deepseek_sparse_attention": "full_attention",
    "minimax_m3_sparse": "full_attention",
}


def layer_types(keys: Keys, layers: int, otherwise: Callable[[int], str] | None = None) -> list[str]:
    """The kind of every layer as ``layer_types`` (or ``layers_block_type``) lists it, else as ``otherwise`` says of each.

    A list longer than the model goes on with its MTP layers. Where both are there they must agree. Raises BadInput.
    """
    listed = keys.words("layer_types", "layers_block_type")
    said = None if otherwise is None else [otherwise(i) for i in range(layers)]
    if listed is None:
        return said or ["full_attention"] * layers
    listed = [_SAME.get(word, word) for word in listed]
    extra = keys.optional("num_nextn_predict_layers", "num_mtp_layers", low=0) or 0
    if len(listed) not in (layers, layers + extra):
        keys.refuse("layer_types", f"lists {len(listed)} layers, num_hidden_layers says {layers}")
    return listed[:layers]


def by_kind(keys: Keys, listed: Iterable[str], kinds: Mapping[str, Entry]) -> list[Entry]:
    """One entry for each kind of layer among ``listed``, in the order they first come. Raises BadInput for an unknown kind."""
    found = []
    for word, layers in Counter(listed).items():
        if word not in kinds:
            keys.refuse("layer_types", f"layers of kind {word!r} are none of {', '.join(sorted(kinds))}")
        found.append({**kinds[word], "layers": layers})
    return found


def every(step: int, full: str = "full_attention", other: str = "sliding_attention") -> Callable[[int], str]:
    """Every ``step``-th layer is ``full``, the others ``other``."""
    return lambda layer: full if (layer + 1) % step == 0 else other
