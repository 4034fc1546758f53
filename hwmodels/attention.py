"""The time of a whole MLA attention module (DeepSeek-V3's sizes, projections included) on one GPU, decode and prefill.

*Decode* absorbs the up-projections: weights and the latent KV cache (576 fp8 values a token) come from HBM, scores take
``576 + 512`` multiply-adds a head and cached token, heads padded to a tile of 64. *Prefill* expands: causal attention over
``192 + 128`` dimensions in query tiles of 128, and, in eager mode, a floor of host launches.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .laws import smooth_max
from .specs import Gpu

Floats = NDArray[np.float64]

HIDDEN, QUERY_RANK, KV_RANK, ROPE, HEAD, VALUE = 7168, 1536, 512, 64, 128, 128
HEAD_TILE, QUERY_TILE = 64, 128
_OVERLAP = 3.0  # sharpness with which bytes and flops of one kernel hide each other


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


def decode_seconds(heads: Floats, batch: Floats, context: Floats, gpu: Gpu, c: Mla) -> Floats:
    """One new token for each of ``batch`` sequences with ``context`` cached tokens, ``heads`` heads on this GPU."""
    scores = batch * context * np.maximum(heads, HEAD_TILE) * 2.0 * (KV_RANK + ROPE + KV_RANK)
    cache = batch * context * (KV_RANK + ROPE) / (gpu.hbm_bandwidth * c.kv_hbm_efficiency)
    attention = smooth_max(_OVERLAP, cache, scores / (gpu.tensor_flops("bf16") * c.attention_efficiency))
    return c.launch + _projections(heads, batch, gpu, c) + c.token * batch * heads + c.sequence * batch + attention


def prefill_seconds(heads: Floats, batch: Floats, context: Floats, gpu: Gpu, c: Mla) -> Floats:
    """``batch`` prompts of ``context`` tokens, nothing cached."""
    padded = np.ceil(context / QUERY_TILE) * QUERY_TILE
    flops = batch * padded * (padded + QUERY_TILE) / 2.0 * heads * 2.0 * (HEAD + ROPE + VALUE)
    tokens = batch * context
    busy = _projections(heads, tokens, gpu, c) + c.token * tokens * heads + c.sequence * batch + c.launch
    return smooth_max(c.sharpness, c.host, busy + flops / (gpu.tensor_flops("bf16") * c.attention_efficiency))


def _projections(heads: Floats, tokens: Floats, gpu: Gpu, c: Mla) -> Floats:
    """fp8 down-, query- and output projections, bf16 up-projections of keys and values: their weights against their flops."""
    fp8 = HIDDEN * (QUERY_RANK + KV_RANK + ROPE) + QUERY_RANK * heads * (HEAD + ROPE) + heads * VALUE * HIDDEN
    bf16 = heads * KV_RANK * (HEAD + VALUE)
    read = (fp8 + 2.0 * bf16) / (gpu.hbm_bandwidth * c.weights_hbm_efficiency)
    flops = 2.0 * tokens * (fp8 / gpu.tensor_flops("fp8") + bf16 / gpu.tensor_flops("bf16"))
    return smooth_max(_OVERLAP, read, flops / c.tensor_efficiency)
