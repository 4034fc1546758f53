"""Plans against brute force, against evaluations of their own candidates, and against themselves with more of something."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epicycle.hwmodels.catalog import load_cluster
from epicycle.hwmodels.errors import BadInput
from epicycle.hwmodels.units import SI_NUMBERS
from epicycle.scenarios.answer.evaluate import evaluate
from epicycle.scenarios.ask.scenario import load_serving
from epicycle.scenarios.ask.search import Search
from epicycle.scenarios.plan.plan import plan
from epicycle.scenarios.plan.pools import disaggregated_pools, front, worth_pairing
from epicycle.scenarios.plan.table import table_of
from epicycle.scenarios.plan.widths import widths
from epicycle.scenarios.plan.workers import decode_workers, prefill_workers
from epicycle.sim.inputs.model import load_model
from epicycle.sim.inputs.serving import Slo, Workload
from epicycle.sim.inputs.serving_question import ServingQuestion
from epicycle.sim.inputs.traffic import Routing

FEW = {"batches": (4, 16, 64), "chunk_tokens": (2048,), "prefill_chunk_tokens": (8192,), "confirm": 0}


def _question(model="qwen3-30b-a3b", cluster="h100-cx7", nodes=1, ttft=None, tpot=None, **load):
    load = {"input_tokens": 2000, "output_tokens": 500, **load}
    slo = {key: limit for key, limit in (("ttft", ttft), ("tpot", tpot)) if limit is not None}
    return ServingQuestion(
        "asked",
        "",
        load_model(model),
        load_cluster(cluster, nodes),
        Workload.model_validate(load, context=SI_NUMBERS),
        Slo.model_validate(slo, context=SI_NUMBERS),
    )


@pytest.fixture(scope="module")
def shipped():
    scenario = load_serving("plan-deepseek-v3-h200")
    return scenario.resolve(), plan(scenario.resolve(), Search())


def test_the_shipped_plan_finds_a_deployment_among_many(shipped):
    question, found = shipped
    assert found.considered >= 20_000
    assert found.considered == found.fitting + sum(found.ruled_out.values())
    assert found.considered >= found.fitting >= found.meeting > 0
    assert found.best is not None
    assert found.best.metric("ttft").value <= question.slo.ttft
    assert found.best.metric("tpot").value <= question.slo.tpot
    assert found.best.gpus <= 64
    assert all(limit.met for limit in found.limits)
    assert str(found.best.gpus) in found.sentence


def test_the_best_is_the_cheapest_candidate_that_meets_the_limits(shipped):
    _, found = shipped
    good = [c.values["usd_per_mtok_output"] for c in found.candidates if c.meets]
    best = next(c for c in found.candidates if c.serving == found.best.serving)
    assert best.values["usd_per_mtok_output"] == pytest.approx(min(good), rel=1e-9)


def test_no_candidate_beats_the_front_in_cost_and_time_per_token(shipped):
    question, found = shipped
    edge = [c.values for c in found.candidates if c.on_front]
    assert len(edge) >= 5
    in_time = [c.values for c in found.candidates if c.values["ttft"] <= question.slo.ttft]
    for of in edge:
        for other in in_time:
            cheaper = other["usd_per_mtok_output"] < of["usd_per_mtok_output"] * (1 - 1e-9)
            assert not (cheaper and other["tpot"] < of["tpot"] * (1 - 1e-9))


def test_candidates_are_what_an_evaluation_of_them_says(shipped):
    """To the last digit: they are one computation."""
    question, found = shipped
    for candidate in found.candidates[::4]:
        answer = evaluate(replace(question, serving=candidate.serving))
        assert {key: answer.metric(key).value for key in candidate.values} == candidate.values
    assert found.candidates[0].serving == found.best.serving
    assert found.candidates[0].values["tpot"] == found.best.metric("tpot").value


def test_the_table_ranks_by_nearly_what_an_evaluation_says(shipped):
    """Its straight lines between batches are off by little."""
    question, _ = shipped
    table = table_of(question, Search())
    rng = np.random.default_rng(1)
    for row in rng.choice(np.flatnonzero(table.misses() <= 1.0), 12, replace=False).tolist():
        answer = evaluate(replace(table.question, serving=table.serving(row)))
        assert answer.metric("tpot").value == pytest.approx(table.rows.tpot_s[row], rel=0.03)
        off = 0.1  # a row at its limit lies between two batches; what is shown is never this figure
        assert answer.metric("usd_per_mtok_output").value == pytest.approx(table.usd_per_mtok_output[row], rel=off)


def test_the_best_few_are_played_event_by_event(shipped):
    _, found = shipped
    played = [c for c in found.candidates if c.events_tpot_s is not None]
    assert 1 <= len(played) <= Search().confirm
    for candidate in played:
        assert candidate.meets
        assert candidate.serving.decode.dp > 1
        assert candidate.events_tpot_s == pytest.approx(candidate.values["tpot"], rel=0.15)
        assert candidate.events_tpot_s != candidate.values["tpot"]


def test_the_same_question_gives_the_same_plan_in_another_process():
    code = (
        "from epicycle.scenarios.plan.plan import plan; from epicycle.scenarios.ask.search import Search;"
        "from epicycle.scenarios.ask.scenario import load_serving;"
        "s = load_serving('plan-deepseek-v3-h200', ['cluster.nodes=2']); print(repr(plan(s.resolve(), Search(confirm=1))))"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1")
    }
    assert len(texts) == 1


def test_the_best_of_a_small_search_is_the_best_of_all_its_deployments_evaluated_one_by_one():
    question = _question(ttft=1.0, tpot=0.02)
    search = Search(tp=(1, 2), dp=(1, 2), pp=(1,), modes=("aggregated",), overlap=(False,), **FEW)
    table = table_of(question, search)
    assert 10 < len(table.rows) < 200
    answers = [evaluate(replace(table.question, serving=table.serving(row))) for row in range(len(table.rows))]
    good = [a for a in answers if all(limit.met for limit in a.limits)]
    cheapest = min(a.metric("usd_per_mtok_output").value for a in good)
    found = plan(question, search)
    assert found.meeting == len(good)
    assert found.best.metric("usd_per_mtok_output").value == pytest.approx(cheapest, rel=1e-9)


def test_workers_left_out_of_pairs_are_missed_by_nobody():
    question = _question(ttft=1.0, tpot=0.02, nodes=2)
    search = Search(**FEW)
    setting = table_of(question, search).setting
    prefill, decode = (f(setting, Routing(), search, 16).workers for f in (prefill_workers, decode_workers))
    everything = disaggregated_pools(setting, question.workload, prefill, decode, 16, search)
    few = disaggregated_pools(
        setting,
        question.workload,
        prefill.take(worth_pairing(prefill, decode=False)),
        decode.take(worth_pairing(decode, decode=True)),
        16,
        search,
    )
    assert len(few) < len(everything)
    for limit in (0.008, 0.01, 0.02, 0.05):
        least = [float((d.gpus / d.requests_per_s)[(d.tpot_s <= limit) & (d.ttft_s <= 1.0)].min()) for d in (few, everything)]
        assert least[0] == pytest.approx(least[1], rel=1e-9)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(*(st.integers(0, 6) for _ in range(3))), min_size=1, max_size=30), st.integers(2, 3))
def test_the_front_is_what_no_other_row_beats(rows, width):
    costs = [np.array(c, float) for c in list(zip(*rows, strict=True))[:width]]
    kept = front(*costs)
    points = list(zip(*costs, strict=True))
    for i, point in enumerate(points):
        beaten = any(all(a <= b for a, b in zip(points[k], point, strict=True)) for k in kept if k != i)
        assert beaten != (i in kept)


@pytest.mark.parametrize("model", ["deepseek-v3", "qwen3-235b-a22b", "gpt-oss-120b", "llama-3.1-70b", "qwen3.5-397b-a17b"])
def test_every_arrangement_is_one_that_a_scenario_may_ask_for(model):
    question = _question(model, "h200-cx7", 2)
    table = table_of(question, Search(**FEW))
    assert len(table.rows) > 50
    rng = np.random.default_rng(0)
    for row in rng.choice(len(table.rows), 40, replace=False).tolist():
        asked = replace(table.question, serving=table.serving(row))  # raises Unanswerable where it does not go together
        assert asked.serving.gpus == table.rows.gpus[row] <= 16


@pytest.mark.parametrize("routing", [{"kind": "balanced"}, {"kind": "group-limited"}, {"kind": "power-law"}])
def test_other_routings_are_planned_with_what_they_allow(routing):
    question = _question("deepseek-v3", "h200-cx7", 4, ttft=5.0, tpot=0.1, routing=routing)
    search = Search(dp=(8, 16, 24, 32), **FEW)
    found = plan(question, search)
    assert found.best is not None
    dps = {c.serving.decode.dp for c in found.candidates}
    assert (24 in dps) == (routing["kind"] == "power-law")
    for candidate in found.candidates:
        evaluate(replace(question, serving=candidate.serving))


def test_batches_never_exceed_what_memory_holds():
    table = table_of(_question("deepseek-v3", "h200-cx7", 2), Search(**FEW))
    slots, held = table.rows.slots, table.decode.sequences[table.rows.decode]
    assert np.all(slots <= held)
    assert np.all(table.rows.slots >= 1)


def test_a_rate_is_carried_and_more_of_it_costs_more():
    bills = []
    for rate in (2.0, 8.0, 20.0):
        found = plan(_question("qwen3-30b-a3b", nodes=2, ttft=1.0, tpot=0.03, rate=rate), Search(**FEW))
        assert found.best.metric("requests_per_s").value == pytest.approx(rate, rel=1e-3)
        bills.append(found.best.metric("usd_per_hour").value)
    assert bills == sorted(bills)


@pytest.mark.parametrize("load", [{"rate": 6.0}, {"concurrency": 96}, {}])
def test_candidates_under_any_load_are_what_an_evaluation_of_them_says(load):
    question = _question("deepseek-v3", "h200-cx7", 4, ttft=3.0, tpot=0.05, **load)
    for candidate in plan(question, Search(**{**FEW, "batches": (8, 16, 32, 64)})).candidates[:20]:
        answer = evaluate(replace(question, serving=candidate.serving))
        for key in ("tpot", "requests_per_s", "usd_per_mtok_output", "concurrency"):
            assert answer.metric(key).value == pytest.approx(candidate.values[key], rel=0.08), (key, candidate.arrangement)


def test_a_closed_loop_is_not_asked_for_more_than_it_has():
    found = plan(_question("qwen3-30b-a3b", ttft=2.0, tpot=0.03, concurrency=24), Search(**FEW))
    assert found.best.metric("concurrency").value == pytest.approx(24)
    for candidate in found.candidates:
        assert candidate.values["concurrency"] == 24


def test_narrower_limits_never_make_it_cheaper_and_more_to_choose_from_never_dearer():
    costs = [
        plan(_question(tpot=t, ttft=1.0), Search(**FEW)).best.metric("usd_per_mtok_output").value for t in (0.05, 0.02, 0.01)
    ]
    assert costs == sorted(costs)
    question = _question("deepseek-v3", "h200-cx7", 4, tpot=0.04, ttft=2.0)
    one = plan(question, Search(modes=("aggregated",), **FEW)).best.metric("usd_per_mtok_output").value
    both = plan(question, Search(**FEW)).best.metric("usd_per_mtok_output").value
    assert both <= one * (1 + 1e-9)


def test_no_says_which_limit_fails_by_how_much_and_what_would_help():
    question = _question("deepseek-v3", "h200-cx7", 2, ttft=2.0, tpot=0.004)
    found = plan(question, Search(**FEW))
    assert found.best is None
    assert found.meeting == 0
    tpot = next(limit for limit in found.limits if limit.key == "tpot")
    assert not tpot.met
    assert tpot.got > tpot.wanted == 0.004
    assert tpot.lever
    assert tpot.lever in found.sentence
    assert found.candidates


def test_a_lever_is_true_of_the_search_that_it_names():
    """Its own words, set: the plan then meets every limit."""
    found = plan(_question("qwen3-30b-a3b", ttft=1.0, tpot=0.03, rate=200.0), Search(**FEW))
    limit = next(limit for limit in found.limits if not limit.met)
    assert limit.key == "rate"
    assert limit.got < limit.wanted == 200.0
    nodes = int(limit.lever.split("cluster.nodes=")[1].split()[0])
    again = plan(_question("qwen3-30b-a3b", nodes=nodes, ttft=1.0, tpot=0.03, rate=200.0), Search(**FEW))
    assert again.best is not None


def test_what_does_not_fit_says_so():
    found = plan(_question("deepseek-v3", "h100-cx7", 1), Search(**FEW))
    assert found.best is None
    assert found.fitting == 0
    (limit,) = found.limits
    assert limit.key == "memory"
    assert limit.got > limit.wanted
    assert "routed expert weights" in limit.words
    assert "cluster.nodes=2" in limit.lever


def test_too_few_gpus_for_both_pools_are_said():
    found = plan(_question("deepseek-v3", "h200-cx7", 1), Search(modes=("disaggregated",), tp=(8,), **FEW))
    (limit,) = found.limits
    assert (limit.key, limit.wanted, limit.got) == ("gpus", 8, 16)
    assert "16 GPUs" in found.sentence


def test_other_clusters_are_searched_too():
    alone = plan(_question(tpot=0.02, ttft=1.0), Search(**FEW))
    found = plan(_question(tpot=0.02, ttft=1.0), Search(clusters=("h200-cx7", "b200-cx7"), **FEW))
    assert found.considered > 2 * alone.considered
    assert {c.cluster for c in found.candidates} >= {found.best.cluster}
    assert found.best.metric("usd_per_mtok_output").value <= alone.best.metric("usd_per_mtok_output").value


def test_progress_ends_at_its_total():
    seen = []
    plan(_question(tpot=0.02), Search(**FEW), lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == seen[-1][1]


def test_redundant_experts_fill_the_ranks_and_help_only_skewed_routing():
    model, cluster = load_model("deepseek-v3"), load_cluster("h200-cx7", 18)
    asked = Search(tp=(1,), dp=(144,), pp=(1,))
    *_, ep, redundant = widths(model, cluster, asked, 144, Routing())
    assert ep.tolist() == [144]
    assert redundant.tolist() == [32]
    *_, redundant = widths(model, cluster, asked, 144, Routing(kind="power-law"))
    assert redundant.tolist() == [32, 176]


@pytest.mark.parametrize(
    ("search", "said"),
    [
        ({"gpus": 1 << 16}, "at most"),
        ({"mtp": 1}, "has none"),
        ({"tp": [3]}, "heads divide over tp"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(search, said):
    with pytest.raises(BadInput, match=said) as caught:
        plan(_question("qwen3-30b-a3b"), Search.model_validate({**FEW, **search}))
    assert "\n" not in str(caught.value)


def test_unknown_clusters_and_fields_are_refused():
    for bad in ({"clusters": ["h20"]}, {"batch": [4]}, {"tp": []}, {"memory_share": 1.5}):
        with pytest.raises(ValueError, match=r"h20|batch|tp|memory_share"):
            Search.model_validate(bad)


def test_a_plan_is_a_table_and_not_a_loop_over_deployments(shipped):
    """Python functions called: few for each deployment considered, and a loop over them would call thousands.

    What is shown is evaluated one by one; here that is one.
    """
    question, _ = shipped
    calls = 0

    def count(_frame, event, _argument):
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        found = plan(question, Search.model_validate({"confirm": 0, "keep": 1}))
    finally:
        sys.setprofile(None)
    assert found.considered / 10 < calls < 10 * found.considered


def test_a_plan_says_what_it_was_told_and_what_it_found() -> None:
    import epicycle

    plan = epicycle.plan(
        "plan-deepseek-v3-h200", sets={"search.gpus": "16", "search.confirm": "0", "search.backends": "[sglang]"}
    )
    said = {row.name: row.source for row in plan.inputs if row.section == "deployment"}
    assert said["backend"] == "scenario's search"
    assert said["decode.tp"] == said["decode.batch"] == "found by the search"
    assert said["decode.cuda_graphs"] == "default"
