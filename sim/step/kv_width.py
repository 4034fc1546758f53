"""A decode step whose KV cache is kept in fewer bits than the kernel multiplies: bytes that are saved, values to be expanded.

A kernel expands a tile of the cache to bf16 before it multiplies it, on the CUDA cores: some operations a value (unpacking, a
table or a rotation, a scale) that its tensor cores wait for. The rest of the step is as it was.
"""

from __future__ import annotations

from ...hwmodels.specs import Gpu
from .part import Num

BF16_BITS = 16.0
#: fp32 operations that an SM of Nvidia's GPUs from Ampere on begins in a cycle (CUDA C++ Programming Guide, table of arithmetic
#: throughput: 128 on 8.6, 8.9 and 9.0 and later, 64 on 8.0).
LANES, LANES_A100 = 128.0, 64.0


def narrow_cache_seconds(
    step_s: Num, cache_bytes: Num, bits: float, operations: float, gpu: Gpu, hbm_bytes_per_s: float
) -> Num:
    """``step_s`` with a bf16 cache of ``cache_bytes`` on the GPU, read once a step, kept in ``bits`` a value instead.

    ``operations`` a value to expand it; bits count scales.
    """
    saved = cache_bytes * (1.0 - bits / BF16_BITS) / hbm_bytes_per_s
    lanes = LANES_A100 if gpu.name == "a100-sxm" else LANES
    expanded = cache_bytes / 2.0 * operations / (gpu.sms * lanes * gpu.clock)
    found: Num = step_s - saved + expanded
    return found
