"""KV caches on their way from prefill to decode ranks: flows that share the ports of both and the fabric between them.

All flows' rates rise together until a port is full (progressive filling, as `sim.fairshare`); with many of them at once each
takes the smallest of its ports' equal shares, which is never more.
"""

from __future__ import annotations

from ....fabric.quick_numba import njit
from .heap import push
from .layout import FLOWS, MOVED, MOVED_BYTES, NET_AT, NET_EPOCH, World

_EXACT = 64  # flows up to which rates are filled exactly
_DONE = 0.5  # bytes that count as none


@njit(cache=True)
def start_flow(world: World, slot: int, bytes_: float, now: int) -> None:
    """``slot``'s cache begins to move."""
    _advance(world, now)
    r = world.reqs[slot]
    r.bytes_left, r.rate, r.flow = max(bytes_, 1.0), 0.0, world.n[FLOWS]
    world.flows[world.n[FLOWS]] = slot
    world.n[FLOWS] += 1
    world.n[MOVED_BYTES] += int(bytes_)
    _plan(world, now)


@njit(cache=True)
def stop_flow(world: World, slot: int, now: int) -> None:
    """``slot``'s cache moves no further."""
    _advance(world, now)
    _take_out(world, slot)
    _plan(world, now)


@njit(cache=True)
def ports_changed(world: World, now: int) -> None:
    """Some port's rate is another from ``now`` on."""
    _advance(world, now)
    _plan(world, now)


@njit(cache=True)
def arrived_flow(world: World, now: int) -> int:
    """One request whose cache has arrived by ``now``, its flow ended; -1 if there is none, and the next arrival is planned."""
    _advance(world, now)
    for i in range(world.n[FLOWS]):
        slot = int(world.flows[i])
        if world.reqs[slot].bytes_left <= _DONE:
            world.reqs[slot].bytes_left = 0.0
            _take_out(world, slot)
            return slot
    _plan(world, now)
    return -1


@njit(cache=True)
def _take_out(world: World, slot: int) -> None:
    r = world.reqs[slot]
    world.n[FLOWS] -= 1
    last = world.flows[world.n[FLOWS]]
    world.flows[r.flow] = last
    world.reqs[last].flow = r.flow
    r.flow = -1


@njit(cache=True)
def _advance(world: World, now: int) -> None:
    seconds = (now - world.n[NET_AT]) * 1e-12
    world.n[NET_AT] = now
    for i in range(world.n[FLOWS]):
        r = world.reqs[world.flows[i]]
        # Event times are whole picoseconds: what a flow may have left by their rounding counts as none.
        r.bytes_left = max(0.0, r.bytes_left - r.rate * seconds)
        if r.bytes_left <= r.rate * 2e-12:
            r.bytes_left = 0.0


@njit(cache=True)
def _plan(world: World, now: int) -> None:
    """New rates, and an event at the next arrival."""
    world.n[NET_EPOCH] += 1
    flows = world.n[FLOWS]
    if flows == 0:
        return
    _fill(world, flows)
    soonest = 1e30
    for i in range(flows):
        r = world.reqs[world.flows[i]]
        if r.bytes_left <= _DONE:
            soonest = 0.0
        elif r.rate > 0.0:
            soonest = min(soonest, r.bytes_left / r.rate)
    if soonest < 1e20:
        push(world, now + int(soonest * 1e12) + 1, MOVED, -1, world.n[NET_EPOCH])


@njit(cache=True)
def _fill(world: World, flows: int) -> None:
    port, load = world.port, world.port_load
    core = port.size - 1
    for i in range(flows):
        r = world.reqs[world.flows[i]]
        r.rate = -1.0
        for p in (int(r.rank), int(r.far), core):
            load[p, 0], load[p, 1] = port[p], 0.0
    for i in range(flows):
        r = world.reqs[world.flows[i]]
        for p in (int(r.rank), int(r.far), core):
            load[p, 1] += 1.0
    if flows > _EXACT:
        for i in range(flows):
            r = world.reqs[world.flows[i]]
            a, b = int(r.rank), int(r.far)
            r.rate = min(port[a] / load[a, 1], port[b] / load[b, 1], port[core] / load[core, 1])
        return
    left = flows
    while left > 0:
        share = 1e30
        for i in range(flows):
            r = world.reqs[world.flows[i]]
            if r.rate < 0.0:
                for p in (int(r.rank), int(r.far), core):
                    share = min(share, load[p, 0] / load[p, 1])
        fixed = 0
        for i in range(flows):
            r = world.reqs[world.flows[i]]
            if r.rate < 0.0:
                tight = False
                for p in (int(r.rank), int(r.far), core):
                    tight = tight or load[p, 0] / load[p, 1] <= share * (1.0 + 1e-9)
                if tight:
                    r.rate = share
                    fixed += 1
        # Ports lose what the flows just fixed take: recounted, so that no rounding builds up.
        for i in range(flows):
            r = world.reqs[world.flows[i]]
            for p in (int(r.rank), int(r.far), core):
                load[p, 0], load[p, 1] = port[p], 0.0
        for i in range(flows):
            r = world.reqs[world.flows[i]]
            for p in (int(r.rank), int(r.far), core):
                if r.rate < 0.0:
                    load[p, 1] += 1.0
                else:
                    load[p, 0] -= r.rate
        for i in range(flows):
            r = world.reqs[world.flows[i]]
            for p in (int(r.rank), int(r.far), core):
                load[p, 0] = max(load[p, 0], 0.0)
        left -= fixed
        if fixed == 0:
            break


__all__ = ["arrived_flow", "ports_changed", "start_flow", "stop_flow"]
