"""Pods of directly joined chips: shapes, distances and all-to-all loads against networkx and against closed forms."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epicycle.sim.fabric.pods import all_to_all_load, boardfly, hops, hops_by_level, torus

SMALL = st.one_of(
    st.builds(torus, st.integers(2, 5), st.integers(2, 5)),
    st.builds(boardfly, st.integers(2, 5), st.integers(2, 4), st.integers(2, 4), st.booleans()),
)


@given(links=SMALL)
@settings(max_examples=25, deadline=None)
def test_distances_and_loads_are_those_of_networkx(links: np.ndarray) -> None:
    graph = nx.from_numpy_array(links)
    assert (links == links.T).all()
    assert not links.diagonal().any()
    assert hops(links).diameter == nx.diameter(graph)
    assert hops(links).mean == pytest.approx(nx.average_shortest_path_length(graph))
    load = all_to_all_load(links)
    for (one, other), betweenness in nx.edge_betweenness_centrality(graph, normalized=False).items():
        assert load[one, other] == pytest.approx(betweenness)  # of one direction: networkx counts each pair once
        assert load[other, one] == pytest.approx(betweenness)
    assert not load[~links].any()


@pytest.mark.parametrize("sides", [(4, 4), (8, 8, 2), (4, 6, 8)])
def test_a_torus_by_its_closed_form(sides: tuple[int, ...]) -> None:
    # Even sides: half a side at most, a quarter on average (the chip itself counted), each axis apart.
    seen, chips = hops(torus(*sides)), int(np.prod(sides))
    assert seen.diameter == sum(side // 2 for side in sides)
    assert seen.mean == pytest.approx(sum(side / 4 for side in sides) * chips / (chips - 1))


@given(groups=st.integers(2, 6), boards=st.integers(2, 4), chips=st.integers(2, 4), ring=st.booleans())
@settings(max_examples=25, deadline=None)
def test_routes_by_level_are_never_shorter_and_never_longer_than_their_levels(
    groups: int, boards: int, chips: int, ring: bool
) -> None:
    links = boardfly(groups, boards, chips, ring)
    routed, free = hops_by_level(links, chips, boards * chips), hops(links)
    board = chips // 2 if ring else 1
    assert free.mean <= routed.mean + 1e-12
    assert free.diameter <= routed.diameter <= 2 * (2 * board + 1) + 1


def test_every_pair_of_boards_and_of_groups_has_its_link() -> None:
    links = boardfly(5, 4, 4)
    assert links.sum() == 2 * (5 * 4 * 6 + 5 * 6 + 10)
    groups = links.reshape(5, 16, 5, 16).sum(axis=(1, 3))
    assert (groups[~np.eye(5, dtype=bool)] == 1).all()


def test_an_all_to_all_fills_the_links_between_groups_first() -> None:
    links = boardfly()
    load = all_to_all_load(links)
    chips = len(links)
    assert load.sum() == pytest.approx(hops(links).mean * chips * (chips - 1))
    one, other = np.nonzero(links)
    outer = one // 32 != other // 32
    assert load[one, other][outer].min() > load[one, other][~outer].mean()
    # One link between two groups of 32 carries their 1,024 messages and more: others pass through.
    assert load[one, other][outer].mean() == pytest.approx(1601, rel=0.01)
