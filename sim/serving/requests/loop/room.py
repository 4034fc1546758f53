"""KV cache of a rank: letting requests in, growing them, giving them up.

A request's cache is named blocks at its front, shared with whoever has the same prefix, and units of its own behind them.
"""

from __future__ import annotations

from ....fabric.quick_numba import njit
from .blocks import evict, find, hold, insert, let_go, name_of, next_segment
from .draws import accepted
from .heap import push
from .layout import (
    DECODE,
    HITS,
    LOADED,
    LOADING,
    LOOKED,
    PREEMPTED,
    PREFILL,
    WAITING,
    Rules,
    World,
)  # fmt: skip
from .lines import clear_due, set_due, start_decoding, stop_decoding, wait


@njit(cache=True)
def units_of(rules: Rules, tokens: int) -> int:
    """Units that ``tokens`` fill."""
    return (tokens + rules.unit_tokens - 1) // rules.unit_tokens


@njit(cache=True)
def mean_accepted(rules: Rules) -> float:
    """Tokens of a step on average."""
    total = 1.0
    for place in range(rules.drafts):
        total += rules.chances[place]
    return total


@njit(cache=True)
def take_units(world: World, rules: Rules, rank: int, units: int, kept: int) -> bool:
    """``units`` of the rank, evicting unused blocks for them; False, and nothing done, if ``kept`` would not stay free."""
    k = world.ranks[rank]
    if k.free + k.evictable - kept < units:
        return False
    while k.free < units:
        evict(world, rules, rank)
    k.free -= units
    return True


@njit(cache=True)
def wanted_tokens(rules: Rules, input_: int, made: int, output: int) -> int:
    """Tokens that must have room before a request is let in."""
    return input_ + made + 1 + int(rules.admission * max(output - made - 1, 0))


@njit(cache=True)
def reserve(world: World, rules: Rules, slot: int, rank: int, far: bool, kept: int) -> bool:
    """Room for the request on ``rank``, its known blocks held. ``far``: on the decode rank, for a cache that will come."""
    r = world.reqs[slot]
    per, entries, walked = rules.block_tokens // rules.unit_tokens, 0, world.walked
    if rules.prefix and world.ranks[rank].caches and (r.segment >= 0 or r.blocks > 0):
        most = min(int(r.blocks) if r.made == 0 or not rules.keeps else 1 << 30, (r.input + r.made - 1) // rules.block_tokens)
        segment = int(r.segment)
        while entries < most:
            segment = next_segment(world, segment, entries)
            at = find(world, rank, name_of(world, slot, entries, segment))
            if at < 0:
                break
            hold(world, rules, at)
            walked[entries] = at
            entries += 1
    units = max(0, units_of(rules, wanted_tokens(rules, r.input, r.made, r.output)) - entries * per)
    if not take_units(world, rules, rank, units, kept):
        for i in range(entries - 1, -1, -1):
            let_go(world, rules, walked[i])
        return False
    if far:
        r.far_units, r.far_entries = units, entries
        world.ranks[rank].coming += 1
    else:
        r.units, r.entries = units, entries
    return True


@njit(cache=True)
def let_in(world: World, rules: Rules, slot: int, rank: int, now: int) -> bool:
    """The request starts on ``rank`` with what is cached of its prompt; False if there is no room. It may first wait for
    blocks from a tier below, or for its own cache that was moved to the host."""
    r, k, w = world.reqs[slot], world.ranks[rank], world.workers[world.ranks[rank].worker]
    idle = k.decoding + k.prefilling + k.loading == 0
    if not reserve(world, rules, slot, rank, False, 0 if idle else int(rules.watermark * k.units)):
        return False
    target = r.input + r.made
    if r.swapped > 0:
        came = max(now, int(w.link_free)) + int(r.swapped * rules.token_bytes / rules.host_rate * 1e12)
        w.link_free = came
        r.held, r.todo, r.swapped = r.swapped, 0, 0
        r.state = LOADING
        k.loading += 1
        push(world, came, LOADED, slot, int(r.epoch))
        return True
    hit, tokens = r.entries, rules.block_tokens
    world.n[LOOKED] += r.input
    came, below = now, hit
    if rules.prefix and k.caches and r.segment + r.blocks > -1:
        segment, most = int(r.segment), min(int(r.blocks), (target - 1) // tokens)
        for i in range(most):
            segment = next_segment(world, segment, i)
            if i < hit:
                continue
            name, holder = name_of(world, slot, i, segment), int(world.holders[rank].below)
            while holder >= 0 and find(world, holder, name) < 0:
                holder = int(world.holders[holder].below)
            if holder < 0:
                break
            lane = world.holders[world.holders[holder].link]
            start = max(now + int(world.holders[holder].latency * 1e12) if below == hit else 0, int(lane.link_free), now)
            lane.link_free = start + int(tokens * rules.token_bytes / world.holders[holder].rate * 1e12)
            came = max(came, int(lane.link_free))
            below += 1
    given = min(int(r.cached), target - 1)
    r.hit = max(hit * tokens, given)
    r.loaded = (below - hit) * tokens
    world.n[HITS] += min(r.hit + r.loaded, int(r.input))
    r.held = min(max(below * tokens, given), target - 1)
    r.todo = target - r.held
    if came > now:
        r.state = LOADING
        k.loading += 1
        push(world, came, LOADED, slot, int(r.epoch))
    else:
        r.state = PREFILL
    return True


@njit(cache=True)
def name_blocks(world: World, rules: Rules, slot: int, rank: int, tokens: int) -> None:
    """The request's own units up to ``tokens`` become named blocks; what another has named is shared."""
    r, k = world.reqs[slot], world.ranks[rank]
    if not (rules.prefix and k.caches) or (r.segment < 0 and r.blocks <= 0):
        return
    per = rules.block_tokens // rules.unit_tokens
    most = tokens // rules.block_tokens
    if r.segment >= 0 or not rules.keeps:
        most = min(most, int(r.blocks))
    segment = int(r.segment)
    for i in range(most):
        segment = next_segment(world, segment, i)
        if i < r.entries:
            continue
        if r.units < per:
            return
        name = name_of(world, slot, i, segment)
        at = find(world, rank, name)
        if at >= 0:
            hold(world, rules, at)
            k.free += per
        else:
            insert(world, rank, name, 1)
        r.units -= per
        r.entries += 1


@njit(cache=True)
def give_up(world: World, rules: Rules, slot: int, rank: int, units: int, entries: int) -> None:
    """The rank's units and blocks of the request, from its end to its front."""
    r = world.reqs[slot]
    world.ranks[rank].free += units
    segment = int(r.segment)
    for i in range(entries):
        segment = next_segment(world, segment, i)
        world.walked[i] = find(world, rank, name_of(world, slot, i, segment))
    for i in range(entries - 1, -1, -1):
        let_go(world, rules, world.walked[i])


@njit(cache=True)
def plan_due(world: World, rules: Rules, slot: int, rank: int) -> None:
    """When the decoding request is looked at next: where its last unit is full, or where it has all its tokens."""
    r, k = world.reqs[slot], world.ranks[rank]
    need = min(rules.unit_tokens - (r.held % rules.unit_tokens), r.output - r.made)
    steps, tokens = need, need
    if rules.drafts > 0:
        steps, tokens = 0, 0
        while tokens < need:
            tokens += accepted(rules.drafts, rules.chances, rules.seed, r.id, r.made * 64 + steps)
            steps += 1
        tokens = min(tokens, r.output - r.made)
    r.since, r.grow = k.number, tokens
    set_due(world, rank, slot, k.number + steps)


@njit(cache=True)
def join(world: World, rules: Rules, slot: int, rank: int, now: int) -> None:
    """The request decodes on ``rank`` from its worker's next step on."""
    r, k = world.reqs[slot], world.ranks[rank]
    r.state, r.entered = DECODE, now
    start_decoding(world, rank, slot)
    k.joined += 1
    k.join_sum += float(now)
    plan_due(world, rules, slot, rank)


@njit(cache=True)
def stop(world: World, rules: Rules, slot: int, rank: int) -> None:
    """A decoding request stops between its looks: it has what its steps since brought on average."""
    r, k = world.reqs[slot], world.ranks[rank]
    mean = mean_accepted(rules)
    counted = (k.number - r.since) * mean
    tokens = min(int(counted + 0.5), r.grow - 1)
    clear_due(world, rank, slot)
    stop_decoding(world, rank, slot, counted)
    r.made += tokens
    r.held += tokens


@njit(cache=True)
def preempt(world: World, rules: Rules, rank: int, now: int) -> None:
    """The sequence that began last gives up its cache and waits in front, to be computed again or brought back."""
    k = world.ranks[rank]
    slot, lowest = int(k.run_tail), int(k.run_tail)
    while slot >= 0:  # of the least urgent ones, the last
        if world.reqs[slot].priority > world.reqs[lowest].priority:
            lowest = slot
        slot = int(world.reqs[slot].prev)
    r = world.reqs[lowest]
    stop(world, rules, lowest, rank)
    give_up(world, rules, lowest, rank, r.units, r.entries)
    r.units = r.entries = 0
    r.swapped = r.held if rules.swap else 0
    r.preempted += 1
    r.resumes = 1
    r.state, r.entered = WAITING, now
    world.n[PREEMPTED] += 1
    wait(world, rank, lowest, True)


@njit(cache=True)
def unpin(world: World, rules: Rules, slot: int) -> None:
    """The cache of a turn that ended may be evicted from now on."""
    r = world.reqs[slot]
    rank, k = int(r.rank), world.ranks[r.rank]
    if r.prev >= 0:
        world.reqs[r.prev].next = r.next
    else:
        k.pin_head = r.next
    if r.next >= 0:
        world.reqs[r.next].prev = r.prev
    give_up(world, rules, slot, rank, r.units, r.entries)
    r.units = r.entries = 0
