"""Grouped-query attention, full or over a window: projections, decoding over a split KV cache, causal flash attention."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ...inputs.attention import Gqa, Sliding
from ...precision import ELEMENT_BYTES, Dtype
from ..gpu_kernels import GpuKernels
from ..part import Num
from ..work import Work
from ..worker import Arrangement, Batch, Precision

#: Share of the tensor peak at which flash attention walks along the keys, and cycles that a tile of 128 query rows costs an SM
#: beside (query load, first keys, epilogue). Fitted on six rows, 512 to 16,384 tokens, of FlashAttention-3 on H100, bf16, head
#: 128 (pytorch/benchmark pull request 2391, 2024-07: 430 to 621 TFLOP/s); all within 0.9 %. B200's MLA prefill fit finds 0.63.
FLASH_EFFICIENCY, FLASH_TILE_CYCLES = 0.6363, 5880.0
#: What a decoding kernel takes beyond its launches, a GEMM tile's fill and its bytes: page table, first keys, merge. Fitted on
#: five rows of FlashInfer on H100 (vllm-project/flash-attention pull request 63, Qwen-32B over 2 GPUs, 1 sequence of 1k to 16k
#: tokens) and eight of FlashAttention-3 (vllm pull request 43232, bf16, 1 and 8 sequences of 1k to 32k; assumed: 8 KV heads on
#: H200, as its slope says): 6.5 % mean error.
DECODE_RAMP_SECONDS = 6.9e-6
#: Query rows of a flash-attention tile, heads of one KV head packed together (FlashInfer's CTA_TILE_Q).
QUERY_TILES = (16.0, 64.0, 128.0)
#: Tokens of the KV cache that one tile of work covers (FlashAttention-3 and FlashInfer, head 128).
KEY_TILE = 128.0
#: Bytes that one SM draws from L2 in a cycle: 5120 B over 108 SMs (NVIDIA A100 whitepaper); assumed the same on later GPUs.
SM_BYTES_PER_CYCLE = 5120.0 / 108.0
_BF16 = 2.0


def pairs(new: Num, cached: Num, limit: Num = np.inf) -> Num:
    """Keys that ``new`` causal queries after ``cached`` tokens see together, each at most ``limit`` (itself included).

    ``sum over j = 1..new of min(cached + j, limit)``.
    """
    most = np.minimum(limit, cached + new)
    below = np.clip(most - cached, 0.0, new)
    total: Num = below * cached + below * (below + 1.0) / 2.0 + (new - below) * most
    return total


def query_rows(rows: Num) -> Num:
    """``rows`` filled up to whole query tiles: the smallest tile that holds them, or as many of the largest as it takes."""
    small, middle, large = QUERY_TILES
    padded: Num = np.where(rows <= small, small, np.where(rows <= middle, middle, np.ceil(rows / large) * large))
    return padded


def prompts_of(batch: Batch) -> Num:
    """Prompts that share the step's prefill rows."""
    prompts: Num = batch.prefill / np.maximum(batch.chunk, 1e-9)
    return prompts


def flash_seconds(gpu: GpuKernels, rows: Num, keys: Num, head_flops: float, products: Dtype = "bf16") -> Num:
    """Tensor seconds of ``rows`` query rows (whole tiles) that each meet ``keys`` keys, ``head_flops`` flops a pair."""
    reached = gpu.reach.efficiency(FLASH_EFFICIENCY, products, softmax=True)
    seconds: Num = rows * keys * head_flops / (gpu.gpu.tensor_flops("bf16") * reached)
    return seconds


def ramp_seconds(gpu: GpuKernels, tiles: Num) -> Num:
    """What ``tiles`` query tiles of 128 rows cost beside their walk along the keys, spread over the SMs."""
    seconds: Num = tiles / gpu.gpu.sms * FLASH_TILE_CYCLES / gpu.gpu.clock
    return seconds


def grouped_works(
    kind: Gqa | Sliding, hidden: int, a: Arrangement, batch: Batch, precision: Precision, gpu: GpuKernels
) -> Iterator[tuple[str, Work, str]]:
    """Projections; norm, rotary embedding and cache write; decoding; prefill."""
    heads, kv = heads_on(kind.heads, a.tp), heads_on(kind.kv_heads, a.tp)
    rows, size = batch.tokens, ELEMENT_BYTES[precision.kv]
    queries, values, width = heads * kind.head_dim, heads * kind.value_dim, kind.mean_dim
    own = kind.kv_params(1) / kind.kv_heads * kv  # columns of keys and values; none where an earlier layer's cache is read
    gate = values if kind.gated else heads if kind.head_gated else 0.0
    if kind.q_rank is None:
        projections = gpu.gemm(rows, queries + gate + own, hidden, precision.weights)
    else:
        projections = gpu.gemm(rows, kind.q_rank + gate + own, hidden, precision.weights)
        projections = projections + gpu.gemm(rows, queries, float(kind.q_rank), precision.weights)
    yield "projections", projections + gpu.gemm(rows, hidden, values, precision.weights), gpu.source
    # The norm reads and writes activations and residual; rotary embedding rewrites q and k; k and v go to the cache.
    written = kv * (1.0 if kind.own_kv else 0.0)
    passes = norm(gpu, rows, hidden) + gpu.stream(rows * 2.0 * _BF16 * (heads + written) * kind.head_dim)
    if kind.own_kv:
        passes = passes + gpu.stream(rows * 2.0 * kv * width * (_BF16 + size))
    if kind.gated:
        passes = passes + gpu.stream(rows * 3.0 * _BF16 * values)
    yield "norm and rope", passes.where(rows), gpu.source
    products = precision.products
    window = float(kind.window) if isinstance(kind, Sliding) else float(kind.indexer.top_k) if kind.indexer else np.inf
    source = f"flash attention at {FLASH_EFFICIENCY:.2f} of the tensor peak (pytorch/benchmark 2391), HBM as {gpu.source}"
    yield "decode", decode(gpu, heads, kv, width, batch, np.minimum(batch.context, window), size, products), source
    yield "prefill", prefill(gpu, heads, kv, width, batch, window, size, products), source


def decode(
    gpu: GpuKernels, heads: Num, kv: Num, head_dim: float, batch: Batch, seen: Num, size: float, products: Dtype
) -> Work:
    """New rows of ``batch.decode`` sequences over ``seen`` cached tokens each, ``kv`` KV heads on this GPU.

    The work (sequence, KV head, 128 tokens) is dealt evenly over the SMs, splitting sequences where they are few and that is
    quicker (FlashInfer, arXiv 2501.01005 section 3.3; FlashAttention's num_splits): the busiest SM's tiles bound it where tiles
    are few, and the halves of a split sequence are merged by a second kernel.
    """
    sequences, new = batch.decode, batch.speculated
    units = sequences * kv
    sms, keys = float(gpu.gpu.sms), np.ceil(seen / KEY_TILE)
    cache = sequences * seen * 2.0 * kv * head_dim * size
    group = heads / kv * new
    scores = 4.0 * head_dim
    rows = sequences * new * heads * head_dim
    parts = np.minimum(np.ceil(sms / np.maximum(units, 1e-9)), keys)

    def plan(tiles: Num, merged: Num) -> tuple[Num, Num, Num]:
        """Seconds of tensor cores and of memory, and bytes, where the busiest SM has ``tiles`` and ``merged`` halves meet."""
        walked = tiles * np.minimum(seen, KEY_TILE)  # tokens of one KV head
        moved = cache + 2.0 * _BF16 * rows + 2.0 * 4.0 * rows * merged
        busiest = walked * 2.0 * head_dim * size / (SM_BYTES_PER_CYCLE * gpu.gpu.clock)
        tensor = sms * flash_seconds(gpu, query_rows(group), walked, scores, products)
        return tensor, np.maximum(moved / gpu.hbm_bytes_per_s, busiest), moved

    dealt = np.ceil(np.maximum(units * keys, 1e-9) / sms)
    whole, halves = plan(np.where(units < sms, keys, dealt), 0.0), plan(dealt, parts)
    split = (units < sms) & (parts > 1.0) & (np.maximum(*halves[:2]) < np.maximum(*whole[:2]))
    tensor, hbm, moved = (np.where(split, b, a) for a, b in zip(whole, halves, strict=True))
    work = gpu.core(tensor, hbm, scores * sequences * new * heads * seen, moved, np.where(split, 2.0, 1.0))
    return replace(work, seconds=work.seconds + DECODE_RAMP_SECONDS).where(sequences)


def prefill(
    gpu: GpuKernels, heads: Num, kv: Num, head_dim: float, batch: Batch, window: float, size: float, products: Dtype
) -> Work:
    """Causal attention of prompts: query tiles of 128 rows, each with the keys up to its last row's, and each with its ramp."""
    prompts, new, cached = prompts_of(batch), batch.chunk, batch.cached
    group = heads / kv
    rows = query_rows(new * group) / group
    # A tile computes whole blocks of keys: on the diagonal half a block more than its rows need.
    met = pairs(new, cached, window) / np.maximum(new, 1e-9) + KEY_TILE / 2.0
    ramps = ramp_seconds(gpu, np.ceil(prompts * kv * query_rows(new * group) / QUERY_TILES[-1]))
    tensor = prompts * heads * flash_seconds(gpu, rows, met, 4.0 * head_dim, products) + ramps
    read = np.minimum(cached, window) + new
    moved = prompts * (2.0 * kv * read * size + 2.0 * _BF16 * new * heads) * head_dim
    flops = 4.0 * head_dim * heads * prompts * pairs(new, cached, window)
    return gpu.core(tensor, moved / gpu.hbm_bytes_per_s, flops, moved).where(batch.prefill)


def norm(gpu: GpuKernels, rows: Num, hidden: int) -> Work:
    """A fused residual add and RMSNorm: two rows read, two written, bf16."""
    return gpu.stream(4.0 * _BF16 * rows * hidden)


def heads_on(heads: int, tp: Num) -> Num:
    """Heads on the busiest of ``tp`` GPUs, at least one."""
    here: Num = np.ceil(heads / np.asarray(tp, float))
    return here
