"""What-ifs come out in the right direction, and a comparison names the mechanism (docs/what-if.md)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from epicycle.scenarios.answer.evaluation import Comparison, Evaluation
from epicycle.scenarios.study.sweep import sweep
from epicycle.scenarios.weigh.compare import compare
from epicycle.scenarios.weigh.mechanism import PartChange, step_changes

PAGE = (Path(__file__).parents[3] / "docs" / "what-if.md").read_text(encoding="utf-8")
EXCHANGE = {"dispatch", "combine"}
H200, FAT_TREE, EP72 = "serve-deepseek-v3-h200", "serve-deepseek-v3-fat-tree", "serve-deepseek-v3-h100-ep72"
FOUR_EP32 = "serve-deepseek-v3-h100-four-ep32"
WIDE = ("deployment.decode.dp=128", "deployment.decode.ep=128", "deployment.decode.count=1")
NIC = "cluster.node.nic=connectx8-800g"
SKEWED = "workload.routing={kind: power-law, alpha: 0.7}"
REPLICAS = ("deployment.decode.redundant_experts=32", "deployment.prefill.redundant_experts=32")


def moved(found: Comparison, phase: str = "decode") -> dict[str, PartChange]:
    """The parts of a step that changed by over a thousandth of it."""
    change = next(c for c in step_changes(found.a, found.b) if c.phase == phase)
    return {p.name: p for p in change.parts if abs(p.moved_s) > 1e-3 * change.before.seconds}


def parts(evaluation: Evaluation, phase: str = "decode") -> dict[str, float]:
    step = next(s for pool in evaluation.pools for s in pool.steps if s.phase == phase)
    return {p.name: p.seconds for p in step.parts}


def ratio(found: Comparison, key: str) -> float:
    return found.b.metric(key).value / found.a.metric(key).value


def test_a_faster_nic_changes_the_exchange_and_nothing_else() -> None:
    found = compare(H200, sets=[NIC])
    assert set(moved(found)) == EXCHANGE
    assert all(part.moved_s < 0 for part in moved(found).values())
    assert 0.7 < ratio(found, "tpot") < 0.98
    assert "bound by the NIC before, by the PCIe behind the NIC after" in found.mechanism


def test_a_nic_beyond_pcie_waits_for_pcie() -> None:
    alone, both = compare(H200, sets=[NIC]), compare(H200, sets=[NIC, "cluster.node.gpu.pcie_bandwidth=128 GB/s"])
    pcie = compare(H200, sets=["cluster.node.gpu.pcie_bandwidth=128 GB/s"])
    assert ratio(pcie, "tpot") == pytest.approx(1.0), "PCIe alone is not what is waited for"
    assert ratio(both, "tpot") < ratio(alone, "tpot")
    wire = {part.bound_after for part in moved(both).values()}
    assert wire == {"nic"}


def test_a_faster_nic_buys_little_for_few_sequences() -> None:
    few = compare(H200, H200, sets=["deployment.decode.batch=8"], sets_b=[NIC])
    many = compare(H200, H200, sets=["deployment.decode.batch=128"], sets_b=[NIC])
    assert 1 - ratio(few, "tpot") < 0.4 * (1 - ratio(many, "tpot"))
    assert {part.bound_after for part in moved(few).values()} <= {"launch", "nic", "pcie"}


def test_a_wider_group_frees_memory_for_a_larger_batch() -> None:
    found = compare(FOUR_EP32, sets=WIDE)
    assert ratio(found, "batch") > 1.2
    assert ratio(found, "output_tokens_per_s_gpu") > 1.0
    assert ratio(found, "tpot") > 1.0
    assert "Routed expert weights of a GPU fall from" in found.mechanism
    assert "its KV cache grows" in found.mechanism


def test_a_wider_group_trades_experts_for_exchange_at_the_same_batch() -> None:
    found = compare(FOUR_EP32, FOUR_EP32, sets=["deployment.decode.batch=128"], sets_b=WIDE)
    changes = moved(found)
    assert changes["experts"].moved_s < 0
    assert changes["dispatch"].moved_s > 0 and changes["combine"].moved_s > 0
    assert set(changes) <= {"experts", "dispatch", "combine"}
    assert "it gains" in found.mechanism and "and pays" in found.mechanism
    assert "experts" in found.mechanism and "combine" in found.mechanism


def test_wider_groups_lose_as_vllm_measured() -> None:
    """Decode tokens/s a GPU at EP32 and EP96 on H200, 2,000 in and 2,000 out, 256 a GPU: 2,181 -> 1,971."""
    sets = ["cluster.nodes=20", "workload.output_tokens=2000", "workload.cached_input=0.99", "deployment.decode.batch=256"]
    sets += ["deployment.backend=vllm"]
    wide = ["deployment.decode.dp=96", "deployment.decode.ep=96", "deployment.decode.redundant_experts=32"]
    found = compare(H200, H200, sets=sets, sets_b=wide)
    change = ratio(found, "output_tokens_per_s") * 32 / 96 - 1
    assert change == pytest.approx(1971 / 2181 - 1, abs=0.06)
    printed = re.search(r"Predicted at the same points: (\d+) % less", PAGE)
    assert printed and -change * 100 == pytest.approx(float(printed[1]), abs=2)


def test_popular_experts_hold_up_every_rank() -> None:
    found = compare(H200, sets=[SKEWED])
    assert ratio(found, "tpot") > 1.2 and ratio(found, "output_tokens_per_s_gpu") < 0.85
    named = sorted(moved(found).values(), key=lambda part: -part.moved_s)
    assert {part.name for part in named[:2]} == EXCHANGE
    assert moved(found, "prefill")["experts"].moved_s > 0
    stronger = compare(H200, sets=[SKEWED.replace("0.7", "1.0")])
    assert ratio(stronger, "tpot") > ratio(found, "tpot")


def test_replicas_win_back_what_skew_cost_and_nothing_more() -> None:
    even = compare(H200, sets=[SKEWED])
    found = compare(H200, H200, sets=[SKEWED], sets_b=REPLICAS)
    won = (found.a.metric("tpot").value - found.b.metric("tpot").value) / (
        even.b.metric("tpot").value - even.a.metric("tpot").value
    )
    assert 0.8 < won <= 1.0
    first = found.changes[0]
    assert first.path == "deployment.decode.redundant_experts" and first.effect["tpot"] < -0.1
    idle = compare(H200, sets=REPLICAS)
    assert ratio(idle, "tpot") == pytest.approx(1.0, abs=0.03), "with uniform routing replicas buy nothing"


def test_one_nvlink_domain_takes_the_exchange_off_the_nic() -> None:
    found = compare(H200, sets=["cluster=gb200-nvl72", "cluster.nodes=18"])
    assert ratio(found, "output_tokens_per_s_gpu") > 1.5 and ratio(found, "tpot") < 0.7
    changes = moved(found)
    for op in EXCHANGE:
        assert changes[op].bound_before == "nic" and changes[op].bound_after in ("nvlink", "launch")
        assert changes[op].after_s < 0.4 * changes[op].before_s
    most = max(found.changes, key=lambda change: abs(change.effect.get("tpot", 0.0)))
    assert most.path == "cluster"


def test_what_gb200_costs_is_a_question_of_prices() -> None:
    sets = {"a": ["prices.gpu_hour.h200-sxm=6.305 USD/GPU-h"], "b": ["cluster=gb200-nvl72", "cluster.nodes=18"]}
    low_end = compare(H200, sets=sets["b"])
    on_demand = compare(H200, H200, sets=sets["a"], sets_b=sets["b"])
    assert ratio(low_end, "usd_per_mtok_output") > 1.0 > ratio(on_demand, "usd_per_mtok_output")


def test_an_oversubscribed_fabric_holds_up_what_crosses_leaves() -> None:
    found = compare(FAT_TREE, sets=["cluster.fabric.oversubscription=4"])
    assert set(moved(found)) == EXCHANGE
    assert ratio(found, "tpot") > 1.1
    assert "by the fabric's uplinks after" in found.mechanism
    assert not moved(found, "prefill"), "two nodes lie under one leaf"
    # Eight nodes over leaves of five: 3 of 7 messages cross, so that the NIC seems 12/7 times slower at 4:1 ...
    before, after = parts(found.a), parts(found.b)
    assert after["combine"] / before["combine"] <= 12 / 7 + 1e-6
    # ... and 2:1 still suffices.
    assert ratio(compare(FAT_TREE, sets=["cluster.fabric.oversubscription=2"]), "tpot") == pytest.approx(1.0)


def ops(found: Comparison) -> dict[str, float]:
    """How many times longer each op of a layer, or of a decode step, takes."""
    before, after = (dict(parts(e, e.pools[0].steps[0].phase)) for e in (found.a, found.b))
    return {op: after[op] / before[op] for op in EXCHANGE}


@pytest.mark.parametrize(
    ("serving", "layer", "change"),
    [
        (
            [],
            ["cluster={name: h100-cx7-fat-tree, nodes: 16}", "deployment.ep=64", "cluster.fabric.oversubscription=1"],
            {"serving": "cluster.fabric.oversubscription=4", "layer": "cluster.fabric.oversubscription=4"},
        ),
        (
            ["cluster=h100-cx7", "deployment.decode.dp=32", "deployment.decode.ep=32"],
            [],
            {
                "serving": "workload.routing={kind: power-law, alpha: 0.6}",
                "layer": "traffic.routing={kind: power-law, alpha: 0.6}",
            },
        ),
    ],
    ids=["an oversubscribed fabric", "skewed routing"],
)
def test_the_event_engine_agrees(serving: list[str], layer: list[str], change: dict[str, str]) -> None:
    closed = compare(FAT_TREE, FAT_TREE, sets=serving, sets_b=[change["serving"]])
    name = "deepseek-v3-decode-ep32"
    events = compare(name, name, sets=["deployment.compare=[]"], sets_a=layer, sets_b=[*layer, change["layer"]])
    for op, times in ops(events).items():
        assert times > 1.3
        assert ops(closed)[op] == pytest.approx(times, rel=0.2), op


def overlap_gains() -> dict[int, float]:
    """Tokens a GPU -> relative gain in throughput from two-batch overlap."""
    found = sweep(EP72, ["deployment.decode.batch=32,64,128,256", "deployment.decode.overlap=false,true"])
    rates = {
        point.values: point.evaluation.metric("output_tokens_per_s_gpu").value for point in found.points if point.evaluation
    }
    return {int(batch): rates[batch, "true"] / rates[batch, "false"] - 1 for batch, on in rates if on == "true"}


def test_overlap_harms_small_batches_and_helps_large_ones() -> None:
    """SGLang, EP72 on 96 H100 (lmsys.org, 2025-05-05): -27 % at 32, break-even at 64 to 128, +25.5 % at 256; nothing fitted."""
    gains = overlap_gains()
    assert gains[32] == pytest.approx(-0.27, abs=0.08)
    assert gains[64] < 0.03 and gains[128] > -0.03, "break-even lies between"
    assert gains[256] == pytest.approx(0.255, abs=0.08)
    for batch, published in ((32, "-27"), (256, "+25.5")):
        printed = re.search(rf"\| {batch} \| {re.escape(published)} % \| ([+-]\d+) % \|", PAGE)
        assert printed and gains[batch] * 100 == pytest.approx(float(printed[1]), abs=4), batch


def test_overlap_is_explained_by_what_hides_and_what_is_paid_twice() -> None:
    large = compare(EP72, sets=["deployment.decode.overlap=true"]).mechanism
    assert re.search("hide behind (the exchange|computing)", large) and "the parts themselves take" in large
    small = compare(EP72, EP72, sets=["deployment.decode.batch=32"], sets_b=["deployment.decode.overlap=true"]).mechanism
    assert "hide behind computing" in small
    assert re.search(r"take [\d.]+ ms more, mostly .*experts", small)


def test_half_the_time_per_token_costs_more_and_narrows_the_batch() -> None:
    found = compare("plan-deepseek-v3-h200", sets=["slo.tpot=15 ms"])
    assert found.b.metric("tpot").value <= 15e-3 < found.a.metric("tpot").value <= 30e-3
    assert ratio(found, "usd_per_mtok_output") > 2.0
    assert ratio(found, "output_tokens_per_s_gpu") < 0.5
    steps = next(change for change in step_changes(found.a, found.b) if change.phase == "decode")
    assert steps.after.tokens_per_gpu < steps.before.tokens_per_gpu


def test_what_a_plan_looks_for_is_named_as_what_was_asked() -> None:
    found = compare("plan-deepseek-v3-h200", sets_a=["search.worker_gpus=16"], sets_b=["search.worker_gpus=32"])
    assert found.sentence.startswith("search.worker_gpus 16 -> 32: the best deployment goes from ")
