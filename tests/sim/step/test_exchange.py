"""What skewed routing and the fabric do to an exchange in closed form: limits, monotony, and the counts of a drawn routing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epicycle.hwmodels.catalog import load_cluster
from epicycle.sim.ep.machine import machine_of
from epicycle.sim.fabric.topology import Topology
from epicycle.sim.inputs.model import load_model
from epicycle.sim.step.exchange import exchange_parts, inbox_share, on_fabric
from epicycle.sim.step.part import Part
from epicycle.sim.step.worker import Arrangement, Precision

FP8 = Precision("fp8", "fp8", "bf16", "fp8")
RANKS = st.sampled_from([8.0, 16.0, 32.0, 72.0, 128.0])
IMBALANCE = st.floats(1.0, 8.0)


@given(RANKS, IMBALANCE)
def test_low_latency_receives_what_it_computes(ranks: float, imbalance: float) -> None:
    assert inbox_share("low-latency", imbalance, 8.0, ranks, 8.0) == imbalance


@given(RANKS, IMBALANCE)
def test_collectives_do_not_look_at_the_router(ranks: float, imbalance: float) -> None:
    assert inbox_share("all-gather", imbalance, 8.0, ranks, 8.0) == 1.0


@given(RANKS, IMBALANCE, st.floats(1.0, 1.5))
def test_once_a_receiver_grows_less_than_the_rows(ranks: float, imbalance: float, more: float) -> None:
    share = float(inbox_share("high-throughput", imbalance, 8.0, ranks, 8.0))
    assert 1.0 <= share <= imbalance + 1e-9
    assert share <= float(inbox_share("high-throughput", imbalance * more, 8.0, ranks, 8.0)) + 1e-12
    assert float(inbox_share("high-throughput", 1.0, 8.0, ranks, 8.0)) == pytest.approx(1.0)


@pytest.mark.parametrize("share", [1.2, 1.6])
def test_tokens_that_reach_the_busiest_rank_are_those_of_a_drawn_routing(share: float) -> None:
    """Eight ranks of 32 experts, one of them ``share`` times as popular; every token draws 8 different experts."""
    rng = np.random.default_rng(1)
    ranks, local, top_k, tokens = 8, 32, 8, 40_000
    popularity = np.ones(ranks * local)
    popularity[:local] = share * (ranks - 1) / (ranks - share)  # so that the first rank's share of the draws is share / ranks
    keys = rng.exponential(size=(tokens, ranks * local)) / popularity
    chosen = np.argpartition(keys, top_k, axis=1)[:, :top_k]
    here = chosen < local
    imbalance = here.sum() * ranks / (tokens * top_k)
    uniform = 1.0 - (1.0 - 1.0 / ranks) ** top_k
    assert here.any(axis=1).mean() / uniform == pytest.approx(
        float(inbox_share("high-throughput", imbalance, 8.0, 8.0, 8.0)), rel=0.02
    )


def slowdown(name: str, protocol: str, nodes: int, of: int, oversubscription: float, nodes_per_leaf: int) -> float:
    overrides = {"fabric.oversubscription": oversubscription, "fabric.nodes_per_leaf": nodes_per_leaf}
    cluster = load_cluster(name, of, overrides)
    machine = machine_of(cluster)
    return float(machine.nic_bytes_per_s / on_fabric(machine, cluster, 8.0 * nodes, protocol).nic_bytes_per_s)


@pytest.mark.parametrize("name", ["h100-cx7-fat-tree", "h100-cx7"])
@pytest.mark.parametrize("protocol", ["low-latency", "high-throughput"])
@given(st.integers(2, 12), st.integers(0, 4), st.sampled_from([1.5, 2.0, 4.0, 8.0]), st.integers(2, 6))
def test_a_fabric_slows_the_nics_as_its_fullest_uplink_says(
    name: str, protocol: str, nodes: int, more: int, oversubscription: float, nodes_per_leaf: int
) -> None:
    """Every rank sends as much to every rank of other nodes, or of its own index there, over the topology's paths."""
    of = nodes + more
    cluster = load_cluster(name, of, {"fabric.oversubscription": oversubscription, "fabric.nodes_per_leaf": nodes_per_leaf})
    topology = Topology(cluster, 8 * nodes)
    src, dst = (x.ravel() for x in np.indices((8 * nodes, 8 * nodes)))
    asked = src // 8 != dst // 8
    if protocol == "high-throughput":
        asked &= src % 8 == dst % 8
    paths = topology.rdma_path(src[asked], dst[asked])
    load = np.bincount(paths[paths >= 0], minlength=len(topology.resources.capacity)) / topology.resources.capacity
    wanted = load.max() / load[topology.resources.ids("nic_tx")].max()
    assert slowdown(name, protocol, nodes, of, oversubscription, nodes_per_leaf) == pytest.approx(wanted, rel=1e-6)


@given(st.integers(1, 64), st.floats(1.0, 8.0), st.sampled_from(["low-latency", "high-throughput"]))
def test_a_fabric_takes_no_more_than_its_oversubscription(nodes: int, oversubscription: float, protocol: str) -> None:
    assert 1.0 <= slowdown("h100-cx7-fat-tree", protocol, nodes, 64, oversubscription, 5) <= oversubscription + 1e-9
    if nodes <= 5:
        assert slowdown("h100-cx7-fat-tree", protocol, nodes, 64, oversubscription, 5) == 1.0


def exchanged(over: float, leaf: int, ranks: float, tokens: float) -> dict[str, Part]:
    """The parts of a high-throughput exchange on a fat tree, by name."""
    tree = load_cluster("h100-cx7-fat-tree", int(ranks) // 8)
    fabric = tree.fabric.model_copy(update={"oversubscription": over, "nodes_per_leaf": leaf})
    a = Arrangement(1.0, ranks, 1.0, ranks, "high-throughput")
    found = exchange_parts(load_model("deepseek-v3"), a, tokens, FP8, tree.model_copy(update={"fabric": fabric}))
    return {part.name: part for part in found}


@pytest.mark.parametrize("ratio", [2.0, 4.0])
@pytest.mark.parametrize("leaf", [1, 4, 8])
def test_an_oversubscribed_fabric_slows_what_crosses_leaves_by_its_ratio(ratio: float, leaf: int) -> None:
    """Of uniform traffic ``(nodes - leaf) / (nodes - 1)`` leaves its leaf: bandwidth falls by that share of the ratio."""
    plain, slow = (exchanged(over, leaf, 256.0, 8192.0) for over in (1.0, ratio))
    for name in ("dispatch", "combine"):
        before, after = (float(np.asarray(parts[name].loads["nic"])) for parts in (plain, slow))
        assert after == pytest.approx(before * max(1.0, ratio * (32 - leaf) / 31.0), rel=1e-6), name


def test_a_fabric_slows_nothing_below_one_leaf() -> None:
    assert exchanged(1.0, 2, 16.0, 64.0)["dispatch"].seconds == exchanged(8.0, 2, 16.0, 64.0)["dispatch"].seconds
