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
    "exchange-rate": {
        "cluster": "h100-cx7",
        "protocol": "high-throughput",
        "op": "dispatch",
        "ranks": 24,
        "tokens": 1000,
        "hidden": 4096,
        "top_k": 4,
        "experts": 48,
    },
    "rollouts": {
        "model": "llama-3.1-8b",
        "cluster": "h100-cx7",
        "gpus": 16,
        "batch": 256,
        "prompt": 500,
        "median": 300,
        "p99_over_median": 8,
        "most": 2400,
    },
    "batching": {
        "model": "llama-3.1-8b",
        "cluster": "h200-cx7",
        "requests": 300,
        "input_tokens": 200,
        "output_tokens": 50,
        "slots": 16,
        "spread": 0.7,
    },
    "host-delays": {
        "model": "llama-3.1-8b",
        "cluster": "h200-cx7",
        "requests": 400,
        "input_tokens": 200,
        "output_tokens": 50,
        "slots": 32,
        "rate": 20,
        "host": "5 ms",
        "sigma": 1,
    },
    "kv-tiers": {
        "rate": 2,
        "requests": 5000,
        "prompts": [1000, 2000],
        "hits": 0.5,
        "token": "0.4 ms",
        "token_bytes": "100 kB",
        "nic": "10 GB/s",
        "nic_software": "0.3 ms",
        "shared": "10 GB/s",
    },
    "kv-width": {"model": "llama-3.1-8b", "cluster": "h200-cx7", "bits": 8, "batch": 16, "context": 4000},
    "sm-partition": {
        "model": "llama-3.1-8b",
        "cluster": "h100-cx7",
        "mixes": [{"batch": 32, "input_tokens": 500, "output_tokens": 100}],
    },
    "switched-network": {
        "shape": "clos",
        "nodes": 8,
        "gpus": 4,
        "nic": "50 GB/s",
        "nvlink": "450 GB/s",
        "nodes_per_leaf": 2,
        "spines": 2,
    },
    "top-k-offload": {
        "batch": 8,
        "tokens": 2000,
        "score": "1 ms",
        "link": "25 GB/s",
        "cpu_bandwidth": "50 GB/s",
        "gpu_bandwidth": "3 TB/s",
        "gpu_passes": 10,
    },
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
    "gemm": {"cluster": "h100-cx7", "m": 100, "n": 3000, "k": 2000},
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


def test_an_exchange_s_bandwidth_is_its_rows_over_its_time() -> None:
    found = figures("exchange-rate")
    assert found["rate"] * found["time"] == pytest.approx(1000 * found["reached"] * 4096 * (1 + 4 / 128))
    assert figures("exchange-rate", tokens=4000)["time"] > 2 * found["time"]


def test_popularity_is_what_placement_by_load_gains_by() -> None:
    decode = {"ep": 32, "nodes": 4, "redundant": 32, "model": "deepseek-v3", "popularity": 0.7}
    assert (
        figures("throughput", **decode)["tokens_per_s_gpu"]
        > 1.2 * figures("throughput", **decode, balanced=False)["tokens_per_s_gpu"]
    )
    flat = decode | {"popularity": 1e-9}
    assert figures("throughput", **flat)["imbalance"] == pytest.approx(0, abs=1e-6)
    with pytest.raises(ScenarioError, match="give their popularity"):
        figures("throughput", balanced=False)
    with pytest.raises(ScenarioError, match="give one of them"):
        figures("throughput", popularity=0.5, rank_imbalance=0.1)


def test_routing_by_groups_makes_ranks_less_even() -> None:
    drawn = {"load": (), "experts": 64, "slots": 64, "gpus": 8, "exponent": 0.0, "tokens": 20_000, "top_k": 4}
    assert figures("expert-balance", **drawn)["before"] < 0.05
    grouped = figures("expert-balance", **drawn, routing_groups=8, routing_kept=2)
    assert grouped["before"] > figures("expert-balance", **drawn)["before"]


def test_equal_trajectories_leave_nobody_waiting() -> None:
    long = figures("rollouts")
    even = figures("rollouts", p99_over_median=1)
    assert even["waiting"] == 0 < long["waiting"]
    assert even["faster"] < long["faster"]


def test_static_batches_lose_nothing_where_all_answers_are_alike() -> None:
    assert figures("batching", spread=0)["faster"] == pytest.approx(1, abs=0.02)
    assert figures("batching")["faster"] > 1.3


def test_a_host_that_takes_no_time_changes_nothing_and_contention_multiplies() -> None:
    free = figures("host-delays", host="0 s")
    assert free["ttft_p99"] == free["tpot_p99"] == free["throughput"] == 1
    assert figures("host-delays", host="1 ms", contention=5) == figures("host-delays")


def test_a_shared_memory_wins_by_hits_and_by_software_alone() -> None:
    plain = {"nic_software": "0 s", "hits": 0}
    same = figures("kv-tiers", **plain)
    assert same["throughput"] == pytest.approx(1)
    assert same["ttft"] < 1  # the other side still has to read it
    assert figures("kv-tiers", **plain | {"hits": 0.5})["throughput"] > 1
    assert figures("kv-tiers", **plain | {"nic_software": "0.3 ms"})["throughput"] > 1


def test_a_narrow_cache_gains_unless_values_have_to_be_expanded() -> None:
    assert figures("kv-width", bits=16)["throughput"] == 1
    assert figures("kv-width")["throughput"] > 1 > figures("kv-width", operations=60)["throughput"]
    assert figures("kv-width", full=True)["throughput"] > figures("kv-width")["throughput"]


def test_contention_is_what_a_partition_pays() -> None:
    free, paid = figures("sm-partition", contention=1), figures("sm-partition", contention=1.2)
    assert paid["faster"] == pytest.approx(free["faster"] / 1.2)
    assert figures("sm-partition", rows=128 * 132, columns=256)["wave_idle"] == pytest.approx(0)


def test_uplinks_bound_an_oversubscribed_clos_and_nothing_bounds_rails_alone() -> None:
    wide, narrow = figures("switched-network"), figures("switched-network", oversubscription=4)
    assert narrow["rate"] < wide["rate"] / 1.5
    rails = {"shape": "rail-only", "nodes_per_leaf": 1, "spines": 1}
    assert figures("switched-network", **rails)["diameter"] == 6
    with pytest.raises(ScenarioError, match="are a Clos'"):
        figures("switched-network", **rails | {"spines": 2})


def test_an_offload_that_crosses_for_nothing_is_the_gpu_s_own_time() -> None:
    one = figures("top-k-offload")
    assert one["pipeline"] == pytest.approx(one["one_after_another"])
    assert figures("top-k-offload", pieces=1000)["pipeline"] < 0.7 * one["pipeline"]
    assert figures("top-k-offload", gpu_passes=1e-9)["times"] < one["times"] < 0.2


def test_a_drain_that_forestalls_all_leaves_no_bad_day() -> None:
    assert figures("failures", drained=1)["bad_days"] == figures("failures", drained=1)["lost"] == 0
    assert figures("failures", drained=0.5)["bad_days"] < figures("failures")["bad_days"]


def test_a_gemm_stays_below_its_roofline_and_nears_it_as_it_grows() -> None:
    small, large = figures("gemm"), figures("gemm", m=8192, n=8192, k=8192)
    assert small["of_roof"] < large["of_roof"] < 1
    assert large["rate"] * large["time"] == pytest.approx(2 * 8192**3)
