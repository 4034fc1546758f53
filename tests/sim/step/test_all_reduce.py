"""Sums over tensor-parallel GPUs against alpha-beta: the engine's base at small sizes, the wire at large ones."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epicycle.hwmodels.backends import Constants, backend_names, load_backend
from epicycle.hwmodels.catalog import load_cluster
from epicycle.hwmodels.specs import Cluster
from epicycle.sim.step.all_reduce import all_reduce_part
from epicycle.sim.step.part import Part

WIDTH = 8192.0
CLUSTERS = ("h100-cx7", "h200-cx7", "b200-cx7", "gb200-nvl72")
ENGINE = load_backend("vllm").constants


@cache
def cluster_of(name: str) -> Cluster:
    return load_cluster(name)


def seconds(rows: float, ranks: float, cluster: str = "h100-cx7", engine: Constants = ENGINE) -> float:
    return float(np.asarray(found(rows, ranks, cluster, engine).seconds))


def found(rows: float, ranks: float, cluster: str = "h100-cx7", engine: Constants = ENGINE) -> Part:
    return all_reduce_part("sum", rows, WIDTH, ranks, cluster_of(cluster), engine, 1.0)


@pytest.mark.parametrize("cluster", CLUSTERS)
@given(rows=st.floats(0.0, 1e6))
def test_one_gpu_has_nothing_to_sum(cluster: str, rows: float) -> None:
    part = found(rows, 1.0, cluster)
    assert part.seconds == part.wire_bytes == 0.0
    assert all(np.all(np.asarray(load) == 0.0) for load in part.loads.values())


@pytest.mark.parametrize("ranks", [2.0, 4.0, 8.0])
def test_no_rows_take_no_time(ranks: float) -> None:
    assert seconds(0.0, ranks) == 0.0


@pytest.mark.parametrize("backend", backend_names())
@pytest.mark.parametrize("cluster", CLUSTERS)
@pytest.mark.parametrize("ranks", [2.0, 4.0, 8.0])
def test_a_small_sum_takes_the_engines_base(backend: str, cluster: str, ranks: float) -> None:
    engine = load_backend(backend).on(cluster_of(cluster).calibration)
    assert seconds(1e-6, ranks, cluster, engine) <= engine.all_reduce * (1 + 1e-6)
    quick = engine.model_copy(update={"all_reduce": 1e-7})
    assert seconds(1e-6, ranks, cluster, quick) == pytest.approx(1e-7, rel=1e-3)


@pytest.mark.parametrize("cluster", CLUSTERS)
@pytest.mark.parametrize("ranks", [2.0, 4.0])
def test_a_large_sum_moves_twice_its_share(cluster: str, ranks: float) -> None:
    """``2 (n - 1) / n S`` over what NVLink gives of its raw rate: never more than all of it, at least half."""
    rows = 1e6
    size = 2.0 * rows * WIDTH
    beta = 2.0 * (ranks - 1.0) / ranks * size / cluster_of(cluster).node.gpu.nvlink_bandwidth
    assert beta <= seconds(rows, ranks, cluster) <= 2.0 * beta
    assert found(rows, ranks, cluster).wire_bytes == pytest.approx(2.0 * (ranks - 1.0) / ranks * size)
    twice = seconds(2.0 * rows, ranks, cluster) - seconds(rows, ranks, cluster)
    assert twice == pytest.approx(seconds(rows, ranks, cluster), rel=0.02), "nothing but bytes left"


@pytest.mark.parametrize("cluster", CLUSTERS)
@given(rows=st.floats(1.0, 1e5), more=st.floats(1.0, 4.0), ranks=st.sampled_from([2.0, 4.0, 8.0, 16.0]))
def test_more_rows_never_take_less(cluster: str, rows: float, more: float, ranks: float) -> None:
    assert seconds(rows * more, ranks, cluster) >= seconds(rows, ranks, cluster) * (1 - 1e-9)


@given(rows=st.floats(1.0, 1e5))
def test_the_fastest_way_is_taken(rows: float) -> None:
    """Never slower than one exchange of flags and everybody's buffers, at the rate of a long message."""
    rate = 2.0 * 7.0 / 8.0 * 2.0 * 1e7 * WIDTH / seconds(1e7, 8.0)
    one_shot = ENGINE.all_reduce + 7.0 * 2.0 * rows * WIDTH / rate
    assert seconds(rows, 8.0) <= one_shot * 1.01


def test_beyond_a_domain_the_nics_carry_the_sum() -> None:
    inside, across = found(1e4, 8.0), found(1e4, 16.0)
    assert np.all(np.asarray(inside.loads["nic"]) == 0.0)
    nic = cluster_of("h100-cx7").node.nic
    # Two domains: each GPU's NIC sends its eighth of the message once, and waits for its peer's.
    wire = 2.0 * 0.5 * 2.0 * 1e4 * WIDTH / (8.0 * nic.bandwidth * nic.efficiency)
    assert float(np.asarray(across.loads["nic"])) == pytest.approx(wire)
    extra = float(np.asarray(across.seconds)) - float(np.asarray(inside.seconds))
    assert extra >= wire + nic.latency
    assert extra == pytest.approx(wire, rel=0.2)


def test_one_large_domain_needs_no_nic() -> None:
    assert np.all(np.asarray(found(1e4, 64.0, "gb200-nvl72").loads["nic"]) == 0.0)
    assert seconds(1e4, 64.0, "gb200-nvl72") < seconds(1e4, 64.0, "b200-cx7")


@given(st.lists(st.tuples(st.floats(0.0, 1e5), st.sampled_from([1.0, 2.0, 4.0, 8.0, 16.0])), min_size=2, max_size=6))
def test_a_table_is_its_rows(points: list[tuple[float, float]]) -> None:
    rows, ranks = (np.array(column) for column in zip(*points, strict=True))
    table = np.asarray(all_reduce_part("sum", rows, WIDTH, ranks, cluster_of("h100-cx7"), ENGINE, 1.0).seconds)
    assert table == pytest.approx([seconds(r, n) for r, n in points])
