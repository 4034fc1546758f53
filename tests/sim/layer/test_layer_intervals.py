"""How sure a simulated layer says it is: every op from its own kernel's residuals, wider where it leans on others, and why."""

from __future__ import annotations

import json
from math import hypot

import pytest

from epicycle.hwmodels.calibration import find_entry
from epicycle.hwmodels.interval import BORROWED_SD, OUTSIDE_SD, SITE_SD, UNKNOWN, elsewhere
from epicycle.scenarios.ask.scenario import load_layer
from epicycle.scenarios.say.answer_json import answer_json
from epicycle.sim.layer.layer import simulate
from epicycle.sim.layer.result import Answer, LayerResult

DECODE = "deepseek-v3-decode-ep32"


def answer(*sets: str) -> Answer:
    return simulate(load_layer(DECODE, ("deployment.compare=[]", *sets)).resolve())


@pytest.fixture(scope="module")
def measured() -> LayerResult:
    return answer().layers[0]


def test_an_op_carries_the_interval_of_its_own_kernel(measured: LayerResult) -> None:
    assert set(measured.intervals) == {"dispatch", "compute", "combine"}
    for op in ("dispatch", "combine"):
        fit = find_entry("h100_sxm", "low-latency", op, "multi-node")[0].fit
        point = {"tokens": 128.0, "hidden": 7168.0, "top_k": 8.0, "experts": 256.0, "ranks": 32.0}
        assert measured.intervals[op] == elsewhere(fit.interval(measured.op_us(op) / 1e6, 4, point))
        assert measured.intervals[op].why == ()


def test_the_layer_is_at_most_as_unsure_as_its_least_sure_op(measured: LayerResult) -> None:
    whole, ops = measured.interval, measured.intervals.values()
    assert min(i.low90 for i in ops) < whole.low90 < whole.low50 < whole.high50 < whole.high90 < max(i.high90 for i in ops)


def test_a_borrowing_system_is_less_sure_and_says_whose_constants(measured: LayerResult) -> None:
    found = answer("cluster=h200-cx7").layers[0]
    for op in ("dispatch", "combine"):
        assert "constants of h100_sxm" in found.intervals[op].why
        assert found.intervals[op].shared_sd == pytest.approx(hypot(BORROWED_SD, SITE_SD))
        assert found.intervals[op].high90 > measured.intervals[op].high90
    assert found.interval.shared_sd == pytest.approx(hypot(BORROWED_SD, SITE_SD)), "one cause for all ops does not average out"


@pytest.mark.parametrize(
    ("ep", "why"),
    [(32, "constants of the high-throughput kernels on h100_sxm"), (8, "a law of {} published rows, with no row left aside")],
)
def test_a_protocol_of_few_or_no_rows_says_what_its_constants_are(ep: int, why: str) -> None:
    sets = ("deployment.protocol=elastic", f"deployment.ep={ep}", "cluster.node.gpu.hbm_capacity='200 GiB'")
    found = answer(*sets).layers[0]
    for op, rows in (("dispatch", 2), ("combine", 1)):
        assert why.format(rows) in found.intervals[op].why
        assert found.intervals[op].shared_sd >= BORROWED_SD
    assert found.intervals["compute"].why == (), "the experts were measured"
    assert any("three published rows on eight H20-3e" in note for note in found.notes)


def test_beyond_the_table_is_less_sure_and_says_where() -> None:
    found = answer("cluster.nodes=16", "deployment.ep=128").layers[0]
    assert "ranks 128 outside 16 to 32" in found.intervals["dispatch"].why
    assert found.intervals["dispatch"].shared_sd == pytest.approx(hypot(OUTSIDE_SD * 2**0.5, SITE_SD))


def test_micro_batches_take_the_regime_of_one_call() -> None:
    calls = answer("deployment.max_tokens=64").layers[0]
    fit = find_entry("h100_sxm", "low-latency", "combine", "multi-node")[0].fit
    point = {"tokens": 64.0, "hidden": 7168.0, "top_k": 8.0, "experts": 256.0, "ranks": 32.0}
    assert calls.intervals["combine"] == elsewhere(fit.interval(calls.op_us("combine") / 2e6, 4, point))


def test_every_scenario_of_every_protocol_has_a_finite_interval() -> None:
    for name in ("ep-anatomy", "gb200-nvl72-one-sided-ep16", "static-collectives-ep16"):
        for layer in simulate(load_layer(name, ("traffic.tokens_per_rank=64",)).resolve()).layers:
            assert set(layer.intervals) >= {op.op for op in layer.ops}, "an op without an interval"
            assert UNKNOWN not in layer.intervals.values()
            assert 0.1 < layer.interval.low90 < 1.0 < layer.interval.high90 < 10.0


def test_the_interval_is_in_the_sentence_and_in_the_json() -> None:
    found = answer("cluster=b200-cx7")
    data = json.loads(answer_json(found))
    (layer,) = data["layers"]
    limits = [layer["interval"][f"{side}_us"] for side in ("low90", "low50", "high50", "high90")]
    assert limits == sorted(limits)
    assert limits[0] < layer["makespan_us"] < limits[3]
    assert f"(90 % interval {limits[0]:.0f} us to {limits[3]:.0f} us)" in found.sentence
    for op in layer["ops"]:
        assert op["critical_interval"]["low90_us"] < op["critical_us"] < op["critical_interval"]["high90_us"]
        # B200's experts were measured, its exchange over several nodes was not.
        assert ("constants of h100_sxm" in op["critical_interval"]["why"]) == (op["op"] != "compute")
