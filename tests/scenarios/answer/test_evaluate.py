"""One deployment's answer: its numbers agree with each other, with its memory, its bill and its limits."""

from __future__ import annotations

import math

import pytest

from epicycle.hwmodels.backends import Backend, load_backend
from epicycle.hwmodels.prices import load_prices
from epicycle.scenarios.answer.evaluate import evaluate
from epicycle.scenarios.answer.evaluation import Evaluation
from epicycle.scenarios.ask.gallery import gallery_names
from epicycle.scenarios.ask.scenario import ServingScenario, load_scenario, load_serving
from epicycle.sim.inputs.feasible import Unanswerable
from epicycle.sim.inputs.serving_question import ServingQuestion

DEPLOYED = [
    name
    for name in gallery_names()
    if isinstance(scenario := load_scenario(name), ServingScenario) and scenario.deployment is not None
]
AGGREGATED = (
    "workload={input_tokens: 1000, output_tokens: 500, concurrency: 256}",
    "deployment={backend: vllm, decode: {tp: 8, ep: 8, count: 2}}",
)
#: The gallery's deployments, and what they do not have: a load of its own, prompts beside decoding, drafts, a pipeline.
CASES: list[tuple[str, tuple[str, ...]]] = [
    *((name, ()) for name in DEPLOYED),
    ("serve-deepseek-v3-h200", ("workload.concurrency=512",)),
    ("serve-deepseek-v3-h200", ('workload.rate="20 /s"',)),
    ("serve-deepseek-v3-h200", ("deployment.mtp=1", "deployment.acceptance=0.7", "deployment.decode.overlap=true")),
    ("serve-deepseek-v3-h200", AGGREGATED),
    ("serve-deepseek-v3-h200", (*AGGREGATED, "model=llama-3.1-70b", "deployment={backend: sglang, decode: {tp: 4, pp: 2}}")),
    ("serve-deepseek-v3-h200", ("bill.basis=owned", "bill.fixed_per_hour=10 USD")),
]
IDS = [f"{name} {' '.join(sets)}".strip() for name, sets in CASES]


def ask(name: str, *sets: str) -> ServingQuestion:
    return load_serving(name, sets).resolve()


@pytest.fixture(params=CASES, ids=IDS, scope="module")
def both(request: pytest.FixtureRequest) -> tuple[ServingQuestion, Evaluation]:
    name, sets = request.param
    question = ask(name, *sets)
    return question, evaluate(question, unbiased(question))


def unbiased(question: ServingQuestion) -> Backend:
    """The question's engine without residuals: what it shows is what the closed form says, and not the median about it."""
    assert question.serving is not None
    engine = load_backend(question.serving.backend)
    fit = engine.fit and engine.fit.model_copy(update={"intervals": (), "ttft_intervals": ()})
    return engine.model_copy(update={"fit": fit})


Both = tuple[ServingQuestion, Evaluation]


def values(found: Evaluation) -> dict[str, float]:
    return {metric.key: metric.value for metric in found.metrics}


def test_requests_in_flight_are_those_that_arrive_while_one_is_served(both: Both) -> None:
    """Little's law over the whole deployment: prompt, wait and every token."""
    question, found = both
    got, load = values(found), question.workload
    served = got["ttft"] + load.mean_output * got["tpot"]
    assert got["concurrency"] == pytest.approx(got["requests_per_s"] * served, rel=0.02)
    if load.concurrency is not None:
        assert got["concurrency"] == pytest.approx(load.concurrency, rel=0.01)
    if load.rate is not None:
        assert got["requests_per_s"] == pytest.approx(load.rate, rel=0.01)


def test_rates_are_the_same_rate(both: Both) -> None:
    question, found = both
    got, load = values(found), question.workload
    assert question.serving is not None
    assert found.gpus == question.serving.gpus
    assert got["output_tokens_per_s"] == pytest.approx(got["requests_per_s"] * load.mean_output)
    assert got["output_tokens_per_s_gpu"] * found.gpus == pytest.approx(got["output_tokens_per_s"])
    assert got["input_tokens_per_s_gpu"] * found.gpus == pytest.approx(got["requests_per_s"] * load.mean_input)
    assert got["tokens_per_s_user"] * got["tpot"] == pytest.approx(1.0)
    decode = question.serving.decode
    tokens = got["batch"] * decode.dp * decode.count / got["tpot"]
    assert tokens == pytest.approx(got["output_tokens_per_s"], rel=0.01), "all sequences that decode get a token every TPOT"
    assert 0.0 < got["utilisation"] <= 1.0001
    assert 0.0 < got["mfu"] < 1.0
    assert 0.0 < got["mbu"] < 1.0


def test_a_token_of_a_decode_pool_takes_one_step(both: Both) -> None:
    question, found = both
    assert question.serving is not None
    (pool,) = [p for p in found.pools if p.role in ("decode", "aggregated")]
    (step,) = [s for s in pool.steps if s.phase == "decode"]
    drafts = question.serving.mtp
    accepted = sum(question.serving.acceptance**i for i in range(drafts + 1))
    if pool.role == "decode":
        assert found.metric("tpot").value == pytest.approx(step.seconds / accepted, rel=1e-3)
    else:
        assert found.metric("tpot").value >= step.seconds / accepted * (1 - 1e-6), "prompts come between"
    assert max(step.mfu, step.mbu) <= 1.0


def test_the_bill_is_paid_for_its_tokens(both: Both) -> None:
    question, found = both
    got, load = values(found), question.workload
    tokens_in, tokens_out = (got["requests_per_s"] * length * 3600 / 1e6 for length in (load.mean_input, load.mean_output))
    assert got["usd_per_mtok"] * (tokens_in + tokens_out) == pytest.approx(got["usd_per_hour"])
    assert got["usd_per_mtok_output"] * tokens_out == pytest.approx(got["usd_per_hour"])
    assert math.fsum(found.cost.values()) == pytest.approx(got["usd_per_hour"])
    assert all(line > 0.0 for line in found.cost.values())


def test_an_api_is_as_dear_at_break_even(both: Both) -> None:
    """The API's bill for the same tokens, times ``times_api``, is the own one; rented, break-even is that share of the load."""
    question, found = both
    got, load = values(found), question.workload
    prices = load_prices(question.prices_overrides)
    if question.model.name not in prices.api:
        assert "times_api" not in got
        return
    api = prices.api_of(question.model.name)
    price_in = api.cached * load.cached_input + api.input * (1 - load.cached_input)
    bill = got["requests_per_s"] * 3600 / 1e6 * (load.mean_input * price_in + load.mean_output * api.output)
    assert got["times_api"] * bill == pytest.approx(got["usd_per_hour"])
    if question.bill.basis == "rental":
        assert got["break_even"] == pytest.approx(got["times_api"])
    else:
        assert (got["break_even"] > 1.0) == (got["times_api"] > 1.0)


def test_memory_stays_below_what_may_be_filled(both: Both) -> None:
    question, found = both
    assert question.serving is not None
    for pool in found.pools:
        assert all(item.bytes >= 0 for item in pool.memory)
        assert pool.hbm_bytes == question.cluster.node.gpu.hbm_capacity
        assert sum(item.bytes for item in pool.memory) <= pool.hbm_bytes * question.serving.memory_share * (1 + 1e-6)
    assert sum(pool.gpus for pool in found.pools) == found.gpus <= question.cluster.gpus


def test_no_pool_is_busier_than_always(both: Both) -> None:
    question, found = both
    prefill = [p for p in found.pools if p.role == "prefill"]
    if not prefill:
        return
    (pool,) = prefill
    (step,) = pool.steps
    assert question.serving is not None and question.serving.prefill is not None
    load = question.workload
    new = max(1.0, load.mean_input * (1 - load.cached_input))
    groups = question.serving.prefill.dp * question.serving.prefill.pp * pool.workers
    most = step.tokens_per_gpu * question.serving.prefill.tp / new * groups / step.seconds
    busy = found.metric("requests_per_s").value / most
    assert 0.0 < busy <= 1.0001
    assert f"the prefill pool is busy {busy:.0%}" in " ".join(found.notes)


def test_intervals_hold_the_value_or_say_the_bias(both: Both) -> None:
    _, found = both
    for metric in found.metrics:
        if metric.low90 is None:
            continue
        assert metric.low90 <= metric.low50 <= metric.high50 <= metric.high90  # type: ignore[operator]
        assert metric.low90 > 0.0


# --- limits ---


@pytest.mark.parametrize(("wanted", "met"), [(2.0, True), (0.5, False)])
def test_limits_are_met_or_missed_as_the_numbers_say(wanted: float, met: bool) -> None:
    load = "workload.concurrency=4096"
    plain = evaluate(ask("serve-deepseek-v3-h200", load))
    assert plain.limits == ()
    asked = {key: plain.metric(key).value * wanted for key in ("ttft", "tpot")}
    slo = (f"slo.{key}={1e3 * value:.6f} ms" for key, value in asked.items())
    found = evaluate(ask("serve-deepseek-v3-h200", load, *slo))
    assert {limit.key for limit in found.limits} == {"ttft", "tpot"}
    for limit in found.limits:
        assert limit.met is met
        assert limit.got == found.metric(limit.key).value
        assert limit.wanted == pytest.approx(asked[limit.key], rel=1e-6)
        assert bool(limit.lever) is not met
    assert ("It meets its limits:" in found.sentence) is met
    assert ("It misses its limits:" in found.sentence) is not met
    assert values(found) == values(plain), "a limit changes nothing that is measured"


def test_the_lever_of_a_missed_time_per_token_works() -> None:
    load = "workload.concurrency=8192"
    plain = evaluate(ask("serve-deepseek-v3-h200", load)).metric("tpot").value
    sets = (f"slo.tpot={0.8e3 * plain:.3f} ms", load)
    (limit,) = evaluate(ask("serve-deepseek-v3-h200", *sets)).limits
    assert not limit.met and limit.chance is not None and limit.chance < 0.5 and "deployment.decode.batch" in limit.lever
    (limit,) = evaluate(ask("serve-deepseek-v3-h200", *sets, "deployment.decode.batch=32")).limits
    assert limit.met


def test_without_a_load_it_runs_at_the_largest_that_meets_the_limits() -> None:
    plain = evaluate(ask("serve-deepseek-v3-h200"))
    most = plain.metric("concurrency").value
    wanted = 0.8 * plain.metric("tpot").value
    found = evaluate(ask("serve-deepseek-v3-h200", f"slo.tpot={1e3 * wanted} ms"))
    assert all(limit.met for limit in found.limits)
    load = round(found.metric("concurrency").value)
    assert 1 < load < most
    assert any(note.startswith(f"no load is given: {load:,} requests in flight") for note in found.notes)
    same, more = (
        evaluate(ask("serve-deepseek-v3-h200", f"slo.tpot={1e3 * wanted} ms", f"workload.concurrency={n}"))
        for n in (load, round(load * 1.01) + 1)
    )
    assert values(same) == values(found)
    assert not all(limit.met for limit in more.limits)
    generous = evaluate(ask("serve-deepseek-v3-h200", f"slo.tpot={2e3 * plain.metric('tpot').value} ms"))
    assert values(generous) == values(plain), "where all that memory holds meets them, limits change nothing"


def test_where_no_load_meets_the_limits_a_lone_request_says_by_how_much() -> None:
    found = evaluate(ask("serve-deepseek-v3-h200", "slo.tpot=1 ms"))
    assert found.metric("concurrency").value == 1.0
    assert not found.limits[0].met
    assert "no load meets the limits: these are the times of a lone request" in found.notes


@pytest.mark.parametrize("key", ["ttft", "tpot"])
def test_a_limit_is_met_with_the_chance_that_its_interval_tells(key: str) -> None:
    load = "workload.concurrency=2048"
    plain = evaluate(ask("serve-deepseek-v3-h200", load)).metric(key)
    assert plain.low50 is not None and plain.high50 is not None and plain.high90 is not None
    assert plain.low50 <= plain.value <= plain.high50, "the point is the median of its own interval"
    for at, chance in ((plain.low50, 0.25), (plain.value, 0.5), (plain.high50, 0.75), (plain.high90, 0.95)):
        (limit,) = evaluate(ask("serve-deepseek-v3-h200", load, f"slo.{key}={1e3 * at:.9f} ms")).limits
        assert limit.chance == pytest.approx(chance, abs=1e-3)
    sure = f"slo={{{key}: {1e3 * plain.high50:.9f} ms, confidence: %s}}"
    for confidence, met in (("0.7", True), ("0.8", False)):
        (limit,) = evaluate(ask("serve-deepseek-v3-h200", load, sure % confidence)).limits
        assert limit.met is met
    lower = evaluate(ask("serve-deepseek-v3-h200", sure % "0.8"))
    assert lower.limits[0].met and lower.limits[0].chance is not None and lower.limits[0].chance >= 0.8


# --- refusals ---


def test_a_rate_beyond_capacity_names_the_lever_and_the_lever_works() -> None:
    with pytest.raises(Unanswerable) as caught:
        evaluate(ask("serve-deepseek-v3-h200", 'workload.rate="100000 /s"'))
    said = str(caught.value)
    assert "\n" not in said
    assert "beyond what 64 GPUs carry" in said and "deployment.decode.count" in said
    rate = float(said.rsplit('workload.rate="', 1)[1].split(" ")[0])
    found = evaluate(ask("serve-deepseek-v3-h200", f'workload.rate="{0.99 * rate:.6g} /s"'))
    assert found.metric("utilisation").value == pytest.approx(0.99, abs=0.02)


def test_what_does_not_fit_says_by_how_much() -> None:
    with pytest.raises(
        Unanswerable, match=r"a decode worker needs .* more than it may fill; the largest part is routed expert"
    ) as e:
        evaluate(ask("serve-deepseek-v3-h200", "deployment={decode: {dp: 2, ep: 2}}"))
    assert "deployment.decode.tp or .ep" in str(e.value)


def test_nothing_to_evaluate_without_a_deployment() -> None:
    with pytest.raises(Unanswerable, match="there is no deployment to evaluate: add one, or let `epicycle plan` look for one"):
        evaluate(ask("plan-deepseek-v3-h200"))


# --- the bill ---


def test_owned_gpus_have_power_and_network_and_rented_ones_one_line() -> None:
    rented, owned = (evaluate(ask("serve-deepseek-v3-h200", f"bill.basis={basis}")) for basis in ("rental", "owned"))
    assert set(rented.cost) == {"GPU time"}
    assert set(owned.cost) == {"GPU time", "power", "network"}
    fixed = evaluate(ask("serve-deepseek-v3-h200", "bill.fixed_per_hour=25 USD"))
    assert fixed.cost["fixed"] == 25.0
    assert fixed.metric("usd_per_hour").value == pytest.approx(rented.metric("usd_per_hour").value + 25.0)
    same = ("tpot", "ttft", "requests_per_s")
    assert [rented.metric(key).value for key in same] == [owned.metric(key).value for key in same]


def test_a_dearer_gpu_is_as_much_dearer_a_token() -> None:
    cheap, dear = (evaluate(ask("serve-deepseek-v3-h200", f"prices.gpu_hour={{h200-sxm: {usd} USD/GPU-h}}")) for usd in (2, 3))
    assert cheap.cost["GPU time"] == pytest.approx(2 * 64)
    ratio = dear.metric("usd_per_mtok").value / cheap.metric("usd_per_mtok").value
    assert ratio == pytest.approx(1.5)
    assert dear.metric("times_api").value / cheap.metric("times_api").value == pytest.approx(1.5)


# --- load ---


def test_more_in_flight_serves_more_and_slower() -> None:
    found = [evaluate(ask("serve-deepseek-v3-h200", f"workload.concurrency={c}")) for c in (32, 256, 1024, 4096)]
    rates, times = ([e.metric(key).value for e in found] for key in ("requests_per_s", "tpot"))
    assert rates == sorted(rates)
    assert times == sorted(times)
    busy = [e.metric("utilisation").value for e in found]
    assert busy == sorted(busy)


def test_waiting_requests_wait_before_their_first_token() -> None:
    """More in flight than slots: the pool decodes no more, the rest queues, and the time per token stays."""
    full, beyond = (evaluate(ask("serve-deepseek-v3-h200", f"workload.concurrency={c}")) for c in (8192, 16_384))
    assert beyond.metric("tpot").value == pytest.approx(full.metric("tpot").value, rel=0.01)
    assert beyond.metric("requests_per_s").value == pytest.approx(full.metric("requests_per_s").value, rel=0.01)
    assert beyond.metric("ttft").value > full.metric("ttft").value
