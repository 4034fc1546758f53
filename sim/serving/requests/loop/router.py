"""Which rank of which worker gets a request."""

from __future__ import annotations

from ....fabric.quick_numba import njit
from .blocks import known
from .layout import LEAST_TOKENS, PREFIX_AWARE, ROBIN, ROBIN_FAR, ROUND_ROBIN, STICKY, UP, WOKEN, Rules, World


@njit(cache=True)
def wake(world: World, worker: int) -> None:
    """The worker looks for work once the present event is over."""
    if world.workers[worker].woken == 0:
        world.workers[worker].woken = 1
        world.woken[world.n[WOKEN]] = worker
        world.n[WOKEN] += 1


@njit(cache=True)
def open_rank(world: World, rank: int, role: int) -> bool:
    """Whether new requests may come to ``rank``, and it plays ``role``."""
    k = world.ranks[rank]
    w = world.workers[k.worker]
    return bool(k.alive != 0 and w.state == UP and w.role == role)


@njit(cache=True)
def choose(world: World, rules: Rules, slot: int, role: int, policy: int) -> int:
    """An open rank of a worker with ``role``; -1 if there is none. Equal ranks take turns."""
    ranks, turn = world.ranks.size, ROBIN_FAR if role == 2 else ROBIN
    r = world.reqs[slot]
    if policy == STICKY and r.home >= 0 and open_rank(world, r.home, role):
        return int(r.home)
    best, least = -1, 1e300
    start = world.n[turn] % ranks
    for step in range(ranks):
        rank = start + step
        if rank >= ranks:
            rank -= ranks
        if not open_rank(world, rank, role):
            continue
        if policy == ROUND_ROBIN:
            world.n[turn] = rank + 1
            return int(rank)
        k = world.ranks[rank]
        if policy == LEAST_TOKENS:
            load = float(k.tokens)
        elif policy == PREFIX_AWARE:
            # What is left to compute, plus what waits before it.
            load = float(k.tokens) - float(known(world, rules, slot, rank, True) * rules.block_tokens)
        else:
            load = float(k.in_flight)
        if load < least:
            best, least = int(rank), load
    if best >= 0:
        world.n[turn] = best + 1
    return best
