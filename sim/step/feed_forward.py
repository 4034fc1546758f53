"""Everything between attention and the experts, and after the last layer: dense and shared MLPs, router, head."""

from __future__ import annotations

from collections.abc import Iterator

from ...hwmodels.specs import Gpu
from ..inputs.model import MoeModel
from ..inputs.stored import Kind
from .gpu_kernels import GpuKernels
from .part import Part
from .worker import Arrangement, Batch, Precision


def feed_forward_parts(
    model: MoeModel,
    arrangement: Arrangement,
    batch: Batch,
    precision: Precision,
    gpu: Gpu,
    system: str,
    fp4_weights: float = 1.0,
    fp8_rate: float = 1.0,
) -> Iterator[Part]:
    """Dense MLPs and shared experts (split over ``tp``), router. One norm and one activation kernel each.

    ``fp4_weights``: rate at which 4-bit GEMMs read weights over wider ones'; ``fp8_rate``: tensor rate of fp8 ones over
    the tabled.
    """
    rows, tp, kernels = batch.tokens, arrangement.tp, GpuKernels.of(gpu, system, fp4_weights, fp8_rate)

    def mlp(name: str, kind: Kind, width: float, times: float) -> Part:
        stored = precision.of(kind).dtype
        inter = width / tp
        work = kernels.gemm(rows, (model.mlp_matrices - 1.0) * inter, float(model.hidden), stored)
        work = work + kernels.gemm(rows, float(model.hidden), inter, stored)
        passed = 2.0 * 3.0 * rows * inter + 2.0 * 2.0 * rows * model.hidden  # bf16: two read, one written; the norm
        return (work + kernels.stream(passed, 2.0)).where(rows).part(name, "feed-forward", times, kernels.source)

    if model.dense_layers:
        yield mlp("dense MLP", "dense", float(model.dense_intermediate), float(model.dense_layers))
    if model.moe_layers:
        if model.shared_experts:
            width = float(model.shared_intermediate * model.shared_experts)
            yield mlp("shared experts", "shared", width, float(model.moe_layers))
        if model.residual_intermediate:
            yield mlp("residual MLP", "dense", float(model.residual_intermediate), float(model.moe_layers))
        columns = float(model.experts + model.zero_experts)
        norm_and_choice = kernels.stream(4.0 * rows * model.hidden + 4.0 * rows * columns, 2.0)
        router = (kernels.gemm(rows, columns, float(model.hidden), "bf16") + norm_and_choice).where(rows)
        yield router.part("router", "experts", float(model.moe_layers), kernels.source)


def head_parts(
    model: MoeModel, arrangement: Arrangement, batch: Batch, precision: Precision, gpu: Gpu, system: str
) -> Iterator[Part]:
    """The final norm and the language-model head over the rows that get a token, as stored, its vocabulary split over ``tp``.

    A prompt needs the head only at its last token.
    """
    prompts = batch.prefill / batch.chunk
    rows = batch.decode * batch.speculated + prompts
    kernels = GpuKernels.of(gpu, system)
    # Sampling reads the fp32 logits of the whole vocabulary about three times: softmax, filter, draw.
    sampling = kernels.stream(4.0 * 3.0 * rows * model.vocab, 7.0)
    stored = "bf16" if model.tied_embeddings else precision.of("head").dtype
    head = kernels.gemm(rows, model.vocab / arrangement.tp, float(model.hidden), stored) + sampling
    yield head.where(rows).part("head", "head", 1.0, kernels.source)
