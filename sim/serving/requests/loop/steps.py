"""A worker's steps: what each rank puts into one, how long it takes, and what everyone has when it ends."""

from __future__ import annotations

import numpy as np

from ....fabric.quick_numba import njit
from ..times.shelf import Shelf, own_seconds, step_values
from ..times.step_table import BYTES, FLOPS, OWN, QUEUED, SECONDS
from .ending import drop_pin, finish, go_far, leave_pending, leave_rank, release_far, stage_over, try_again
from .heap import push
from .layout import (
    DECODE,
    DECODES,
    DRAINING,
    EXPIRED,
    MOVED,
    MOVING,
    PENDING,
    PREFILL,
    PREFILLS,
    PROMPTED,
    SERVED,
    SPANS,
    STEP_ENDS,
    STEPS,
    UP,
    WAITING,
    Rules,
    World,
)  # fmt: skip
from .lines import end_prompt, first_waiting, leave_line, start_prompt, stop_decoding
from .room import give_up, join, let_in, mean_accepted, name_blocks, plan_due, preempt, reserve, take_units, units_of
from .router import choose, wake
from .transfers import start_flow, stop_flow

_BIN = 0.002  # width of a bin of intervals between tokens, in logarithm
_FIRST_BIN = 1e5  # ps


@njit(cache=True)
def count_interval(world: World, gap: float, times: int) -> None:
    """``times`` intervals of ``gap`` ps between a request's tokens."""
    at = int(np.log(max(gap, _FIRST_BIN) / _FIRST_BIN) / _BIN)
    world.itl[min(at, world.itl.size - 1)] += times


@njit(cache=True)
def take_pending(world: World, rules: Rules, rank: int, now: int) -> None:
    """Caches that wait for room on a decode rank begin to move, in order, as long as there is some."""
    k = world.ranks[rank]
    w = world.workers[k.worker]
    while k.pend_head >= 0:
        slot = int(k.pend_head)
        if k.decoding + k.prefilling + k.loading + k.coming >= w.slots or not reserve(world, rules, slot, rank, True, 0):
            return
        leave_pending(world, slot)
        move(world, rules, slot, now)


@njit(cache=True)
def move(world: World, rules: Rules, slot: int, now: int) -> None:
    """The request's cache goes to its decode rank, where room is reserved."""
    r = world.reqs[slot]
    stage_over(world, slot, now)
    r.state = MOVING
    start_flow(world, slot, max(0, r.input + r.made - r.far_entries * rules.block_tokens) * rules.token_bytes, now)


@njit(cache=True)
def _room_far(world: World, rules: Rules, slot: int) -> bool:
    """A decode rank keeps room for the request before its prompt is computed."""
    r = world.reqs[slot]
    if r.far < 0:
        far = choose(world, rules, slot, DECODES, rules.far_router)
        if far < 0:
            return False
        k = world.ranks[far]
        slots = world.workers[k.worker].slots
        if k.decoding + k.prefilling + k.loading + k.coming >= slots or not reserve(world, rules, slot, far, True, 0):
            return False
        go_far(world, slot, far)
    return True


@njit(cache=True)
def _schedule(world: World, rules: Rules, rank: int, now: int, closed: bool) -> None:
    """Prompt tokens of one rank's next step: prompts in work first, then (unless ``closed``) whoever waits and fits."""
    k = world.ranks[rank]
    w = world.workers[k.worker]
    k.p, k.pieces, k.before = 0, 0, 0.0
    if w.role == DECODES:
        take_pending(world, rules, rank, now)
    budget = int(w.budget) * int(w.pp)
    if w.mixes:
        budget -= int(k.decoding) * (1 + rules.drafts)
    slot = int(k.pre_head)
    while slot >= 0 and budget > 0:
        budget -= _piece(world, rank, slot, budget)
        slot = int(world.reqs[slot].next)
    while budget > 0 and not closed and k.decoding + k.prefilling + k.loading < w.slots:
        slot = first_waiting(world, rank)
        if slot < 0:
            break
        r = world.reqs[slot]
        if rules.patience >= 0 and r.made == 0 and now - r.arrival > rules.patience:
            stage_over(world, slot, now)
            leave_line(world, rank, slot)
            release_far(world, rules, slot)
            leave_rank(world, slot)
            finish(world, rules, slot, now, EXPIRED)
            continue
        if rules.early and w.role == PREFILLS and not _room_far(world, rules, slot):
            break
        if not let_in(world, rules, slot, rank, now):
            # Pinned caches give way where nothing else would ever free room.
            if k.pin_head >= 0 and k.decoding + k.prefilling + k.loading == 0:
                drop_pin(world, rules, k.pin_head)
                continue
            break
        state = int(r.state)
        r.state = WAITING
        stage_over(world, slot, now)
        r.state = state
        leave_line(world, rank, slot)
        if r.pin >= 0:
            drop_pin(world, rules, r.pin)
        if state == PREFILL:
            start_prompt(world, rank, slot)
            if rules.layerwise and w.role == PREFILLS:
                start_flow(world, slot, max(1, r.input - r.far_entries * rules.block_tokens) * rules.token_bytes, now)
            budget -= _piece(world, rank, slot, budget)


@njit(cache=True)
def _piece(world: World, rank: int, slot: int, budget: int) -> int:
    """The request's share of the step."""
    r, k = world.reqs[slot], world.ranks[rank]
    piece = min(int(r.todo), budget)
    r.piece = piece
    k.p += piece
    k.pieces += 1
    k.before += r.held
    return piece


@njit(cache=True)
def begin_step(world: World, rules: Rules, shelf: Shelf, worker: int, now: int) -> None:
    """The worker starts its next step, if it has anything to do and is not in one."""
    w = world.workers[worker]
    if w.stepping or (w.state != UP and w.state != DRAINING):
        return
    prompts, sequences = 0, 0
    patient = rules.poll_steps > 1 or rules.wait_steps > 0 or rules.balance_steps > 0
    closed = patient and _closed(world, rules, worker)
    for rank in range(w.first, w.first + w.ranks):
        k = world.ranks[rank]
        if k.alive:
            if k.waiting > 0 or k.prefilling > 0 or k.pend_head >= 0:
                _schedule(
                    world, rules, rank, now, closed or (rules.wait_steps > 0 and patient and _gathers(world, rules, rank))
                )
            else:
                k.p, k.pieces, k.before = 0, 0, 0.0
            prompts += k.p
            sequences += k.decoding
    if prompts == 0 and sequences == 0:
        return
    seconds = _duration(world, rules, shelf, worker, now)
    start = max(now, int(w.stalled))
    w.stepping, w.began = 1, start
    push(world, start + max(1, int(seconds * 1e12)), STEP_ENDS, worker, int(w.epoch))


@njit(cache=True)
def _closed(world: World, rules: Rules, worker: int) -> bool:
    """No prompt is taken up in the next step: the engine does not look now, or its groups wait for each other's prompts."""
    w = world.workers[worker]
    busy, have, alive = False, 0, 0
    for rank in range(w.first, w.first + w.ranks):
        k = world.ranks[rank]
        if k.alive:
            alive += 1
            busy = busy or k.decoding > 0
            have += 1 if k.waiting > 0 or k.prefilling > 0 else 0
    if not busy:  # nobody would be there to look again
        w.balanced_for = 0
        return False
    if rules.poll_steps > 1 and w.steps % rules.poll_steps != 0:
        return True
    if rules.balance_steps > 0 and 0 < have < alive and w.balanced_for < rules.balance_steps:
        w.balanced_for += 1
        return True
    w.balanced_for = 0
    return False


@njit(cache=True)
def _gathers(world: World, rules: Rules, rank: int) -> bool:
    """The group's prompts wait for more of them."""
    k = world.ranks[rank]
    slot = first_waiting(world, rank)
    if slot < 0 or k.decoding == 0:
        k.gathered_for = 0
        return False
    r, budget = world.reqs[slot], world.workers[k.worker].budget
    if k.gathered_for < rules.wait_steps and k.waiting * (r.input + r.made) < rules.wait_fill * budget:
        k.gathered_for += 1
        return True
    k.gathered_for = 0
    return False


@njit(cache=True)
def _duration(world: World, rules: Rules, shelf: Shelf, worker: int, now: int) -> float:
    """Seconds of the step that its ranks have put together: all of them evenly, and what the fullest one adds."""
    w = world.workers[worker]
    n = p = pieces = alive = 0
    context = before = 0.0
    fullest, most = int(w.first), -1.0
    sequence_s, token_s, prompt_s = shelf.score[w.table, 0], shelf.score[w.table, 1], shelf.score[w.table, 2]
    for rank in range(w.first, w.first + w.ranks):
        k = world.ranks[rank]
        if not k.alive:
            continue
        alive += 1
        p += k.p
        pieces += k.pieces
        before += k.before
        load = k.p * prompt_s
        if decodes(world, rank):
            n += k.decoding
            context += k.context
            load += k.decoding * sequence_s + k.context * token_s
        if load > most:
            fullest, most = rank, load
    share = 1.0 / (alive * w.pp)
    out = world.scratch[0]
    step_values(shelf, w.table, n * share, context / max(n, 1), p * share, p / max(pieces, 1), before / max(pieces, 1), out)
    if w.skewed >= 0 and rules.imbalance_period > 0:
        since = (now - w.balanced) / rules.imbalance_period
        skew = min(1.0, since)
        other = world.scratch[1]
        step_values(
            shelf, w.skewed, n * share, context / max(n, 1), p * share, p / max(pieces, 1), before / max(pieces, 1), other
        )
        for v in range(out.size):
            out[v] += skew * (other[v] - out[v])
    seconds = out[SECONDS]
    w.flops += out[FLOPS]
    w.bytes += out[BYTES]
    if w.ranks > 1:
        k = world.ranks[fullest]
        mine = int(k.decoding) if decodes(world, fullest) else 0
        held = float(k.context) if mine else 0.0
        own = own_seconds(
            shelf, w.table, mine / w.pp, held / max(mine, 1), k.p / w.pp, k.p / max(k.pieces, 1),
            k.before / max(k.pieces, 1), p > 0, world.scratch[2],
        )  # fmt: skip
        seconds += max(0.0, own - out[OWN])
    seconds = max(seconds, out[QUEUED])
    return float(seconds)


@njit(cache=True)
def decodes(world: World, rank: int) -> bool:
    """The group's sequences get tokens in this step: an engine that computes prompts first lets them wait while its own group
    has some; those of other groups go on beside it."""
    k = world.ranks[rank]
    return bool(k.p == 0 or world.workers[k.worker].mixes > 0)


@njit(cache=True)
def end_step(world: World, rules: Rules, worker: int, now: int) -> None:
    """Everyone has the tokens of the step that ends."""
    w = world.workers[worker]
    w.stepping = 0
    w.busy += now - w.began
    w.steps += 1
    w.last_step = now - w.began
    world.n[STEPS] += 1
    if rules.span_from <= w.began < rules.span_to and world.n[SPANS] < world.spans.size:
        _note(world, worker, now)
    _decoded(world, rules, worker, now)
    for rank in range(w.first, w.first + w.ranks):
        k = world.ranks[rank]
        if k.p == 0:
            continue
        w.prompt_tokens += k.p
        world.n[PROMPTED] += k.p
        slot = int(k.pre_head)
        while slot >= 0:
            r = world.reqs[slot]
            after = int(r.next)
            r.held += r.piece
            r.todo -= r.piece
            r.piece = 0
            if r.todo <= 0:
                _prompt_done(world, rules, slot, rank, now)
            slot = after
        k.p = 0
    wake(world, worker)


@njit(cache=True)
def _note(world: World, worker: int, now: int) -> None:
    w, s = world.workers[worker], world.spans[world.n[SPANS]]
    world.n[SPANS] += 1
    s.worker, s.start, s.end, s.decoding, s.prompt, s.waiting = worker, w.began, now, 0, 0, 0
    for rank in range(w.first, w.first + w.ranks):
        k = world.ranks[rank]
        s.decoding += k.decoding if decodes(world, rank) else 0
        s.prompt += k.p
        s.waiting += k.waiting


@njit(cache=True)
def _decoded(world: World, rules: Rules, worker: int, now: int) -> None:
    w = world.workers[worker]
    mean = mean_accepted(rules)
    sequences = 0
    for rank in range(w.first, w.first + w.ranks):
        k = world.ranks[rank]
        if k.decoding == 0 or not decodes(world, rank):
            continue
        sequences += k.decoding
        _delivered(world, rules, rank, now, mean)
        k.number += 1
        k.context += k.decoding * mean
        at = k.number & (world.ring.shape[1] - 1)
        slot, due = int(world.ring[rank, at]), 0
        world.ring[rank, at] = -1
        while slot >= 0:  # all are taken in hand first: one may have to make room for another
            r = world.reqs[slot]
            world.hand[due] = slot
            due += 1
            slot = int(r.due_next)
            r.due_next = r.due_prev = -1
            r.due = -1
        for i in range(due):
            r = world.reqs[world.hand[i]]
            if r.state == DECODE and r.due < 0:
                _grown(world, rules, int(world.hand[i]), rank, now, mean)
    w.tokens += int(sequences * mean)
    w.decodes += 1 if sequences > 0 else 0


@njit(cache=True)
def _delivered(world: World, rules: Rules, rank: int, now: int, mean: float) -> None:
    """Intervals between the tokens that clients of the group get."""
    k = world.ranks[rank]
    if rules.stream <= 1:
        old = k.decoding - k.joined
        if old > 0:
            count_interval(world, float(now - k.last), old)
        if k.joined > 0:
            count_interval(world, float(now) - k.join_sum / k.joined, k.joined)
    else:
        k.stream_steps += 1
        if k.stream_steps * mean >= rules.stream:
            count_interval(world, float(now - k.stream_from), k.decoding)
            k.stream_steps, k.stream_from = 0, now
    k.joined, k.join_sum, k.last = 0, 0.0, now


@njit(cache=True)
def _grown(world: World, rules: Rules, slot: int, rank: int, now: int, mean: float) -> None:
    """A decoding request that was due: it is done, or takes one more unit and goes on, or somebody makes room."""
    r, k = world.reqs[slot], world.ranks[rank]
    counted = (k.number - r.since) * mean
    k.context += r.grow - counted
    r.held += r.grow
    r.made += r.grow
    r.grow = 0
    if r.made >= r.output:
        stop_decoding(world, rank, slot, 0.0)
        finish(world, rules, slot, now, SERVED)
        return
    per = rules.block_tokens // rules.unit_tokens
    r.since, r.grow = k.number, 1
    short = units_of(rules, r.held + 1) - r.units - r.entries * per
    while short > 0 and not take_units(world, rules, rank, short, 0):
        if k.pin_head >= 0:
            drop_pin(world, rules, k.pin_head)
        else:
            preempt(world, rules, rank, now)
            if r.state != DECODE:
                return
    r.units += max(short, 0)
    plan_due(world, rules, slot, rank)


@njit(cache=True)
def _prompt_done(world: World, rules: Rules, slot: int, rank: int, now: int) -> None:
    """The prompt is computed: its first token is there, or its cache goes to a decode rank first."""
    r, w = world.reqs[slot], world.workers[world.ranks[rank].worker]
    stage_over(world, slot, now)
    end_prompt(world, rank, slot)
    name_blocks(world, rules, slot, rank, r.held)
    if w.role != PREFILLS or r.output <= 1:
        if r.flow >= 0:
            stop_flow(world, slot, now)
        release_far(world, rules, slot)
        first_token(world, rules, slot, rank, now)
        return
    if r.far < 0:
        far = choose(world, rules, slot, DECODES, rules.far_router)
        if far >= 0:
            go_far(world, slot, far)
        else:
            give_up(world, rules, slot, rank, r.units, r.entries)
            r.units = r.entries = r.held = 0
            leave_rank(world, slot)
            try_again(world, rules, slot, now)
            return
    if rules.layerwise:
        r.state = MOVING
        if r.flow < 0:  # all but the last layer's came before: that one has the port to itself
            rate = min(world.port[rank], world.port[r.far])
            last = r.input * rules.token_bytes / rules.layers / rate
            push(world, now + taken_up_after(world, rules, slot) + int(last * 1e12), MOVED, slot, int(r.epoch))
    elif rules.early:
        move(world, rules, slot, now)
    else:
        r.state = PENDING
        k = world.ranks[r.far]
        r.next, r.prev = -1, k.pend_tail
        if k.pend_tail >= 0:
            world.reqs[k.pend_tail].next = slot
        else:
            k.pend_head = slot
        k.pend_tail = slot
        k.pending += 1
        take_pending(world, rules, r.far, now)


@njit(cache=True)
def first_token(world: World, rules: Rules, slot: int, rank: int, now: int) -> None:
    """A token that a prompt's last chunk brought; the first one of the request, unless it was computed again."""
    r = world.reqs[slot]
    r.made += 1
    r.resumes = 0
    if r.first < 0:
        r.first = now + rules.first_token
    if r.made >= r.output:
        finish(world, rules, slot, now, SERVED)
    else:
        join(world, rules, slot, rank, now)


@njit(cache=True)
def taken_up_after(world: World, rules: Rules, slot: int) -> int:
    """ps between a cache's arrival and the request's first step there."""
    far = world.workers[world.ranks[world.reqs[slot].far].worker]
    return int(rules.move_latency) + int(rules.handover_steps * far.last_step)


@njit(cache=True)
def landed(world: World, rules: Rules, slot: int, now: int) -> None:
    """The cache is on the decode rank: the prefill rank has room again, and decoding begins."""
    r = world.reqs[slot]
    stage_over(world, slot, now)
    give_up(world, rules, slot, r.rank, r.units, r.entries)
    leave_rank(world, slot)
    r.rank, r.units, r.entries = r.far, r.far_units, r.far_entries
    r.worker = world.ranks[r.rank].worker
    r.far, r.far_units, r.far_entries = -1, 0, 0
    world.ranks[r.rank].coming -= 1
    wake(world, r.worker)
    first_token(world, rules, slot, r.rank, now)
