"""An engine instance step by step: sums by hand, queues against closed forms, policies against each other."""

from __future__ import annotations

import numpy as np
import pytest

from epicycle.hwmodels.errors import BadInput
from epicycle.sim.serving.step_loop import HostDelay, Trace, looped


def trace(arrival: list[float], prompt: list[int], output: list[int]) -> Trace:
    return Trace(np.array(arrival), np.array(prompt), np.array(output))


def step(tokens: int, sequences: int) -> float:
    """A second a decode step, and a tenth for every prompt token."""
    return (1.0 if sequences else 0.0) + 0.1 * tokens


def test_two_requests_by_hand() -> None:
    found = looped(trace([0.0, 0.0], [10, 10], [3, 2]), "continuous", 2, step)
    # Both prompts in one step of 2 s, then two decode steps, of which the second is the longer answer's alone.
    assert found.ttft.tolist() == [2.0, 2.0]
    assert found.tpot.tolist() == [1.0, 1.0]
    assert found.seconds == 4.0
    late = looped(trace([0.0, 2.5], [10, 10], [3, 2]), "continuous", 2, step)
    # It comes during the third step, which ends at 3 s, is read in the next one, and decodes alone.
    assert late.ttft.tolist() == [1.0, 1.5]
    assert (late.seconds, late.output_tokens) == (5.0, 5)


def test_a_static_batch_begins_when_the_one_before_has_ended() -> None:
    three = trace([0.0, 0.0, 0.0], [10, 10, 10], [5, 1, 4])
    static, continuous = (looped(three, policy, 2, step) for policy in ("static", "continuous"))
    assert static.ttft[2] == pytest.approx(2.0 + 4.0 + 1.0)
    assert static.seconds == pytest.approx(7.0 + 3.0)
    # Taken up at 2 s beside a decode step, and done one step after the long answer.
    assert continuous.ttft[2] == pytest.approx(4.0)
    assert continuous.seconds == pytest.approx(7.0)


def test_chunks_bound_what_a_step_reads_and_lose_no_token() -> None:
    one = trace([0.0], [100], [2])
    found = looped(one, "chunked", 1, step, chunk=30)
    assert found.ttft[0] == pytest.approx(10.0)
    assert found.seconds == pytest.approx(11.0)


def test_the_wait_of_one_slot_is_that_of_a_queue_with_constant_service() -> None:
    rng = np.random.default_rng(3)
    count, rate, service = 60_000, 0.5, 1.0
    coming = Trace(np.cumsum(rng.exponential(1 / rate, count)), np.full(count, 10), np.ones(count, np.int64))
    found = looped(coming, "continuous", 1, lambda tokens, sequences: service)
    # M/D/1: rho / (2 (1 - rho)) services of waiting.
    assert found.ttft.mean() - service == pytest.approx(0.5 * service * 0.5 / 0.5, rel=0.05)


def test_a_cache_that_is_full_holds_requests_back_and_one_too_small_is_refused() -> None:
    two = trace([0.0, 0.0], [10, 10], [10, 10])
    assert looped(two, "continuous", 2, step, kv_tokens=20).ttft[1] > looped(two, "continuous", 2, step, kv_tokens=40).ttft[1]
    with pytest.raises(BadInput, match="longest request"):
        looped(two, "continuous", 2, step, kv_tokens=19)


def test_a_host_adds_its_delay_to_every_step() -> None:
    one = trace([0.0], [10], [4])
    plain, late = looped(one, "continuous", 1, step), looped(one, "continuous", 1, step, host=HostDelay(0.5))
    assert late.seconds == pytest.approx(plain.seconds + 4 * 0.5)
    draws = HostDelay(2.0, 1.0).draws(200_000, np.random.default_rng(1))
    assert draws.mean() == pytest.approx(2.0, rel=0.02)
