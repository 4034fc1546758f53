"""Experts of unequal popularity: what is drawn, by groups or not, and what placements leave on ranks."""

from __future__ import annotations

import numpy as np
import pytest

from epicycle.hwmodels.errors import BadInput
from epicycle.sim.ep.popularity import drawn, in_turn, left_on_ranks, power_law


def test_every_token_takes_k_different_experts_in_the_share_of_their_popularity() -> None:
    rows = drawn(power_law(32, 1.0), 50_000, 1, np.random.default_rng(0))
    assert rows.sum() == 50_000
    share = power_law(32, 1.0) / power_law(32, 1.0).sum()
    assert np.abs(rows - 50_000 * share).max() < 5 * np.sqrt(50_000 * share.max())
    assert drawn(power_law(8, 0.0), 1000, 8, np.random.default_rng(0)).tolist() == [1000.0] * 8


def test_by_groups_a_token_stays_in_those_it_keeps() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        taken = np.flatnonzero(drawn(power_law(64, 0.0), 1, 8, rng, groups=8, groups_kept=2))
        assert len(taken) == 8
        assert len(set(taken // 8)) == 2
    with pytest.raises(BadInput, match="leave no 8 to take"):
        drawn(power_law(64, 0.0), 1, 8, rng, groups=16, groups_kept=1)


def test_placement_by_load_leaves_less_and_even_experts_nothing() -> None:
    share = power_law(256, 0.66)
    plain, balanced = (left_on_ranks(share, 288, 72, way) for way in (False, True))
    assert balanced < 0.1 < 1.0 < plain
    assert left_on_ranks(power_law(256, 0.0), 256, 32, False) == pytest.approx(0.0)
    # Three slots a rank leave a popular expert's replica less company than nine.
    assert left_on_ranks(share, 288, 32, True) < left_on_ranks(share, 288, 96, True)
    assert in_turn(3, 5).tolist() == [0, 1, 2, 0, 1]
    with pytest.raises(BadInput, match="do not divide"):
        left_on_ranks(share, 256, 72, True)
