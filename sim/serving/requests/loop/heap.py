"""The loop's events: a binary heap by time, kind and order of planning, in one array."""

from __future__ import annotations

from ....fabric.quick_numba import njit
from .layout import HEAP, SEQ, World


@njit(cache=True)
def _before(world: World, i: int, j: int) -> bool:
    a, b = world.events[i], world.events[j]
    if a.at != b.at:
        return bool(a.at < b.at)
    if a.kind != b.kind:
        return bool(a.kind < b.kind)
    return bool(a.seq < b.seq)


@njit(cache=True)
def _swap(world: World, i: int, j: int) -> None:
    a, b = world.events[i], world.events[j]
    at, kind, seq, x, y = a.at, a.kind, a.seq, a.a, a.b
    a.at, a.kind, a.seq, a.a, a.b = b.at, b.kind, b.seq, b.a, b.b
    b.at, b.kind, b.seq, b.a, b.b = at, kind, seq, x, y


@njit(cache=True)
def push(world: World, at: int, kind: int, a: int, b: int) -> None:
    """Plan an event. The array always has room: the loop returns to be given more before it is full."""
    events, i = world.events, world.n[HEAP]
    world.n[HEAP] += 1
    world.n[SEQ] += 1
    e = events[i]
    e.at, e.kind, e.seq, e.a, e.b = at, kind, world.n[SEQ], a, b
    while i > 0:
        up = (i - 1) >> 1
        if not _before(world, i, up):
            break
        _swap(world, i, up)
        i = up


@njit(cache=True)
def drop_first(world: World) -> None:
    """Take the earliest event, ``events[0]``, out."""
    world.n[HEAP] -= 1
    size = world.n[HEAP]
    _swap(world, 0, size)
    i = 0
    while True:
        low = 2 * i + 1
        if low >= size:
            break
        if low + 1 < size and _before(world, low + 1, low):
            low += 1
        if not _before(world, low, i):
            break
        _swap(world, i, low)
        i = low
