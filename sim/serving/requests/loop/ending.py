"""How a request ends, in whatever state it is, and who comes after it."""

from __future__ import annotations

from ....fabric.quick_numba import njit
from .blocks import find, let_go, name_of, next_segment
from .heap import push
from .layout import (
    AREA,
    AREA_AT,
    ARRIVES,
    AWAY,
    DECODE,
    DECODES,
    DELIVERED,
    ENDED,
    FAILED,
    FREE,
    FREE_TOP,
    IN_FLIGHT,
    LOADING,
    LOST_KV,
    MOVING,
    OUT,
    PENDING,
    PINNED,
    PREFILL,
    PREFILLS,
    RECOMPUTED,
    SEGMENT_FREE,
    SERVED,
    UNPINS,
    WAITING,
    Rules,
    World,
)  # fmt: skip
from .lines import end_prompt, leave_line
from .room import give_up, name_blocks, stop, unpin
from .router import wake
from .transfers import stop_flow


@njit(cache=True)
def count_flight(world: World, now: int, change: int) -> None:
    """One request more or fewer in flight."""
    world.n[AREA] += world.n[IN_FLIGHT] * ((now - world.n[AREA_AT]) // 1_000_000)
    world.n[AREA_AT] += (now - world.n[AREA_AT]) // 1_000_000 * 1_000_000
    world.n[IN_FLIGHT] += change


@njit(cache=True)
def free_slot(world: World, slot: int) -> None:
    """The place is empty."""
    r = world.reqs[slot]
    segment = int(r.segment)
    while segment >= 0:
        after = int(world.segment_next[segment])
        world.segment_next[segment] = world.n[SEGMENT_FREE]
        world.n[SEGMENT_FREE] = segment
        segment = after
    r.state, r.segment = FREE, -1
    r.epoch += 1
    world.free[world.n[FREE_TOP]] = slot
    world.n[FREE_TOP] += 1


@njit(cache=True)
def stage_over(world: World, slot: int, now: int) -> None:
    """The time since the request's stage began goes to its account."""
    r = world.reqs[slot]
    spent = now - r.entered
    if r.resumes:
        r.lost += spent
    elif r.state == WAITING or r.state == AWAY:
        r.waited += spent
    elif r.state == PREFILL:
        r.prefilled += spent
    elif r.state == MOVING or r.state == PENDING or r.state == LOADING:
        r.moved += spent
    r.entered = now


@njit(cache=True)
def leave_rank(world: World, slot: int) -> None:
    """The rank counts one request fewer, and its worker looks again: something may fit now."""
    r = world.reqs[slot]
    k = world.ranks[r.rank]
    w = world.workers[k.worker]
    k.in_flight -= 1
    k.tokens -= r.input + r.output
    w.in_flight -= 1
    wake(world, k.worker)


@njit(cache=True)
def finish(world: World, rules: Rules, slot: int, now: int, status: int) -> None:
    """Write down how the request ended; it holds nothing any more but, if served, its cache on its rank."""
    r, n = world.reqs[slot], world.n
    pinned = False
    home = -1
    if status == SERVED:
        home = int(r.rank)
        if rules.keeps and r.session >= 0 and not (r.tool and rules.tool_policy == 1):
            name_blocks(world, rules, slot, home, r.held)
        pinned = rules.tool_policy == 2 and r.tool != 0 and r.succ >= 0
        if pinned:
            give_up(world, rules, slot, home, r.units, 0)
        elif rules.tool_policy == 1 and r.tool != 0:
            _drop_blocks(world, rules, slot, home)
        else:
            give_up(world, rules, slot, home, r.units, r.entries)
        r.units = 0
        leave_rank(world, slot)
        if rules.early and world.workers[world.ranks[home].worker].role == DECODES:
            for w in range(world.workers.size):
                if world.workers[w].role == PREFILLS:
                    wake(world, w)
        n[DELIVERED] += r.made
    o = world.out[n[OUT]]
    n[OUT] += 1
    n[ENDED] += 1
    o.id, o.arrival, o.first, o.end = r.id, r.arrival, r.first, now + (rules.first_token if status == SERVED else 0)
    o.input, o.output, o.made, o.hit, o.loaded = r.input, r.output, r.made, r.hit, r.loaded
    o.waited, o.prefilled, o.moved, o.lost, o.stall = r.waited, r.prefilled, r.moved, r.lost, r.stall
    o.tries, o.preempted, o.wasted, o.status = r.tries, r.preempted, r.wasted, status
    o.worker, o.rank, o.home, o.session, o.turn, o.priority = r.worker, r.rank, r.home, r.session, r.turn, r.priority
    o.began, o.final = r.began, r.succ < 0
    count_flight(world, now, -1)
    after = int(r.succ)
    while after >= 0:
        s = world.reqs[after]
        s.waits -= 1
        s.home, s.began = home, r.began
        if s.waits == 0:
            push(world, now + s.gap, ARRIVES, after, int(s.epoch))
        after = int(s.sibling)
    if pinned:
        r.state = PINNED
        k = world.ranks[home]
        r.prev, r.next = -1, k.pin_head
        if k.pin_head >= 0:
            world.reqs[k.pin_head].prev = slot
        k.pin_head = slot
        world.reqs[r.succ].pin = slot
        push(world, now + rules.ttl, UNPINS, slot, int(r.epoch))
    else:
        free_slot(world, slot)


@njit(cache=True)
def _drop_blocks(world: World, rules: Rules, slot: int, rank: int) -> None:
    """The request's cache is gone at once: blocks nobody else uses become the oldest and are evicted first."""
    r = world.reqs[slot]
    world.ranks[rank].free += r.units
    segment = int(r.segment)
    for i in range(int(r.entries)):
        segment = next_segment(world, segment, i)
        at = find(world, rank, name_of(world, slot, i, segment))
        let_go(world, rules, at)
        e = world.entries[at]
        h = world.holders[rank]
        if e.refs == 0 and h.newest == at and h.oldest != at:  # from the newest end to the oldest
            h.newest = e.older
            world.entries[e.older].newer = -1
            e.older, e.newer = -1, h.oldest
            world.entries[h.oldest].older = at
            h.oldest = at
    r.entries = 0


@njit(cache=True)
def go_far(world: World, slot: int, far: int) -> None:
    """The request will decode on rank ``far``, which counts it from now on."""
    r, k = world.reqs[slot], world.ranks[far]
    r.far = far
    k.in_flight += 1
    k.tokens += r.input + r.output
    world.workers[k.worker].in_flight += 1


@njit(cache=True)
def release_far(world: World, rules: Rules, slot: int) -> None:
    """The request will not decode on the rank chosen for it: what was reserved there is given back."""
    r = world.reqs[slot]
    if r.far < 0:
        return
    k = world.ranks[r.far]
    if r.far_units + r.far_entries > 0:
        give_up(world, rules, slot, r.far, r.far_units, r.far_entries)
        k.coming -= 1
    k.in_flight -= 1
    k.tokens -= r.input + r.output
    world.workers[k.worker].in_flight -= 1
    wake(world, k.worker)
    r.far, r.far_units, r.far_entries = -1, 0, 0


@njit(cache=True)
def drop_pin(world: World, rules: Rules, slot: int) -> None:
    """A turn that ended keeps its cache no longer."""
    r = world.reqs[slot]
    unpin(world, rules, slot)
    if r.succ >= 0 and world.reqs[r.succ].pin == slot:
        world.reqs[r.succ].pin = -1
    free_slot(world, slot)


@njit(cache=True)
def leave_pending(world: World, slot: int) -> None:
    """The request no longer waits for room on a decode rank."""
    r = world.reqs[slot]
    k = world.ranks[r.far]
    if r.prev >= 0:
        world.reqs[r.prev].next = r.next
    else:
        k.pend_head = r.next
    if r.next >= 0:
        world.reqs[r.next].prev = r.prev
    else:
        k.pend_tail = r.prev
    r.next = r.prev = -1
    k.pending -= 1


@njit(cache=True)
def lose(world: World, rules: Rules, slot: int, now: int) -> None:
    """What serves the request failed: it lets go of everything, and is tried again or given up."""
    r = world.reqs[slot]
    rank = int(r.rank)
    stage_over(world, slot, now)
    if r.state == PINNED:
        drop_pin(world, rules, slot)
        return
    if r.flow >= 0:
        stop_flow(world, slot, now)
    if r.state == WAITING:
        leave_line(world, rank, slot)
    elif r.state == LOADING:
        world.ranks[rank].loading -= 1
    elif r.state == PREFILL:
        end_prompt(world, rank, slot)
    elif r.state == PENDING:
        leave_pending(world, slot)
    elif r.state == DECODE:
        stop(world, rules, slot, rank)
    if r.state != WAITING:
        world.n[LOST_KV] += r.held
        give_up(world, rules, slot, rank, r.units, r.entries)
    release_far(world, rules, slot)
    r.units = r.entries = 0
    r.swapped = r.held = r.todo = r.piece = 0
    leave_rank(world, slot)
    try_again(world, rules, slot, now)


@njit(cache=True)
def try_again(world: World, rules: Rules, slot: int, now: int) -> None:
    """The request goes back to the router after a pause, or fails if it was tried often enough."""
    r = world.reqs[slot]
    r.tries += 1
    if not rules.resume:
        r.wasted += r.made
        r.made = 0
    world.n[RECOMPUTED] += 1
    if r.tries > rules.retries:
        r.state = AWAY
        finish(world, rules, slot, now, FAILED)
        return
    r.state, r.entered, r.resumes = AWAY, now, 1
    r.epoch += 1
    push(world, now + rules.backoff, ARRIVES, slot, int(r.epoch))
