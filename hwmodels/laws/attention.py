"""The time of a whole MLA attention module (projections included) on one GPU, decode and prefill, as fitted on DeepSeek-V3.

*Decode* absorbs the up-projections: weights and the latent KV cache (there: 576 values a token) come from HBM, scores take
``576 + 512`` multiply-adds a head and cached token, heads padded to a tile of 64. *Prefill* expands: causal attention over
``192 + 128`` dimensions in query tiles of 128, and, launched kernel by kernel, a floor of host launches.

The constants were measured with DeepSeek-V3's sizes, fp8 weights and an fp8 cache; other sizes and precisions change bytes and
flops, not constants.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..specs import Gpu
from .kernels import smooth_max

Floats = NDArray[np.float64]

HEAD_TILE, QUERY_TILE = 64, 128
OVERLAP = 3.0  # sharpness with which bytes and flops of one kernel hide each other


@dataclass(frozen=True, slots=True)
class Sizes:
    """Widths of one MLA layer. ``query_rank`` 0: queries are projected straight from the hidden state."""

    hidden: int
    query_rank: int
    kv_rank: int
    rope: int
    head: int
    value: int


DEEPSEEK_V3 = Sizes(hidden=7168, query_rank=1536, kv_rank=512, rope=64, head=128, value=128)


@dataclass(frozen=True, slots=True)
class Stored:
    """How the big projections' weights are kept: bytes a weight, and the tensor rate that computes on them."""

    weight_bytes: float
    flops: float


@dataclass(frozen=True, slots=True)
class Mla:
    """Constants of the module under one attention kernel."""

    launch: float  # all its kernels, one after another
    host: float  # host launches in eager mode; run beside the GPU
    sequence: float  # seconds per sequence of the batch
    token: float  # seconds per new token and head: casts, norms, rotary embedding
    weights_hbm_efficiency: float
    tensor_efficiency: float  # of the projections
    kv_hbm_efficiency: float
    attention_efficiency: float  # of the attention kernel's tensor rate
    sharpness: float  # how well host and GPU hide each other


def decode_seconds(heads: Floats, batch: Floats, context: Floats, gpu: Gpu, c: Mla, sizes: Sizes = DEEPSEEK_V3) -> Floats:
    """One new token for each of ``batch`` sequences with ``context`` cached tokens, ``heads`` heads on this GPU."""
    cache, scores = decode_loads(heads, batch, context, gpu, c, sizes)
    attention = smooth_max(OVERLAP, cache, scores)
    return c.launch + projection_seconds(heads, batch, gpu, c, sizes) + c.token * batch * heads + c.sequence * batch + attention


def prefill_seconds(heads: Floats, batch: Floats, context: Floats, gpu: Gpu, c: Mla, sizes: Sizes = DEEPSEEK_V3) -> Floats:
    """``batch`` prompts of ``context`` tokens, nothing cached, launched kernel by kernel."""
    tokens = batch * context
    busy = projection_seconds(heads, tokens, gpu, c, sizes) + c.token * tokens * heads + c.sequence * batch + c.launch
    attention = prefill_flops(heads, batch, context, sizes) / (gpu.tensor_flops("bf16") * c.attention_efficiency)
    return smooth_max(c.sharpness, c.host, busy + attention)


def decode_loads(
    heads: Floats,
    batch: Floats,
    context: Floats,
    gpu: Gpu,
    c: Mla,
    sizes: Sizes = DEEPSEEK_V3,
    rows: Floats | float = 1.0,
    element_bytes: float = 1.0,
) -> tuple[Floats, Floats]:
    """Seconds of HBM and of tensor cores that absorbed attention needs: ``rows`` queries for each of ``batch`` sequences.

    A sequence's latents are read once for all its rows, whose heads fill the tile together.
    """
    padded = np.ceil(rows * heads / HEAD_TILE) * HEAD_TILE
    scores = batch * context * padded * 2.0 * (sizes.kv_rank + sizes.rope + sizes.kv_rank)
    cache = batch * context * (sizes.kv_rank + sizes.rope) * element_bytes / (gpu.hbm_bandwidth * c.kv_hbm_efficiency)
    return cache, scores / (gpu.tensor_flops("bf16") * c.attention_efficiency)


def prefill_flops(heads: Floats, batch: Floats, context: Floats, sizes: Sizes = DEEPSEEK_V3) -> Floats:
    """Flops that expanded causal attention issues for ``batch`` prompts of ``context`` tokens, query tiles full."""
    padded = np.ceil(context / QUERY_TILE) * QUERY_TILE
    return np.asarray(batch * padded * (padded + QUERY_TILE) / 2.0 * heads * 2.0 * (sizes.head + sizes.rope + sizes.value))


def weights(heads: Floats, sizes: Sizes = DEEPSEEK_V3) -> tuple[Floats, Floats]:
    """Weights on this GPU: down-, query- and output projections together, and the up-projections of keys and values (bf16)."""
    from_query = sizes.query_rank or sizes.hidden
    down = sizes.hidden * (sizes.query_rank + sizes.kv_rank + sizes.rope)
    big = down + from_query * heads * (sizes.head + sizes.rope) + heads * sizes.value * sizes.hidden
    return big, heads * sizes.kv_rank * (sizes.head + sizes.value)


def projection_loads(
    heads: Floats, tokens: Floats, gpu: Gpu, c: Mla, sizes: Sizes = DEEPSEEK_V3, stored: Stored | None = None
) -> tuple[Floats, Floats]:
    """Seconds of HBM and of tensor cores that all projections of ``tokens`` rows need. ``stored`` None: fp8."""
    big, up = weights(heads, sizes)
    stored = stored or Stored(1.0, gpu.tensor_flops("fp8"))
    read = (stored.weight_bytes * big + 2.0 * up) / (gpu.hbm_bandwidth * c.weights_hbm_efficiency)
    flops = 2.0 * tokens * (big / stored.flops + up / gpu.tensor_flops("bf16"))
    return read, flops / c.tensor_efficiency


def projection_seconds(
    heads: Floats, tokens: Floats, gpu: Gpu, c: Mla, sizes: Sizes = DEEPSEEK_V3, stored: Stored | None = None
) -> Floats:
    """All projections of ``tokens`` rows: their weights against their flops."""
    return smooth_max(OVERLAP, *projection_loads(heads, tokens, gpu, c, sizes, stored))
