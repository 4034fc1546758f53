"""Named blocks of KV cache: who holds which, how often it is used, and which goes first.

A block's name stands for all tokens up to its end, so that equal names are equal prefixes. Holders are ranks (HBM) and tiers
below them (a host's memory, a pool that workers share). Each keeps its unused blocks in the order they were last used and gives
up the oldest; a conversation's blocks are released from its end, so that prefixes stay longest (as vLLM frees them). What a
holder gives up goes to the holder below it.
"""

from __future__ import annotations

from ....fabric.quick_numba import njit
from .draws import mixed
from .layout import ENTRY_FREE, ENTRY_TOP, EVICTED, IDS, SPILLED, Rules, World


@njit(cache=True)
def name_of(world: World, slot: int, i: int, segment: int) -> int:
    """Name of block ``i`` of a request: the trace's (``segment``), its conversation's, or that of a prefix many share."""
    if segment >= 0:
        return int(world.segments[segment, i % IDS])
    r = world.reqs[slot]
    if i < r.shared:
        return mixed(-(r.group + 2) * 1_000_003 + i)
    return mixed((r.session + 1) * 1_048_583 + i)


@njit(cache=True)
def next_segment(world: World, segment: int, i: int) -> int:
    """The segment that holds block ``i``, coming from block ``i - 1``'s."""
    if segment >= 0 and i > 0 and i % IDS == 0:
        return int(world.segment_next[segment])
    return segment


@njit(cache=True)
def _bucket(world: World, holder: int, name: int) -> int:
    return mixed(name ^ (holder * 7_919)) & (world.buckets.size - 1)


@njit(cache=True)
def find(world: World, holder: int, name: int) -> int:
    """The entry of a block in a holder; -1 if it is not there."""
    at = int(world.buckets[_bucket(world, holder, name)])
    while at >= 0:
        e = world.entries[at]
        if e.name == name and e.holder == holder:
            return at
        at = int(e.chain)
    return -1


@njit(cache=True)
def _unlink(world: World, at: int) -> None:
    e = world.entries[at]
    h = world.holders[e.holder]
    if e.newer >= 0:
        world.entries[e.newer].older = e.older
    else:
        h.newest = e.older
    if e.older >= 0:
        world.entries[e.older].newer = e.newer
    else:
        h.oldest = e.newer


@njit(cache=True)
def _link_newest(world: World, at: int) -> None:
    e = world.entries[at]
    h = world.holders[e.holder]
    e.newer, e.older = -1, h.newest
    if h.newest >= 0:
        world.entries[h.newest].newer = at
    else:
        h.oldest = at
    h.newest = at


@njit(cache=True)
def insert(world: World, holder: int, name: int, refs: int) -> int:
    """A new entry, in use ``refs`` times. Its room is the caller's to count."""
    at = world.n[ENTRY_FREE]
    if at >= 0:
        world.n[ENTRY_FREE] = world.entries[at].chain
    else:
        at = world.n[ENTRY_TOP]
        world.n[ENTRY_TOP] += 1
    e, b = world.entries[at], _bucket(world, holder, name)
    e.name, e.holder, e.refs, e.chain = name, holder, refs, world.buckets[b]
    world.buckets[b] = at
    world.holders[holder].blocks += 1
    if refs == 0:
        _link_newest(world, at)
    return int(at)


@njit(cache=True)
def _remove(world: World, at: int) -> None:
    """Take an unused entry out."""
    e = world.entries[at]
    _unlink(world, at)
    b = _bucket(world, e.holder, e.name)
    if world.buckets[b] == at:
        world.buckets[b] = e.chain
    else:
        before = int(world.buckets[b])
        while world.entries[before].chain != at:
            before = int(world.entries[before].chain)
        world.entries[before].chain = e.chain
    world.holders[e.holder].blocks -= 1
    e.holder = -1
    e.chain = world.n[ENTRY_FREE]
    world.n[ENTRY_FREE] = at


@njit(cache=True)
def hold(world: World, rules: Rules, at: int) -> None:
    """One more request uses the entry of a rank."""
    e = world.entries[at]
    if e.refs == 0:
        _unlink(world, at)
        world.ranks[e.holder].evictable -= rules.block_tokens // rules.unit_tokens
    e.refs += 1


@njit(cache=True)
def let_go(world: World, rules: Rules, at: int) -> None:
    """One request fewer uses it."""
    e = world.entries[at]
    e.refs -= 1
    if e.refs == 0:
        _link_newest(world, at)
        world.ranks[e.holder].evictable += rules.block_tokens // rules.unit_tokens


@njit(cache=True)
def spill(world: World, holder: int, name: int, bytes_: float) -> None:
    """A block comes down to ``holder``, and pushes the oldest there one further down, and so on."""
    while holder >= 0:
        h = world.holders[holder]
        at = find(world, holder, name)
        if at >= 0:
            _unlink(world, at)
            _link_newest(world, at)
            return
        world.n[SPILLED] += 1
        h.moved += bytes_
        if h.room > 0:
            h.room -= 1
            insert(world, holder, name, 0)
            return
        if h.oldest < 0:
            return
        pushed = int(world.entries[h.oldest].name)
        _remove(world, h.oldest)
        insert(world, holder, name, 0)
        holder, name = int(h.below), pushed


@njit(cache=True)
def evict(world: World, rules: Rules, rank: int) -> None:
    """A rank gives up its oldest unused block."""
    h, k = world.holders[rank], world.ranks[rank]
    at = int(h.oldest)
    name, units = int(world.entries[at].name), rules.block_tokens // rules.unit_tokens
    _remove(world, at)
    k.free += units
    k.evictable -= units
    world.n[EVICTED] += 1
    if h.below >= 0:
        spill(world, int(h.below), name, rules.token_bytes * rules.block_tokens)


@njit(cache=True)
def forget(world: World, rules: Rules, rank: int) -> None:
    """A rank's memory is lost: every unused block with it. Its requests have let go of theirs before."""
    h, k = world.holders[rank], world.ranks[rank]
    units = rules.block_tokens // rules.unit_tokens
    while h.oldest >= 0:
        _remove(world, int(h.oldest))
        k.free += units
        k.evictable -= units


@njit(cache=True)
def known(world: World, rules: Rules, slot: int, rank: int, below: bool) -> int:
    """Leading blocks of a request's prompt that ``rank`` holds, or, with ``below``, that it or a tier below it holds."""
    r = world.reqs[slot]
    most = int(min(r.blocks, (r.input + r.made - 1) // rules.block_tokens))
    segment = int(r.segment)
    for i in range(most):
        segment = next_segment(world, segment, i)
        name = name_of(world, slot, i, segment)
        holder = rank
        while holder >= 0 and find(world, holder, name) < 0:
            holder = int(world.holders[holder].below) if below else -1
        if holder < 0:
            return i
    return most
