"""DeepSeek-V4's attention in a step: compressed entries, chosen by an indexer or all, beside a window of plain ones.

An entry is key and value at once and shared by all heads, so the core is MLA's absorbed one with other widths: its constants
are the MLA module's (assumed to carry over; nobody has published timings of these kernels).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ....hwmodels.laws import attention as law
from ....hwmodels.laws.kernels import smooth_max
from ...inputs.attention import Compressed
from ...precision import ELEMENT_BYTES
from ..gpu_kernels import GpuKernels
from ..part import Num
from ..work import Work
from ..worker import Arrangement, Batch, Precision
from .cores import DECODE_RAMP_SECONDS, heads_on, norm, pairs, prompts_of
from .mla import SPARSE_EFFICIENCY, carried, index_work, latent_work


def compressed_works(
    kind: Compressed, hidden: int, a: Arrangement, batch: Batch, precision: Precision, gpu: GpuKernels, system: str, fp8: bool
) -> Iterator[tuple[str, Work, str]]:
    """Norm and projections; indexer; decoding; prefill."""
    constants, source = carried(system, "mla_decode", gpu, precision, fp8)
    source = f"assumed: as the {source}"
    heads, groups = heads_on(kind.heads, a.tp), heads_on(kind.o_groups, a.tp)
    yield "projections", _projections(kind, hidden, heads, groups, batch, precision, gpu), gpu.source
    ratio = float(kind.ratio or 1)
    if kind.indexer is not None:
        yield "indexer", index_work(kind.indexer, hidden, kind.q_lora_rank, batch, precision, gpu, ratio), gpu.source
    size = ELEMENT_BYTES[precision.kv]
    seen = entries(kind, batch.context) + np.minimum(batch.context, kind.window)
    widths = law.Sizes(0, 0, kind.head_dim, 0, 0, 0)
    cache, scores = law.decode_loads(
        np.asarray(heads), np.asarray(batch.decode), np.asarray(seen), gpu.gpu, constants, widths, batch.speculated, size
    )
    flops = 4.0 * batch.decode * batch.speculated * seen * heads * kind.head_dim
    moved = batch.decode * seen * kind.head_dim * size + 0.0 * flops
    launch = 2.0 * gpu.bf16.launch
    busy = launch + gpu.bf16.fill + DECODE_RAMP_SECONDS + smooth_max(law.OVERLAP, cache, scores)
    yield "decode", Work(busy, scores, cache, launch, flops, moved, 2.0).where(batch.decode), source
    prompts, new, cached = prompts_of(batch), batch.chunk, batch.cached
    limit = np.inf if kind.indexer is None else kind.indexer.top_k * ratio
    compressed = pairs(new, cached, limit) / ratio if kind.ratio else 0.0
    met = prompts * (compressed + pairs(new, cached, float(kind.window)))
    read = prompts * ((cached + new) / ratio if kind.ratio else 0.0) + prompts * (np.minimum(cached, kind.window) + new)
    work = latent_work(heads, kind.head_dim, kind.head_dim, met, read, size, gpu, SPARSE_EFFICIENCY)
    yield "prefill", work.where(batch.prefill), source


def entries(kind: Compressed, context: Num) -> Num:
    """Compressed entries that one query attends to after ``context`` tokens."""
    if kind.ratio is None:
        return 0.0 * context
    kept: Num = context / kind.ratio if kind.indexer is None else np.minimum(context / kind.ratio, kind.indexer.top_k)
    return kept


def _projections(
    kind: Compressed, hidden: int, heads: Num, groups: Num, batch: Batch, precision: Precision, gpu: GpuKernels
) -> Work:
    rows, stored = batch.tokens, precision.weights
    work = norm(gpu, rows, hidden) + gpu.gemm(rows, kind.q_lora_rank + kind.head_dim, hidden, stored)
    work = work + gpu.gemm(rows, heads * kind.head_dim, kind.q_lora_rank, stored)
    if kind.ratio is not None:  # an overlapping compressor (with an indexer) projects every token twice
        work = work + gpu.gemm(rows, kind.head_dim * (4 if kind.indexer else 2), hidden, stored)
    # Query norm and rotary embedding; keys to the cache.
    work = work + gpu.stream(rows * 4.0 * (heads + 1.0) * kind.head_dim, 2.0)
    work = work + gpu.gemm(rows, groups * kind.o_lora_rank, kind.heads * kind.head_dim / kind.o_groups, stored)
    return (work + gpu.gemm(rows, hidden, groups * kind.o_lora_rank, stored)).where(rows)
