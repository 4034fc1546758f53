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
    """``layers`` layers of one kind."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layers: Positive
    heads: Positive

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
    def cache_heads(self) -> int:
        """Heads over which tensor parallelism splits the cache: 1 where all query heads share what is kept."""
        return 1


class Indexer(BaseModel):
    """DeepSeek sparse attention: a small FP8 key per token scores the context, and ``top_k`` tokens are attended to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    heads: Positive
    head_dim: Positive
    top_k: Positive

    @property
    def cache_bytes_per_token(self) -> float:
        """One FP8 key and its fp32 scale (DeepSeek-V3.2-Exp, inference/model.py: one scale per 128 values)."""
        return self.head_dim + 4 * -(-self.head_dim // 128)

    def params(self, hidden: int, q_rank: int) -> int:
        return q_rank * self.heads * self.head_dim + hidden * self.head_dim + hidden * self.heads


class Mla(_AttentionLayers):
    """Multi-head latent attention: a token keeps one latent of ``kv_lora_rank`` and one shared rotary key."""

    kind: Literal["mla"] = "mla"
    kv_lora_rank: Positive
    rope_head_dim: Positive
    nope_head_dim: Positive
    v_head_dim: Positive
    q_lora_rank: Positive | None = None
    indexer: Indexer | None = None

    def cache_bytes_per_token(self, element_bytes: float) -> float:
        index = self.indexer.cache_bytes_per_token if self.indexer else 0.0
        return (self.kv_lora_rank + self.rope_head_dim) * element_bytes + index

    def params(self, hidden: int) -> int:
        q_dim = self.heads * (self.nope_head_dim + self.rope_head_dim)
        q = hidden * q_dim if self.q_lora_rank is None else self.q_lora_rank * (hidden + q_dim)
        kv = hidden * (self.kv_lora_rank + self.rope_head_dim)
        kv += self.kv_lora_rank * self.heads * (self.nope_head_dim + self.v_head_dim)
        index = self.indexer.params(hidden, self.q_lora_rank or hidden) if self.indexer else 0
        return q + kv + self.heads * self.v_head_dim * hidden + index


class Gqa(_AttentionLayers):
    """Grouped-query attention over the whole context: a key and a value per ``kv_heads`` head."""

    kind: Literal["gqa"] = "gqa"
    kv_heads: Positive
    head_dim: Positive
    gated: bool = False  # the output is gated by a second query-sized projection (Qwen3.5)

    @property
    def cache_heads(self) -> int:
        return self.kv_heads

    def cache_bytes_per_token(self, element_bytes: float) -> float:
        return 2 * self.kv_heads * self.head_dim * element_bytes

    def params(self, hidden: int) -> int:
        return hidden * self.head_dim * ((3 if self.gated else 2) * self.heads + 2 * self.kv_heads)


class Sliding(_AttentionLayers):
    """Grouped-query attention over at most the last ``window`` tokens (or the current chunk of ``window``)."""

    kind: Literal["sliding"] = "sliding"
    kv_heads: Positive
    head_dim: Positive
    window: Positive

    @property
    def cache_heads(self) -> int:
        return self.kv_heads

    def cache_bytes_per_token(self, element_bytes: float) -> float:
        return 0.0

    def cache_bytes(self, context: int, element_bytes: float) -> float:
        return 2 * self.kv_heads * self.head_dim * element_bytes * min(context, self.window)

    def params(self, hidden: int) -> int:
        return hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)


class Linear(_AttentionLayers):
    """Linear attention: ``heads`` value heads, each a constant fp32 state of ``key_dim`` x ``value_dim``.

    ``delta``: a gated delta net (Qwen3-Next). Without, a Mamba-2 mixer (arXiv 2405.21060): its groups are the key heads, its
    state size the key dimension, its head dimension the value's, and one time step a head replaces two gates.
    """

    kind: Literal["linear"] = "linear"
    delta: bool = True
    key_heads: Positive
    key_dim: Positive
    value_dim: Positive
    conv_kernel: Positive

    @property
    def cache_heads(self) -> int:
        return self.heads

    @property
    def _conv_channels(self) -> int:
        return 2 * self.key_heads * self.key_dim + self.heads * self.value_dim

    def cache_bytes_per_token(self, element_bytes: float) -> float:
        return 0.0

    def cache_bytes(self, context: int, element_bytes: float) -> float:
        """The state's size, whatever the ``context``: fp32 state, and the convolution's last inputs."""
        return 4 * self.heads * self.key_dim * self.value_dim + (self.conv_kernel - 1) * self._conv_channels * element_bytes

    def params(self, hidden: int) -> int:
        gate_and_out = 2 * self.heads * self.value_dim
        gates = (2 if self.delta else 1) * self.heads
        return hidden * (self._conv_channels + gate_and_out + gates) + self.conv_kernel * self._conv_channels


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
