"""Every scenario of the gallery runs, and its answer holds together."""

from __future__ import annotations

import math

import pytest

from epicycle.scenarios.answer.evaluate import evaluate
from epicycle.scenarios.ask.gallery import gallery_names
from epicycle.scenarios.ask.scenario import LayerScenario, ServingScenario, load_layer, load_scenario
from epicycle.scenarios.say.answer_json import answer_json
from epicycle.scenarios.say.record_json import record_json
from epicycle.scenarios.weigh.evaluation_of import evaluation_of
from epicycle.sim.layer.layer import simulate

SCENARIOS = {name: load_scenario(name) for name in gallery_names()}
LAYERS = [name for name, scenario in SCENARIOS.items() if isinstance(scenario, LayerScenario)]


@pytest.mark.parametrize("name", gallery_names())
def test_it_resolves(name: str) -> None:
    question = load_scenario(name).resolve()
    assert question.name == name
    assert question.description


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name not in LAYERS])
def test_a_serving_scenario_answers_or_finds_what_does(name: str) -> None:
    scenario = SCENARIOS[name]
    assert isinstance(scenario, ServingScenario)
    assert (scenario.deployment is None) == name.startswith("plan-")
    answer = evaluation_of(scenario)
    assert answer.sentence
    assert answer.gpus <= scenario.found_cluster().gpus
    assert sum(pool.gpus for pool in answer.pools) == answer.gpus
    for metric in answer.metrics:
        assert metric.value >= 0.0
        if metric.low90 is not None and metric.low50 is not None:
            bounds = (metric.low90, metric.low50, metric.high50, metric.high90)
            assert sorted(bounds) == list(bounds), "wider means wider"  # type: ignore[type-var]
    for pool in answer.pools:
        assert sum(item.bytes for item in pool.memory) <= pool.hbm_bytes
        for step in pool.steps:
            assert math.fsum(part.exposed_s for part in step.parts) == pytest.approx(step.seconds)
    assert record_json(answer).startswith("{")


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name not in LAYERS and not name.startswith("plan-")])
def test_a_deployment_is_answered(name: str) -> None:
    scenario = SCENARIOS[name]
    assert isinstance(scenario, ServingScenario)
    question = scenario.resolve()
    assert question.serving is not None and question.serving.gpus <= question.cluster.gpus
    found = evaluate(question)
    assert found.metric("tpot").value > 0
    assert found.metric("output_tokens_per_s").value > 0
    for pool in found.pools:
        assert sum(item.bytes for item in pool.memory) <= pool.hbm_bytes
        for step in pool.steps:
            assert sum(part.exposed_s for part in step.parts) == pytest.approx(step.seconds)


@pytest.mark.parametrize("name", LAYERS)
def test_it_runs(name: str) -> None:
    question = load_layer(name).resolve()
    answer = simulate(question)
    asked = (question.deployment.protocol, *question.deployment.compare)
    assert tuple(layer.protocol for layer in answer.layers) == asked
    assert answer.ranks == question.deployment.ep
    assert answer.sentence
    pairs = sum(question.traffic.on_ranks(answer.ranks)) * question.model.top_k
    for layer in answer.layers:
        assert layer.makespan_ps > 0
        assert layer.makespan_ps == max(op.end_ps for op in layer.ops)
        assert int(layer.expert_load.sum()) == pairs, "every (token, expert) pair is counted once"
        assert sum(item.bytes for item in layer.memory) <= layer.hbm_bytes
    assert answer_json(answer).startswith("{")
