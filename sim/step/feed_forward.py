"""Everything between attention and the experts, and after the last layer: dense and shared MLPs, router, head."""

from __future__ import annotations

from collections.abc import Iterator

from ...hwmodels.specs import Gpu
from ..inputs.model import MoeModel
<<<<<<< HEAD
from ..inputs.stored import Kind
from .gemm import gemm_part
from .part import Num, Part
=======
from .gpu_kernels import GpuKernels
from .part import Part
>>>>>>> main
from .worker import Arrangement, Batch, Precision


def feed_forward_parts(
    model: MoeModel,
    arrangement: Arrangement,
    batch: Batch,
    precision: Precision,
    gpu: Gpu,
    system: str,
    fp4_weights: float = 1.0,
) -> Iterator[Part]:
    """Dense MLPs and shared experts (split over ``tp``), router. One norm and one activation kernel each.

    ``fp4_weights``: rate at which 4-bit GEMMs read weights over wider ones'.
    """
    rows, tp, kernels = batch.tokens, arrangement.tp, GpuKernels.of(gpu, system, fp4_weights)

    def mlp(name: str, kind: Kind, width: float, times: float) -> Part:
        stored = precision.of(kind).dtype
        inter = width / tp
<<<<<<< HEAD
        shapes = ((rows, (model.mlp_matrices - 1.0) * inter, float(model.hidden)), (rows, float(model.hidden), inter))
        activation = 2.0 * 3.0 * rows * inter + 2.0 * 2.0 * rows * model.hidden  # bf16: two read, one written; the norm
        return gemm_part(
            name,
            "feed-forward",
            shapes,
            stored,
            gpu,
            system,
            times,
            extra_bytes=activation,
            fp4_weights=fp4_weights,
            kernels=4.0 + (2.0 if stored != "bf16" else 0.0),
        )
=======
        work = kernels.gemm(rows, (model.mlp_matrices - 1.0) * inter, float(model.hidden), precision.weights)
        work = work + kernels.gemm(rows, float(model.hidden), inter, precision.weights)
        passed = 2.0 * 3.0 * rows * inter + 2.0 * 2.0 * rows * model.hidden  # bf16: two read, one written; the norm
        return (work + kernels.stream(passed, 2.0)).where(rows).part(name, "feed-forward", times, kernels.source)
>>>>>>> main

    if model.dense_layers:
        yield mlp("dense MLP", "dense", float(model.dense_intermediate), float(model.dense_layers))
    if model.moe_layers:
        if model.shared_experts:
<<<<<<< HEAD
            yield mlp(
                "shared experts", "shared", float(model.shared_intermediate * model.shared_experts), float(model.moe_layers)
            )
        if model.residual_intermediate:
            yield mlp("residual MLP", "dense", float(model.residual_intermediate), float(model.moe_layers))
        shapes = ((rows, float(model.experts + model.zero_experts), float(model.hidden)),)
        norm_and_choice = 4.0 * rows * model.hidden + 4.0 * rows * model.experts
        yield gemm_part(
            "router", "experts", shapes, "bf16", gpu, system, float(model.moe_layers), extra_bytes=norm_and_choice, kernels=3.0
        )
=======
            yield mlp("shared experts", float(model.shared_intermediate * model.shared_experts), float(model.moe_layers))
        norm_and_choice = kernels.stream(4.0 * rows * model.hidden + 4.0 * rows * model.experts, 2.0)
        router = (kernels.gemm(rows, float(model.experts), float(model.hidden), "bf16") + norm_and_choice).where(rows)
        yield router.part("router", "experts", float(model.moe_layers), kernels.source)
>>>>>>> main


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
<<<<<<< HEAD
    stored = "bf16" if model.tied_embeddings else precision.of("head").dtype
    yield gemm_part("head", "head", shapes, stored, gpu, system, 1.0, extra_bytes=4.0 * 3.0 * rows * model.vocab, kernels=8.0)
=======
    sampling = kernels.stream(4.0 * 3.0 * rows * model.vocab, 7.0)
    head = kernels.gemm(rows, model.vocab / arrangement.tp, float(model.hidden), "bf16") + sampling
    yield head.where(rows).part("head", "head", 1.0, kernels.source)
>>>>>>> main
