"""The loop against queueing theory: step times made up so that a worker is a server that books know."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from math import factorial

import numpy as np
import pytest

from epicycle.sim.serving.requests.arrivals.made_up import Lengths, arrivals
from epicycle.sim.serving.requests.fleet import Kind
from epicycle.sim.serving.requests.loop import layout as at
from epicycle.sim.serving.requests.loop.chunk import Chunk
from epicycle.sim.serving.requests.rules import rules_of

from .conftest import one_table, played

STEP = 1e-3  # seconds
TOKENS = 100  # of a request on average: a step is a small part of a service


def exponential(rate: float, count: int, seed: int = 5) -> Iterator[Chunk]:
    """Poisson arrivals whose outputs are exponential."""
    rng = np.random.default_rng(seed)
    for chunk in arrivals("poisson", rate, Lengths(1, TOKENS), seed, count=count):
        chunk.arrivals["output"] = np.maximum(1, np.rint(rng.exponential(TOKENS, chunk.arrivals.size)))
        yield chunk


def times(records: object) -> tuple[np.ndarray, np.ndarray]:
    """(wait, whole stay) in seconds."""
    return records["waited"] * 1e-12, (records["end"] - records["arrival"]) * 1e-12  # type: ignore[index]


def erlang(load: float, servers: int) -> float:
    """Erlang's loss formula."""
    terms = [load**k / factorial(k) for k in range(servers + 1)]
    return terms[-1] / sum(terms)


CONSTANT = one_table(lambda n, c: STEP + 0.0 * n, lambda r, _: STEP + 0.0 * r)


@pytest.mark.parametrize(("servers", "busy"), [(1, 0.5), (4, 0.7), (8, 0.8)])
def test_slots_are_servers(worker: Callable[..., Kind], servers: int, busy: float) -> None:
    """M/M/c: sequences side by side that do not slow each other. The waits are those of the recursion over the servers' free
    times (Kiefer and Wolfowitz), but for the step under way, and their mean is Erlang C's."""
    service = STEP * TOKENS
    chunks = list(exponential(busy * servers / service, 60_000))
    records, _ = played([worker(slots=servers)], rules_of(), CONSTANT, iter(chunks))
    wait, _ = times(records[np.argsort(records["id"])])
    free, direct = [0.0] * servers, []
    for arrival in np.concatenate([chunk.arrivals for chunk in chunks]):
        begins = max(arrival["at"] * 1e-12, free[0])
        direct.append(begins - arrival["at"] * 1e-12)
        heapq.heapreplace(free, begins + arrival["output"] * STEP)
    assert wait.mean() == pytest.approx(np.mean(direct) + 0.5 * STEP * busy, abs=0.5 * STEP)
    blocked = erlang(busy * servers, servers)
    waits = blocked / (1.0 - busy * (1.0 - blocked))
    assert np.mean(direct) == pytest.approx(waits * service / (servers * (1.0 - busy)), rel=0.15)


def test_equal_services_wait_half(worker: Callable[..., Kind]) -> None:
    """M/D/1: half of M/M/1's wait (Pollaczek and Khinchine)."""
    busy, service = 0.8, STEP * TOKENS
    chunks = arrivals("poisson", busy / service, Lengths(1, TOKENS), 3, count=40_000)
    records, _ = played([worker(slots=1)], rules_of(), CONSTANT, chunks)
    wait, _ = times(records[5_000:])
    assert wait.mean() == pytest.approx(0.5 * busy * service / (1.0 - busy), rel=0.05)


@pytest.mark.parametrize("kind", ["equal", "exponential", "two kinds"])
def test_sharing_knows_only_the_mean(worker: Callable[..., Kind], kind: str) -> None:
    """M/G/1-PS: n sequences each at 1/n of the speed stay S / (1 - rho) on average, whatever the law of their lengths."""
    shared = one_table(lambda n, c: STEP * np.maximum(n, 1e-9), lambda r, _: STEP * np.maximum(r, 1.0))
    busy, service = 0.7, STEP * TOKENS
    rng = np.random.default_rng(8)

    def chunks() -> Iterator[Chunk]:
        for chunk in arrivals("poisson", busy / service, Lengths(1, TOKENS), 4, count=40_000):
            size = chunk.arrivals.size
            if kind == "exponential":
                chunk.arrivals["output"] = np.maximum(1, np.rint(rng.exponential(TOKENS, size)))
            elif kind == "two kinds":
                chunk.arrivals["output"] = np.where(rng.random(size) < 0.9, TOKENS // 4, 7.75 * TOKENS)
            yield chunk

    records, _ = played([worker(slots=250)], rules_of(), shared, chunks())
    _, stay = times(records[5_000:])
    assert stay.mean() == pytest.approx(service / (1.0 - busy), rel=0.08)


def test_without_a_queue_the_lost_are_erlangs(worker: Callable[..., Kind]) -> None:
    """M/M/c/c: arrivals that find every slot taken are refused."""
    servers, load = 8, 6.0
    records, _ = played(
        [worker(slots=servers)], rules_of(most_waiting=0), CONSTANT, exponential(load / (STEP * TOKENS), 40_000)
    )
    refused = np.mean(records["status"] == at.REJECTED)
    assert refused == pytest.approx(erlang(load, servers), rel=0.06)


def test_in_flight_is_rate_times_stay(worker: Callable[..., Kind]) -> None:
    """Little's law, over the whole run and to the picosecond's rounding."""
    records, end = played([worker(slots=4, count=2)], rules_of(), CONSTANT, exponential(12.0, 5_000))
    _, stay = times(records)
    area_s = end.world.n[at.AREA] * 1e-6
    assert area_s == pytest.approx(stay.sum(), rel=1e-4)


def test_a_closed_loop_keeps_its_number(worker: Callable[..., Kind]) -> None:
    """N in flight from the burst at the start to the last arrival; throughput is N over the mean stay."""
    clients, chunks = 40, arrivals("closed", 1.0, Lengths(1, TOKENS, spread=0.8), 1, count=8_000)
    records, end = played([worker(slots=24)], rules_of(closed=clients), CONSTANT, chunks)
    assert end.world.n[at.PEAK] == clients
    assert np.count_nonzero(records["arrival"] == 0) == clients
    _, stay = times(records[1_000:7_000])
    span = (records["end"][7_000] - records["end"][1_000]) * 1e-12
    assert 6_000 / span == pytest.approx(clients / stay.mean(), rel=0.01)


def test_the_same_seed_gives_the_same_requests(worker: Callable[..., Kind]) -> None:
    first, _ = played([worker(slots=4)], rules_of(), CONSTANT, exponential(8.0, 3_000))
    second, _ = played([worker(slots=4)], rules_of(), CONSTANT, exponential(8.0, 3_000))
    other, _ = played([worker(slots=4)], rules_of(), CONSTANT, exponential(8.0, 3_000, seed=6))
    assert first.tobytes() == second.tobytes() != other.tobytes()
