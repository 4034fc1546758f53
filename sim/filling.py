"""The compiled loops of the flow network (numba). Imported only when a simulation runs: numba is slow to import.

All loops run in a fixed order without fast-math, so the same inputs give the same bits.

Shapes: ``flow`` rows in CSR (``indptr``, ``resource``, ``coefficient``), the same entries by resource
(``row_ptr`` [resource + 1], ``row_flow``, ``row_coefficient``), both possibly holding flows that are not ``alive``.
"""

from __future__ import annotations

import numpy as np
from numba import njit

NEVER = np.int64(2**62)  # finish of a flow at rate zero
OWN_CAP = -1
_TIE = 1.0 + 1e-12  # levels closer than this are the same level
_REFRESH = 1e-3  # recompute a running sum that fell to this part of itself: subtraction cancels


@njit(cache=True)
def transpose(resources, indptr, resource, coefficient):  # type: ignore[no-untyped-def]
    """CSR by flow -> (row_ptr, row_flow, row_coefficient), each row in flow order."""
    row_ptr = np.zeros(resources + 1, np.int64)
    for e in range(resource.size):
        row_ptr[resource[e] + 1] += 1
    for r in range(resources):
        row_ptr[r + 1] += row_ptr[r]
    at = row_ptr[:-1].copy()
    row_flow = np.empty(resource.size, np.int32)
    row_coefficient = np.empty(resource.size, np.float64)
    for f in range(indptr.size - 1):
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
def fill(capacity, indptr, resource, coefficient, row_ptr, row_flow, row_coefficient, cap, cap_order, alive, rate, bottleneck):  # type: ignore[no-untyped-def]
    """Progressive filling over the ``alive`` flows; writes ``rate`` and ``bottleneck`` [flow], returns used [resource].

    ``cap_order``: flows with a finite cap by rising cap. The level at which a resource fills only rises as flows
    freeze, so a stale heap key is a lower bound and is refreshed only when it comes up.
    """
    resources = capacity.size
    used = np.zeros(resources)
    weight = np.zeros(resources)
    trusted = np.zeros(resources)
    count = np.zeros(resources, np.int64)
    free = alive.copy()
    left = 0
    for f in range(free.size):
        left += free[f]
    key = np.empty(resources)
    item = np.empty(resources, np.int64)
    size = 0
    for r in range(resources):
        w = 0.0
        c = 0
        for e in range(row_ptr[r], row_ptr[r + 1]):
            if free[row_flow[e]]:
                w += row_coefficient[e]
                c += 1
        weight[r] = trusted[r] = w
        count[r] = c
        if c > 0:
            key[size] = capacity[r] / w
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
            if count[r] == 0:
                size -= 1
                key[0], item[0] = key[size], item[size]
                _sift(key, item, size, 0)
                continue
            if weight[r] < _REFRESH * trusted[r]:
                w = 0.0
                u = 0.0
                for e in range(row_ptr[r], row_ptr[r + 1]):
                    f = row_flow[e]
                    if free[f]:
                        w += row_coefficient[e]
                    elif alive[f]:
                        u += row_coefficient[e] * rate[f]
                weight[r] = trusted[r] = w
                used[r] = u
            now = max(level, (capacity[r] - used[r]) / weight[r])
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
                used[r] += coefficient[e] * cap[f]
                weight[r] -= coefficient[e]
                count[r] -= 1
        elif full >= 0:
            level = full_level
            for i in range(row_ptr[full], row_ptr[full + 1]):
                f = row_flow[i]
                if not free[f]:
                    continue
                free[f] = 0
                left -= 1
                rate[f] = level
                bottleneck[f] = full
                for e in range(indptr[f], indptr[f + 1]):
                    r = resource[e]
                    used[r] += coefficient[e] * level
                    weight[r] -= coefficient[e]
                    count[r] -= 1
        else:  # no resource and no cap: ruled out when the flows were checked
            break
    return used


@njit(cache=True)
def predict(now, remaining, rate, alive, finish):  # type: ignore[no-untyped-def]
    """Write ``finish`` [flow] ps under the rates in force (rounded up; NEVER at rate 0)."""
    for f in range(alive.size):
        if not alive[f]:
            continue
        if rate[f] <= 0.0:
            finish[f] = NEVER
            continue
        left = np.ceil(remaining[f] / rate[f] * 1e12)
        if left >= 4e18:
            finish[f] = NEVER
            continue
        finish[f] = now + max(np.int64(1), np.int64(left))


@njit(cache=True)
def horizon(alive, finish):  # type: ignore[no-untyped-def]
    """The first and the last finish ps of the alive flows that will finish; (NEVER, 0) if none will."""
    first = NEVER
    last = np.int64(0)
    for f in range(alive.size):
        if alive[f] and finish[f] < NEVER:
            first = min(first, finish[f])
            last = max(last, finish[f])
    return first, last


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
def retire(gone, indptr, resource, coefficient, size, alive, bottleneck, waiting, moved):  # type: ignore[no-untyped-def]
    """Take the flows ``gone`` out; add what they moved [resource] units. ``waiting`` [resource]: flows it bounds.

    Returns whether a resource they leave bounds a flow that stays, so that sharing anew would change a rate.
    """
    for f in gone:
        alive[f] = 0
        if bottleneck[f] >= 0:
            waiting[bottleneck[f]] -= 1
    matters = False
    for f in gone:
        for e in range(indptr[f], indptr[f + 1]):
            r = resource[e]
            moved[r] += coefficient[e] * size[f]
            if waiting[r] > 0:
                matters = True
    return matters
