"""Prompts on other hardware than decoding: each pool has its own times, memory and price; the slower fabric joins them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from epicycle.hwmodels.errors import BadInput
from epicycle.scenarios.answer.evaluation import Evaluation
from epicycle.scenarios.ask.scenario import load_scenario
from epicycle.scenarios.weigh.evaluation_of import evaluation_of

PAIR = """\
name: pair
model: deepseek-v3
cluster: {name: h200-cx7, nodes: 6}
workload: {input_tokens: 4000, output_tokens: 1000, concurrency: 512}
deployment:
  mode: disaggregated
  decode: {dp: 32, ep: 32, batch: 64}
  prefill: {dp: 16, ep: 16, protocol: high-throughput}
"""
ELSEWHERE = "deployment.prefill.cluster={}".format


@pytest.fixture
def ask(tmp_path: Path) -> Any:
    path = tmp_path / "pair.yaml"
    path.write_text(PAIR)

    def answer(*sets: str) -> Evaluation:
        return evaluation_of(load_scenario(path, sets))

    return answer


def test_the_same_hardware_by_name_is_the_same_answer(ask: Any) -> None:
    one, two = ask(), ask(ELSEWHERE("h200-cx7"))
    for metric in one.metrics:
        assert two.metric(metric.key).value == pytest.approx(metric.value), metric.key
    assert two.cost == pytest.approx(one.cost)


def test_each_pool_runs_on_its_own_hardware(ask: Any) -> None:
    alike, mixed = ask(), ask(ELSEWHERE("b200-cx7"), "cluster.nodes=4")
    decode, prefill = mixed.pools
    before, slower = alike.pools
    assert decode.steps[0].seconds == pytest.approx(before.steps[0].seconds, rel=0.02)
    assert prefill.steps[0].seconds < slower.steps[0].seconds
    assert (decode.hbm_bytes, prefill.hbm_bytes) == (141 * 2**30, 180 * 2**30)
    assert mixed.metric("ttft").value < alike.metric("ttft").value
    assert mixed.metric("usd_per_hour").value == pytest.approx(32 * 2.79 + 16 * 4.00)
    assert mixed.cluster == "h200-cx7, prefill on b200-cx7"
    assert "32 h200-sxm GPUs and 16 b200-sxm GPUs for prompts" in mixed.sentence
    assert any(row.section == "prefill gpu" and row.name == "sms" and row.value == "148" for row in mixed.inputs)


def test_the_cache_crosses_the_slower_fabric(ask: Any) -> None:
    def transfer(*sets: str) -> str:
        return next(n for n in ask(*sets).notes if "from pool to pool" in n).split("takes ")[1].split(" from")[0]

    assert transfer(ELSEWHERE("b300-cx8")) == transfer(), "the H200s' 400 Gb/s bound it"
    assert transfer(ELSEWHERE("h100-roce800")) != transfer()


def test_a_pool_without_a_price_leaves_the_dollars_out(ask: Any) -> None:
    answer = ask(ELSEWHERE("gb300-nvl72"))
    assert answer.unpriced.startswith("no rental price of gb300") and answer.cost == {}
    priced = ask(ELSEWHERE("gb300-nvl72"), "prices.gpu_hour.gb300=4 USD/GPU-h")
    assert priced.metric("usd_per_hour").value == pytest.approx(32 * 2.79 + 16 * 4.00)


def test_a_prefill_pool_alone_may_be_elsewhere(ask: Any) -> None:
    alone = "deployment={prefill: {dp: 16, ep: 16, protocol: high-throughput, cluster: b200-cx7}}"
    answer = ask(alone, "workload={input_tokens: 4000, output_tokens: 1000}")
    assert answer.cluster == "b200-cx7" and answer.metric("usd_per_hour").value == pytest.approx(16 * 4.00)


def test_a_file_is_relative_to_the_scenario(ask: Any, tmp_path: Path) -> None:
    (tmp_path / "hw").mkdir()
    (tmp_path / "hw" / "mine.yaml").write_text(
        "name: mine\nnode: {gpu: b200-sxm, gpus: 8, nic: connectx7-400g}\n"
        "fabric: {kind: rail-optimised, switch: quantum-2}\ncalibration: b200_sxm\n"
    )
    path = tmp_path / "by-file.yaml"
    path.write_text(PAIR.replace("protocol: high-throughput", "protocol: high-throughput, cluster: hw/mine.yaml"))
    assert evaluation_of(load_scenario(path)).cluster == "h200-cx7, prefill on mine"


@pytest.mark.parametrize(
    ("sets", "says"),
    [
        ((ELSEWHERE("b2000"),), "deployment.prefill.cluster=b2000: unknown cluster 'b2000': did you mean"),
        ((ELSEWHERE("gb200-nvl72"), "deployment.prefill.count=100"), "has at most 144"),
        (("deployment.decode.cluster=b200-cx7",), "decode workers run on the scenario's cluster"),
        ((ELSEWHERE("b200-cx7"), "cluster.nodes=3"), "1 decode worker of dp 32"),
    ],
)
def test_what_cannot_be_is_refused(ask: Any, sets: tuple[str, ...], says: str) -> None:
    with pytest.raises(BadInput) as refusal:
        ask(*sets)
    assert says in str(refusal.value)
