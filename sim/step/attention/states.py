"""Mixers of constant state in a step (delta nets, Mamba, lightning attention, short convolutions): the context costs nothing.

Decoding reads and writes every sequence's state. Prompts run in chunks: inside a chunk as matrix products, between chunks
through the state. The kernels' operands go through HBM between them, which is what bounds them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ...inputs.attention import Linear
from ..gpu_kernels import GpuKernels
from ..part import Num
from ..work import Work
from ..worker import Arrangement, Batch, Precision
from .cores import FLASH_EFFICIENCY, heads_on, norm

#: Tokens of a chunk: flash-linear-attention's gated delta rule (chunk_size 64), Mamba-2's configs (chunk_size 128 or 256).
DELTA_CHUNK, SSD_CHUNK = 64.0, 256.0
#: Seconds in which the state passes one chunk on, one chunk of a prompt after another. Fitted on six rows of flash-linear-
#: attention on H100, one prompt of 2k to 64k tokens with 8 heads (flashinfer pull request 3866): 4 % mean error. Eleven more
#: rows there and in pull request 3902, 32 and 48 heads, of bytes alone: 7 %.
DELTA_STEP_SECONDS = 1.48e-6
_BF16, _FP32 = 2.0, 4.0


def linear_works(
    kind: Linear, hidden: int, a: Arrangement, batch: Batch, precision: Precision, gpu: GpuKernels
) -> Iterator[tuple[str, Work, str]]:
    """Norm and projections; decoding; prefill. Heads split over ``tp``; key heads are repeated beyond their number."""
    heads, keys = heads_on(kind.heads, a.tp), heads_on(kind.key_heads, a.tp)
    rows, value, here = batch.tokens, heads * kind.value_dim, heads / kind.heads
    channels = _conv_channels(kind, keys, value)
    columns = kind.columns() * here + 2.0 * kind.key_dim * (keys - kind.key_heads * here)  # repeated key heads
    works = gpu.gemm(rows, columns, hidden, precision.weights) + gpu.gemm(rows, hidden, value, precision.weights)
    if kind.form == "kda" and kind.rank:  # decay and gate are expanded from their narrow projections
        works = works + gpu.gemm(rows, kind.expanded * here, float(kind.rank), precision.weights)
    if kind.form == "mamba":  # x to time step, B and C; the time step to every channel
        works = works + gpu.gemm(rows, kind.rank + 2.0 * kind.key_dim, value, precision.weights)
        works = works + gpu.gemm(rows, value, float(kind.rank), precision.weights)
    works = works + norm(gpu, rows, hidden)
    # The gated norm of the output reads it and the gate, and writes.
    works = works + gpu.stream(3.0 * _BF16 * rows * value)
    yield "projections", works.where(rows), gpu.source
    yield "decode", _decode(kind, heads, channels, batch, gpu), f"state bytes; {gpu.source}"
    if kind.form in ("mamba", "conv"):
        yield "prefill", _scan_prefill(kind, value, batch, gpu), f"assumed: the bytes of one fused kernel; {gpu.source}"
        return
    chunked = _delta_prefill if kind.form in ("delta", "kda") else _ssd_prefill
    source = f"assumed: products at flash attention's share of the tensor peak; operand bytes; {gpu.source}"
    yield "prefill", chunked(kind, heads, keys, channels, batch, gpu), source


def _conv_channels(kind: Linear, keys: Num, value: Num) -> Num:
    """Values of one token that pass this GPU's convolution."""
    if kind.form == "lightning":
        return 0.0 * value
    return value if kind.form in ("mamba", "conv") else value + 2.0 * keys * kind.key_dim


def _decode(kind: Linear, heads: Num, channels: Num, batch: Batch, gpu: GpuKernels) -> Work:
    """The convolution's last inputs and the fp32 state: read once, written for every new row (drafts may be taken back)."""
    sequences, new = batch.decode, batch.speculated
    state = kind.state / kind.heads * heads
    moved = sequences * (1.0 + new) * (_FP32 * state + _BF16 * (kind.conv_kernel - 1) * channels)
    moved = moved + sequences * new * 2.0 * _BF16 * channels
    # Decay, then per element a multiply-add each for what the state holds of the key (delta rule), the update and the output.
    flops = sequences * new * state * (7.0 if kind.form in ("delta", "kda") else 5.0)
    return gpu.core(0.0, moved / gpu.hbm_bytes_per_s, flops, moved, 2.0).where(sequences)


def _delta_prefill(kind: Linear, heads: Num, keys: Num, channels: Num, batch: Batch, gpu: GpuKernels) -> Work:
    """The chunked gated delta rule (Yang et al., arXiv 2412.06464) as flash-linear-attention runs it, in seven kernels.

    Convolution; K K^T; its triangular inverse; W and U; the states; the outputs. Flops a token and head, chunk C: two C x key
    products for K K^T and Q K^T, one more for W, two C x value for U and the output, and three key x value with the state.
    """
    tokens, chunk = batch.prefill, DELTA_CHUNK
    key, value = kind.key_dim, kind.value_dim
    flops = tokens * heads * (2.0 * chunk * (3.0 * key + 2.0 * value) + 6.0 * key * value)
    moved = 2.0 * channels * _BF16  # convolution
    moved = moved + keys * key * _BF16 * 4.0  # k in K K^T, W and the output; q in the output
    moved = moved + heads * chunk * (_FP32 + _FP32 + _BF16 + _BF16)  # K K^T written and read, its inverse written and read
    moved = moved + heads * (key + 4.0 * value) * _BF16  # W and U written, v read; new v read, output written
    state = heads * key * value * _BF16 / chunk  # one a chunk
    passed = tokens * ((keys * key + heads * (key + 2.0 * value)) * _BF16 + state)  # k, W and U read, new v and states written
    moved = tokens * (moved + state) + passed
    work = _chunked(flops, moved, batch, gpu, 7.0)
    # A prompt's chunks pass their state on one after another, all heads and prompts side by side.
    waits = np.ceil(batch.chunk / chunk) * DELTA_STEP_SECONDS - passed / gpu.hbm_bytes_per_s
    return replace(work, seconds=work.seconds + np.maximum(waits, 0.0)).where(tokens)


def _ssd_prefill(kind: Linear, heads: Num, keys: Num, channels: Num, batch: Batch, gpu: GpuKernels) -> Work:
    """Mamba-2's chunked state-space duality (arXiv 2405.21060 section 6): convolution, decay, states, their pass, C B, scan."""
    tokens, chunk = batch.prefill, SSD_CHUNK
    key, value = kind.key_dim, kind.value_dim
    flops = tokens * (2.0 * chunk * keys * key + heads * (2.0 * chunk * value + 4.0 * key * value))
    moved = 2.0 * channels * _BF16  # convolution
    moved = moved + keys * (4.0 * key * _BF16 + 2.0 * chunk * _FP32)  # B and C read twice each; C B written and read
    moved = moved + heads * 3.0 * value * _BF16  # x read twice, the output written
    moved = tokens * (moved + 4.0 * heads * key * value * _FP32 / chunk)  # states written, passed on, read
    return _chunked(flops, moved, batch, gpu, 6.0)


def _scan_prefill(kind: Linear, channels: Num, batch: Batch, gpu: GpuKernels) -> Work:
    """The first Mamba's selective scan, or a gated short convolution: inputs, gate and output through HBM once."""
    tokens = batch.prefill
    per_channel = 9.0 * kind.key_dim if kind.form == "mamba" else 2.0 * kind.conv_kernel
    moved = tokens * (4.0 * channels + (2.0 * kind.key_dim if kind.form == "mamba" else 0.0)) * _BF16
    return gpu.core(0.0, moved / gpu.hbm_bytes_per_s, tokens * channels * per_channel, moved, 2.0).where(tokens)


def _chunked(flops: Num, moved: Num, batch: Batch, gpu: GpuKernels, kernels: float) -> Work:
    tensor = flops / (gpu.gpu.tensor_flops("bf16") * FLASH_EFFICIENCY)
    return gpu.core(np.asarray(tensor), moved / gpu.hbm_bytes_per_s, flops, moved, kernels).where(batch.prefill)
