"""Which GPUs to take: against trying every set, and collectives against their closed forms."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epicycle.hwmodels.errors import BadInput
from epicycle.sim.fabric.collectives import ring_all_reduce_seconds, tree_all_reduce_seconds
from epicycle.sim.fabric.nearest_gpus import Rates, Site, nearest, slowest_pair

RATES = Rates(nvlink=450e9, node=64e9, network=50e9)
SITES = st.lists(st.builds(Site, st.sampled_from("abc"), st.sampled_from(["", "x", "y"])), min_size=4, max_size=9)


@given(free=SITES, count=st.integers(2, 4))
@settings(max_examples=60, deadline=None)
def test_no_set_has_a_faster_slowest_pair(free: list[Site], count: int) -> None:
    taken = [free[place] for place in nearest(free, count, RATES)]
    assert len(taken) == count
    assert slowest_pair(taken, RATES) == max(slowest_pair(chosen, RATES) for chosen in combinations(free, count))


def test_the_smallest_island_with_room_is_taken() -> None:
    free = [Site("a", "x")] * 8 + [Site("b", "y")] * 4
    assert nearest(free, 4, RATES) == (8, 9, 10, 11)
    with pytest.raises(BadInput, match="12 are free"):
        nearest(free, 13, RATES)


def test_where_all_links_are_equal_any_set_is_right() -> None:
    flat = Rates(50e9, 50e9, 50e9)
    free = [Site("a", "x"), Site("b", ""), Site("c", "")]
    assert slowest_pair([free[p] for p in nearest(free, 2, flat)], flat) == slowest_pair(free, flat)


def test_a_ring_is_best_for_bytes_and_a_tree_for_latency() -> None:
    assert ring_all_reduce_seconds(8e9, 4, 1e9) == pytest.approx(12.0)
    assert tree_all_reduce_seconds(8e9, 4, 1e9) == pytest.approx(16.0)
    assert ring_all_reduce_seconds(8.0, 64, 1e9, 1e-6) > tree_all_reduce_seconds(8.0, 64, 1e9, 1e-6)
