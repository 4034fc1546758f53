"""Play requests on workers: feeds the compiled loop with arrivals and takes from it what ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .fleet import Kind, Tier, grown, new_world
from .loop import layout as at
from .loop.advance import NEEDS_ARRIVALS, NEEDS_ROOM, OUT_FULL, TIME_UP, advance
from .loop.chunk import NO_NAMES, Chunk
from .loop.handle import handle_of, rules_handle
from .loop.heap import push
from .loop.layout import Rules, World
from .times.shelf import Shelf

Ended = Callable[[Any], None]


@dataclass(frozen=True, slots=True)
class Played:
    """The world as it was left. ``unfinished``: requests in flight when time was up."""

    world: World
    end_ps: int
    unfinished: int


def play(
    kinds: Sequence[Kind],
    rules: Rules,
    shelf: Shelf,
    chunks: Iterator[Chunk],
    ended: Ended,
    *,
    changes: Any = None,
    tiers: Sequence[Tier] = (),
    core_bytes_per_s: float = 1e18,
    spans: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Played:
    """Every request of ``chunks`` until the last has ended or ``rules.until``. ``ended`` gets `layout.FINISHED` records, in the
    order of their ends; ``progress``: requests ended, picoseconds played.
    """
    planned = np.zeros(0, at.CHANGE) if changes is None else changes
    world = new_world(kinds, rules, planned, tiers, core_bytes_per_s, spans)
    record, handle = rules_handle(rules), handle_of(world)
    for number, change in enumerate(planned):
        push(handle, int(change["at"]), at.STATE, number, 0)
    if rules.sample:
        push(handle, 0, at.SAMPLES, 0, 0)
    if rules.scale_every:
        push(handle, rules.scale_every, at.SCALES, 0, 0)
    empty = Chunk(np.zeros(0, at.ARRIVAL), NO_NAMES)
    chunk, last = empty, False
    while True:
        why = advance(handle, record, shelf, chunk.arrivals, chunk.names, chunk.arrivals.size, last, rules.until)
        if why == NEEDS_ARRIVALS:
            following = next(chunks, None)
            chunk, last = (empty, True) if following is None else (following, False)
            world.n[at.NEXT_ARRIVAL] = 0
        elif why == NEEDS_ROOM:
            world = grown(world)
            handle = handle_of(world)
        _hand_over(world, ended)
        if progress is not None:
            progress(int(world.n[at.ENDED]), int(world.n[at.NOW]))
        if why not in (NEEDS_ARRIVALS, NEEDS_ROOM, OUT_FULL):
            break
    finish_workers(world)
    left = int(world.n[at.IN_FLIGHT]) if why == TIME_UP else 0
    return Played(world, int(world.n[at.NOW]), left)


def _hand_over(world: World, ended: Ended) -> None:
    count = int(world.n[at.OUT])
    if count:
        ended(world.out[:count].copy())
        world.n[at.OUT] = 0


def finish_workers(world: World) -> None:
    """Account for the time that workers were on and down until now."""
    now = world.n[at.NOW]
    for w in world.workers:
        if w["state"] == at.DOWN:
            w["down"] += now - w["down_since"]
        if w["state"] != at.OFF:
            w["on"] += now - w["up_since"]
