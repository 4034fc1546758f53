"""Decode context parallelism: the cache of a sequence over several GPUs, and the exchange that this asks for."""

from __future__ import annotations

import numpy as np
import pytest

from epicycle.hwmodels.backends import load_backend
from epicycle.hwmodels.catalog import load_cluster
from epicycle.hwmodels.errors import BadInput
from epicycle.scenarios.answer.evaluate import evaluate
from epicycle.scenarios.ask.scenario import load_serving
from epicycle.sim.inputs.model import load_model
from epicycle.sim.step.memory import worker_memory
from epicycle.sim.step.step import Step, model_step
from epicycle.sim.step.worker import Arrangement, Batch, Precision

FP8 = Precision("fp8", "fp8", "bf16", "fp8")
GATHERS = ("query gather", "log-sum-exp gather", "partial output sum")
SETS = ["workload={input_tokens: 60000, output_tokens: 500, concurrency: 64}", "slo={}"]


def deployed(dcp: int, engine: str = "vllm", tp: int = 16) -> list[str]:
    return [*SETS, f"deployment={{backend: {engine}, decode: {{tp: {tp}, ep: {tp}, dcp: {dcp}}}}}"]


def step(dcp: float, context: float = 60_000.0, batch: Batch | None = None) -> Step:
    there = load_cluster("h200-cx7", 1)
    a = Arrangement(8.0, 1.0, 1.0, 8.0, dcp=dcp)
    rows = batch or Batch(32.0, context)
    return model_step(load_model("deepseek-v3"), there, a, rows, FP8, load_backend("vllm").on(there.calibration))


def part(found: Step, name: str) -> float:
    return sum(float(np.asarray(p.step_seconds)) for p in found.parts if p.name == name)


def test_a_gpu_reads_and_holds_its_share_of_the_cache() -> None:
    model, there = load_model("deepseek-v3"), load_cluster("h200-cx7", 1)
    moved, held = [], []
    for dcp in (1.0, 2.0, 8.0):
        moved.append(next(float(np.asarray(p.hbm_bytes)) for p in step(dcp).parts if p.name == "mla decode"))
        memory = worker_memory(model, Arrangement(8.0, 1.0, 1.0, 8.0, dcp=dcp), FP8, there, tokens_per_step=32.0)
        held.append(float(np.asarray(memory.kv_token_bytes)))
    assert [moved[0] / each for each in moved] == pytest.approx([1.0, 2.0, 8.0])
    assert [held[0] / each for each in held] == pytest.approx([1.0, 2.0, 8.0])
    assert held[0] == 61 * 576 * 2


def test_the_exchange_is_counted_byte_for_byte() -> None:
    """DeepSeek-V3 on 8 GPUs: 16 heads each, queries of 576 and partial outputs of 512 in bf16, one fp32 number a head."""
    sent = {p.name: float(np.asarray(p.wire_bytes)) for p in step(4.0).parts if p.name in GATHERS}
    rows, heads = 32, 16 * 4
    assert sent == pytest.approx(
        {
            "query gather": 0.75 * rows * heads * 576 * 2,
            "log-sum-exp gather": 0.75 * rows * heads * 4 * 4,
            "partial output sum": 0.75 * rows * heads * 512 * 2,
        }
    )
    assert not [p for p in step(1.0).parts if p.name in GATHERS]
    assert all(part(step(4.0), name) > 0.0 for name in GATHERS)


def test_it_pays_for_long_contexts_and_costs_for_short_ones() -> None:
    assert float(np.asarray(step(8.0, 500_000.0).seconds)) < float(np.asarray(step(1.0, 500_000.0).seconds))
    assert float(np.asarray(step(8.0, 500.0).seconds)) > float(np.asarray(step(1.0, 500.0).seconds))


def test_prompts_gather_what_was_cached_before_them() -> None:
    found = step(4.0, batch=Batch(0.0, 0.0, 2048.0, 2048.0, 6144.0))
    sent = next(float(np.asarray(p.wire_bytes)) for p in found.parts if p.name == "cached latent gather")
    assert sent == pytest.approx(0.75 * 6144 * 576 * 2)


def test_a_deployment_holds_more_sequences_with_it() -> None:
    def of(dcp: int) -> object:
        return evaluate(load_serving("serve-deepseek-v3-h200", deployed(dcp)).resolve())

    plain, split = of(1), of(4)
    assert split.pools[0].memory != plain.pools[0].memory  # type: ignore[attr-defined]
    assert any("dcp 4" in pool.arrangement for pool in split.pools) or "dcp 4" in str(split)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (deployed(3), "must divide tp"),
        (deployed(4, "trtllm"), "trtllm has no decode context parallelism"),
        ([*deployed(16)], "NVLink domain has 8"),
        (["model=qwen3-235b-a22b", *SETS[1:], "deployment={decode: {tp: 4, ep: 4, dcp: 2}}"], "other attention"),
        (["model=deepseek-v3.2", *deployed(4)], "other attention"),
        (["deployment={mode: disaggregated, decode: {dp: 16, ep: 16}, prefill: {tp: 8, ep: 8, dcp: 2}}"], "remove prefill.dcp"),
    ],
)
def test_where_it_is_not_it_is_refused(sets: list[str], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        load_serving("serve-deepseek-v3-h200", sets).resolve()
