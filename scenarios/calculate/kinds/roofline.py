"""What one GPU's memory and tensor cores allow: the ridge, the utilisation of a decode step, attention's bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import numpy as np
from pydantic import Field

from ....hwmodels.catalog import load_cluster, load_gpu
from ....hwmodels.laws.attention_bytes import score_bytes, tiled_bytes
from ....hwmodels.laws.kernels import gemm_bytes, gemm_seconds
from ....hwmodels.laws.roofline import decode_mfu, memory_roof_tokens_per_second, ridge_flop_per_byte
from ....sim.step.gpu_kernels import GpuKernels
from ..calculator import Calculator, ClusterName, Figure, GpuName, ModelChoice, model_of


class Roofline(Calculator):
    """A decode step that reads every weight once: where it stops being bound by memory."""

    kind: Literal["roofline"] = "roofline"
    gpu: GpuName
    batch: float = Field(gt=0)
    mfu: float = Field(default=0.04, gt=0, le=1)
    dtype: Literal["bf16", "fp8", "fp4"] = "bf16"
    bytes_per_weight: float = Field(default=2.0, gt=0)

    def figures(self) -> Iterator[Figure]:
        gpu = load_gpu(self.gpu)
        ridge = ridge_flop_per_byte(gpu, self.dtype)
        used = min(float(decode_mfu(self.batch, gpu, self.dtype, self.bytes_per_weight)), 1.0)
        yield Figure("ridge", "flop per byte at which compute and memory are equally long", "flop/B", ridge)
        yield Figure("mfu", "share of peak flop/s (MFU) at the batch", "", used)
        yield Figure(
            "mbu", "share of HBM bandwidth (MBU) at the batch", "", min(1.0, ridge * self.bytes_per_weight / 2.0 / self.batch)
        )
        yield Figure("batch_at_mfu", "batch whose step has the given MFU", "", self.mfu * ridge * self.bytes_per_weight / 2.0)


class MemoryRoof(Calculator):
    """Tokens a second of a model whose weights are read once a step, and the share of it that somebody reached."""

    kind: Literal["memory-roof"] = "memory-roof"
    gpu: GpuName
    model: ModelChoice
    batch: float = Field(default=1.0, gt=0)
    bytes_per_weight: float = Field(default=2.0, gt=0)
    reached: float = Field(default=0.0, ge=0)
    kernels: int = Field(default=0, ge=0)
    launch_us: float = Field(default=0.0, ge=0)

    def figures(self) -> Iterator[Figure]:
        model, gpu = model_of(self.model), load_gpu(self.gpu)
        read = self.bytes_per_weight * model.total_params
        roof = float(memory_roof_tokens_per_second(read, gpu, self.batch))
        yield Figure("roof", "tokens per second at full memory bandwidth", "tokens/s", roof)
        yield Figure("read", "bytes of weights read by a step", "B", read)
        launches = self.kernels * self.launch_us * 1e-6
        yield Figure("with_launches", "the same, launches not hidden", "tokens/s", self.batch / (self.batch / roof + launches))
        if self.reached:
            yield Figure("share", "share of the roof that was reached", "", self.reached / roof)


class AttentionBytes(Calculator):
    """Attention over a context with its scores in HBM, and tiled: bytes and time of one layer and sequence."""

    kind: Literal["attention-bytes"] = "attention-bytes"
    gpu: GpuName
    context: int = Field(ge=1)
    queries: int = Field(ge=1)
    heads: int = Field(ge=1)
    kv_heads: int = Field(ge=1)
    head_dim: int = Field(ge=1)

    def figures(self) -> Iterator[Figure]:
        gpu = load_gpu(self.gpu)
        tiled = tiled_bytes(self.queries, self.context, self.heads, self.kv_heads, self.head_dim)
        naive = tiled + score_bytes(self.queries, self.context, self.heads)
        flops = 4.0 * self.queries * self.context * self.heads * self.head_dim
        compute = flops / gpu.tensor_flops("bf16")
        yield Figure("tiled_bytes", "HBM bytes, tiled", "B", tiled)
        yield Figure("naive_bytes", "HBM bytes, scores written and read", "B", naive)
        yield Figure("tiled_time", "time, tiled", "s", max(compute, tiled / gpu.hbm_bandwidth))
        yield Figure("naive_time", "time, scores in HBM", "s", compute + naive / gpu.hbm_bandwidth)
        yield Figure("intensity", "flop per byte, tiled", "flop/B", flops / tiled)


class GemmKernel(Calculator):
    """One [m, k] x [k, n] product on a GPU as its calibration has it: time, flop/s, bytes a second; beside the roofline."""

    kind: Literal["gemm"] = "gemm"
    cluster: ClusterName
    dtype: Literal["bf16", "fp8", "fp4"] = "bf16"
    m: int = Field(ge=1)
    n: int = Field(ge=1)
    k: int = Field(ge=1)

    def figures(self) -> Iterator[Figure]:
        cluster = load_cluster(self.cluster)
        gpu = cluster.node.gpu
        constants = replace(GpuKernels.of(gpu, cluster.calibration).constants(self.dtype), host=0.0)
        m, n, k = (np.asarray(float(x)) for x in (self.m, self.n, self.k))
        native = self.dtype in gpu.tensor_flop_per_cycle_sm
        seconds, moved = (
            float(gemm_seconds(m, n, k, self.dtype, gpu, constants)),
            float(gemm_bytes(m, n, k, self.dtype, native)),
        )
        flops = 2.0 * self.m * self.n * self.k
        roof = max(flops / gpu.tensor_flops(self.dtype if native else "bf16"), moved / gpu.hbm_bandwidth)
        yield Figure("rate", "flop/s", "flop/s", flops / seconds)
        yield Figure("bandwidth", "bytes of operands and result a second", "B/s", moved / seconds)
        yield Figure("time", "time of the kernel", "s", seconds)
        yield Figure("of_roof", "share of the roofline", "", roof / seconds)


KINDS = (Roofline, MemoryRoof, AttentionBytes, GemmKernel)
