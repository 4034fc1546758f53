"""Every kind of calculator on inputs that nobody published: closed forms, and figures that move with their cause."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from epicycle.hwmodels.errors import BadInput
from epicycle.scenarios.ask.document import Document, ScenarioError
from epicycle.scenarios.ask.scenario import CalculatorScenario, read_scenario
from epicycle.scenarios.calculate.kinds import KINDS
from epicycle.scenarios.weigh.compare import compared
from epicycle.scenarios.weigh.evaluation_of import evaluation_of

SECOND: dict[str, dict[str, Any]] = {
    "expert-balance": {"load": [8, 4, 2, 2], "slots": 8, "gpus": 4},
    "top-k": {"top_k": 2, "experts": 16, "ranks": 4, "tokens": 256, "hidden": 1024},
    "two-devices": {
        "m": 1,
        "n": 1000,
        "k": 1000,
        "one": {"fixed": "1 ms", "flops": "10 TFLOP/s", "bandwidth": "1 TB/s", "bytes_per_weight": 1},
        "other": {"fixed": "0 s", "flops": "1 TFLOP/s", "bandwidth": "1 GB/s", "bytes_per_weight": 1},
    },
    "offload-pipeline": {"stages": ["2 ms", "4 ms", "1 ms"], "pieces": 4, "at_home": "8 ms"},
    "tile-pipeline": {"load": "2 us", "compute": "3 us"},
    "deadline": {"forward": "4 ms", "budget": "10 ms", "steps": 3},
    "exchange-bound": {"tokens": 10, "experts": 2, "hidden": 1000, "bandwidth": "60 MB/s", "layers": 5},
    "exchange-buffers": {"tokens": 10, "hidden": 128, "experts": 8, "top_k": 1, "ranks": 4},
    "throughput": {
        "model": "qwen3-235b-a22b",
        "cluster": "h100-cx7",
        "nodes": 2,
        "ep": 16,
        "protocol": "low-latency",
        "input_tokens": 1000,
        "output_tokens": 200,
        "batch": 64,
    },
    "fleet": {
        "tokens_in": 8.64e9,
        "tokens_out": 8.64e8,
        "node_in": 1e4,
        "node_out": 1e3,
        "gpu": "h100-sxm",
        "api": "deepseek-v3",
    },
    "failures": {"gpus": 100, "days": 10, "failures": 5, "group": 10, "outage": "1 min"},
    "model-memory": {"model": "mixtral-8x7b", "context": 1000, "gpu": "h100-sxm"},
    "kv-bits": {"bits": 4},
    "all-reduce": {"size": "8 GB", "nodes": 4, "gpus": 32, "fast": "4 GB/s", "slow": "2 GB/s", "gpu_hour": "3 USD/GPU-h"},
    "node-bandwidth": {"cluster": "h100-cx7"},
    "pod": {"shape": "torus", "sides": [4, 4]},
    "nearest-gpus": {
        "free": [["a", "x"], ["b", "y"], ["b", "y"], ["b", ""]],
        "scattered": [0, 1],
        "count": 2,
        "nvlink": "300 GB/s",
        "node": "30 GB/s",
        "network": "10 GB/s",
        "size": "1 GB",
    },
    "idle-cost": {"multiple": 2, "utilisation": 0.5},
    "api-rate": {"gpu": "h200-sxm", "api": "deepseek-v3", "side": "output"},
    "price-ratio": {"ours": "1 USD/Mtok", "theirs": "4 USD/Mtok"},
    "ownership": {"gpu": "h100-sxm", "capital": 1.0, "power": 1.0},
    "roofline": {"gpu": "h200-sxm", "batch": 64},
    "memory-roof": {"gpu": "l4", "model": "llama-3.1-8b"},
    "attention-bytes": {"gpu": "h200-sxm", "context": 100, "queries": 1, "heads": 4, "kv_heads": 2, "head_dim": 64},
}


def figures(kind: str, **changes: Any) -> dict[str, float]:
    told = {"kind": kind, "sources": {"*": "made up"}} | SECOND[kind] | changes
    scenario = read_scenario(Document("made up", {"name": kind, "calculate": told}, {}))
    return {metric.key: metric.value for metric in evaluation_of(scenario).metrics}


def test_every_kind_has_a_second_scenario() -> None:
    assert set(SECOND) == set(KINDS)
    for kind in KINDS:
        assert all(np.isfinite(value) for value in figures(kind).values()), kind


def test_a_device_without_a_fixed_cost_is_the_faster_one_at_any_size() -> None:
    assert figures("two-devices", n=10, k=10)["faster"] < 1 < figures("two-devices", n=4000, k=4000)["faster"]
    free = SECOND["two-devices"]["one"] | {"fixed": "0 s"}
    assert figures("two-devices", n=10, k=10, one=free)["faster"] > 1


def test_a_pipeline_in_one_piece_is_the_sum_and_in_many_its_slowest_stage() -> None:
    assert figures("offload-pipeline", pieces=1)["time"] == pytest.approx(7e-3)
    assert figures("offload-pipeline")["time"] == pytest.approx((7 + 3 * 4) / 4 * 1e-3)
    assert figures("offload-pipeline", pieces=100_000)["times"] == pytest.approx(2, rel=1e-4)


def test_tiles_wait_for_the_sum_with_one_buffer_and_for_the_longer_with_two() -> None:
    assert figures("tile-pipeline")["idle"] == pytest.approx(2 / 5)
    assert figures("tile-pipeline", buffers=2)["idle"] == 0
    assert figures("tile-pipeline", load="0 s")["idle"] == 0


def test_hardware_that_never_idles_has_no_penalty_and_no_contradiction() -> None:
    assert figures("idle-cost")["break_even"] == pytest.approx(1.0)
    assert figures("idle-cost", fixed_share=0.0)["penalty"] == 1.0
    assert figures("idle-cost", utilisation=1.0)["penalty"] == 1.0
    with pytest.raises(ScenarioError, match="arrivals and capacity"):
        figures("idle-cost", arrivals=1.0)


def test_networks_as_fast_as_each_other_lose_nothing() -> None:
    assert figures("all-reduce")["lost"] == pytest.approx(2 * 3 / 4 * 8 / 4)
    assert figures("all-reduce", slow="4 GB/s")["dollars"] == 0


def test_a_scale_of_no_bits_and_an_exchange_of_no_wait() -> None:
    assert figures("kv-bits")["times"] == 4
    assert figures("kv-bits", overhead_bits=4)["times"] == 2
    assert figures("exchange-bound")["tpot"] == pytest.approx(5 * 2 * 3 * 10 * 2 * 1000 / 60e6)
    assert figures("exchange-buffers")["ranks_reached"] == pytest.approx(1)


def test_skew_is_what_makes_ranks_unequal() -> None:
    assert figures("top-k", tokens=20_000)["imbalance"] < 0.03 < figures("top-k", tokens=20_000, exponent=1)["imbalance"]
    even = {"load": (), "experts": 64, "slots": 64, "gpus": 8, "exponent": 0.0}
    assert figures("expert-balance", **even)["before"] == 0
    assert figures("expert-balance", **even | {"exponent": 1.0})["before"] > 0.5
    # Without drawn tokens placement leaves next to nothing; chance does.
    skewed = even | {"exponent": 0.6, "slots": 72}
    exact, drawn = (figures("expert-balance", **skewed, tokens=t)["after"] for t in (0, 500))
    assert exact < 0.02 < drawn


def test_the_same_pool_is_faster_with_a_larger_batch_and_slower_with_unequal_ranks() -> None:
    one, two = (figures("throughput", batch=b) for b in (16, 64))
    assert one["tokens_per_s_gpu"] < two["tokens_per_s_gpu"] and one["step"] < two["step"]
    assert figures("throughput", rank_imbalance=1.5)["tokens_per_s_gpu"] < two["tokens_per_s_gpu"]
    kept = figures("throughput", batch=None, tpot="50 ms")
    assert kept["step"] <= 50e-3 and kept["batch"] >= 1
    with pytest.raises(ScenarioError, match="one of them"):
        figures("throughput", tpot="50 ms")


def test_tiling_saves_the_scores_and_decoding_is_bound_by_memory() -> None:
    seen = figures("attention-bytes")
    assert seen["naive_bytes"] - seen["tiled_bytes"] == 4 * 2 * 4 * 1 * 100
    assert seen["intensity"] < 4


def test_arithmetic_is_not_compared_or_played() -> None:
    scenario = read_scenario(Document("x", {"name": "x", "calculate": {"kind": "kv-bits"} | SECOND["kv-bits"]}, {}))
    assert isinstance(scenario, CalculatorScenario)
    with pytest.raises(BadInput, match="is arithmetic"):
        compared(scenario, scenario)
