"""Every scenario of the gallery runs, and its answer holds together."""

from __future__ import annotations

import pytest

from epicycle.scenarios.answer_json import answer_json
from epicycle.scenarios.gallery import gallery_names
from epicycle.scenarios.scenario import load_scenario
from epicycle.sim.ep.layer import simulate


@pytest.mark.parametrize("name", gallery_names())
def test_it_runs(name: str) -> None:
    question = load_scenario(name).resolve()
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
