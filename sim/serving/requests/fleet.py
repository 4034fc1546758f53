"""Workers as the loop sees them: how many ranks, how much cache, which step table; and the empty world they begin in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .loop import layout as at
from .loop.layout import Rules, World
from .times.step_table import VALUES

#: Bins of intervals between tokens: 0.1 us to beyond a day, 0.2 % each.
_ITL_BINS = 16_384
_OUT = 1 << 15
_SERIES = 4_096


@dataclass(frozen=True, slots=True)
class Tier:
    """A memory below HBM that keeps evicted blocks: ``tokens`` of cache it holds, read at ``bytes_per_s`` after ``latency_s``.

    ``shared``: one for all workers, its link shared by them; else every worker has its own.
    """

    tokens: float
    bytes_per_s: float
    latency_s: float = 0.0
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Kind:
    """``count`` alike workers. ``units``: of KV cache on each of their ``ranks`` attention groups; ``slots``: sequences of
    one group at once; ``budget``: prompt tokens of one group's step, or with ``mixes`` tokens of all kinds; ``table`` and
    ``skewed``: step tables by their places on the shelf, the second with the experts' load as uneven as it gets (-1: never).
    ``port_bytes_per_s``: into or out of one group. ``spare``: of ``count``, off until they are needed.
    """

    role: int
    count: int
    ranks: int
    units: int
    slots: int
    budget: int
    mixes: bool
    table: int
    gpus: int
    pp: int = 1
    skewed: int = -1
    port_bytes_per_s: float = 1e12
    caches: bool = True
    spare: int = 0


def new_world(
    kinds: Sequence[Kind],
    rules: Rules,
    changes: Any,
    tiers: Sequence[Tier] = (),
    core_bytes_per_s: float = 1e18,
    spans: int = 0,
) -> World:
    """Nobody in it yet, ``changes`` (layout.CHANGE) planned."""
    n = np.zeros(at.COUNTERS, np.int64)
    count = sum(kind.count for kind in kinds)
    total = sum(kind.count * kind.ranks for kind in kinds)
    workers, ranks = np.zeros(count, at.WORKER), np.zeros(total, at.RANK)
    port = np.full(total + 1, core_bytes_per_s)
    i = g = 0
    for kind in kinds:
        for which in range(kind.count):
            w = workers[i]
            w["role"], w["first"], w["ranks"], w["table"], w["skewed"] = kind.role, g, kind.ranks, kind.table, kind.skewed
            w["pp"], w["slots"], w["budget"], w["mixes"], w["gpus"] = kind.pp, kind.slots, kind.budget, kind.mixes, kind.gpus
            w["state"] = at.OFF if which >= kind.count - kind.spare else at.UP
            ranks["worker"][g : g + kind.ranks] = i
            ranks["units"][g : g + kind.ranks] = ranks["free"][g : g + kind.ranks] = kind.units
            ranks["caches"][g : g + kind.ranks] = kind.caches
            port[g : g + kind.ranks] = kind.port_bytes_per_s
            i, g = i + 1, g + kind.ranks
    ranks["alive"] = 1
    for name in ("pre_head", "pre_tail", "run_head", "run_tail", "pin_head", "pend_head", "pend_tail"):
        ranks[name] = -1
    n[at.ENTRY_FREE] = n[at.SEGMENT_FREE] = -1
    slots = 1 << int(np.ceil(np.log2(max(1024, 2 * total + 512))))
    reqs = np.zeros(slots, at.REQUEST)
    reqs["state"] = at.FREE
    reqs["segment"] = reqs["flow"] = -1
    n[at.FREE_TOP] = slots
    group = 512
    per = max(1, rules.block_tokens // rules.unit_tokens)
    holders, blocks = _holders(kinds, tiers, rules, total)
    entries = int(ranks["units"].sum() // per + blocks + 64) if rules.prefix else 1
    buckets = 1 << int(np.clip(np.ceil(np.log2(max(2, entries))), 4, 24))
    ring = 1 << int(np.ceil(np.log2(rules.unit_tokens + 2)))
    most_blocks = int(ranks["units"].max() // per + 2)
    events = np.zeros(2 * slots + len(changes) + count + 16_384, at.EVENT)
    world = World(
        reqs, np.arange(slots, dtype=np.int64)[::-1].copy(), n, workers, ranks,
        np.full((total, at.PRIORITIES, 2), -1, np.int64), np.full((total, ring), -1, np.int64), events,
        np.zeros(_OUT + 2 * slots, at.FINISHED), np.zeros(_ITL_BINS, np.int64), np.zeros(entries, at.ENTRY),
        np.full(buckets, -1, np.int64), holders, np.zeros((4096 + 8 * group, at.IDS), np.int64),
        np.full(4096 + 8 * group, -1, np.int64), np.zeros(slots, np.int64), port, np.zeros((total + 1, 2)),
        np.zeros(count, np.int64), np.zeros((_SERIES if rules.sample else 1, 3, at.SERIES_COLUMNS)),
        np.zeros(max(1, spans), at.SPAN), changes, np.zeros((3, VALUES)), np.zeros(group, np.int64),
        np.zeros(max(most_blocks, 16), np.int64), np.zeros(max(kind.slots for kind in kinds) + 16, np.int64),
    )  # fmt: skip
    return world


def _holders(kinds: Sequence[Kind], tiers: Sequence[Tier], rules: Rules, total: int) -> tuple[Any, int]:
    """Ranks, then every tier of every worker or the one that all share; and how many blocks the tiers hold."""
    workers = [kind for kind in kinds for _ in range(kind.count)]
    own = [tier for tier in tiers if not tier.shared]
    common = [tier for tier in tiers if tier.shared]
    holders = np.zeros(total + len(workers) * len(own) + len(common), at.HOLDER)
    holders["below"] = holders["newest"] = holders["oldest"] = -1
    holders["link"] = np.arange(len(holders))
    blocks = 0

    def fill(place: int, tier: Tier, below: int) -> None:
        nonlocal blocks
        h = holders[place]
        h["room"], h["rate"], h["latency"], h["below"] = (
            tier.tokens // rules.block_tokens,
            tier.bytes_per_s,
            tier.latency_s,
            below,
        )
        blocks += int(h["room"])

    shared_at = total + len(workers) * len(own)
    for j, tier in enumerate(common):
        fill(shared_at + j, tier, shared_at + j + 1 if j + 1 < len(common) else -1)
    top = shared_at if common else -1
    g = 0
    for i, kind in enumerate(workers):
        for j, tier in enumerate(own):
            fill(total + i * len(own) + j, tier, total + i * len(own) + j + 1 if j + 1 < len(own) else top)
        below = total + i * len(own) if own else top
        holders["below"][g : g + kind.ranks] = below if kind.caches else -1
        g += kind.ranks
    return holders, blocks


def grown(world: World) -> World:
    """``world`` with twice the room for requests, events and names of blocks."""
    size = world.reqs.size
    more = np.zeros(size, at.REQUEST)
    more["state"] = at.FREE
    more["segment"] = more["flow"] = -1
    free = np.zeros(2 * size, np.int64)
    top = int(world.n[at.FREE_TOP])
    free[:top] = world.free[:top]
    free[top : top + size] = np.arange(2 * size - 1, size - 1, -1, dtype=np.int64)
    world.n[at.FREE_TOP] += size
    segments = world.segments.shape[0]
    wide = world.n[at.SEGMENT_TOP] > segments // 2
    return world._replace(
        reqs=np.concatenate((world.reqs, more)),
        free=free,
        events=np.concatenate((world.events, np.zeros(world.events.size, at.EVENT))),
        out=np.concatenate((world.out, np.zeros(2 * size, at.FINISHED))),
        flows=np.concatenate((world.flows, np.zeros(size, np.int64))),
        segments=np.concatenate((world.segments, np.zeros_like(world.segments))) if wide else world.segments,
        segment_next=np.concatenate((world.segment_next, np.full(segments, -1, np.int64))) if wide else world.segment_next,
    )
