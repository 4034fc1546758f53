"""Where experts and their replicas live, and who serves whom."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epicycle.sim.ep.placement import place

FLAT = np.ones(16)


def test_contiguous_and_round_robin():
    assert place("contiguous", 16, 0, 4, FLAT).expert_of.tolist() == list(range(16))
    assert place("round-robin", 16, 0, 4, FLAT).expert_of.reshape(4, 4).tolist() == [
        [r, r + 4, r + 8, r + 12] for r in range(4)
    ]


@given(
    st.sampled_from(["contiguous", "round-robin", "balanced"]),
    st.integers(1, 8),
    st.integers(1, 6),
    st.lists(st.floats(0.01, 100.0), min_size=48, max_size=48),
    st.integers(0, 47),
)
def test_every_expert_has_a_slot_and_every_rank_as_many(kind, ranks, per_rank, load, wanted):
    experts = max(1, min(ranks * per_rank - wanted, ranks * per_rank))
    redundant = ranks * per_rank - experts
    found = place(kind, experts, redundant, ranks, np.array(load[:experts]))
    assert found.slots_per_rank == per_rank and found.expert_of.size == ranks * per_rank
    assert set(found.expert_of.tolist()) == set(range(experts))


def test_replicas_go_where_the_load_per_replica_is_highest():
    """Loads 8, 4, 1, 1 and three more slots: 8 -> 8/2, then 4/1 or 8/2 (first wins) -> 8/3, then 4 -> 4/2."""
    found = place("contiguous", 4, 3, 1, np.array([8.0, 4.0, 1.0, 1.0]))
    assert np.bincount(found.expert_of).tolist() == [3, 2, 1, 1]


def test_balanced_packs_the_heaviest_first():
    """9 to rank 0, 8 to rank 1, 7 to the lighter rank 1, which is then full: 2 joins the 9."""
    found = place("balanced", 4, 0, 2, np.array([9.0, 8.0, 7.0, 2.0]))
    assert found.expert_of.reshape(2, 2).tolist() == [[0, 3], [1, 2]]


def test_balanced_beats_contiguous_under_skew():
    load = np.arange(1, 65, dtype=float) ** -1.0
    carried = {
        kind: load[place(kind, 64, 0, 8, load).expert_of].reshape(8, 8).sum(axis=1).max() for kind in ("contiguous", "balanced")
    }
    assert carried["balanced"] < 0.5 * carried["contiguous"]


def test_replicas_take_turns():
    found = place("contiguous", 4, 2, 2, np.array([5.0, 1.0, 1.0, 1.0]))
    assert np.bincount(found.expert_of).tolist() == [3, 1, 1, 1]
    tokens = np.arange(300)
    slots = found.slots(np.zeros((300, 1), np.int64), tokens).ravel()
    assert set(found.expert_of[slots]) == {0}
    assert np.bincount(slots).tolist() == [100, 100, 100]


def test_slots_hold_the_expert_asked_for():
    rng = np.random.default_rng(3)
    found = place("balanced", 24, 8, 8, rng.random(24))
    asked = rng.integers(0, 24, (500, 4))
    assert (found.expert_of[found.slots(asked, rng.integers(0, 99, 500))] == asked).all()


def test_what_cannot_be_placed_is_refused():
    with pytest.raises(ValueError, match=r"expert slots \(17\) do not divide over 4 ranks"):
        place("contiguous", 16, 1, 4, FLAT)
    with pytest.raises(ValueError, match="unknown placement 'random': use contiguous, round-robin or balanced"):
        place("random", 16, 0, 4, FLAT)
