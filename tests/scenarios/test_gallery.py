"""Every scenario of the gallery runs, and its answer holds together."""

from __future__ import annotations

import pytest

from epicycle.scenarios.answer_json import answer_json
from epicycle.scenarios.gallery import gallery_names
from epicycle.scenarios.scenario import LayerScenario, ServingScenario, load_layer, load_scenario
from epicycle.sim.ep.layer import simulate

SCENARIOS = {name: load_scenario(name) for name in gallery_names()}
LAYERS = [name for name, scenario in SCENARIOS.items() if isinstance(scenario, LayerScenario)]


@pytest.mark.parametrize("name", gallery_names())
def test_it_resolves(name: str) -> None:
    question = load_scenario(name).resolve()
    assert question.name == name
    assert question.description


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name not in LAYERS])
def test_a_serving_scenario_has_a_deployment_or_looks_for_one(name: str) -> None:
    scenario = SCENARIOS[name]
    assert isinstance(scenario, ServingScenario)
    assert scenario.deployment is not None or name.startswith("plan-")


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
