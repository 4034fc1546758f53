"""A model step from its parts: what adds up, what an engine's constants change and what they leave alone."""

from __future__ import annotations

import numpy as np
import pytest

from epicycle.hwmodels.backends import Constants, load_backend, with_overrides
from epicycle.hwmodels.catalog import load_cluster
from epicycle.sim.inputs.model import load_model
from epicycle.sim.step.step import Step, model_step
from epicycle.sim.step.worker import Arrangement, Batch, Precision

H200, B200 = load_cluster("h200-cx7"), load_cluster("b200-cx7")
FP8, FP4 = Precision("fp8", "fp8", "fp8", "fp8"), Precision("fp4", "fp4", "fp8", "fp8")


def engine(**changes: object) -> Constants:
    plain = {"busy": 1.0, "prompt_busy": 1.0, "gap": "1 us", "fp4_weights": 1.0, "fused_experts": False}
    return with_overrides(load_backend("vllm"), plain | changes).constants


def step(
    model: str = "deepseek-v3", batch: object = 32.0, tp: object = 8.0, dp: object = 1.0, ep: float = 8.0, *,
    precision: Precision = FP8, cluster: object = H200, **changes: object,
) -> Step:  # fmt: skip
    arrangement = Arrangement(tp, dp, 1.0, ep)  # type: ignore[arg-type]
    return model_step(load_model(model), cluster, arrangement, Batch(batch, 2048.0), precision, engine(**changes))  # type: ignore[arg-type]


def test_parts_add_up_to_the_step() -> None:
    found = step()
    assert found.seconds == pytest.approx(sum(part.step_seconds for part in found.parts), rel=1e-12)


def test_a_gap_is_paid_once_a_kernel() -> None:
    narrow, wide = step(gap="1 us"), step(gap="3 us")
    kernels = sum(float(np.max(part.kernels)) * part.times for part in narrow.parts if part.group != "host")
    assert wide.seconds - narrow.seconds == pytest.approx(2e-6 * kernels, rel=1e-6)


def test_sequences_cost_the_host() -> None:
    assert step(batch=64.0, sequence="7 us").seconds - step(batch=64.0, sequence="5 us").seconds == pytest.approx(128e-6)


def test_4_bit_weights_at_half_the_rate_take_twice_as_long_where_memory_bounds() -> None:
    def mlp(share: float) -> float:
        found = step("llama-3.1-70b", 4.0, 1.0, ep=1.0, precision=FP4, cluster=B200, fp4_weights=share)
        (part,) = (p for p in found.parts if p.name == "dense MLP")
        return float(part.loads["hbm"])

    assert mlp(0.5) == pytest.approx(2.0 * mlp(1.0), rel=0.01)
    fp8 = [step("llama-3.1-70b", 4.0, 1.0, ep=1.0, cluster=B200, fp4_weights=share).seconds for share in (0.5, 1.0)]
    assert fp8[0] == fp8[1]


def test_the_fused_kernel_runs_only_where_all_gpus_have_all_tokens() -> None:
    """A table of both kinds of arrangement is its points, and an exchange's experts are DeepGEMM's either way."""
    tp, dp = np.array([8.0, 1.0]), np.array([1.0, 8.0])
    mixed = step(tp=tp, dp=dp, fused_experts=True)
    alone = [step(tp=float(t), dp=float(d), fused_experts=True) for t, d in zip(tp, dp, strict=True)]
    np.testing.assert_allclose(mixed.seconds, [float(s.seconds) for s in alone], rtol=1e-9)
    assert step(tp=1.0, dp=8.0, fused_experts=True).seconds == step(tp=1.0, dp=8.0).seconds
    assert step(fused_experts=True).seconds != step().seconds


def test_more_sequences_never_take_less() -> None:
    found = step(batch=np.array([1.0, 8.0, 64.0, 256.0, 1024.0]))
    assert np.all(np.diff(found.seconds) > 0)
