"""Tabulated step times against the closed form that they come from: the same at the nodes, within 1 % between them."""

from __future__ import annotations

import numpy as np
import pytest

from epicycle.hwmodels.backends import load_backend
from epicycle.hwmodels.catalog import load_cluster
from epicycle.sim.inputs.model import load_model
from epicycle.sim.serving.requests.times.step_table import (
    QUEUED,
    SECONDS,
    VALUES,
    Reach,
    Table,
    decode_values,
    mixed_values,
    step_table,
)
from epicycle.sim.serving.steady import Setting, Speculation
from epicycle.sim.step.worker import Arrangement, Batch, Precision, for_prompts

FP8 = Precision("fp8", "fp8", "fp8", "fp8")
MODELS = {
    "deepseek-v3": ("h200-cx7", "sglang", Arrangement(1.0, 32.0, 1.0, 32.0), 256.0),
    "qwen3-235b-a22b": ("h200-cx7", "vllm", Arrangement(4.0, 1.0, 1.0, 1.0), 1024.0),
    "gpt-oss-120b": ("b200-cx7", "trtllm", Arrangement(2.0, 1.0, 1.0, 1.0), 1024.0),
}
STATES, CONTEXT, PROMPT = 1_000, 16_384.0, 8_192.0


def made(name: str) -> tuple[Setting, Arrangement, float, Table]:
    cluster, engine, arrangement, most = MODELS[name]
    setting = Setting(load_model(name), load_cluster(cluster), FP8, load_backend(engine), None, Speculation())  # type: ignore[arg-type]
    return setting, arrangement, most, step_table(setting, arrangement, Reach(most, CONTEXT, PROMPT))


def lasting(values: np.ndarray) -> float:
    """Seconds of a step with these values."""
    return float(max(values[SECONDS], values[QUEUED]))


def errors(name: str) -> np.ndarray:
    """Relative errors of decode steps and of steps with prompts, half of each."""
    setting, arrangement, most, table = made(name)
    rng, out = np.random.default_rng(3), np.empty(VALUES)
    n, c = np.floor(np.exp(rng.uniform(0.0, np.log(most), STATES))), np.exp(rng.uniform(np.log(100.0), np.log(CONTEXT), STATES))
    p = np.round(np.exp(rng.uniform(np.log(16.0), np.log(PROMPT), STATES)))
    chunk = np.round(np.minimum(p, np.exp(rng.uniform(np.log(16.0), np.log(PROMPT), STATES))))
    cached = np.round(rng.uniform(0.0, 8_000.0, STATES)) * (rng.random(STATES) < 0.5)
    n = np.where(np.arange(STATES) < STATES // 2, n, n * (rng.random(STATES) < 0.7))
    found = np.empty(STATES)
    for i in range(STATES):
        if i < STATES // 2:
            decode_values(table, n[i], c[i], out)
        else:
            mixed_values(table, n[i], c[i], p[i], chunk[i], cached[i], out)
        found[i] = lasting(out)
    half = STATES // 2
    plain = setting.step(arrangement, Batch(n[:half], c[:half])).seconds
    mixed = setting.step(for_prompts(arrangement), Batch(n[half:], c[half:], p[half:], chunk[half:], cached[half:])).seconds
    return found / np.concatenate((plain, mixed)) - 1.0


@pytest.mark.parametrize("name", MODELS)
def test_between_its_nodes_a_table_is_within_a_hundredth(name: str) -> None:
    assert np.abs(errors(name)).max() < 0.01


def test_at_its_nodes_a_table_is_the_closed_form() -> None:
    setting, arrangement, _, table = made("qwen3-235b-a22b")
    rng, out = np.random.default_rng(1), np.empty(VALUES)
    axes = (table.sequences, table.context, table.prompt, table.chunk, table.cached)
    for _ in range(50):
        n, c, p, chunk, cached = (axis[rng.integers(axis.size)] for axis in axes)
        mixed_values(table, n, c, p, chunk, cached, out)
        step = setting.step(for_prompts(arrangement), Batch(n, c, p, chunk, cached))
        assert lasting(out) == pytest.approx(float(step.seconds), rel=1e-9)
        n, c = table.decode_sequences[rng.integers(1, table.decode_sequences.size)], table.decode_context[rng.integers(20)]
        decode_values(table, n, c, out)
        assert lasting(out) == pytest.approx(float(setting.step(arrangement, Batch(n, c)).seconds), rel=1e-9)
