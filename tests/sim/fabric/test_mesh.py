"""GPUs joined directly: a 4 x 4 torus by hand, as a file of the user's, and as both interpreters read it."""

from __future__ import annotations

from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epicycle.hwmodels.catalog import load_cluster
from epicycle.hwmodels.errors import BadInput
from epicycle.scenarios.ask.scenario import load_scenario
from epicycle.sim.ep.machine import machine_of
from epicycle.sim.fabric.mesh import Grid
from epicycle.sim.fabric.topology import Topology
from epicycle.sim.layer.layer import simulate

#: The whole of what a new topology takes.
TORUS = """
name: my-torus
node: {gpu: h100-sxm, gpus: 16, nic: connectx7-400g}
nodes: 1
max_nodes: 1
fabric: {kind: fat-tree, switch: quantum-2}
mesh: {shape: [4, 4], wrap: true, link_bandwidth: 100 GB/s, link_latency: 500 ns}
calibration: h100_sxm
"""

GRIDS = st.builds(Grid, st.lists(st.integers(2, 5), min_size=1, max_size=3).map(tuple), st.booleans())


@pytest.fixture
def torus(tmp_path: Path) -> str:
    path = tmp_path / "torus.yaml"
    path.write_text(TORUS, encoding="utf-8")
    return str(path)


def test_a_torus_by_hand() -> None:
    """Of 16 rows of a GPU 4 x (0 + 1 + 2 + 1) hops are in each dimension; 32 links of each take 16 x 16 = 256: 8 a link."""
    load = Grid((4, 4), True).all_to_all_load()
    assert len(load) == 64 and set(load) == {8.0}
    assert Grid((4, 4), True).uniform_bytes_per_s(100e9) == pytest.approx(100e9 * 15 / 8)


def test_a_line_is_fullest_in_its_middle() -> None:
    """Two GPUs on either side of the middle link of four: 2 x 2 rows each way; the links at the ends carry 3."""
    load = Grid((4,), False).all_to_all_load().reshape(4, 2)
    assert load[:, 0].tolist() == [3, 4, 3, 0] and load[:, 1].tolist() == [0, 3, 4, 3]


def test_a_route_goes_dimension_by_dimension() -> None:
    """From (0, 0) to (2, 3) of a 4 x 4 torus: two steps down, as 0 is even, then one back round the row."""
    (route,) = Grid((4, 4), True).routes(0, 2 * 4 + 3)
    gpus, ways = route // 2 // 2, route % 4
    assert gpus.tolist() == [0, 4, 8] and ways.tolist() == [0, 0, 3]  # forwards in the first dimension, backwards in the second


@given(GRIDS)
def test_routes_are_as_short_as_any(grid: Grid) -> None:
    graph = nx.grid_graph(list(reversed(grid.shape)), periodic=grid.wrap)
    place = list(np.ndindex(grid.shape)) if len(grid.shape) > 1 else list(range(grid.gpus))
    lengths = dict(nx.all_pairs_shortest_path_length(graph))
    src, dst = np.indices((grid.gpus, grid.gpus)).reshape(2, -1)
    hops = (grid.routes(src, dst) >= 0).sum(axis=1)
    assert hops.tolist() == [lengths[place[a]][place[b]] for a, b in zip(src, dst, strict=True)]
    assert grid.all_to_all_load().sum() == hops.sum()


def test_a_file_is_simulated_over_its_links(torus: str) -> None:
    """Sixteen ranks exchange over 64 links and no switch: payload of a link is what routes over it carry."""
    keys = [f"cluster={torus}", "cluster.nodes=1", "deployment.ep=16", "deployment.compare=[]", "traffic.tokens_per_rank=256"]
    answer = simulate(load_scenario("deepseek-v3-decode-ep32", keys).resolve())
    links = [link for link in answer.layers[0].links if link.kind == "nvlink_mesh"]
    assert len(links) == 64 and not any(link.kind.startswith("nvlink_t") for link in answer.layers[0].links)
    matrix = sum(m.bytes for m in answer.layers[0].traffic if m.medium == "nvlink")
    src, dst = np.nonzero(matrix)
    routes = Grid((4, 4), True).routes(src, dst)
    pair, hop = np.nonzero(routes >= 0)
    carried = np.bincount(routes[pair, hop], matrix[src, dst][pair], minlength=64)
    np.testing.assert_allclose([link.moved for link in links], carried, rtol=1e-9)


def test_both_interpreters_read_it(torus: str) -> None:
    """A wire-bound dispatch: event by event within 6 % of the closed form's uniform rate, and far slower than by a switch."""
    keys = ["cluster.nodes=1", "deployment.ep=16", "deployment.compare=[]", "traffic.tokens_per_rank=1024"]
    keys.append('cluster.node.gpu.hbm_capacity="800 GiB"')
    layer = simulate(load_scenario("deepseek-v3-decode-ep32", [f"cluster={torus}", *keys]).resolve()).layers[0]
    assert machine_of(load_cluster(torus)).nvlink_bytes_per_s == pytest.approx(187.5e9)
    assert layer.op_us("dispatch") == pytest.approx(layer.closed_form_us["dispatch"], rel=0.06)


def test_links_beyond_the_first_are_late(torus: str) -> None:
    topology = Topology(load_cluster(torus), 16)
    assert topology.nvlink_extra_ps([0, 0, 0], [1, 5, 10]).tolist() == [0, 500_000, 1_500_000]


def test_a_shape_of_another_size_is_refused(torus: str) -> None:
    Path(torus).write_text(TORUS.replace("[4, 4]", "[4, 2]"), encoding="utf-8")
    with pytest.raises(BadInput, match=r"mesh.shape \(4 x 2\) is of 8 GPUs, a domain of my-torus has 16"):
        load_cluster(torus)
