"""A model's facts in the project's own form: enough for its MoE layers, and for a whole step."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from ...hwmodels import strict_yaml
from ...hwmodels.catalog import SET_BY_USER
from ...hwmodels.errors import BadInput, UnknownKey, UnknownName, one_line
from ...hwmodels.specs import Datasheet
from ..precision import ELEMENT_BYTES, WEIGHT_BYTES, Dtype
from .attention import Attention, Count, Positive
from .config.reading import read_config
from .stored import Kind, Stored, stored_as


class MoeModel(Datasheet):
    """A decoder model. ``experts`` is 0 for a dense one; ``attention`` lists kinds of layers, whose counts sum to ``layers``.

    MoE layers are every ``moe_layer_step``-th after the ``first_dense_layers``; the others are dense, ``dense_intermediate``
    wide; ``bare_layers`` have no feed-forward block at all (hybrids of single blocks). A feed-forward block has
    ``mlp_matrices``: gate, up and down, or up and down. Experts work on ``moe_latent`` values a token (0: on all of
    ``hidden``), which two projections of each MoE layer make and expand. ``expert_groups`` and ``groups_kept`` describe
    group-limited routing (1 and 1: none). ``weight_dtype`` is the stored precision of everything but the routed experts, whose
    own is ``expert_dtype``. MTP layers are not in ``layers``.

    ``moe_at``: the MoE layers one by one, 0 the first, where no step says them. ``residual_intermediate``: width of a dense MLP
    that runs beside the experts in every MoE layer (Grok-2, Arctic, Gemma 4). ``zero_experts``: experts that return their token
    as it is (LongCat); they cost their router columns, and ``top_k`` counts the real experts a token meets on average.
    ``lookup_params``: weights of tables read by row beside the embedding (Gemma 3n's per-layer ones), counted in all, not in
    active ones. ``stored``: the checkpoint's formats kind by kind, where it has more than the two precisions. ``unused``: keys
    of the config file that nothing here reads, neither structure nor known to be inert. ``max_context``: None where unsaid.
    """

    layers: Annotated[int, Field(ge=1, le=10_000)]
    first_dense_layers: Count = 0
    bare_layers: Count = 0
    moe_layer_step: Positive = 1
    moe_at: tuple[Count, ...] = ()
    hidden: Positive
    experts: Annotated[int, Field(ge=0, le=65_536)]
    top_k: Annotated[int, Field(ge=0, le=1024)]
    moe_intermediate: Count
    moe_latent: Count = 0
    mlp_matrices: Literal[2, 3] = 3
    shared_experts: Count = 0
    shared_intermediate: Count = 0  # of one shared expert
    dense_intermediate: Count = 0
    residual_intermediate: Count = 0
    zero_experts: Count = 0
    expert_groups: Positive = 1
    groups_kept: Positive = 1
    attention: tuple[Attention, ...]
    vocab: Positive
    lookup_params: Annotated[int, Field(ge=0, le=1 << 40)] = 0
    tied_embeddings: bool = False
    max_context: Positive | None = None
    mtp_layers: Count = 0
    weight_dtype: Dtype = "bf16"
    expert_dtype: Dtype = "bf16"
    stored: Stored | None = None
    unused: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _layer_counts_agree(self) -> Self:
        attended = sum(kind.layers for kind in self.attention if not kind.beside)
        if attended != self.layers:
            raise ValueError(f"attention lists {attended} layers, layers says {self.layers}: make them agree")
        if any(not before < after < self.layers for before, after in pairwise((-1, *self.moe_at))):
            raise ValueError(f"moe_at must rise from 0 to at most {self.layers - 1}, the last layer")
        if self.moe_at and (self.first_dense_layers or self.bare_layers or self.moe_layer_step > 1):
            raise ValueError("moe_at says every MoE layer: leave out first_dense_layers, moe_layer_step and bare_layers")
        if self.first_dense_layers > self.layers - self.bare_layers:
            bare = f" without its bare_layers ({self.bare_layers})" if self.bare_layers else ""
            raise ValueError(f"first_dense_layers ({self.first_dense_layers}) is beyond layers ({self.layers}){bare}")
        if self.dense_layers and self.dense_intermediate == 0:
            raise ValueError(f"{self.dense_layers} layers are dense: dense_intermediate must say how wide")
        return self

    @model_validator(mode="after")
    def _experts_agree(self) -> Self:
        if self.experts == 0:
            if self.top_k or self.moe_intermediate or self.shared_experts:
                raise ValueError("a dense model (experts 0) has top_k 0, moe_intermediate 0 and shared_experts 0")
            return self
        if not 1 <= self.top_k <= self.experts:
            raise ValueError(f"top_k ({self.top_k}) must lie within 1 and experts ({self.experts}): set one of them")
        if self.moe_intermediate == 0:
            raise ValueError(f"{self.experts} experts need moe_intermediate, their width")
        if bool(self.shared_experts) != bool(self.shared_intermediate):
            raise ValueError(
                f"shared_experts ({self.shared_experts}) and shared_intermediate ({self.shared_intermediate}) go together"
            )
        if self.experts % self.expert_groups:
            raise ValueError(
                f"experts ({self.experts}) do not divide into expert_groups ({self.expert_groups}): use expert_groups=1, "
                f"or experts={max(1, self.experts // self.expert_groups) * self.expert_groups}"
            )
        if self.groups_kept > self.expert_groups:
            raise ValueError(f"groups_kept ({self.groups_kept}) exceeds expert_groups ({self.expert_groups}): lower it")
        reachable = self.experts // self.expert_groups * self.groups_kept
        if self.top_k > reachable:
            raise ValueError(
                f"top_k ({self.top_k}) exceeds the {reachable} experts of groups_kept={self.groups_kept}: raise it"
            )
        return self

    @property
    def moe_layers(self) -> int:
        """Layers with routed experts."""
        if self.moe_at:
            return len(self.moe_at) if self.experts else 0
        rest = self.layers - self.bare_layers - self.first_dense_layers
        return rest // self.moe_layer_step if self.experts else 0

    @property
    def dense_layers(self) -> int:
        """Layers with a plain feed-forward block."""
        return self.layers - self.bare_layers - self.moe_layers

    @property
    def kv_heads(self) -> int:
        """The fewest KV heads of any kind of layer: beyond as many GPUs, tensor parallelism repeats some of the cache."""
        return min(kind.cache_heads for kind in self.attention)

    @property
    def expert_width(self) -> int:
        """Values of one token that an expert takes and gives."""
        return self.moe_latent or self.hidden

    @property
    def expert_params(self) -> int:
        """Weights of one routed expert: its matrices, each [expert_width, moe_intermediate]."""
        return self.mlp_matrices * self.expert_width * self.moe_intermediate

    @property
    def shared_params(self) -> int:
        """Weights of one MoE layer's shared experts together."""
        return self.mlp_matrices * self.hidden * self.shared_intermediate * self.shared_experts

    @property
    def residual_params(self) -> int:
        """Weights of the dense MLP beside one MoE layer's experts."""
        return self.mlp_matrices * self.hidden * self.residual_intermediate

    @property
    def dense_params(self) -> int:
        """Weights of one dense layer's MLP."""
        return self.mlp_matrices * self.hidden * self.dense_intermediate

    @property
    def beside_width(self) -> int:
        """Width of everything dense beside one MoE layer's experts: shared experts and residual MLP."""
        return self.shared_intermediate * self.shared_experts + self.residual_intermediate

    @property
    def router_params(self) -> int:
        """Weights of one MoE layer's router, and of the projections to the experts' latent width and back."""
        return self.hidden * (self.experts + self.zero_experts + 2 * self.moe_latent)

    @property
    def norms(self) -> int:
        """Norms of ``hidden`` values in a pass: before each mixer, before each feed-forward block, before the head."""
        return 2 * self.layers - self.bare_layers + 1

    @property
    def total_expert_params(self) -> int:
        """Weights of all routed experts of all layers, MTP layers not counted."""
        return self.expert_params * self.experts * self.moe_layers

    @property
    def total_params(self) -> int:
        """All weights but norms, biases and MTP layers."""
        tables = self.vocab * self.hidden * (1 if self.tied_embeddings else 2) + self.lookup_params
        return tables + self.attention_params + self.total_expert_params + self._beside_params + self._dense_params

    @property
    def attention_params(self) -> int:
        """Weights of all mixers."""
        return sum(kind.layers * kind.params(self.hidden) for kind in self.attention)

    @property
    def _dense_params(self) -> int:
        return self.dense_params * self.dense_layers + self.residual_params * self.moe_layers

    @property
    def _beside_params(self) -> int:
        return self.moe_layers * (self.shared_params + self.router_params)

    @property
    def active_params(self) -> int:
        """Weights that one token's pass reads: ``total_params`` with ``top_k`` experts a layer instead of all, no table
        rows.
        """
        return self.total_params - self.lookup_params - self.expert_params * (self.experts - self.top_k) * self.moe_layers

    @property
    def weight_kinds(self) -> tuple[Kind, ...]:
        """The kinds of layer weights that the model has; the routed experts, or a dense model's MLPs, come last."""
        dense = ("dense",) if self.dense_layers or self.residual_intermediate else ()
        if not self.experts:
            return ("attention", "dense")
        return ("attention", *dense, *(("shared",) if self.shared_experts else ()), "experts")

    @property
    def formats(self) -> Stored:
        """How each kind of weights is stored."""
        return self.stored or stored_as(self.weight_dtype, self.expert_dtype)

    @property
    def stored_bytes(self) -> float:
        """Bytes of all weights as the checkpoint stores them; embeddings and routers in bf16; norms and MTP layers left out."""
        form = self.formats
        tables = (
            self.vocab * self.hidden * (2.0 + (0.0 if self.tied_embeddings else form.head.bits / 8)) + 2.0 * self.lookup_params
        )
        return (
            tables
            + self.attention_params * form.attention.bits / 8
            + self._dense_params * form.dense.bits / 8
            + self.moe_layers * (self.shared_params * form.shared.bits / 8 + self.router_params * 2.0)
            + self.total_expert_params * form.experts.bits / 8
        )

    @property
    def mtp_params(self) -> int:
        """Weights of the MTP layers: each one more layer, and a projection of two hidden states; head and embeddings are
        shared.
        """
        moe = self.expert_params * self.experts + self.shared_params + self.router_params + self.residual_params
        layer = self.attention_params // self.layers + (moe if self.experts else self.dense_params)
        return self.mtp_layers * (layer + 2 * self.hidden**2)

    @property
    def summary(self) -> str:
        """The model as read, in one line: parameters, layers, KV cache and stored bytes, and the keys that nothing read."""
        active = f"{_billions(self.active_params, 3)} active" if self.experts else "all active"
        blocks = "dense"
        if self.experts:
            idle = f" and {self.zero_experts} that do nothing" if self.zero_experts else ""
            mean = " real ones on average" if self.zero_experts else ""
            blocks = f"{self.moe_layers} MoE, {self.experts} experts{idle}, top-{self.top_k}{mean}"
        kinds = [kind.words for kind in self.attention]
        mixers = ": " + ", ".join(f"{kind.layers} {kind.words}" for kind in self.attention)
        if len(kinds) == 1:
            mixers = "" if kinds[0] == "full attention" else f" of {kinds[0]}"
        gibibytes = self.stored_bytes / 2**30
        size = f"{gibibytes:,.0f}" if gibibytes >= 10 else f"{gibibytes:.1f}"
        cache = self.formats.kv
        kept = f" ({self.kv_bytes_per_token(cache):,.0f} in {cache}, as the checkpoint asks)" if cache else ""
        unused = f"; not used: {', '.join(self.unused)}" if self.unused else ""
        return (
            f"{_billions(self.total_params, 4)} parameters, {active}, "
            f"{self.layers} layer{'s' * (self.layers > 1)} ({blocks}){mixers}, "
            f"KV {self.kv_bytes_per_token():,.0f} B a token{kept}, "
            f"stored {size} GiB in {self.formats.words(self.weight_kinds)}{unused}"
        )

    @property
    def said(self) -> str:
        """`summary` after the model's name: what every answer says of it."""
        return f"{self.name}: {self.summary}"

    def expert_bytes(self, dtype: Dtype | None = None) -> float:
        """Bytes of one routed expert's weights with their block scales, in ``dtype`` (default: as stored)."""
        return self.expert_params * (WEIGHT_BYTES[dtype] if dtype else self.formats.experts.bits / 8)

    def kv_bytes_per_token(self, dtype: Dtype = "bf16") -> float:
        """Bytes by which one more token of context grows the cache of all layers (windows and linear states do not grow)."""
        return sum(kind.layers * kind.cache_bytes_per_token(ELEMENT_BYTES[dtype]) for kind in self.attention)

    def kv_bytes(self, context: int, dtype: Dtype = "bf16") -> float:
        """Bytes of cache and state that one sequence of ``context`` tokens holds in all layers."""
        return sum(kind.layers * kind.cache_bytes(context, ELEMENT_BYTES[dtype]) for kind in self.attention)


def load_model(name_or_path: str | Path) -> MoeModel:
    """The preset of that name, or the model of a Hugging Face config.json (a path to it or its folder).

    Raises UnknownName with the nearest preset, or BadInput naming the file and what it lacks.
    """
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith(".json") or "/" in text:
        return from_hf_config(Path(name_or_path))
    return _preset(text)


def model_names() -> tuple[str, ...]:
    """The sorted names of the presets."""
    folder = files("epicycle.sim.inputs").joinpath("models")
    return tuple(sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml")))


def from_hf_config(path: str | Path) -> MoeModel:
    """The model of a Hugging Face ``config.json`` (or a Mistral ``params.json``), or of the folder that holds one.

    Beside it are read, where they lie there, ``hf_quant_config.json`` and ``model.safetensors.index.json``. Raises BadInput
    with one line naming file and key.
    """
    read = read_config(Path(path))
    model = _validated({"name": read.name, **read.facts, "sources": {"*": str(read.path)}}, str(read.path))
    read.check(model.stored_bytes, model.mtp_params, model.total_params)
    return model


def with_overrides(model: MoeModel, changes: Mapping[str, object]) -> MoeModel:
    """``model`` with fields replaced and validated again. Raises UnknownKey, or BadInput saying what does not fit."""
    known = set(MoeModel.model_fields) - {"name", "sources"}
    for key in changes:
        if key not in known:
            raise UnknownKey(model.name, key, known)
    sources = {**model.sources, **dict.fromkeys(changes, SET_BY_USER)}
    if {"weight_dtype", "expert_dtype"} & set(changes) and "stored" not in changes:
        changes = {**changes, "stored": None}
    return _validated({**model.model_dump(), **changes, "sources": sources}, model.name)


def _billions(params: int, digits: int) -> str:
    """``params`` with as many digits: 299.5 B, 1.026 T."""
    value, unit = (params / 1e12, "T") if params >= 0.9995e12 else (params / 1e9, "B")
    whole = len(str(int(value))) if value >= 1 else 0
    return f"{value:.{max(0, digits - max(1, whole))}f} {unit}"


@cache
def _preset(name: str) -> MoeModel:
    known = model_names()
    if name not in known:
        raise UnknownName("model", name, known, "epicycle catalog models")
    text = files("epicycle.sim.inputs").joinpath("models", f"{name}.yaml").read_text(encoding="utf-8")
    return _validated(strict_yaml.load(text, f"models/{name}.yaml"), f"models/{name}.yaml")


def _validated(data: Mapping[str, Any], where: str) -> MoeModel:
    try:
        return MoeModel.model_validate(data)
    except ValidationError as error:
        raise BadInput(one_line(error, where)) from None
