"""Worlds small enough for theory: step tables of one's own making, and runs that are checked as they end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from epicycle.sim.serving.requests.fleet import Kind
from epicycle.sim.serving.requests.loop import layout as at
from epicycle.sim.serving.requests.loop.chunk import Chunk
from epicycle.sim.serving.requests.loop.layout import Rules
from epicycle.sim.serving.requests.play import Played, play
from epicycle.sim.serving.requests.times.shelf import Shelf, shelf_of
from epicycle.sim.serving.requests.times.step_table import VALUES, Table

Seconds = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]


def made_up_table(decode: Seconds, rows: Seconds | None = None, most: int = 256) -> Table:
    """A decode step of n sequences of c tokens takes ``decode(n, c)``, one with prompts of r rows ``rows(r, 0)``."""
    n, c = np.arange(0.0, most + 1.0), np.array([0.0, 1e6])
    grid = np.meshgrid(n, c, indexing="ij")
    values = np.zeros((n.size, c.size, VALUES))
    values[..., 0] = decode(*grid)
    plain = np.zeros((2, 20_000, VALUES))
    count = np.arange(20_000.0)
    plain[..., 0] = (rows or (lambda r, _: decode(np.ones_like(r), r)))(count, 0.0 * count)
    two = np.array([0.0, 1e6])
    rest = np.zeros((2, 2, 2, 2, 2, VALUES))
    # What `stairs` adds of contexts beside prompts is taken out again: only rows count there.
    return Table(n, c, values, plain, two, two, np.zeros((2, 2, VALUES)), two, two, two, two, two, rest, 1.0, np.ones(3))


def played(kinds: list[Kind], rules: Rules, shelf: Shelf, chunks: Iterator[Chunk], **more: Any) -> tuple[Any, Played]:
    """Every finished request, and the world it left, in which nothing may be held any more."""
    records: list[Any] = []
    end = play(kinds, rules, shelf, chunks, records.append, **more)
    settled(end)
    return (np.concatenate(records) if records else np.zeros(0, at.FINISHED)), end


def settled(end: Played) -> None:
    """Conservation: every request has left, every unit of cache is free or holds an unused named block, no list has anyone."""
    world = end.world
    ranks = world.ranks
    assert end.unfinished == 0
    assert world.n[at.IN_FLIGHT] == 0
    assert world.n[at.ARRIVED] == world.n[at.ENDED] == world.n[at.STARTS]
    np.testing.assert_array_equal(ranks["free"] + ranks["evictable"], ranks["units"])
    for name in ("in_flight", "tokens", "decoding", "prefilling", "loading", "coming", "pending", "waiting"):
        assert not ranks[name].any(), name
    assert not np.any(world.ring >= 0)
    assert np.all((world.reqs["state"] == at.FREE) | (world.reqs["state"] == at.PINNED))
    used = world.entries[: world.n[at.ENTRY_TOP]]
    live = used[used["holder"] >= 0]
    # No block twice in one holder, and as many as its holder counts.
    assert len({(int(e["holder"]), int(e["name"])) for e in live}) == len(live)
    for holder, h in enumerate(world.holders):
        assert h["blocks"] == np.count_nonzero(live["holder"] == holder)


@pytest.fixture
def worker() -> Callable[..., Kind]:
    def of(**changes: Any) -> Kind:
        plain = {
            "role": 0,
            "count": 1,
            "ranks": 1,
            "units": 100_000,
            "slots": 64,
            "budget": 8192,
            "mixes": True,
            "table": 0,
            "gpus": 1,
        }
        return Kind(**{**plain, **changes})

    return of


def one_table(decode: Seconds, rows: Seconds | None = None) -> Shelf:
    return shelf_of([made_up_table(decode, rows)])
