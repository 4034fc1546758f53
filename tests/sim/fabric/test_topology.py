"""Paths from the arrays are shortest paths of the graph; latencies, rails, shared NICs and the bisection."""

import networkx as nx
import numpy as np
import pytest

from epicycle.hwmodels.specs import Cluster, Fabric, Gpu, Nic, Node, Switch
from epicycle.sim.fabric.fairshare import max_min, routes
from epicycle.sim.fabric.resources import Resources
from epicycle.sim.fabric.topology import Topology

HERE = {"*": "made up for the test"}
NIC_RATE = 50e9


def cluster(kind="rail-optimised", nodes=4, gpus=4, nics=4, oversubscription=1.0, nodes_per_leaf=2, domain=1):
    gpu = Gpu(
        name="gpu",
        sms=4,
        clock="1 GHz",
        tensor_flop_per_cycle_sm={"bf16": 1.0},
        hbm_capacity="1 GB",
        hbm_bandwidth="1 TB/s",
        l2_capacity="1 MB",
        shared_memory_per_sm="100 kB",
        copy_engines=1,
        nvlink_bandwidth="450 GB/s",
        pcie_bandwidth="64 GB/s",
        power="100 W",
        sources=HERE,
    )
    nic = Nic(
        name="nic",
        bandwidth="50 GB/s",
        efficiency=0.9,
        message_rate="100 M/s",
        message_cost="100 ns",
        latency="2 us",
        queue_pairs=8,
        ordered=True,
        sources=HERE,
    )
    switch = Switch(name="switch", ports=64, port_bandwidth="50 GB/s", latency="400 ns", sources=HERE)
    fabric = Fabric(kind=kind, switch=switch, oversubscription=oversubscription, nodes_per_leaf=nodes_per_leaf)
    return Cluster(
        name="test",
        node=Node(gpu=gpu, gpus=gpus, nic=nic, nics=nics),
        nodes=nodes,
        max_nodes=64,
        nodes_per_nvlink_domain=domain,
        fabric=fabric,
        calibration="none",
        sources=HERE,
    )


SHAPES = [
    {},
    {"oversubscription": 2.0},
    {"kind": "fat-tree", "oversubscription": 4.0},
    {"kind": "fat-tree"},
    {"nics": 2, "oversubscription": 2.0},
    {"nics": 8},
    {"domain": 2, "kind": "fat-tree", "oversubscription": 2.0, "nodes_per_leaf": 1},
]


@pytest.mark.parametrize("shape", SHAPES)
def test_paths_and_hops_are_the_graphs_shortest_paths(shape):
    topology = Topology(cluster(**shape), 14)
    graphs = {"rdma": topology.graph("rdma"), "nvlink": topology.graph("nvlink")}
    for src in range(14):
        for dst in range(14):
            if src == dst:
                continue
            if topology.port_of[src] != topology.port_of[dst]:
                nodes = nx.shortest_path(graphs["rdma"], ("gpu", src), ("gpu", dst))
                on_graph = [graphs["rdma"].edges[e]["resource"] for e in nx.utils.pairwise(nodes)]
                path = topology.rdma_path(src, dst)[0]
                assert [r for r in on_graph if r >= 0] == path[path >= 0].tolist()
                assert topology.switch_hops(src, dst) == sum(kind in ("leaf", "spine") for kind, _ in nodes)
            reaches = bool(topology.nvlink_reaches(src, dst))
            assert reaches == nx.has_path(graphs["nvlink"], ("gpu", src), ("gpu", dst))
            if reaches:
                nodes = nx.shortest_path(graphs["nvlink"], ("gpu", src), ("gpu", dst))
                on_graph = [graphs["nvlink"].edges[e]["resource"] for e in nx.utils.pairwise(nodes)]
                assert on_graph == topology.nvlink_path(src, dst)[0].tolist()


def test_a_rail_is_one_hop_and_crossing_rails_or_pods_goes_over_the_spine():
    topology = Topology(cluster(), 16)
    # rank = 4 * node + rail; pods of two nodes
    assert topology.switch_hops([0, 0, 0], [4, 5, 8]).tolist() == [1, 3, 3]
    assert topology.rdma_latency_ps([0, 0], [4, 5]).tolist() == [2_000_000, 2_800_000]


def test_all_nics_of_a_node_share_a_leaf_in_a_fat_tree():
    topology = Topology(cluster("fat-tree"), 16)
    assert topology.switch_hops([0, 0, 0], [4, 5, 8]).tolist() == [1, 1, 3]


def test_gpus_share_a_nic_or_have_several():
    shared = Topology(cluster(nics=2), 16)
    assert shared.port_of.tolist()[:6] == [0, 0, 1, 1, 2, 2]
    assert (shared.resources.capacity[shared.resources.ids("nic_tx")] == NIC_RATE).all()
    several = Topology(cluster(nics=8), 16)
    assert several.ports == 16
    pcie = several.cluster.node.gpu.pcie_bandwidth
    assert pcie < 2 * NIC_RATE, "two NICs behind one PCIe link are as fast as the link"
    assert (several.resources.capacity[several.resources.ids("nic_tx")] == pcie).all()
    assert (several.resources.capacity[several.nic_msg([3])] == 2e8).all()


@pytest.mark.parametrize("oversubscription", [2.0, 4.0])
def test_traffic_between_leaves_gets_the_bisection_and_no_more(oversubscription):
    """All of leaf 0 sends to all of leaf 1: host bandwidth / oversubscription in all."""
    topology = Topology(cluster("fat-tree", oversubscription=oversubscription), 16)
    src, dst = (a.ravel() for a in np.meshgrid(np.arange(8), np.arange(8, 16), indexing="ij"))
    rate = max_min(topology.resources.capacity, routes(topology.rdma_path(src, dst))).rate
    assert rate.sum() == pytest.approx(8 * NIC_RATE / oversubscription)
    uplink = topology.resources.capacity[topology.resources.ids("fabric_up")[0]]
    assert rate.sum() == pytest.approx(uplink)


def test_traffic_inside_a_leaf_runs_at_line_rate_whatever_the_oversubscription():
    topology = Topology(cluster("fat-tree", oversubscription=8.0), 8)
    rate = max_min(topology.resources.capacity, routes(topology.rdma_path(np.arange(4), np.arange(4, 8)))).rate
    np.testing.assert_allclose(rate, NIC_RATE)


def test_efficiency_scales_a_kind():
    topology = Topology(cluster(), 4, {"nic_tx": 0.5})
    assert topology.resources.capacity[topology.resources.ids("nic_tx")[0]] == NIC_RATE / 2
    assert topology.resources.capacity[topology.resources.ids("nic_rx")[0]] == NIC_RATE


def test_names_say_kind_and_index():
    table = Topology(cluster(), 8).resources
    ids = table.ids("nvlink_rx")
    assert table.name(ids[3]) == "nvlink_rx[3]"
    assert (table.kind(ids[3]), table.index(ids[3])) == ("nvlink_rx", 3)
    assert [table.kinds[k] for k in table.kind_of[ids]] == ["nvlink_rx"] * 8


def test_further_kinds_follow_on():
    table = Resources()
    assert table.add("a", 1.0, 3).tolist() == [0, 1, 2]
    assert table.add("b", [2.0, 3.0]).tolist() == [3, 4]
    assert table.capacity.tolist() == [1.0, 1.0, 1.0, 2.0, 3.0]
    with pytest.raises(ValueError, match="already"):
        table.add("a", 1.0)
    with pytest.raises(ValueError, match="capacity"):
        table.add("c", [1.0, np.inf])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Topology(cluster(), 17), "more nodes"),
        (lambda: Topology(cluster(), 4, {"nic_tx": 0.0}), "efficiency of nic_tx"),
        (lambda: Topology(cluster(), 4, {"nothing": 0.5}), "unknown kinds"),
        (lambda: Topology(cluster(), 8).nvlink_path(0, 4), "use rdma_path"),
        (lambda: Topology(cluster(), 8).rdma_path(3, 3), "rank 3"),
    ],
)
def test_bad_input_says_what_is_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()
