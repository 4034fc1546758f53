"""KV over tiers: waits against a closed form, and what a hit saves."""

from __future__ import annotations

import numpy as np
import pytest

from epicycle.sim.serving.kv_tiers import Requests, Tier, busy_seconds, first_come_waits


def test_waits_are_those_of_a_queue_with_random_arrivals() -> None:
    rng = np.random.default_rng(5)
    arrival = np.cumsum(rng.exponential(1.0, 400_000))
    for load in (0.3, 0.7):
        constant = first_come_waits(arrival, np.full(arrival.size, load))
        assert constant.mean() == pytest.approx(load * load / (2 * (1 - load)), rel=0.05)
        random = first_come_waits(arrival, rng.exponential(load, arrival.size))
        assert random.mean() == pytest.approx(load * load / (1 - load), rel=0.06)


def test_waits_by_hand() -> None:
    assert first_come_waits(np.array([0.0, 1.0, 2.0, 9.0]), np.array([3.0, 3.0, 1.0, 1.0])).tolist() == [0.0, 2.0, 4.0, 0.0]


def test_a_hit_is_never_computed_and_crosses_only_what_is_not_shared() -> None:
    asked = Requests(np.array([0.0, 1.0]), np.array([100.0, 100.0]), np.array([True, False]))
    line, shared = Tier(1000.0, 0.5, 0.001, False), Tier(1000.0, 0.5, 0.001, True)
    crossing = 0.5 + 100 * 10 * (1 / 1000 + 0.001)
    assert busy_seconds(asked, line, 0.02, 10.0).tolist() == pytest.approx([crossing, 2.0 + crossing])
    assert busy_seconds(asked, shared, 0.02, 10.0).tolist() == pytest.approx([0.0, 2.0 + crossing])
