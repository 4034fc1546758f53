"""The kinds of attention layer: what each keeps per token, and how many weights it has.

A model lists its kinds with the number of layers of each; their order in the model does not change any cost. ``Token cache``
means bytes that grow with every token of context; a window or a linear state stops growing and is counted apart.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(ge=1, le=1 << 24)]
Count = Annotated[int, Field(ge=0, le=1 << 24)]


class _AttentionLayers(BaseModel):
    """``layers`` layers of one kind. ``beside``: they run beside another kind in the same layer (Falcon-H1), not as layers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layers: Positive
    heads: Positive
    beside: bool = False

    def cache_bytes_per_token(self, element_bytes: float) -> float:
        """Bytes that one more token of context adds in one layer, without end."""
        raise NotImplementedError

    def cache_bytes(self, context: int, element_bytes: float) -> float:
        """Bytes one layer holds after ``context`` tokens."""
        return self.cache_bytes_per_token(element_bytes) * context

    def params(self, hidden: int) -> int:
        """Weights of one layer's projections."""
        raise NotImplementedError

    @property
    def words(self) -> str:
        """The kind in a few words."""
        return "full attention"

    @property
    def cache_heads(self) -> int:
        """Heads over which tensor parallelism splits the cache: 1 where all query heads share what is kept."""
        return 1


class Indexer(BaseModel):
    """Sparse attention: a small key per token scores the context, and ``top_k`` tokens are attended to.

    ``shared``: the layer attends to what an earlier layer's indexer chose, and has no indexer of its own (GLM-5.2).
    ``weighted``: a projection weighs the index heads (DeepSeek); without, their best score counts (MiniMax-M3, whose keys are
    kept in bf16).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    heads: Positive
    head_dim: Positive
    top_k: Positive
    shared: bool = False
    weighted: bool = True

    @property
    def cache_bytes_per_token(self) -> float:
        """One FP8 key and its fp32 scale (DeepSeek-V3.2-Exp, inference/model.py: one scale per 128 values), or one bf16 key."""
        if self.shared:
            return 0.0
        return self.head_dim + 4 * -(-self.head_dim // 128) if self.weighted else 2.0 * self.head_dim

    def params(self, hidden: int, q_rank: int) -> int:
        if self.shared:
            return 0
        return q_rank * self.heads * self.head_dim + hidden * self.head_dim + (hidden * self.heads if self.weighted else 0)


def _with_indexer(words: str, indexer: Indexer | None) -> str:
    if indexer is None:
        return words
    return f"{words} of {indexer.top_k:,} chosen tokens" + (" (chosen by an earlier layer)" if indexer.shared else "")


class Mla(_AttentionLayers):
    """Multi-head latent attention: a token keeps one latent of ``kv_lora_rank`` and one shared rotary key."""

    kind: Literal["mla"] = "mla"
    kv_lora_rank: Positive
    rope_head_dim: Positive
    nope_head_dim: Positive
    v_head_dim: Positive
    q_lora_rank: Positive | None = None
    indexer: Indexer | None = None
    head_gated: bool = False  # one gate a head, from the layer's input (Ling 3)
    gated: bool = False  # one gate for every value that leaves the heads (Kimi-K3)

    @property
    def gates(self) -> int:
        """Columns of the projection that gates the output."""
        return self.heads * self.v_head_dim if self.gated else self.heads if self.head_gated else 0

    @property
    def words(self) -> str:
        return _with_indexer("latent attention", self.indexer)

    def cache_bytes_per_token(self, element_bytes: float) -> float:
        index = self.indexer.cache_bytes_per_token if self.indexer else 0.0
        return (self.kv_lora_rank + self.rope_head_dim) * element_bytes + index

    def params(self, hidden: int) -> int:
        q_dim = self.heads * (self.nope_head_dim + self.rope_head_dim)
        q = hidden * q_dim if self.q_lora_rank is None else self.q_lora_rank * (hidden + q_dim)
        kv = hidden * (self.kv_lora_rank + self.rope_head_dim)
        kv += self.kv_lora_rank * self.heads * (self.nope_head_dim + self.v_head_dim)
        index = self.indexer.params(hidden, self.q_lora_rank or hidden) if self.indexer else 0
        return q + kv + self.heads * self.v_head_dim * hidden + index + hidden * self.gates


class _Grouped(_AttentionLayers):
    """Grouped-query attention: ``kv_heads`` keys of ``head_dim`` and as many values of ``v_head_dim`` (None: the same) a token.

    ``gated``: the output is gated by a second query-sized projection (Qwen3-Next, AFM). ``head_gated``: by one value a head
    (Step-3.5). ``q_rank``: queries go through a narrow projection (Step-3's multi-matrix factorisation). ``own_kv`` False: the
    layer reads an earlier layer's cache and projects no keys and values (Hunyuan-Large, Gemma 3n). ``values_projected`` False:
    values are the keys before their norm (Gemma 4's global layers), kept beside them all the same.
    """

    kv_heads: Positive
    head_dim: Positive
    v_head_dim: Positive | None = None
    gated: bool = False
    head_gated: bool = False
    q_rank: Positive | None = None
    own_kv: bool = True
    values_projected: bool = True

    @property
    def value_dim(self) -> int:
        return self.v_head_dim or self.head_dim

    @property
    def mean_dim(self) -> float:
        """Mean width of a key and a value."""
        return (self.head_dim + self.value_dim) / 2

    @property
    def cache_heads(self) -> int:
        return self.kv_heads

    def _token_bytes(self, element_bytes: float) -> float:
        return self.kv_heads * (self.head_dim + self.value_dim) * element_bytes if self.own_kv else 0.0

    def kv_params(self, hidden: int) -> int:
        """Weights of the key and value projections."""
        width = self.head_dim + (self.value_dim if self.values_projected else 0)
        return hidden * self.kv_heads * width if self.own_kv else 0

    def params(self, hidden: int) -> int:
        queries, outputs = self.heads * self.head_dim, self.heads * self.value_dim
        q = hidden * queries if self.q_rank is None else self.q_rank * (hidden + queries)
        gate = hidden * (outputs if self.gated else self.heads if self.head_gated else 0)
        return q + self.kv_params(hidden) + outputs * hidden + gate


class Gqa(_Grouped):
    """Grouped-query attention over the whole context, or over what an ``indexer`` chooses of it (MiniMax-M3)."""

    kind: Literal["gqa"] = "gqa"
    indexer: Indexer | None = None

    @property
    def words(self) -> str:
        shared = "" if self.own_kv else " over an earlier layer's cache"
        return _with_indexer("full attention", self.indexer) + shared

    def cache_bytes_per_token(self, element_bytes: float) -> float:
        return self._token_bytes(element_bytes) + (self.indexer.cache_bytes_per_token if self.indexer else 0.0)

    def params(self, hidden: int) -> int:
        return super().params(hidden) + (self.indexer.params(hidden, hidden) if self.indexer else 0)


class Sliding(_Grouped):
    """Grouped-query attention over at most the last ``window`` tokens (or the current chunk of ``window``)."""

    kind: Literal["sliding"] = "sliding"
    window: Positive

    @property
    def words(self) -> str:
        return f"window {self.window:,}"

    def cache_bytes_per_token(self, element_bytes: float) -> float:
        return 0.0

    def cache_bytes(self, context: int, element_bytes: float) -> float:
        return self._token_bytes(element_bytes) * min(context, self.window)


#: Mixers of constant state. ``delta``: a gated delta net (Qwen3-Next). ``kda``: the same with a decay per channel
#: (Kimi-Linear). ``mamba2``: arXiv 2405.21060, its groups are the key heads, its state size the key dimension, its head
#: dimension the value's. ``mamba``: the first Mamba (Jamba): every channel is a head of value dimension 1. ``lightning``:
#: linear attention without a convolution (MiniMax-01, Ling 2.5). ``conv``: a gated short convolution alone (LFM2), every
#: channel a head.
Form = Literal["delta", "kda", "mamba2", "mamba", "lightning", "conv"]


class Linear(_AttentionLayers):
    """A mixer whose memory does not grow: ``heads`` heads, each an fp32 state of ``key_dim`` x ``value_dim``, by its ``form``.

    ``rank``: width through which the decay and the output gate of ``kda`` (0: they are whole projections), or the time step of
    ``mamba``, pass. ``full_gate``: of these two only the decay does (Kimi-K3).
    """

    kind: Literal["linear"] = "linear"
    form: Form = "delta"
    key_heads: Positive
    key_dim: Positive
    value_dim: Positive
    conv_kernel: Positive
    rank: Count = 0
    full_gate: bool = False

    @property
    def expanded(self) -> int:
        """Columns that ``rank`` expands to in ``kda``: of the decay, and of the gate unless it is whole."""
        return 0 if self.form != "kda" or not self.rank else self.inner * (1 if self.full_gate else 2)

    @property
    def cache_heads(self) -> int:
        return self.heads

    @property
    def words(self) -> str:
        names = {"delta": "delta net", "kda": "KDA", "mamba2": "Mamba-2", "mamba": "Mamba", "conv": "short convolution"}
        return names.get(self.form, f"{self.form} attention") + (" beside" if self.beside else "")

    @property
    def inner(self) -> int:
        """Values of one token that leave the mixer for its output projection."""
        return self.heads * self.value_dim

    @property
    def conv_channels(self) -> int:
        """Values of one token that pass the convolution."""
        if self.form == "lightning":
            return 0
        return self.inner + (0 if self.form in ("mamba", "conv") else 2 * self.key_heads * self.key_dim)

    @property
    def state(self) -> int:
        """Elements of one sequence's fp32 state."""
        return 0 if self.form == "conv" else self.heads * self.key_dim * self.value_dim

    def cache_bytes_per_token(self, element_bytes: float) -> float:
        return 0.0

    def cache_bytes(self, context: int, element_bytes: float) -> float:
        """The state's size, whatever the ``context``: fp32 state, and the convolution's last inputs."""
        return 4 * self.state + (self.conv_kernel - 1) * self.conv_channels * element_bytes

    def columns(self) -> int:
        """Columns of the projections of the layer's input."""
        queries_keys = 2 * self.key_heads * self.key_dim
        if self.form in ("mamba", "conv"):
            return (2 if self.form == "mamba" else 3) * self.inner
        if self.form == "kda":
            narrow = self.rank or self.inner
            return queries_keys + self.inner + narrow + (self.inner if self.full_gate else narrow) + self.heads
        gates = {"delta": 2 * self.heads, "mamba2": self.heads, "lightning": 0}[self.form]
        return queries_keys + 2 * self.inner + gates

    def inner_params(self) -> int:
        """Weights between the input's projections and the output's: what expands gates and time steps, state matrices."""
        if self.form == "kda":
            return self.rank * self.expanded
        if self.form == "mamba":
            return self.inner * (2 * self.rank + 3 * self.key_dim)
        return 0

    def params(self, hidden: int) -> int:
        return hidden * (self.columns() + self.inner) + self.conv_kernel * self.conv_channels + self.inner_params()


class Compressed(_AttentionLayers):
    """DeepSeek-V4: one entry of ``head_dim`` (key and value at once) per ``ratio`` tokens, and a window of plain ones.

    ``ratio`` 4 layers select entries with an ``indexer``, ratio 128 layers attend to all. ``ratio`` None: the window only.
    """

    kind: Literal["compressed"] = "compressed"
    head_dim: Positive
    rope_head_dim: Positive
    ratio: Positive | None
    window: Positive
    q_lora_rank: Positive
    o_groups: Positive
    o_lora_rank: Positive
    indexer: Indexer | None = None

    @property
    def words(self) -> str:
        return f"compressed 1:{self.ratio}" if self.ratio else f"window {self.window:,}"

    def cache_bytes_per_token(self, element_bytes: float) -> float:
        if self.ratio is None:
            return 0.0
        index = self.indexer.cache_bytes_per_token if self.indexer else 0.0
        return (self.head_dim * element_bytes + index) / self.ratio

    def cache_bytes(self, context: int, element_bytes: float) -> float:
        entries = 0 if self.ratio is None else context // self.ratio
        index = self.indexer.cache_bytes_per_token if self.indexer else 0.0
        return entries * (self.head_dim * element_bytes + index) + min(context, self.window) * self.head_dim * element_bytes

    def params(self, hidden: int) -> int:
        q = self.q_lora_rank * (hidden + self.heads * self.head_dim)
        out = self.heads * self.head_dim * self.o_lora_rank + self.o_groups * self.o_lora_rank * hidden
        # An overlapping compressor (ratio 4) projects every token twice, each time to an entry and to its weight.
        compressor = 0 if self.ratio is None else hidden * self.head_dim * (4 if self.indexer else 2)
        index = 0
        if self.indexer is not None:
            index = self.indexer.heads * self.indexer.head_dim * self.q_lora_rank
            index += hidden * (self.indexer.heads + 4 * self.indexer.head_dim)
        return q + hidden * self.head_dim + out + compressor + index


Attention = Annotated[Mla | Gqa | Sliding | Linear | Compressed, Field(discriminator="kind")]
