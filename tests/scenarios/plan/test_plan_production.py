"""DeepSeek's own traffic planned on its own kinds of workers, beside the nodes that it ran (never fitted to)."""

from __future__ import annotations

import pytest

from epicycle.scenarios.ask.scenario import load_serving
from epicycle.scenarios.plan.plan import plan

#: DeepSeek-V3/R1 Inference System Overview (2025-03-01): tokens of a day, and tokens a second of one node.
TOKENS_IN, TOKENS_OUT, CACHED, DAY = 608e9, 168e9, 0.563, 86_400
NODE_IN, NODE_OUT, CONTEXT, NODES = 73_700, 14_800, 4_989, 226.75


@pytest.fixture(scope="module")
def planned():
    scenario = load_serving("plan-deepseek-production-h800")
    return scenario, plan(scenario.resolve(), scenario.search)


def test_the_published_figures_agree_with_each_other():
    prefill, decode = TOKENS_IN / DAY / NODE_IN, TOKENS_OUT / DAY / NODE_OUT
    assert (round(prefill), round(decode)) == (95, 131)
    assert prefill + decode == pytest.approx(NODES, rel=0.01)


def test_the_scenario_asks_for_that_day(planned):
    load = planned[0].workload
    assert load.rate * load.input_tokens * DAY == pytest.approx(TOKENS_IN, rel=0.005)
    assert load.rate * load.output_tokens * DAY == pytest.approx(TOKENS_OUT, rel=0.005)
    assert load.input_tokens + load.output_tokens / 2 == pytest.approx(CONTEXT, rel=0.001)
    assert load.cached_input == CACHED


def test_the_day_is_carried_by_workers_as_deepseek_ran_them(planned):
    _, found = planned
    best = found.best.serving
    assert (best.prefill.gpus, best.prefill.ep, best.decode.gpus, best.decode.ep) == (32, 32, 144, 144)
    assert best.decode.redundant_experts == best.prefill.redundant_experts == 32
    nodes = best.gpus / 8
    assert nodes == pytest.approx(NODES, rel=0.35)


@pytest.mark.xfail(
    reason="a plan keeps prefill workers busy; the run's average was about half of what they could do", strict=True
)
def test_prefill_to_decode_nodes_come_out_as_they_were_run(planned):
    _, found = planned
    best = found.best.serving
    ratio = best.prefill.gpus * best.prefill.count / (best.decode.gpus * best.decode.count)
    assert ratio == pytest.approx(95 / 131, rel=0.2)
