"""Who stands where: waiting lines by priority, prompts in work, decoding sequences as they began, and who is due when.

All are linked through the requests themselves; ``next`` and ``prev`` belong to whichever line the request's state says.
"""

from __future__ import annotations

from ....fabric.quick_numba import njit
from .layout import PRIORITIES, World


@njit(cache=True)
def wait(world: World, rank: int, slot: int, first: bool) -> None:
    """``slot`` joins its priority's line at ``rank``, at its end, or ``first``."""
    r = world.reqs[slot]
    ends = world.queue[rank, r.priority]
    r.next = r.prev = -1
    if ends[0] < 0:
        ends[0] = ends[1] = slot
    elif first:
        r.next = ends[0]
        world.reqs[ends[0]].prev = slot
        ends[0] = slot
    else:
        r.prev = ends[1]
        world.reqs[ends[1]].next = slot
        ends[1] = slot
    world.ranks[rank].waiting += 1


@njit(cache=True)
def leave_line(world: World, rank: int, slot: int) -> None:
    """``slot`` leaves its line, wherever in it it stands."""
    r = world.reqs[slot]
    ends = world.queue[rank, r.priority]
    if r.prev >= 0:
        world.reqs[r.prev].next = r.next
    else:
        ends[0] = r.next
    if r.next >= 0:
        world.reqs[r.next].prev = r.prev
    else:
        ends[1] = r.prev
    r.next = r.prev = -1
    world.ranks[rank].waiting -= 1


@njit(cache=True)
def first_waiting(world: World, rank: int) -> int:
    """The request whose turn it is; -1 if nobody waits."""
    for priority in range(PRIORITIES):
        if world.queue[rank, priority, 0] >= 0:
            return int(world.queue[rank, priority, 0])
    return -1


@njit(cache=True)
def start_prompt(world: World, rank: int, slot: int) -> None:
    """``slot`` joins the prompts in work at ``rank``."""
    k, r = world.ranks[rank], world.reqs[slot]
    r.next, r.prev = -1, k.pre_tail
    if k.pre_tail >= 0:
        world.reqs[k.pre_tail].next = slot
    else:
        k.pre_head = slot
    k.pre_tail = slot
    k.prefilling += 1


@njit(cache=True)
def end_prompt(world: World, rank: int, slot: int) -> None:
    """``slot`` leaves the prompts in work."""
    k, r = world.ranks[rank], world.reqs[slot]
    if r.prev >= 0:
        world.reqs[r.prev].next = r.next
    else:
        k.pre_head = r.next
    if r.next >= 0:
        world.reqs[r.next].prev = r.prev
    else:
        k.pre_tail = r.prev
    r.next = r.prev = -1
    k.prefilling -= 1


@njit(cache=True)
def start_decoding(world: World, rank: int, slot: int) -> None:
    """``slot`` decodes from the next step on."""
    k, r = world.ranks[rank], world.reqs[slot]
    r.next, r.prev = -1, k.run_tail
    if k.run_tail >= 0:
        world.reqs[k.run_tail].next = slot
    else:
        k.run_head = slot
    k.run_tail = slot
    k.decoding += 1
    k.context += r.held


@njit(cache=True)
def stop_decoding(world: World, rank: int, slot: int, grown: float) -> None:
    """``slot`` decodes no more; ``grown``: tokens that `Rank.context` counts beyond what ``held`` says."""
    k, r = world.ranks[rank], world.reqs[slot]
    if r.prev >= 0:
        world.reqs[r.prev].next = r.next
    else:
        k.run_head = r.next
    if r.next >= 0:
        world.reqs[r.next].prev = r.prev
    else:
        k.run_tail = r.prev
    r.next = r.prev = -1
    k.decoding -= 1
    k.context = k.context - r.held - grown if k.decoding else 0.0


@njit(cache=True)
def set_due(world: World, rank: int, slot: int, step: int) -> None:
    """``slot`` is looked at when its worker ends step number ``step``."""
    r = world.reqs[slot]
    at = step & (world.ring.shape[1] - 1)
    r.due = step
    r.due_prev, r.due_next = -1, world.ring[rank, at]
    if r.due_next >= 0:
        world.reqs[r.due_next].due_prev = slot
    world.ring[rank, at] = slot


@njit(cache=True)
def clear_due(world: World, rank: int, slot: int) -> None:
    """``slot`` is no longer due."""
    r = world.reqs[slot]
    if r.due < 0:  # it is being looked at
        return
    if r.due_prev >= 0:
        world.reqs[r.due_prev].due_next = r.due_next
    else:
        world.ring[rank, r.due & (world.ring.shape[1] - 1)] = r.due_next
    if r.due_next >= 0:
        world.reqs[r.due_next].due_prev = r.due_prev
    r.due_next = r.due_prev = -1
