"""Rollouts: a batch by hand, the tail of the lengths, and a split of GPUs that leaves nobody waiting."""

from __future__ import annotations

import numpy as np
import pytest

from epicycle.sim.serving.rollouts import Lengths, free_running, with_barrier


def test_a_worker_s_batch_by_hand() -> None:
    # Two at a time, a step of as many seconds as it has sequences: 2 and 5 together for two tokens, then 4 beside 5's rest.
    found = with_barrier(np.array([2.0, 5.0, 4.0]), 1, 2, lambda n: float(n))
    assert found.seconds == pytest.approx(2 * 2 + 3 * 2 + 1 * 1)
    assert found.waiting == 0.0


def test_all_wait_for_the_longest() -> None:
    found = with_barrier(np.array([1.0, 9.0]), 2, 1, lambda n: 1.0)
    assert (found.seconds, found.waiting) == (9.0, pytest.approx(1 - 5 / 9))


def test_lengths_have_the_tail_that_is_asked_for() -> None:
    drawn = Lengths(1000.0, 10.0, 1e9).draw(200_000, np.random.default_rng(2))
    assert np.median(drawn) == pytest.approx(1000, rel=0.02)
    assert np.percentile(drawn, 99) == pytest.approx(10_000, rel=0.04)
    assert Lengths(1000.0, 10.0, 2000.0).draw(1000, np.random.default_rng(2)).max() == 2000


def test_the_split_balances_rollouts_and_training() -> None:
    # Constant steps: a worker makes as many tokens a second as it has sequences.
    found = free_running(100.0, 100, 10_000, 10, 10, lambda n: 1.0, 50.0)
    assert found.trainer_share == pytest.approx(0.3)
    assert found.batches_per_s == pytest.approx(0.3 / 50.0)
    assert free_running(100.0, 100, 10_000, 10, 10, lambda n: 1.0, 0.0).batches_per_s == pytest.approx(9 * 10 / 1e4)
