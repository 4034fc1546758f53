"""One pool alone: the numbers it has in a whole deployment, and refusals of what it does not do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from epicycle.hwmodels.errors import BadInput
from epicycle.scenarios.answer.evaluation import Evaluation
from epicycle.scenarios.ask.scenario import load_scenario
from epicycle.scenarios.weigh.evaluation_of import evaluation_of, plan_of

PAIR = """\
name: pair
model: deepseek-v3
cluster: {name: h200-cx7, nodes: 8}
workload: {input_tokens: 4000, output_tokens: 1000}
deployment:
  mode: disaggregated
  decode: {dp: 32, ep: 32, batch: 64}
  prefill: {dp: 16, ep: 16, count: 2, protocol: high-throughput}
"""
DECODE = "deployment={mode: decode, decode: {dp: 32, ep: 32, batch: 64}}"
PREFILL = "deployment={prefill: {dp: 16, ep: 16, count: 2, protocol: high-throughput}}"


@pytest.fixture
def ask(tmp_path: Path) -> Any:
    path = tmp_path / "pair.yaml"
    path.write_text(PAIR)

    def answer(*sets: str) -> Evaluation:
        return evaluation_of(load_scenario(path, sets))

    return answer


def test_a_decode_pool_at_a_batch(ask: Any) -> None:
    alone, pair = ask(DECODE), ask()
    assert alone.gpus == 32
    assert [pool.role for pool in alone.pools] == ["decode"]
    assert alone.metric("batch").value == 64
    assert alone.metric("concurrency").value == 64 * 32
    tpot = alone.metric("tpot").value
    assert alone.metric("output_tokens_per_s_gpu").value == pytest.approx(64 / tpot)
    assert alone.metric("usd_per_hour").value == pytest.approx(32 * 2.79)
    per_hour = alone.metric("output_tokens_per_s").value * 3600 / 1e6
    assert alone.metric("usd_per_mtok_output").value == pytest.approx(32 * 2.79 / per_hour)
    assert not {"ttft", "usd_per_mtok", "input_tokens_per_s_gpu"} & {m.key for m in alone.metrics}
    pool = next(p for p in pair.pools if p.role == "decode")
    at_its_batch = ask(DECODE, f"workload.concurrency={round(pair.metric('batch').value * 32)}")
    assert at_its_batch.pools[0].steps[0].seconds == pytest.approx(pool.steps[0].seconds, rel=0.01)
    for metric in alone.metrics:
        if metric.low90 is not None and metric.high90 is not None:
            assert metric.low90 <= metric.value <= metric.high90, metric.key


def test_a_decode_pool_under_a_load_or_a_limit(ask: Any) -> None:
    full = ask(DECODE)
    rate = 0.5 * full.metric("requests_per_s").value
    half = ask(DECODE, f"workload.rate={rate} /s")
    assert half.metric("requests_per_s").value == pytest.approx(rate)
    assert half.metric("utilisation").value == pytest.approx(0.5, rel=0.1)
    assert half.metric("tpot").value < full.metric("tpot").value
    fewer = ask(DECODE, "workload.concurrency=320")
    assert fewer.metric("batch").value == 10
    limit = "slo={tpot: 30 ms}"
    held = ask("deployment={mode: decode, decode: {dp: 32, ep: 32}}", limit)
    assert held.limits[0].met and 1 < held.metric("batch").value < 64
    missed = ask(DECODE, limit)
    assert not missed.limits[0].met and missed.metric("batch").value == 64


def test_a_prefill_pool_alone(ask: Any) -> None:
    alone, pair = ask(PREFILL), ask()
    assert alone.serving.mode == "prefill" and alone.gpus == 32
    assert alone.metric("input_tokens_per_s_gpu").value * 32 == pytest.approx(alone.metric("requests_per_s").value * 4000)
    assert alone.metric("usd_per_mtok_input").value == pytest.approx(
        32 * 2.79 / (alone.metric("input_tokens_per_s").value * 3600 / 1e6)
    )
    assert not {"tpot", "batch", "usd_per_mtok_output"} & {m.key for m in alone.metrics}
    pool = next(p for p in pair.pools if p.role == "prefill")
    assert alone.pools[0].steps[0].seconds == pytest.approx(pool.steps[0].seconds)
    assert any("not used by a prefill pool alone: output_tokens" in note for note in alone.notes)
    busy = ask(PREFILL, f"workload.rate={0.9 * alone.metric('requests_per_s').value} /s")
    calm = ask(PREFILL, f"workload.rate={0.1 * alone.metric('requests_per_s').value} /s")
    assert busy.metric("ttft").value > calm.metric("ttft").value >= alone.metric("ttft").value


@pytest.mark.parametrize(
    ("sets", "says"),
    [
        ((DECODE, "slo={ttft: 1 s}"), "a decode pool alone computes no prompts: leave slo.ttft out"),
        ((PREFILL, "slo={tpot: 10 ms}"), "a prefill pool alone decodes nothing: leave slo.tpot out"),
        ((PREFILL, "workload.concurrency=4"), "leave workload.concurrency out"),
        ((DECODE, "deployment.decode.batch=4096"), "memory holds"),
        ((DECODE, "workload.rate=100000 /s"), "beyond what the decode pool carries"),
        ((PREFILL, "workload.rate=100000 /s"), "beyond what the prefill pool carries"),
        (("deployment={mode: decode, decode: {dp: 8, ep: 8}, prefill: {dp: 8, ep: 8}}",), "remove prefill"),
        (("deployment={mode: prefill, decode: {dp: 8, ep: 8}, prefill: {dp: 8, ep: 8}}",), "remove decode"),
        (("deployment={mode: prefill}",), "needs prefill"),
    ],
)
def test_what_a_pool_does_not_do_is_refused(ask: Any, sets: tuple[str, ...], says: str) -> None:
    with pytest.raises(BadInput) as refusal:
        ask(*sets)
    assert says in str(refusal.value)


def test_a_plan_is_of_whole_deployments(ask: Any, tmp_path: Path) -> None:
    for alone in (DECODE, PREFILL):
        scenario = load_scenario(tmp_path / "pair.yaml", [alone])
        with pytest.raises(BadInput, match="a plan looks for whole deployments"):
            plan_of(scenario)
