"""Serving scenarios: files, ``--set``, and what does not go together."""

from __future__ import annotations

from pathlib import Path

import pytest

from epicycle.scenarios.ask.scenario import (
    LayerScenario,
    ScenarioError,
    ServingScenario,
    load_layer,
    load_scenario,
    load_serving,
)
from epicycle.sim.inputs.serving_question import ServingQuestion

TEXT = """name: try
model: deepseek-v3
cluster: {name: h200-cx7, nodes: 8}
workload: {input_tokens: 4000, output_tokens: 1000, concurrency: 512}
slo: {ttft: 2 s, tpot: 30 ms}
deployment:
  mode: disaggregated
  decode: {dp: 32, ep: 32}
  prefill: {dp: 16, ep: 16, count: 2, protocol: high-throughput}
"""
LAYER = "traffic: {tokens_per_rank: 128}\n"


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "s.yaml"
    path.write_text(TEXT, encoding="utf-8")
    return path


def ask(path: Path, *sets: str) -> ServingQuestion:
    return load_serving(path, sets).resolve()


def refusal(path: Path, *sets: str) -> str:
    with pytest.raises(ScenarioError) as caught:
        ask(path, *sets)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_a_file_resolves(scenario: Path) -> None:
    question = ask(scenario, "prices.electricity=0.1 USD/kWh", "prices.gpu_hour={h200-sxm: 2 USD/GPU-h}")
    assert question.serving is not None
    assert question.serving.gpus == question.cluster.gpus == 64
    assert (question.slo.ttft, question.slo.tpot) == (2.0, 0.03)
    assert question.prices_overrides == {"electricity": "0.1 USD/kWh", "gpu_hour.h200-sxm": "2 USD/GPU-h"}


def test_without_a_deployment_it_asks_for_one(scenario: Path) -> None:
    scenario.write_text(TEXT[: TEXT.index("deployment")], encoding="utf-8")
    assert ask(scenario).serving is None


def test_the_kinds_are_told_apart_by_their_keys(scenario: Path, tmp_path: Path) -> None:
    assert isinstance(load_scenario(scenario), ServingScenario)
    assert isinstance(load_scenario("ep-anatomy"), LayerScenario)
    with pytest.raises(ScenarioError, match=r"s.yaml:4: try asks about serving .*a layer is wanted"):
        load_layer(scenario)
    with pytest.raises(ScenarioError, match=r"ep-anatomy.yaml:\d+: ep-anatomy asks about one layer"):
        load_serving("ep-anatomy")
    scenario.write_text(TEXT + LAYER, encoding="utf-8")
    assert "s.yaml:4: both workload (serving) and traffic (one layer)" in refusal(scenario)
    scenario.write_text(TEXT.replace("workload", "wrkload"), encoding="utf-8")
    assert "s.yaml:4: no such key wrkload: did you mean 'workload'?" in refusal(scenario)
    scenario.write_text("name: a\nmodel: deepseek-v3\n", encoding="utf-8")
    assert "neither workload (requests to serve) nor traffic (tokens of one layer)" in refusal(scenario)


def test_a_routing_file_is_relative_to_the_scenario(scenario: Path) -> None:
    scenario.write_text(TEXT.replace("512}", "512, routing: {kind: file, file: drawn.csv}}"), encoding="utf-8")
    assert load_serving(scenario).workload.routing.file == scenario.parent / "drawn.csv"


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (("deployment.decode.ep=48",), "--set deployment.decode.ep=48: deployment.decode: ep (48) must divide tp x dp (1 x 32"),
        (
            ("deployment.decode={dp: 24, ep: 24}",),
            "experts (256) do not divide over ep (24): use 16 or 32, or redundant_experts=8",
        ),
        (
            ("cluster.nodes=7",),
            "--set cluster.nodes=7: a deployment of 1 decode worker of dp 32 and 2 prefill workers of dp 16 (64",
        ),
        (("cluster.nodes=7",), "needs 8 nodes: 7 nodes of h200-cx7 are 56 GPUs: use cluster.nodes=8"),
        (("deployment.decode.protocol=one-sided",), "domains of 8 GPUs, ep is 32: use ep of 8 or less, another protocol"),
        (
            ("deployment.prefill={dp: 12, ep: 12, protocol: high-throughput, redundant_experts: 8}",),
            "high-throughput across nodes needs whole NVLink domains (8 GPUs of h200-cx7), ep is 12: use 8 or 16",
        ),
        (("deployment.prefill.comm_sms=132",), "comm_sms (132) leaves none of the 132 SMs"),
        (("deployment.decode={tp: 3}",), "heads (128) of deepseek-v3 do not divide over tp (3): use tp=2 or 4"),
        (
            ("deployment.decode={pp: 64}", "cluster.nodes=16"),
            "pp (64) is more than the 61 layers of deepseek-v3: use 61 or less",
        ),
        (("model=qwen3-235b-a22b", "deployment.mtp=1"), "mtp (1) needs MTP layers, qwen3-235b-a22b has none: use mtp=0"),
        (("model=llama-3.1-8b",), "llama-3.1-8b is a dense model, it has no experts: use ep=1, got 32"),
        (
            ("model=llama-3.1-8b", "deployment={decode: {tp: 8, redundant_experts: 2}}"),
            "it has no experts: use redundant_experts=0, got 2",
        ),
        (("workload.output_tokens=1000000",), "1004000 tokens of context, deepseek-v3 has 163840: use fewer"),
        (("workload.rate=10 /s",), "workload has both concurrency and rate"),
        (("workload.routing={kind: group-limited, groups: 3}",), "experts (256) do not divide over 3 routing groups"),
        (
            ("workload.routing.kind=balanced", "deployment.decode.redundant_experts=32"),
            "balanced routing deals every expert once",
        ),
        (("workload.input_tokens=0",), "workload.input_tokens: wanted greater than or equal to 1, got 0"),
        (("workload.cached_input=1",), "workload.cached_input: wanted less than 1, got 1"),
        (("slo.tpot=30",), 'slo.tpot: a duration needs a unit: write "30 s" or "30 ms"'),
        (("slo.itl=30 ms",), "no such key slo.itl: "),
        (("deployment.mode=aggregated",), "an aggregated deployment has no prefill workers"),
        (("deployment.backend=vlm",), "got 'vlm': did you mean 'vllm'?"),
        (("deployment.decode.tpp=2",), "no such key deployment.decode.tpp: did you mean 'tp'?"),
        (
            ("prices.gpu_hour.h200=2 USD/GPU-h",),
            "prices.gpu_hour.h200=2 USD/GPU-h: unknown price 'gpu_hour.h200': did you mean",
        ),
        (("prices.electricity=0.1",), "--set prices.electricity=0.1: prices.electricity: a price of electricity needs a unit"),
        (("prices=3",), "--set prices=3: prices: wanted keys and values, got 3"),
        (("traffic.tokens_per_rank=3",), "--set traffic.tokens_per_rank=3: no such key 'traffic'"),
    ],
)
def test_what_does_not_go_together_says_the_lever(scenario: Path, sets: tuple[str, ...], said: str) -> None:
    assert said in refusal(scenario, *sets)


def test_the_levers_work(scenario: Path) -> None:
    serving = ask(scenario, "deployment.decode={dp: 24, ep: 24, redundant_experts: 8}").serving
    assert serving is not None
    assert serving.decode.redundant_experts == 8
    assert ask(scenario, "deployment={decode: {tp: 4}}").serving is not None
    # Key-value heads that are fewer than tp are held several times.
    assert ask(scenario, "model=qwen3-235b-a22b", "deployment={decode: {tp: 8}}").serving is not None
