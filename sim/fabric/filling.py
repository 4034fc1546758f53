"""The compiled loops of the flow network (numba). Imported only when a simulation runs: numba is slow to import.

All loops run in a fixed order without fast-math, so the same inputs give the same bits.

Shapes: ``flow`` rows in CSR (``indptr``, ``resource``, ``coefficient``), the same entries by resource in two parts, older
flows (``row_ptr`` [resource + 1], ``row_flow``, ``row_coefficient``) and newer ones (``more_…``), all possibly holding flows
that are not ``alive``. Whatever is summed is summed in the order of flows.
"""

from __future__ import annotations

import numpy as np

from .quick_numba import njit

NEVER = np.int64(2**62)  # finish of a flow at rate zero
OWN_CAP = -1
_TIE = 1.0 + 1e-12  # levels closer than this are the same level
_REFRESH = 1e-3  # recompute a running sum that fell to this part of itself: subtraction cancels
_NOISE_PS = 1e-3  # float noise: not a reason to round a finish up to the next picosecond
USED, WEIGHT, RISING, TRUSTED = range(4)


@njit(cache=True)
def merged(resources, indptr, resource, coefficient):  # type: ignore[no-untyped-def]
    """The CSR with one entry for each (flow, resource): coefficients of the same resource added, zeros dropped."""
    seen = np.full(resources, -1, np.int64)  # where the current flow's entry for a resource went
    starts = np.zeros_like(indptr)
    names = np.empty_like(resource)
    weights = np.empty_like(coefficient)
    n = 0
    for f in range(indptr.size - 1):
        for e in range(indptr[f], indptr[f + 1]):
            r = resource[e]
            if coefficient[e] == 0.0:
                continue
            if seen[r] >= starts[f]:
                weights[seen[r]] += coefficient[e]
            else:
                seen[r] = n
                names[n] = r
                weights[n] = coefficient[e]
                n += 1
        starts[f + 1] = n
    return starts, names[:n].copy(), weights[:n].copy()


@njit(cache=True)
def transpose(resources, indptr, resource, coefficient, first=0):  # type: ignore[no-untyped-def]
    """CSR by flow, from flow ``first`` on -> (row_ptr, row_flow, row_coefficient), each row in flow order."""
    row_ptr = np.zeros(resources + 1, np.int64)
    for e in range(indptr[first], indptr[-1]):
        row_ptr[resource[e] + 1] += 1
    for r in range(resources):
        row_ptr[r + 1] += row_ptr[r]
    at = row_ptr[:-1].copy()
    row_flow = np.empty(row_ptr[-1], np.int32)
    row_coefficient = np.empty(row_ptr[-1], np.float64)
    for f in range(first, indptr.size - 1):
        for e in range(indptr[f], indptr[f + 1]):
            k = at[resource[e]]
            row_flow[k] = f
            row_coefficient[k] = coefficient[e]
            at[resource[e]] = k + 1
    return row_ptr, row_flow, row_coefficient


@njit(cache=True)
def _sift(key, item, size, i):  # type: ignore[no-untyped-def]
    """Restore the binary min-heap below position ``i``."""
    k, r = key[i], item[i]
    while True:
        child = 2 * i + 1
        if child >= size:
            break
        if child + 1 < size and key[child + 1] < key[child]:
            child += 1
        if key[child] >= k:
            break
        key[i], item[i] = key[child], item[child]
        i = child
    key[i], item[i] = k, r


@njit(cache=True)
def fill(  # type: ignore[no-untyped-def]
    capacity,
    indptr,
    resource,
    coefficient,
    row_ptr,
    row_flow,
    row_coefficient,
    more_ptr,
    more_flow,
    more_coefficient,
    cap,
    cap_order,
    alive,
    rate,
    bottleneck,
):
    """Progressive filling over the ``alive`` flows; writes ``rate`` and ``bottleneck`` [flow], returns used [resource].

    ``cap_order``: flows with a finite cap by rising cap. The level at which a resource fills only rises as flows
    freeze, so a stale heap key is a lower bound and is refreshed only when it comes up.
    """
    resources = capacity.size
    state = np.zeros((resources, 4))  # side by side for the cache: units used, weight and number of rising flows, trusted
    free = alive.copy()
    picked = np.empty(free.size + 1, np.int32)
    left = 0
    for f in range(free.size):
        if free[f]:
            left += 1
            for e in range(indptr[f], indptr[f + 1]):
                r = resource[e]
                state[r, WEIGHT] += coefficient[e]
                state[r, RISING] += 1.0
    key = np.empty(resources)
    item = np.empty(resources, np.int64)
    size = 0
    for r in range(resources):
        state[r, TRUSTED] = state[r, WEIGHT]
        if state[r, RISING] > 0.0:
            key[size] = capacity[r] / state[r, WEIGHT]
            item[size] = r
            size += 1
    for i in range(size // 2 - 1, -1, -1):
        _sift(key, item, size, i)

    level = 0.0
    at = 0
    while left > 0:
        full = -1
        full_level = np.inf
        while size > 0:
            r = item[0]
            if state[r, RISING] == 0.0:
                size -= 1
                key[0], item[0] = key[size], item[size]
                _sift(key, item, size, 0)
                continue
            if state[r, WEIGHT] < _REFRESH * state[r, TRUSTED]:
                w = 0.0
                u = 0.0
                for part in range(2):
                    ptr, who, weight = (
                        (row_ptr, row_flow, row_coefficient) if part == 0 else (more_ptr, more_flow, more_coefficient)
                    )
                    for e in range(ptr[r], ptr[r + 1]):
                        f = who[e]
                        if free[f]:
                            w += weight[e]
                        elif alive[f]:
                            u += weight[e] * rate[f]
                state[r, WEIGHT] = state[r, TRUSTED] = w
                state[r, USED] = u
            now = max(level, (capacity[r] - state[r, USED]) / state[r, WEIGHT])
            rival = np.inf
            if size > 1:
                rival = key[1]
            if size > 2 and key[2] < rival:
                rival = key[2]
            if now <= rival * _TIE:
                full, full_level = r, now
                break
            key[0] = now
            _sift(key, item, size, 0)

        while at < cap_order.size and not free[cap_order[at]]:
            at += 1
        if at < cap_order.size and cap[cap_order[at]] <= full_level:
            f = cap_order[at]
            level = max(level, cap[f])
            free[f] = 0
            left -= 1
            rate[f] = cap[f]
            bottleneck[f] = OWN_CAP
            for e in range(indptr[f], indptr[f + 1]):
                r = resource[e]
                state[r, USED] += coefficient[e] * cap[f]
                state[r, WEIGHT] -= coefficient[e]
                state[r, RISING] -= 1.0
        elif full >= 0:
            level = full_level
            n = 0  # gathered first: a branch per entry would be mispredicted every other time
            for i in range(row_ptr[full], row_ptr[full + 1]):
                picked[n] = row_flow[i]
                n += free[row_flow[i]]
            for i in range(more_ptr[full], more_ptr[full + 1]):
                picked[n] = more_flow[i]
                n += free[more_flow[i]]
            left -= n
            for i in range(n):
                f = picked[i]
                free[f] = 0
                rate[f] = level
                bottleneck[f] = full
                for e in range(indptr[f], indptr[f + 1]):
                    r = resource[e]
                    state[r, USED] += coefficient[e] * level
                    state[r, WEIGHT] -= coefficient[e]
                    state[r, RISING] -= 1.0
        else:  # no resource and no cap: ruled out when the flows were checked
            break
    return state[:, USED].copy()


@njit(cache=True)
def predict(now, remaining, rate, alive, bottleneck, finish, waiting):  # type: ignore[no-untyped-def]
    """Write ``finish`` [flow] ps under the rates in force (rounded up; NEVER at rate 0), and ``waiting`` [resource], the alive
    flows that it bounds."""
    waiting[:] = 0
    for f in range(alive.size):
        if not alive[f]:
            continue
        if bottleneck[f] >= 0:
            waiting[bottleneck[f]] += 1
        if rate[f] <= 0.0:
            finish[f] = NEVER
            continue
        left = np.ceil(remaining[f] * 1e12 / rate[f] - _NOISE_PS)
        if left >= 4e18:
            finish[f] = NEVER
            continue
        finish[f] = now + max(np.int64(1), np.int64(left))


@njit(cache=True)
def least_time(capacity, indptr, resource, coefficient, alive, remaining, cap):  # type: ignore[no-untyped-def]
    """Seconds the alive flows need at least: the busiest resource's work over its capacity, the longest flow at its cap.

    Resources and flows that are stalled (capacity or cap 0) do not count.
    """
    least = 0.0
    work = np.zeros(capacity.size)
    for f in range(alive.size):
        if not alive[f]:
            continue
        if remaining[f] > least * cap[f] and cap[f] > 0.0:
            least = remaining[f] / cap[f]
        for e in range(indptr[f], indptr[f + 1]):
            work[resource[e]] += coefficient[e] * remaining[f]
    for r in range(capacity.size):
        if capacity[r] > 0.0:
            least = max(least, work[r] / capacity[r])
    return least


@njit(cache=True)
def ending(limit, alive, finish):  # type: ignore[no-untyped-def]
    """The alive flows whose finish is at or before ``limit`` ps: their numbers, rising."""
    n = 0
    for f in range(alive.size):
        if alive[f] and finish[f] <= limit:
            n += 1
    found = np.empty(n, np.int32)
    n = 0
    for f in range(alive.size):
        if alive[f] and finish[f] <= limit:
            found[n] = f
            n += 1
    return found


@njit(cache=True)
def advance(since, now, alive, finish, rate, remaining, bottleneck, kind_of, flow, bound_s):  # type: ignore[no-untyped-def]
    """Let the alive flows send from ``since`` to ``now`` ps at their rates, and charge the time to what bound them.

    ``flow`` [slot]: row of ``bound_s`` [flow, kind] seconds; kind 0 is the flow's own cap, ``kind_of`` [resource] the
    others. A flow that finished on the way is left with nothing.
    """
    for f in range(alive.size):
        if not alive[f]:
            continue
        if finish[f] <= now:
            spent = (finish[f] - since) * 1e-12
            remaining[f] = 0.0
        else:
            spent = (now - since) * 1e-12
            remaining[f] = max(0.0, remaining[f] - rate[f] * spent)
        if bound_s.shape[1] > 0:
            k = 0
            if bottleneck[f] >= 0:
                k = kind_of[bottleneck[f]]
            bound_s[flow[f], k] += spent


@njit(cache=True)
def retire(gone, now, finish, rate, indptr, resource, coefficient, size, alive, bottleneck, waiting, moved, idle):  # type: ignore[no-untyped-def]
    """Take the flows ``gone`` out; add what they moved, and what they left idle until ``now``, [resource] units each.

    Returns whether a resource they leave bounds a flow that stays (``waiting`` [resource] counts those): only then would
    sharing anew change a rate.
    """
    for f in gone:
        alive[f] = 0
        if bottleneck[f] >= 0:
            waiting[bottleneck[f]] -= 1
    matters = False
    for f in gone:
        left_idle = rate[f] * (now - finish[f]) * 1e-12
        for e in range(indptr[f], indptr[f + 1]):
            r = resource[e]
            moved[r] += coefficient[e] * size[f]
            idle[r] += coefficient[e] * left_idle
            if waiting[r] > 0:
                matters = True
    return matters


@njit(cache=True)
def backdate(wait_s, idle, indptr, resource, coefficient, alive, before, rate, remaining):  # type: ignore[no-untyped-def]
    """Let the flows that sped up have done so ``wait_s`` ago, as far as what was ``idle`` [resource] units allows.

    A flow gains its rate's rise over the shortest of ``wait_s`` and, for each of its resources, the seconds that the
    idle units last at everybody's rise together. So no resource hands out more than it had, and no flow passes its cap.
    """
    rises = np.zeros(idle.size)
    for f in range(alive.size):
        rise = rate[f] - before[f]
        if alive[f] and rise > 0.0:
            for e in range(indptr[f], indptr[f + 1]):
                rises[resource[e]] += coefficient[e] * rise
    lasts = np.full(idle.size, wait_s)
    for r in range(idle.size):
        if rises[r] > 0.0 and rises[r] * wait_s > idle[r]:
            lasts[r] = max(0.0, idle[r]) / rises[r]
    for f in range(alive.size):
        rise = rate[f] - before[f]
        if alive[f] and rise > 0.0:
            seconds = wait_s
            for e in range(indptr[f], indptr[f + 1]):
                seconds = min(seconds, lasts[resource[e]])
            remaining[f] = max(0.0, remaining[f] - rise * seconds)


@njit(cache=True)
def completing(gone, group, owner, finish, latency, left, landed, scratch):  # type: ignore[no-untyped-def]
    """The groups that the flows ``gone`` will complete: [found, (last end ps, group, landed ps)].

    A flow counts for its ``group`` and its ``owner`` [slot]; ``left`` [group] flows a group still waits for, ``landed``
    [group] ps so far. ``scratch`` [group, 3] holds zeros, before and after.
    """
    n = 0
    for f in gone:
        for g in (group[f], owner[f]):
            scratch[g, 0] += 1
            if scratch[g, 0] == left[g]:
                n += 1
    found = np.empty((n, 3), np.int64)
    if n:
        for f in gone:
            for g in (group[f], owner[f]):
                if scratch[g, 0] == left[g]:
                    scratch[g, 1] = max(scratch[g, 1], finish[f])
                    scratch[g, 2] = max(scratch[g, 2], finish[f] + latency[f])
    n = 0
    for waiting in (group, owner):
        for f in gone:
            g = waiting[f]
            if scratch[g, 1] > 0:
                found[n, 0] = scratch[g, 1]
                found[n, 1] = g
                found[n, 2] = max(scratch[g, 2], landed[g])
                n += 1
            scratch[g, :] = 0
    return found[:n]


@njit(cache=True)
def earliest(alive, finish):  # type: ignore[no-untyped-def]
    """The first finish of an alive flow, ps; NEVER where there is none."""
    first = NEVER
    for f in range(alive.size):
        if alive[f] and finish[f] < first:
            first = finish[f]
    return first


@njit(cache=True)
def completed(gone, group, owner, finish, latency, left, landed, sent):  # type: ignore[no-untyped-def]
    """Count the flows ``gone`` off their groups; the groups that now wait for none and whose event was not yet ``sent``."""
    found = np.empty(2 * gone.size, np.int64)
    n = 0
    for waiting in (group, owner):
        for f in gone:
            g = waiting[f]
            left[g] -= 1
            landed[g] = max(landed[g], finish[f] + latency[f])
            if left[g] == 0 and not sent[g]:
                found[n] = g
                n += 1
    return found[:n]
