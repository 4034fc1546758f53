"""What skewed routing and the fabric do to an exchange in closed form: limits, monotony, and the counts of a drawn routing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epicycle.hwmodels.catalog import load_cluster
from epicycle.sim.ep.machine import machine_of
from epicycle.sim.step.exchange import inbox_share, on_fabric

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


@given(st.integers(1, 64), st.floats(1.0, 8.0))
def test_a_fabric_takes_no_more_than_its_oversubscription(nodes: int, oversubscription: float) -> None:
    cluster = load_cluster("h100-cx7-fat-tree")
    fabric = cluster.fabric.model_copy(update={"oversubscription": oversubscription})
    cluster = cluster.model_copy(update={"fabric": fabric})
    machine = machine_of(cluster)
    there = on_fabric(machine, cluster, 8.0 * nodes).nic_bytes_per_s
    assert machine.nic_bytes_per_s / oversubscription - 1.0 <= there <= machine.nic_bytes_per_s
    if nodes <= fabric.nodes_per_leaf:
        assert there == machine.nic_bytes_per_s
