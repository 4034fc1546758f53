"""Multi-head latent attention in a step, by the law of its module on DeepSeek-V3 (`hwmodels.laws`), and sparse indexers.

The law's projections run once over all rows of the step. Decoding rows use the constants measured in decode, steps with prompts
never less than those measured in prefill ask. Prompts expand keys and values; tokens that were already cached are expanded
again, or attended in absorbed form where that is cheaper. With an indexer every query attends to at most ``top_k`` tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ....hwmodels.calibration import constants_of, find_entry, load_calibration
from ....hwmodels.errors import Uncalibrated
from ....hwmodels.laws import attention as law
from ....hwmodels.laws.kernels import OPERAND_BYTES, smooth_max
from ...inputs.attention import Indexer, Mla
from ...precision import ELEMENT_BYTES, Dtype
from ..gpu_kernels import GpuKernels
from ..part import Num
from ..work import Work
from ..worker import Arrangement, Batch, Precision
from .cores import FLASH_EFFICIENCY, heads_on, norm, pairs, prompts_of

#: Attention kernels of the calibrations. Where a system measured both, FlashInfer's module is faster: over the rows of
#: mla_attention.csv with both on H100 by 3.5 % (median of 264) in decode and 3.1 % (250) in prefill.
_KERNELS = ("flashinfer", "trtllm_mla", "fa3")
#: Kernels of one module besides its host's: cast and down-projection, query norm, cast and query projection, key norm with
#: rotary embedding and cache write, absorbing product, attention, its merge, value product, cast and output projection.
_LAUNCHES = 11.0
#: Share of the tensor peak of sparse prefill: 640 of 989 TFLOP/s on H800 (FlashMLA's README, 2025-09).
SPARSE_EFFICIENCY = 640.0 / 989.4
#: Heads of its tile; narrower shards are padded (vLLM, flashmla_sparse.py: 64 on Hopper; 128 on Blackwell).
SPARSE_HEADS = 64
_BF16, _LOGIT = 2.0, 4.0
_HOPPER_CACHE_BYTES = 2.0


def mla_works(
    kind: Mla, hidden: int, a: Arrangement, batch: Batch, precision: Precision, gpu: GpuKernels, system: str, fp8: bool
) -> Iterator[tuple[str, Work, str]]:
    """Norm, projections (with what the module does per row and sequence, and its host), indexer, decoding, prefill."""
    (fast, decode_source), (slow, prefill_source) = (
        carried(system, op, gpu, precision, fp8) for op in ("mla_decode", "mla_prefill")
    )
    # Prefill was measured above the host's floor, where reading the weights does not show: as fast as in decode.
    slow = replace(slow, weights_hbm_efficiency=fast.weights_hbm_efficiency)
    heads = heads_on(kind.heads, a.tp)
    yield "norm", norm(gpu, batch.tokens, hidden).where(batch.tokens), gpu.source
    projections = _projections(kind, hidden, heads, batch, precision, gpu, fast, slow)
    # The module's host time, of all its kernels, as measured launched one by one.
    projections = projections if a.graphs else replace(projections, host=slow.host)
    works = [("projections", projections.where(batch.tokens), decode_source)]
    if kind.gates:
        columns = kind.gates / kind.heads * heads
        passed = gpu.stream(3.0 * _BF16 * batch.tokens * heads * kind.v_head_dim)
        gate = gpu.gemm(batch.tokens, columns, float(hidden), precision.weights) + passed
        works.append(("gate projections", gate.where(batch.tokens), gpu.source))
    if kind.indexer is not None and not kind.indexer.shared:
        scored = index_work(kind.indexer, hidden, kind.q_lora_rank or hidden, batch, precision, gpu, 1.0)
        works.append(("indexer", scored, f"assumed: scores at flash attention's share of the tensor peak; {gpu.source}"))
    shared = replace(batch, context=batch.context / a.dcp)  # context parallel: a share of the cache, under more heads
    works.append(("decode", _decode(kind, heads * a.dcp, shared, precision, gpu, fast), decode_source))
    works.append(("prefill", _prefill(kind, hidden, heads, batch, precision, gpu, slow, fast), prefill_source))
    yield from works


def mla_constants(system: str, op: str) -> tuple[law.Mla, str]:
    """Constants of the MLA module under the attention kernel that the nearest of ``system`` and its relatives measured fastest.

    ``op``: "mla_decode" or "mla_prefill". Raises Uncalibrated.
    """
    constants, source, _ = _fastest(system, op)
    return constants, source


def carried(system: str, op: str, gpu: GpuKernels, precision: Precision, fp8: bool) -> tuple[law.Mla, str]:
    """`mla_constants` on ``gpu``, whose balance of tensor, issue and memory may be another, multiplying in ``precision``.

    ``fp8``: the engine's kernels multiply in fp8 where the measured ones widen an fp8 cache to bf16 (Hopper's).
    The Blackwell decoding kernel was measured multiplying in fp8, the others in bf16. Its tensor share never bound a row, and
    lies where H100's, carried to fp8, would.
    """
    constants, source, kernel = _fastest(system, op)
    narrow = kernel == "trtllm_mla" and op == "mla_decode"
    widened = precision.attention is None and kernel != "trtllm_mla" and not fp8
    products: Dtype = "bf16" if widened else precision.products
    attention = gpu.reach.efficiency(
        constants.attention_efficiency, products, "fp8" if narrow else "bf16", softmax=op == "mla_prefill"
    )
    tensor = gpu.reach.same_dtype(constants.tensor_efficiency)
    return replace(constants, attention_efficiency=attention, tensor_efficiency=tensor), source


def _fastest(system: str, op: str) -> tuple[law.Mla, str, str]:
    found = []
    for kernel in _KERNELS:
        try:
            entry, source = find_entry(system, "mla", f"{op}.{kernel}", "one-node")
        except Uncalibrated:
            continue
        found.append((_distance(system, source), entry, source, kernel))
    if not found:
        raise Uncalibrated(f"no calibration of {op} with any of {', '.join(_KERNELS)} for {system} or its relatives")
    _, entry, source, kernel = min(found, key=lambda f: f[0])
    borrowed = "" if source == system else f", borrowed from {source}"
    constants = constants_of(entry, law.Mla)
    if op == "mla_decode":
        constants = replace(constants, kv_hbm_efficiency=_cache_rate(kernel, constants))
    return constants, f"MLA module with {kernel}, fitted on {entry.fit.table}{borrowed}", kernel


def _cache_rate(kernel: str, constants: law.Mla) -> float:
    """Share of HBM bandwidth at which a kernel reads the latent cache.

    The law's fit counts one byte an element. Hopper's kernels keep the cache in bf16 (FlashInfer's and FlashAttention-3's MLA
    have no fp8 one), so that they read twice as much: 0.89 with FlashInfer, as FlashMLA publishes (3,000 of 3,350 GB/s on H800,
    its README). The Blackwell module's rows hold 19 MB of cache at most, 2 us of 90: they do not tell, and take FlashInfer's.
    """
    if kernel == "trtllm_mla":
        entry, _ = find_entry("h100_sxm", "mla", "mla_decode.flashinfer", "one-node")
        return _HOPPER_CACHE_BYTES * constants_of(entry, law.Mla).kv_hbm_efficiency
    return _HOPPER_CACHE_BYTES * constants.kv_hbm_efficiency


def index_work(
    index: Indexer, hidden: int, query_width: int, batch: Batch, precision: Precision, gpu: GpuKernels, ratio: float
) -> Work:
    """A sparse indexer on every GPU: projections, FP8 scores of one entry per ``ratio`` cached tokens, and the top-k choice.

    Scores are written and read once, fp32 (vLLM and DeepSeek-V3.2-Exp: logits kernel, then top-k).
    """
    rows, sequences, prompts = batch.tokens, batch.decode, prompts_of(batch)
    projections = gpu.gemm(rows, index.heads * index.head_dim, query_width, precision.weights)
    key_columns = index.head_dim * (4 if ratio > 1.0 else 1)
    projections = projections + gpu.gemm(rows, key_columns + index.heads, hidden, precision.weights)
    met = sequences * batch.speculated * batch.context + prompts * pairs(batch.chunk, batch.cached)
    keys = sequences * batch.context + prompts * (batch.cached + batch.chunk)
    flops = 2.0 * met / ratio * index.heads * index.head_dim
    moved = keys / ratio * index.cache_bytes_per_token + 2.0 * _LOGIT * met / ratio
    tensor = flops / (gpu.flops_per_s("fp8") * FLASH_EFFICIENCY)
    return (projections + gpu.core(tensor, moved / gpu.hbm_bytes_per_s, flops, moved, 3.0)).where(rows)


def latent_work(
    heads: Num, latent: float, value: float, met: Num, read: Num, size: float, gpu: GpuKernels, efficiency: float
) -> Work:
    """Absorbed attention of prompts: ``met`` (query, entry) pairs of ``latent`` wide entries, of which ``read`` are read."""
    flops = 2.0 * met * heads * (latent + value)
    moved = read * latent * size + 0.0 * flops
    tensor = flops / (gpu.gpu.tensor_flops("bf16") * efficiency)
    return gpu.core(tensor, moved / gpu.hbm_bytes_per_s, flops, moved)


def _projections(
    kind: Mla, hidden: int, heads: Num, batch: Batch, precision: Precision, gpu: GpuKernels, fast: law.Mla, slow: law.Mla
) -> Work:
    sizes, stored = _sizes(kind, hidden), law.Stored(OPERAND_BYTES[precision.weights], gpu.flops_per_s(precision.weights))
    seconds: Num = 0.0
    hbm: Num = 0.0
    tensor: Num = 0.0
    decoding = (batch.decode * batch.speculated, batch.decode, fast)
    for rows, sequences, c in (decoding, (batch.tokens, prompts_of(batch), slow)):
        loads = law.projection_loads(np.asarray(heads), np.asarray(rows), gpu.gpu, c, sizes, stored)
        busy = smooth_max(law.OVERLAP, *loads) + c.token * rows * heads + c.sequence * sequences
        runs = np.asarray(sequences) > 0.0
        seconds = np.maximum(seconds, np.where(runs, busy, 0.0))
        hbm = np.maximum(hbm, np.where(runs, loads[0], 0.0))
        tensor = np.maximum(tensor, np.where(runs, loads[1], 0.0))
    big, up = law.weights(np.asarray(heads), sizes)
    flops, moved = 2.0 * batch.tokens * (big + up), stored.weight_bytes * big + _BF16 * up
    return Work(fast.launch + seconds, tensor, hbm, fast.launch, flops, moved, _LAUNCHES - 2.0)


def _decode(kind: Mla, heads: Num, batch: Batch, precision: Precision, gpu: GpuKernels, c: law.Mla) -> Work:
    sizes = _sizes(kind, 0)
    seen = batch.context if kind.indexer is None else np.minimum(batch.context, kind.indexer.top_k)
    size = ELEMENT_BYTES[precision.kv]
    cache, scores = law.decode_loads(
        np.asarray(heads), np.asarray(batch.decode), np.asarray(seen), gpu.gpu, c, sizes, batch.speculated, size
    )
    entry = sizes.kv_rank + sizes.rope
    flops = 2.0 * batch.decode * batch.speculated * seen * heads * (entry + sizes.kv_rank)
    moved = batch.decode * seen * entry * size + 0.0 * flops
    busy = smooth_max(law.OVERLAP, cache, scores)
    return Work(busy, scores, cache, 0.0, flops, moved, 2.0).where(batch.decode)


def _prefill(
    kind: Mla, hidden: int, heads: Num, batch: Batch, precision: Precision, gpu: GpuKernels, c: law.Mla, absorbed: law.Mla
) -> Work:
    sizes, size = _sizes(kind, hidden), ELEMENT_BYTES[precision.kv]
    prompts, new, cached = prompts_of(batch), batch.chunk, batch.cached
    entry, rate = sizes.kv_rank + sizes.rope, gpu.gpu.tensor_flops("bf16")
    wide = sizes.head + sizes.rope + sizes.value
    own = law.prefill_flops(np.asarray(heads), np.asarray(prompts), np.asarray(new), sizes) / (rate * c.attention_efficiency)
    # Cached tokens: their latents are read; expanding them writes and reads keys and values of all heads.
    padded = np.ceil(np.asarray(new) / law.QUERY_TILE) * law.QUERY_TILE
    up = 2.0 * prompts * cached * heads * sizes.kv_rank * (sizes.head + sizes.value)
    latents = prompts * cached * entry * size
    spilled = latents + 2.0 * _BF16 * prompts * cached * heads * wide
    expanded = (
        2.0 * prompts * padded * cached * heads * wide / c.attention_efficiency + up / absorbed.tensor_efficiency
    ) / rate
    latent = 2.0 * prompts * new * cached * heads * (entry + sizes.kv_rank) / (rate * absorbed.attention_efficiency)
    again = smooth_max(law.OVERLAP, expanded, spilled / gpu.hbm_bytes_per_s)
    direct = smooth_max(law.OVERLAP, latent, latents / (gpu.gpu.hbm_bandwidth * absorbed.kv_hbm_efficiency))
    expands = again <= direct
    useful = 2.0 * prompts * pairs(new, cached) * heads * wide + np.where(expands, up, 0.0)
    moved = np.where(expands, spilled, latents) + prompts * 2.0 * _BF16 * new * heads * (sizes.head + sizes.rope)
    tensor = own + np.where(expands, expanded, latent)
    dense = Work(own + np.minimum(again, direct), tensor, moved / gpu.hbm_bytes_per_s, 0.0, useful, moved, 1.0)
    if kind.indexer is None:
        return dense.where(batch.prefill)
    # The sparse kernel walks all ``top_k`` slots of every query, those of too short a context masked, for whole tiles of heads.
    whole = np.ceil(np.asarray(heads) / SPARSE_HEADS) * SPARSE_HEADS
    met, read = prompts * new * float(kind.indexer.top_k), prompts * (cached + new)
    return latent_work(whole, entry, sizes.kv_rank, met, read, size, gpu, SPARSE_EFFICIENCY).where(batch.prefill)


def _sizes(kind: Mla, hidden: int) -> law.Sizes:
    widths = (kind.kv_lora_rank, kind.rope_head_dim, kind.nope_head_dim, kind.v_head_dim)
    return law.Sizes(hidden, kind.q_lora_rank or 0, *widths)


def _distance(system: str, source: str) -> int:
    """Relatives between ``system`` and ``source``."""
    steps, name = 0, system
    while name != source:
        name = load_calibration(name).relative or source
        steps += 1
    return steps
