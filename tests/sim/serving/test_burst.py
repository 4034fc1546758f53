"""A closed loop whose clients all start at once, against the same loop played out client by client."""

from __future__ import annotations

import numpy as np
import pytest

from epicycle.sim.serving.queue import STEADY, Burst


def played(clients: int, prompt_s: float, cycle_s: float, rounds: int, spread: float) -> tuple[float, list[float]]:
    """Mean wait of the first requests, and of each generation the share of its span that one server is busy."""
    draws = np.random.default_rng(0)
    arrivals, free, waits, busy = np.zeros(clients), 0.0, [], []
    for _ in range(rounds):
        order = np.argsort(arrivals, kind="stable")
        leaves = np.empty(clients)
        for who in order:
            start = max(free, arrivals[who])
            free = leaves[who] = start + prompt_s
        waits.append(float(np.mean(leaves - prompt_s - arrivals)))
        span = np.quantile(arrivals, 0.95) - np.quantile(arrivals, 0.05)
        busy.append(min(1.0, 0.9 * clients * prompt_s / span) if span > 0 else 1.0)
        arrivals = leaves + cycle_s * draws.uniform(1.0 - spread, 1.0, clients)
    return waits[0], busy


def test_the_first_prompts_queue_up_behind_each_other() -> None:
    clients, prompt_s, rounds = 64, 0.05, 10
    first, _ = played(clients, prompt_s, 20.0, rounds, 0.2)
    assert Burst(rounds, 0.2).first_wait(prompt_s, clients) == pytest.approx(first / rounds, rel=0.03)
    assert STEADY.first_wait(prompt_s, clients) == 0.0


@pytest.mark.parametrize("utilisation", [0.05, 0.15, 0.4])
def test_clients_that_started_together_stay_close(utilisation: float) -> None:
    """How busy the pool is while requests come: several times the mean, and less the more rounds have parted them."""
    clients, cycle_s = 200, 20.0
    _, busy = played(clients, utilisation * cycle_s / clients, cycle_s, 10, 0.2)
    found = float(Burst(10.0, 0.2).busy(utilisation))
    assert found > 1.4 * utilisation
    assert found == pytest.approx(np.mean(np.minimum(busy[1:], 0.9)), rel=0.35)
    assert Burst(100.0, 0.2).busy(utilisation) < found
    assert STEADY.busy(utilisation) == utilisation


def test_a_pool_is_never_told_busier_than_its_arrivals_allow() -> None:
    shares = np.linspace(0.0, 1.0, 21)
    found = Burst(10.0, 0.2).busy(shares)
    assert np.all(found >= shares - 1e-12) and np.all(found <= np.maximum(shares, 0.9) + 1e-12)
    assert np.all(np.diff(found) >= -1e-12)
