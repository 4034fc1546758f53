"""Feed-forward blocks of a config: which layers have experts, how many, how wide, and what runs beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .document import clipped
from .keys import Keys

EXPERTS = ("n_routed_experts", "num_experts", "num_local_experts")
TOP_K = ("num_experts_per_tok", "num_experts_per_token", "experts_per_token")
SHARED = ("n_shared_experts", "num_shared_experts")
WIDTH = ("moe_intermediate_size",)
_WORDS = {"dense": False, "mlp": False, "sparse": True, "moe": True, "hash_moe": True}
#: Keys that say which layers have experts, the first one written is blamed where they leave none.
_PLACING = (
    "decoder_sparse_step",
    "moe_layer_freq",
    "moe_layer_interval",
    "moe_layer_start_index",
    "first_k_dense_replace",
    "num_dense_layers",
    "moe_layers_enum",
    "mlp_layer_types",
)


def dense(keys: Keys, *names: str, **extra: Any) -> dict[str, Any]:
    """A model without experts."""
    width = keys.level(*(names or ("intermediate_size",)))
    return {"experts": 0, "top_k": 0, "moe_intermediate": 0, "dense_intermediate": width, **extra}


def experts(
    keys: Keys,
    mask: Sequence[bool],
    *,
    count: Sequence[str] = EXPERTS,
    top_k: Sequence[str] = TOP_K,
    width: Sequence[str] = WIDTH,
    dense_width: Sequence[str] = ("intermediate_size",),
    shared: Sequence[str] = (),
    shared_width: Sequence[str] = (),
    shared_default: int = 0,
    **extra: Any,
) -> dict[str, Any]:
    """Fields of a model whose layers of ``mask`` have experts.

    ``shared``: keys that count shared experts (without: one if they have a width of their own); ``shared_width``: keys of the
    width of one, else an expert's. Raises BadInput where no layer is left with experts.
    """
    layers = len(mask)
    number = keys.level(*count, layers=layers)
    if not any(mask):
        blamed = next((name for name in _PLACING if keys.has(name)), "num_hidden_layers")
        keys.refuse(blamed, f"leaves none of {layers} layers with experts, though the file has {number}")
    own = keys.level(*width, layers=layers)
    named = keys.level(*dense_width, default=0, low=0, layers=layers) if dense_width else 0
    if not all(mask) and not named:
        name = dense_width[0] if dense_width else "intermediate_size"
        keys.refuse(name, f"{list(mask).count(False)} layers are dense, and the file does not say how wide")
    wide = keys.level(*shared_width, default=0, low=0, layers=layers) if shared_width else 0
    beside = keys.level(*shared, default=shared_default, low=0, layers=layers) if shared else int(wide > 0)
    return {
        "experts": number,
        "top_k": keys.level(*top_k, layers=layers),
        "moe_intermediate": own,
        "dense_intermediate": 0 if all(mask) else named,
        "shared_experts": beside,
        "shared_intermediate": (wide or own) if beside else 0,
        **placed(mask),
        **extra,
    }


def groups(keys: Keys) -> dict[str, Any]:
    """Group-limited routing of DeepSeek's keys."""
    number = keys.count("n_group", "num_expert_group", default=1, low=0) or 1
    kept = keys.count("topk_group", default=1, low=0) or 1
    return {"expert_groups": number, "groups_kept": kept}


def placed(mask: Sequence[bool]) -> dict[str, Any]:
    """Where the MoE layers are: after the first dense ones, every few layers, or else one by one."""
    at = [layer for layer, moe in enumerate(mask) if moe]
    step = at[1] - at[0] if len(at) > 1 else 1
    first = at[0] - step + 1
    if first >= 0 and at == list(range(first + step - 1, len(mask), step)):
        return {"first_dense_layers": first, "moe_layer_step": step}
    return {"moe_at": tuple(at)}


def after_dense(keys: Keys, layers: int, *names: str, default: int = 0) -> list[bool]:
    """MoE in every layer after the first dense ones; every ``moe_layer_freq``-th, or those that it lists, where it is there."""
    first = keys.count(*(names or ("first_k_dense_replace",)), default=default, low=0)
    frequency = keys.raw("moe_layer_freq")
    if isinstance(frequency, list):
        listed = [keys.checked("moe_layer_freq", item, 0, 1) > 0 for item in frequency]
        if len(listed) < layers:
            keys.refuse("moe_layer_freq", f"lists {len(listed)} layers, the model has {layers}")
        return agreed(keys, layers, listed[:layers])
    step = keys.count("moe_layer_freq", default=1)
    return agreed(keys, layers, [layer >= first and layer % step == 0 for layer in range(layers)])


def every_step(keys: Keys, layers: int) -> list[bool]:
    """Qwen's placing: every ``decoder_sparse_step``-th layer, but for ``mlp_only_layers``."""
    step = keys.count("decoder_sparse_step", default=1)
    only = keys.counts("mlp_only_layers") or []
    return agreed(keys, layers, [layer not in only and (layer + 1) % step == 0 for layer in range(layers)])


def agreed(keys: Keys, layers: int, said: list[bool]) -> list[bool]:
    """``said``, held against ``mlp_layer_types``, which transformers 5 writes. Raises BadInput where both are written and
    differ.
    """
    words = keys.words("mlp_layer_types")
    if words is None:
        return said
    unknown = [word for word in words if word not in _WORDS]
    if unknown:
        keys.refuse("mlp_layer_types", f"a block of kind {clipped(repr(unknown[0]))} is none of {', '.join(_WORDS)}")
    if len(words) < layers:
        keys.refuse("mlp_layer_types", f"lists {len(words)} layers, the model has {layers}")
    listed = [_WORDS[word] for word in words[:layers]]
    written = next((name for name in _PLACING if name != "mlp_layer_types" and keys.has(name)), None)
    if written is not None and listed != said:
        keys.refuse("mlp_layer_types", f"disagrees with {written}: keep one of them")
    return listed


def mtp(keys: Keys) -> dict[str, int]:
    """Layers of multi-token prediction, by any of the keys that count them."""
    if keys.flag("use_mtp"):
        modules, each = keys.count("num_mtp_modules", default=0, low=0), keys.count("mtp_transformer_layers", default=1)
        keys.ignore("num_nextn_predict_layers")
        return {"mtp_layers": modules * each}
    keys.ignore("num_mtp_modules", "mtp_transformer_layers", "mtp_use_dedicated_embeddings")
    names = ("num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_layers", "mtp_num_layers")
    return {"mtp_layers": keys.count(*names, default=0, low=0, high=64)}
