"""Prompts that meet: maxima of random numbers against draws, what waiting evens out, and steps that prompts share."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epicycle.hwmodels.backends import load_backend
from epicycle.hwmodels.catalog import load_cluster
from epicycle.sim.inputs.model import load_model
from epicycle.sim.inputs.serving import Serving, Worker
from epicycle.sim.serving.deployment import PoolShape, aggregated
from epicycle.sim.serving.prompts import AT_ONCE, Scheduling, held_back, joining, largest_joining
from epicycle.sim.serving.steady import Setting
from epicycle.sim.step.worker import Arrangement, Precision


class Lengths:
    mean_input = 1000.0
    mean_output = 1000.0
    cached_input = 0.0


class Short:
    mean_input = 128.0
    mean_output = 4.0
    cached_input = 0.0


DP8, TP8 = Arrangement(1.0, 8.0, 1.0, 8.0), Arrangement(8.0, 1.0, 1.0, 1.0)


@pytest.mark.parametrize("per_step", [0.002, 0.02, 0.2])
def test_groups_that_wait_hold_prompts_back_as_when_they_are_drawn(per_step: float) -> None:
    """Eight groups that release their prompts once each has one, or after 50 steps: the mean wait of a prompt."""
    draws, waits = np.random.default_rng(3), []
    for _ in range(3000):
        held: list[int] = []
        ready = np.zeros(8, bool)
        began = None
        for step in range(5000):
            come = draws.poisson(per_step, 8)
            held += [step] * int(come.sum())
            ready |= come > 0
            began = step if began is None and held else began
            if began is not None and (ready.all() or step - began >= 50):
                waits += [step - at for at in held]
                break
    assert float(held_back(per_step, 8.0, "wait")) == pytest.approx(np.mean(waits), rel=0.3)
    assert held_back(per_step, 1.0, "wait") == 0.0
    assert held_back(per_step, 8.0, "round-robin") == held_back(per_step, 8.0, "perfect") == 0.0


@pytest.mark.parametrize("mean", [0.05, 0.4, 2.0, 9.0, 40.0])
@pytest.mark.parametrize("groups", [1, 8, 48])
def test_the_largest_of_random_numbers_is_that_of_draws(mean: float, groups: int) -> None:
    draws = np.random.default_rng(7).poisson(mean, (40_000, groups)).max(axis=1).mean()
    assert largest_joining(mean, groups) == pytest.approx(draws, rel=0.03)
    room = 4
    held = np.random.default_rng(7).binomial(room, min(mean / room, 1.0), (40_000, groups)).max(axis=1).mean()
    if mean < room:
        assert largest_joining(mean, groups, room) == pytest.approx(held, rel=0.03)


@given(st.floats(0.001, 30.0), st.sampled_from([1.0, 4.0, 32.0]))
def test_waiting_lies_between_dealing_and_perfection(mean: float, groups: float) -> None:
    dealt, waiting, perfect = (joining(mean, groups, how) for how in ("round-robin", "wait", "perfect"))  # type: ignore[arg-type]
    work = [float(np.asarray(met.any_ * met.fullest)) for met in (perfect, waiting, dealt)]
    assert work[0] == pytest.approx(mean)
    assert mean <= work[1] * (1 + 1e-9) <= work[2] * (1 + 1e-6) + 1e-9
    for met in (dealt, waiting, perfect):
        assert float(np.asarray(met.any_ * met.mean)) == pytest.approx(mean)


def test_one_group_waits_for_nobody() -> None:
    met = joining(0.3, 1.0, "round-robin")
    assert met.any_ * met.fullest == pytest.approx(0.3)
    assert met.any_ == pytest.approx(1.0 - np.exp(-0.3))


def setting(lengths: object, backend: str) -> Setting:
    precision = Precision("fp8", "fp8", "bf16", "fp8")
    return Setting(load_model("deepseek-r1"), load_cluster("h200-cx7"), precision, load_backend(backend), lengths)  # type: ignore[arg-type]


def test_balance_pays_where_groups_step_together_and_only_there() -> None:
    from dataclasses import replace

    def rate(arrangement: Arrangement, balance: str) -> float:
        pool = PoolShape(replace(arrangement, balance=balance), 1.0, 512.0)  # type: ignore[arg-type]
        return float(np.asarray(aggregated(setting(Lengths, "trtllm"), pool, concurrency=2048.0).requests_per_s))

    dealt, waiting, perfect = (rate(DP8, how) for how in ("round-robin", "wait", "perfect"))
    assert dealt < waiting < perfect
    alone = [rate(TP8, how) for how in ("round-robin", "wait")]
    assert alone[0] == pytest.approx(alone[1], rel=0.05)


def test_short_prompts_share_a_step() -> None:
    """128 tokens in and 4 out: a quarter of the sequences joins in every step, and runs in few steps of 8,192 tokens."""
    found = aggregated(setting(Short, "sglang"), PoolShape(TP8, 1.0, 1000.0), concurrency=1000.0)
    single = aggregated(setting(Short, "sglang"), PoolShape(TP8, 1.0, 1000.0, 128.0), concurrency=1000.0)
    assert found.requests_per_s > 5.0 * single.requests_per_s


def test_requests_wait_half_of_what_lies_between_two_looks() -> None:
    assert AT_ONCE.steps(0.1, 8.0) == 0.0
    assert Scheduling(poll_steps=31.0).steps(0.1, 8.0) == 15.0
    # Alone: the whole time-out. Many: half of the time in which they fill the step.
    assert Scheduling(wait_steps=20.0).steps(1e-6, 8.0) == pytest.approx(20.0)
    assert Scheduling(wait_steps=20.0).steps(4.0, 8.0) == pytest.approx(0.5 * 2.0 * (1.0 + 1.0 / 8.0))


def test_knobs_that_do_not_apply_are_refused() -> None:
    with pytest.raises(ValueError, match="dp=1 has one"):
        Worker(tp=8, balance="wait")
    with pytest.raises(ValueError, match="wait_steps counts steps that decode"):
        Serving(mode="disaggregated", prefill=Worker(), wait_steps=20)
    assert Serving(decode=Worker(dp=8), poll_steps=30).poll_steps == 30
