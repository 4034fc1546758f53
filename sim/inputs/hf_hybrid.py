"""Hugging Face configs whose layers are single blocks (Nemotron-H): a mixer or a feed-forward block, in a written order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from ...hwmodels.errors import BadInput

#: Letters of ``hybrid_override_pattern`` and words of ``layers_block_type``.
_BLOCKS = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}


def is_hybrid(text: Mapping[str, Any]) -> bool:
    """Whether the layers are single blocks, listed one by one."""
    return "hybrid_override_pattern" in text or ("layers_block_type" in text and text.get("model_type") == "nemotron_h")


def blocks(text: Mapping[str, Any], where: str) -> Counter[str]:
    """How many layers are mamba, attention, mlp and moe. Raises BadInput for a block of another kind, or a wrong count."""
    pattern = text.get("hybrid_override_pattern")
    listed = [_BLOCKS.get(letter, letter) for letter in pattern] if isinstance(pattern, str) else text.get("layers_block_type")
    if not isinstance(listed, list) or not listed:
        raise BadInput(f"{where}: hybrid_override_pattern: wanted letters such as M*-E, one a layer, got {pattern!r}")
    unknown = sorted(set(map(str, listed)) - set(_BLOCKS.values()))
    if unknown:
        raise BadInput(f"{where}: layers of kind {', '.join(unknown)} are none of {', '.join(_BLOCKS.values())}")
    said = text.get("num_hidden_layers")
    if said is not None and said != len(listed):
        raise BadInput(f"{where}: the pattern lists {len(listed)} layers, num_hidden_layers says {said}")
    found = Counter(listed)
    if found["mlp"] + found["moe"] > found["mamba"] + found["attention"]:
        raise BadInput(
            f"{where}: more feed-forward layers than mixers in {pattern or listed}: this reads one per mixer at most"
        )
    return found


def hybrid_layers(found: Counter[str]) -> dict[str, int]:
    """Layers as `MoeModel` counts them: one per mixer, of which some have no feed-forward block after them."""
    mixers = found["mamba"] + found["attention"]
    return {
        "layers": mixers,
        "bare_layers": mixers - found["mlp"] - found["moe"],
        "first_dense_layers": found["mlp"] if found["moe"] else 0,
    }


def hybrid_attention(text: Mapping[str, Any], found: Counter[str], gqa: dict[str, int], where: str) -> list[dict[str, Any]]:
    """The kinds of mixer."""
    kinds: list[dict[str, Any]] = []
    if found["mamba"]:
        theirs = ("mamba_num_heads", "n_groups", "ssm_state_size", "mamba_head_dim", "conv_kernel")
        if missing := [key for key in theirs if not text.get(key)]:
            raise BadInput(f"{where}: mamba layers need {', '.join(missing)}, which the file lacks")
        ours = ("heads", "key_heads", "key_dim", "value_dim", "conv_kernel")
        sizes = {name: text[key] for name, key in zip(ours, theirs, strict=True)}
        kinds.append({"kind": "linear", "delta": False, "layers": found["mamba"], **sizes})
    if found["attention"]:
        kinds.append({"kind": "gqa", "layers": found["attention"], **gqa})
    return kinds
