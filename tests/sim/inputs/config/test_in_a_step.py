"""Every published family runs through a step: its weights are multiplied once, split over GPUs, and no time is missing."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from epicycle.hwmodels.backends import load_backend
from epicycle.hwmodels.catalog import load_cluster, load_gpu
from epicycle.sim.inputs.attention import Linear
from epicycle.sim.inputs.model import MoeModel
from epicycle.sim.step.attention.parts import attention_parts
from epicycle.sim.step.memory import worker_memory
from epicycle.sim.step.step import model_step
from epicycle.sim.step.weights import cache_bytes, stage_weights
from epicycle.sim.step.worker import Arrangement, Batch, Precision

Read = Callable[..., MoeModel]
BF16 = Precision("bf16", "bf16", "bf16", "bf16")
ONE = Arrangement(1.0, 1.0, 1.0, 1.0)


def test_projections_multiply_every_weight_once(published: Any, read: Read) -> None:
    model = read(published.config)
    parts = attention_parts(model, ONE, Batch(4.0, 0.0), BF16, load_gpu("h100-sxm"), "h100_sxm")
    flops = sum(p.flops * p.times for p in parts if p.name.endswith(("projections", "indexer")))
    apart = 0  # convolutions, and Mamba's state matrix, are no products of rows and weights
    for kind in model.attention:
        if isinstance(kind, Linear):
            state = kind.inner * kind.key_dim if kind.form == "mamba" else 0
            apart += kind.layers * (kind.conv_kernel * kind.conv_channels + state)
    assert flops == pytest.approx(2 * 4 * (model.attention_params - apart), rel=1e-12)


def test_a_step_has_a_time_for_everything(published: Any, read: Read) -> None:
    model = read(published.config)
    cluster, engine = load_cluster("h200-cx7"), load_backend("vllm").constants
    for batch in (Batch(8.0, 4096.0), Batch(0.0, 0.0, prefill=2048.0, chunk=2048.0)):
        step = model_step(model, cluster, ONE, batch, BF16, engine)
        assert math.isfinite(float(np.max(step.seconds)))
        assert all(float(np.max(part.seconds)) >= 0.0 for part in step.parts)
        assert float(np.max(step.seconds)) > 0.0
    names = {part.name for part in step.parts}
    assert ("router" in names) == bool(model.experts)
    assert ("shared experts" in names) == bool(model.shared_experts)
    assert ("residual MLP" in names) == bool(model.residual_intermediate)
    assert ("dense MLP" in names) == bool(model.dense_layers)


def test_stages_hold_the_whole_model_once(published: Any, read: Read) -> None:
    model = read(published.config)
    whole = sum(map(float, stage_weights(model, ONE, BF16, 0).values()))
    assert whole == pytest.approx(2 * model.total_params, rel=1e-9)
    split = Arrangement(1.0, 1.0, 4.0, 1.0)
    stages = sum(float(size) for stage in range(4) for size in stage_weights(model, split, BF16, stage).values())
    tied = 2 * model.vocab * model.hidden if model.tied_embeddings else 0  # first and last stage each have the table
    assert stages == pytest.approx(2 * model.total_params + tied, rel=1e-9)


def test_the_cache_of_one_gpu_is_the_models(published: Any, read: Read) -> None:
    model = read(published.config)
    token, sequence = cache_bytes(model, ONE, BF16, 4096.0, 1.0)
    assert token == pytest.approx(model.kv_bytes_per_token("bf16"))
    assert sequence == pytest.approx(model.kv_bytes(4096, "bf16"), rel=1e-3)


def test_memory_is_finite(published: Any, read: Read) -> None:
    model = read(published.config)
    memory = worker_memory(model, ONE, BF16, load_cluster("h200-cx7"), tokens_per_step=64.0, context=4096.0)
    assert all(math.isfinite(float(np.max(size))) and float(np.min(size)) >= 0.0 for size in memory.items.values())
