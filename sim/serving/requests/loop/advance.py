"""The compiled loop: arrivals and events in the order of their times, until something is needed from outside.

Simultaneous events: step ends, caches that have moved, arrivals, loads, pins that end, changes of workers, samples, scaling;
within a kind in the order they were planned. Workers that an event concerns start their next step after it.
"""

from __future__ import annotations

from typing import Any

from ....fabric.quick_numba import njit
from ..times.shelf import Shelf
from .blocks import forget
from .ending import count_flight, drop_pin, finish, lose, release_far, stage_over, try_again
from .heap import drop_first, push
from .layout import (
    AGGREGATED,
    ARRIVED,
    ARRIVES,
    AWAY,
    CHANGED,
    DECODES,
    DORMANT,
    DOWN,
    DRAIN,
    DRAINING,
    FREE,
    FREE_TOP,
    HEAP,
    IDS,
    IN_FLIGHT,
    LINK,
    LOAD_BEFORE,
    LOAD_TREND,
    LOADED,
    LOADING,
    LOSE_RANK,
    MOVED,
    MOVING,
    NET_EPOCH,
    NEXT_ARRIVAL,
    NOW,
    OFF,
    OUT,
    PEAK,
    PENDING,
    PINNED,
    PREFILL,
    PREFILLS,
    REBALANCE,
    REGAIN_RANK,
    REJECTED,
    RETABLE,
    S_AT,
    S_BUSY,
    S_DECODING,
    S_IN_FLIGHT,
    S_ON,
    S_PREFILLING,
    S_PROMPT,
    S_TOKENS,
    S_UNITS,
    S_UP,
    S_USED,
    S_WAITING,
    SAMPLES,
    SCALES,
    SEGMENT_FREE,
    SEGMENT_TOP,
    SERIES,
    STALL,
    START,
    STARTING,
    STARTS,
    STATE,
    STEP_ENDS,
    STOP,
    UNPINS,
    UP,
    WAITING,
    WOKEN,
    Rules,
    World,
)  # fmt: skip
from .lines import start_prompt, wait
from .room import join, units_of
from .router import choose, open_rank, wake
from .steps import begin_step, end_step, landed, taken_up_after
from .transfers import arrived_flow, ports_changed, stop_flow

#: Why the loop returned.
DONE, NEEDS_ARRIVALS, OUT_FULL, NEEDS_ROOM, TIME_UP = range(5)
_MARGIN = 4096  # records and events that one event may add at most
_NEVER = 1 << 62


@njit(cache=True)
def advance(world: World, rules: Rules, shelf: Shelf, arrivals: Any, names: Any, count: int, last: bool, until: int) -> int:
    """Play on. ``arrivals[:count]``: what comes next (from `World.n`'s NEXT_ARRIVAL on), ``last``: nothing comes after it;
    ``names``: of their prompts' blocks.
    """
    n = world.n
    while True:
        if n[OUT] > world.out.size - world.reqs.size - _MARGIN:
            return OUT_FULL
        if n[HEAP] > world.events.size - _MARGIN - world.reqs.size or n[FREE_TOP] < world.group.size:
            return NEEDS_ROOM
        if n[SEGMENT_TOP] > world.segments.shape[0] - 8 * world.group.size and n[SEGMENT_FREE] < 0:
            return NEEDS_ROOM
        planned = world.events[0].at if n[HEAP] > 0 else _NEVER
        coming = _NEVER
        if n[NEXT_ARRIVAL] < count:
            coming = arrivals[n[NEXT_ARRIVAL]].at
            if rules.closed > 0:
                coming = n[NOW] if n[IN_FLIGHT] < rules.closed else _NEVER
        elif not last and (rules.closed == 0 or n[IN_FLIGHT] < rules.closed):
            return NEEDS_ARRIVALS
        if coming == _NEVER and n[IN_FLIGHT] == 0 and last and n[NEXT_ARRIVAL] >= count and _waits_for_nothing(world):
            return DONE
        at = min(planned, coming)
        if at == _NEVER:
            return DONE
        if at > until:
            n[NOW] = until
            count_flight(world, until, 0)
            return TIME_UP
        n[NOW] = max(n[NOW], at)
        if coming < planned or (coming == planned and world.events[0].kind >= ARRIVES):
            _take_in(world, rules, arrivals, names, count)
        else:
            e = world.events[0]
            kind, a, b = e.kind, e.a, e.b
            drop_first(world)
            _happen(world, rules, kind, a, b, n[NOW])
        while n[WOKEN] > 0:
            n[WOKEN] -= 1
            worker = world.woken[n[WOKEN]]
            world.workers[worker].woken = 0
            begin_step(world, rules, shelf, worker, n[NOW])


@njit(cache=True)
def _waits_for_nothing(world: World) -> bool:
    """No turn of a conversation is still to come."""
    return bool(world.n[ARRIVED] == world.n[STARTS])


@njit(cache=True)
def _take_in(world: World, rules: Rules, arrivals: Any, names: Any, count: int) -> None:
    """The next arrival, with the later turns of its conversation, gets places; its first turn arrives."""
    n, first = world.n, world.n[NEXT_ARRIVAL]
    size = 1
    while first + size < count and arrivals[first + size].waits > 0 and size < world.group.size:
        size += 1
    for i in range(size):
        n[FREE_TOP] -= 1
        world.group[i] = world.free[n[FREE_TOP]]
    for i in range(size):
        a, slot = arrivals[first + i], world.group[i]
        r = world.reqs[slot]
        r.id, r.arrival, r.entered, r.input, r.output, r.cached = a.id, -1, n[NOW], a.input, max(a.output, 1), a.cached
        r.made = r.held = r.todo = r.piece = r.hit = r.loaded = r.units = r.entries = r.far_units = r.far_entries = 0
        r.state, r.worker, r.rank, r.far, r.home, r.priority = DORMANT, -1, -1, -1, -1, a.priority
        r.next = r.prev = r.due_next = r.due_prev = -1
        r.due = r.first = -1
        r.waited = r.prefilled = r.moved = r.lost = r.stall = 0
        r.tries = r.preempted = r.swapped = r.resumes = r.wasted = r.grow = 0
        r.session, r.turn, r.waits, r.gap, r.pin, r.tool = a.session, a.turn, a.waits, a.gap, -1, a.tool
        r.blocks, r.shared, r.group, r.segment, r.flow, r.append = a.blocks, a.shared, a.group, -1, -1, 0
        r.succ = r.sibling = r.began = -1
        if a.names >= 0:
            _keep_names(world, slot, names, a.names, a.blocks)
    for i in range(size):
        a, r = arrivals[first + i], world.reqs[world.group[i]]
        for j in range(a.after_n - 1, -1, -1):
            later = world.group[i + a.after + j]
            world.reqs[later].sibling = r.succ
            r.succ = later
    n[NEXT_ARRIVAL] = first + size
    n[STARTS] += size
    _arrive(world, rules, world.group[0], n[NOW])


@njit(cache=True)
def _keep_names(world: World, slot: int, names: Any, start: int, blocks: int) -> None:
    before = -1
    for i in range(0, blocks, IDS):
        segment = world.n[SEGMENT_FREE]
        if segment >= 0:
            world.n[SEGMENT_FREE] = world.segment_next[segment]
        else:
            segment = world.n[SEGMENT_TOP]
            world.n[SEGMENT_TOP] += 1
        world.segment_next[segment] = -1
        for j in range(min(IDS, blocks - i)):
            world.segments[segment, j] = names[start + i + j]
        if before < 0:
            world.reqs[slot].segment = segment
        else:
            world.segment_next[before] = segment
        before = segment


@njit(cache=True)
def _arrive(world: World, rules: Rules, slot: int, now: int) -> None:
    """A request reaches the router: first, or again after a failure."""
    r, n = world.reqs[slot], world.n
    if r.arrival < 0:
        r.arrival = r.entered = now
        r.began = now if r.began < 0 else r.began
        n[ARRIVED] += 1
        count_flight(world, now, 1)
        n[PEAK] = max(n[PEAK], n[IN_FLIGHT])
    r.state = AWAY
    if rules.poll > 0 and r.append == 0 and now % rules.poll != 0:
        r.append = 2  # seen at the next look only
        push(world, now + rules.poll - now % rules.poll, ARRIVES, slot, int(r.epoch))
        return
    seen = r.append == 3
    r.append = 0
    role = PREFILLS
    rank = -1
    if rules.append and r.turn > 0 and r.home >= 0 and open_rank(world, r.home, DECODES):
        rank, r.append = int(r.home), 1
    if rank < 0:
        if world.workers[0].role == AGGREGATED:
            role = AGGREGATED
        rank = choose(world, rules, slot, role, rules.router)
    if rank < 0:
        stage_over(world, slot, now)
        try_again(world, rules, slot, now)
        return
    k = world.ranks[rank]
    late = int(rules.first_steps * world.workers[k.worker].last_step)
    if late > 0 and not seen and role == AGGREGATED:
        r.append = 3  # the engine's own processes hand it on while so many steps pass
        push(world, now + late, ARRIVES, slot, int(r.epoch))
        return
    free = max(0, world.workers[k.worker].slots - k.decoding - k.prefilling - k.loading)
    full = rules.most_waiting >= 0 and k.waiting >= rules.most_waiting + free
    if full or units_of(rules, r.input + r.output + 1) > k.units:
        finish(world, rules, slot, now, REJECTED)
        return
    stage_over(world, slot, now)
    r.state, r.rank, r.worker = WAITING, rank, k.worker
    k.in_flight += 1
    k.tokens += r.input + r.output
    world.workers[k.worker].in_flight += 1
    wait(world, rank, slot, False)
    wake(world, k.worker)


@njit(cache=True)
def _happen(world: World, rules: Rules, kind: int, a: int, b: int, now: int) -> None:
    """One event."""
    if kind == STEP_ENDS:
        if world.workers[a].epoch == b and world.workers[a].stepping:
            end_step(world, rules, a, now)
    elif kind == MOVED:
        if a < 0:
            if b == world.n[NET_EPOCH]:
                slot = arrived_flow(world, now)
                while slot >= 0:
                    r = world.reqs[slot]
                    if r.state == MOVING:
                        push(world, now + taken_up_after(world, rules, slot), MOVED, slot, int(r.epoch))
                    slot = arrived_flow(world, now)
        elif world.reqs[a].epoch == b and world.reqs[a].state == MOVING:
            landed(world, rules, a, now)
    elif kind == ARRIVES:
        r = world.reqs[a]
        if r.epoch == b and (r.state == DORMANT or r.state == AWAY):
            _arrive(world, rules, a, now)
    elif kind == LOADED:
        _loaded(world, rules, a, b, now)
    elif kind == UNPINS:
        if world.reqs[a].epoch == b and world.reqs[a].state == PINNED:
            drop_pin(world, rules, a)
    elif kind == STATE:
        _change(world, rules, a, now)
    elif kind == SAMPLES:
        _sample(world, rules, now)
    else:
        _scale(world, rules, now)


@njit(cache=True)
def _loaded(world: World, rules: Rules, slot: int, epoch: int, now: int) -> None:
    r = world.reqs[slot]
    if r.epoch != epoch or r.state != LOADING:
        return
    stage_over(world, slot, now)
    world.ranks[r.rank].loading -= 1
    if r.todo == 0:
        r.resumes = 0
        join(world, rules, slot, r.rank, now)
    else:
        r.state = PREFILL
        start_prompt(world, r.rank, slot)
    wake(world, r.worker)


@njit(cache=True)
def _change(world: World, rules: Rules, number: int, now: int) -> None:
    """A planned change of a worker, a rank or a link; or (negative) a worker that autoscaling started is ready."""
    if number < 0:
        w = world.workers[-number - 1]
        if w.state == STARTING:
            w.state, w.up_since = UP, now
        wake(world, -number - 1)
        return
    c = world.changes[number]
    w = world.workers[c.worker]
    world.n[CHANGED] += 1
    if c.what == STOP:
        _stopped(world, rules, c.worker, now)
    elif c.what == START:
        if w.state == DOWN:
            w.down += now - w.down_since
            w.state = UP
        wake(world, c.worker)
    elif c.what == STALL:
        w.stalled = max(w.stalled, c.arg)
        if w.stepping:  # the step under way is lost; what it would have brought comes after the stall
            w.stepping = 0
            w.epoch += 1
        wake(world, c.worker)
    elif c.what == LOSE_RANK:
        rank = w.first + c.arg
        if world.ranks[rank].alive:
            if w.stepping:
                w.stepping = 0
                w.epoch += 1
            _lose_rank(world, rules, rank, now)
            world.ranks[rank].alive = 0
        wake(world, c.worker)
    elif c.what == REGAIN_RANK:
        world.ranks[w.first + c.arg].alive = 1
        wake(world, c.worker)
    elif c.what == RETABLE:
        w.table = c.arg
    elif c.what == LINK:
        if c.worker < 0:
            world.port[world.port.size - 1] = c.share
        else:
            for rank in range(w.first, w.first + w.ranks):
                if c.arg < 0 or rank == w.first + c.arg:
                    world.port[rank] = c.share
        ports_changed(world, now)
    elif c.what == DRAIN:
        w.state = DRAINING
    elif c.what == REBALANCE:
        w.balanced = now
        w.stalled = max(w.stalled, c.arg)


@njit(cache=True)
def _stopped(world: World, rules: Rules, worker: int, now: int) -> None:
    """The worker is gone, with the cache and the requests of all its ranks."""
    w = world.workers[worker]
    if w.state == DOWN:
        return
    w.state, w.down_since = DOWN, now
    w.stepping = 0
    w.epoch += 1
    for rank in range(w.first, w.first + w.ranks):
        _lose_rank(world, rules, rank, now)


@njit(cache=True)
def _lose_rank(world: World, rules: Rules, rank: int, now: int) -> None:
    k = world.ranks[rank]
    for slot in range(world.reqs.size):
        r = world.reqs[slot]
        if r.state == FREE or r.state == DORMANT or r.state == AWAY:
            continue
        if r.rank == rank:
            lose(world, rules, slot, now)
        elif r.far == rank:
            if r.state == MOVING or r.state == PENDING:
                lose(world, rules, slot, now)
            else:
                if r.flow >= 0:
                    stop_flow(world, slot, now)
                release_far(world, rules, slot)
    forget(world, rules, rank)
    k.p, k.pieces = 0, 0
    k.joined, k.join_sum = 0, 0.0


@njit(cache=True)
def _sample(world: World, rules: Rules, now: int) -> None:
    """One row of the time series for every role."""
    row = world.n[SERIES]
    if row < world.series.shape[0]:
        world.n[SERIES] += 1
        for role in range(3):
            world.series[row, role, S_AT] = now
        for i in range(world.workers.size):
            w = world.workers[i]
            s = world.series[row, w.role]
            for rank in range(w.first, w.first + w.ranks):
                k = world.ranks[rank]
                s[S_WAITING] += k.waiting
                s[S_PREFILLING] += k.prefilling + k.loading
                s[S_DECODING] += k.decoding
                s[S_USED] += k.units - k.free - k.evictable
                s[S_UNITS] += k.units if k.alive and (w.state == UP or w.state == DRAINING) else 0
                s[S_UP] += k.alive if w.state == UP or w.state == DRAINING else 0
            s[S_BUSY] += w.busy
            s[S_TOKENS] += w.tokens
            s[S_PROMPT] += w.prompt_tokens
            s[S_ON] += 1.0 if w.state != OFF else 0.0
        world.series[row, 0, S_IN_FLIGHT] = world.n[IN_FLIGHT]
    push(world, now + rules.sample, SAMPLES, 0, 0)


@njit(cache=True)
def _scale(world: World, rules: Rules, now: int) -> None:
    """Scaling of every pool: one worker more where requests wait, one fewer where slots stand empty. A predictive scaler also
    goes by the load that its trend, smoothed over the last looks, leads to until a worker started now is ready.
    """
    n = world.n
    for role in (AGGREGATED, PREFILLS, DECODES):
        waiting, seated, slots, up, spare, starting, emptiest = 0, 0, 0, 0, -1, 0, -1
        for i in range(world.workers.size):
            w = world.workers[i]
            if w.role != role:
                continue
            if w.state == OFF:
                spare = i if spare < 0 else spare
            elif w.state == STARTING:
                starting += 1
            elif w.state == DRAINING:
                if w.in_flight == 0:
                    w.state = OFF
                    w.on += now - w.up_since
            elif w.state == UP:
                up += 1
                for rank in range(w.first, w.first + w.ranks):
                    k = world.ranks[rank]
                    waiting += k.waiting + k.pending
                    seated += k.decoding + k.prefilling + k.loading
                    slots += w.slots
                if emptiest < 0 or w.in_flight < world.workers[emptiest].in_flight:
                    emptiest = i
        if up + starting == 0:
            continue
        load, foreseen, short = float(waiting + seated), float(waiting + seated), False
        if rules.scale_ahead > 0:
            risen = 1000.0 * load - n[LOAD_BEFORE + role]
            trend = 0.5 * (risen + n[LOAD_TREND + role]) if now > rules.scale_every else 0.0
            n[LOAD_BEFORE + role], n[LOAD_TREND + role] = int(1000.0 * load), int(trend)
            foreseen = max(0.0, load + trend * 1e-3 * rules.scale_ahead / rules.scale_every)
            short = foreseen > rules.scale_full * slots * (up + starting) / max(up, 1)
        react = waiting > rules.scale_up * up and starting == 0
        if (react or short) and spare >= 0:
            world.workers[spare].state = STARTING
            world.workers[spare].up_since = now
            push(world, now + rules.start_up, STATE, -spare - 1, 0)
        elif (
            waiting == 0
            and up > rules.scale_least
            and max(float(seated), foreseen) < rules.scale_down * slots
            and starting == 0
        ):
            world.workers[emptiest].state = DRAINING
    push(world, now + rules.scale_every, SCALES, 0, 0)
