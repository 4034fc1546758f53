"""A model's linear layers by the names that quantisation rules match, each with its kind and its share of that kind's
weights.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

from ..stored import Kind

#: How checkpoints begin the name of layer N.
_PREFIXES = (
    "model.layers.{}",
    "model.language_model.layers.{}",
    "language_model.model.layers.{}",
    "layers.{}",
    "backbone.layers.{}",
)
_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)(?:\.|$|\*)")
#: More layers than this are sampled evenly: rules speak of layers by number, and no model has as many.
_MOST_LAYERS = 256


@dataclass(frozen=True, slots=True)
class Module:
    """One linear layer: every ``name`` that a rule may know it by, and its ``weight`` beside others of its ``kind``."""

    kind: Kind
    layer: int | None
    names: tuple[str, ...]
    weight: float


def modules(facts: dict[str, Any]) -> list[Module]:
    """The linear layers of a model: every layer's mixer, its dense or expert block, and the head."""
    layers = facts["layers"]
    numbers = range(layers) if layers <= _MOST_LAYERS else range(0, layers, layers // _MOST_LAYERS)
    mixers = list(_mixers(facts))
    blocks = list(_blocks(facts))
    found = [Module("head", None, ("lm_head", "head", "output", "language_model.lm_head", "model.lm_head"), 1.0)]
    for number in numbers:
        for kind, leaves, weight in (*mixers, *blocks):
            found.append(Module(kind, number, _names(number, leaves), weight))
    return found


@cache
def _names(number: int, leaves: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{prefix.format(number)}.{leaf}" for prefix in _PREFIXES for leaf in leaves)


def _mixers(facts: dict[str, Any]) -> Iterator[tuple[Kind, tuple[str, ...], float]]:
    """Projections of the kind of attention that most layers have."""
    entry = max(facts["attention"], key=lambda each: int(each["layers"]))
    hidden, kind = facts["hidden"], entry["kind"]
    if kind == "mla":
        query = entry["nope_head_dim"] + entry["rope_head_dim"]
        rank = entry.get("q_lora_rank")
        if rank:
            yield "attention", ("self_attn.q_a_proj", "self_attn.fused_qkv_a_proj", "attn.wq_a"), hidden * rank
            yield "attention", ("self_attn.q_b_proj", "attn.wq_b"), rank * entry["heads"] * query
        else:
            yield "attention", ("self_attn.q_proj",), hidden * entry["heads"] * query
        down = hidden * (entry["kv_lora_rank"] + entry["rope_head_dim"])
        yield "attention", ("self_attn.kv_a_proj_with_mqa", "attn.wkv_a"), down
        up = entry["kv_lora_rank"] * entry["heads"] * (entry["nope_head_dim"] + entry["v_head_dim"])
        yield "attention", ("self_attn.kv_b_proj", "attn.wkv_b"), up
        yield "attention", ("self_attn.o_proj", "attn.wo"), entry["heads"] * entry["v_head_dim"] * hidden
    elif kind in ("gqa", "sliding"):
        yield "attention", ("self_attn.q_proj", "mixer.q_proj", "attn.q_proj"), entry["heads"] * entry["head_dim"]
        for leaf in ("k_proj", "v_proj"):
            yield "attention", (f"self_attn.{leaf}", f"mixer.{leaf}", f"attn.{leaf}"), entry["kv_heads"] * entry["head_dim"]
        yield "attention", ("self_attn.o_proj", "mixer.o_proj", "attn.o_proj"), entry["heads"] * entry["head_dim"]
    else:
        leaves = ("linear_attn.{}", "mamba.{}", "mixer.{}", "self_attn.{}", "attn.{}", "conv.{}")
        for part, weight in (("in_proj", 3.0), ("out_proj", 1.0)):
            yield "attention", tuple(leaf.format(part) for leaf in leaves), weight


def _blocks(facts: dict[str, Any]) -> Iterator[tuple[Kind, tuple[str, ...], float]]:
    homes = ("mlp", "feed_forward", "block_sparse_moe", "ffn", "mixer")
    kinds: list[tuple[Kind, tuple[str, ...]]] = []
    if facts.get("dense_intermediate") or facts.get("residual_intermediate"):
        kinds.append(("dense", ("{}",)))
    if facts.get("shared_experts"):
        kinds.append(("shared", ("{}.shared_experts", "{}.shared_expert", "{}.shared_mlp")))
    if facts["experts"]:
        kinds.append(("experts", ("{}.experts.0", "{}.experts")))
    for kind, inside in kinds:
        for part in ("gate_proj", "up_proj", "down_proj"):
            yield kind, tuple(f"{form.format(home)}.{part}" for home in homes for form in inside), 1.0


def matcher(pattern: str, *, anywhere: bool) -> Callable[[str], bool]:
    """Whether a rule's pattern names a module: ``re:`` regular expressions, ``*`` wildcards, else the name of it or of a
    parent.

    ``anywhere``: a bare word may also stand inside a name (transformers and vLLM's lists of modules). Raises ValueError.
    """
    if pattern.startswith(("re:", "-:", "+:")):
        try:
            compiled = re.compile(pattern[3:] if pattern.startswith("re:") else pattern[2:])
        except re.error as error:
            raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
        return lambda name: compiled.match(name) is not None
    if any(sign in pattern for sign in "*?["):
        return lambda name: fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")
    if anywhere:
        inside = f".{pattern}."
        return lambda name: inside in f".{name}." or (pattern in name and not name.endswith(pattern) and "." in pattern)
    return lambda name: name == pattern or name.startswith(f"{pattern}.")


class Rules:
    """A list of patterns, asked module by module; those that name a layer by number are asked for that layer only."""

    def __init__(self, patterns: Iterable[str], *, anywhere: bool = True) -> None:
        self._by_layer: dict[int, list[Callable[[str], bool]]] = {}
        self._all: list[Callable[[str], bool]] = []
        for pattern in patterns:
            numbered = None if pattern.startswith(("re:", "-:", "+:")) else _LAYER.search(pattern)
            home = self._all if numbered is None else self._by_layer.setdefault(int(numbered.group(1)), [])
            home.append(matcher(pattern, anywhere=anywhere))

    def name(self, module: Module) -> bool:
        """Whether a pattern names the module."""
        tests = self._all if module.layer is None else (*self._all, *self._by_layer.get(module.layer, ()))
        return any(test(name) for test in tests for name in module.names)
