"""How ranks tell each other that data is there: flags that count epochs, and the last program of a launch that posts them.

A flag holds the number of the last epoch its owner posted, so buffers are used again without being cleared. Launches never
synchronise across their grid: each program adds itself to a counter when its stores are done and the last one posts.
"""
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls
# ruff: noqa: N803

import triton
import triton.language as tl

from ..interpreter import is_interpreting

# Polls before a wait gives up and records whom it missed: some 30 s on a GPU (0.7 us a poll), a minute in the interpreter.
POLLS = tl.constexpr(200_000 if is_interpreting() else 40_000_000)


@triton.jit
def peer(table, rank, offset, TYPE: tl.constexpr):
    """Address of byte ``offset`` in the block of ``rank``, as a pointer to TYPE known to be 16-byte aligned."""
    return tl.multiple_of((tl.load(table + rank) + offset).to(tl.pointer_type(TYPE), bitcast=True), 16)


@triton.jit
def address(pointer):
    """The number a pointer is."""
    return pointer.to(tl.int64, bitcast=True)


@triton.jit
def wait_flags(flags, epoch, status, n, N: tl.constexpr):
    """Spin until all of ``flags[0..n)`` are ``>= epoch``; after POLLS polls write 1 + the first missing to ``status[0]`` and
    return. N: power of two."""
    lane = tl.arange(0, N)
    seen = tl.atomic_add(flags + lane, tl.zeros([N], tl.int32), mask=lane < n, sem="acquire", scope="sys")
    missing = tl.min(tl.where((lane < n) & (seen < epoch), lane, N))
    polls = 0
    while (missing < N) & (polls < POLLS):
        again = tl.atomic_add(flags + lane, tl.zeros([N], tl.int32), mask=lane < n, sem="acquire", scope="sys")
        missing = tl.min(tl.where((lane < n) & (again < epoch), lane, N))
        polls += 1
    if missing < N:
        tl.store(status, missing + 1)


@triton.jit
def is_last(counter, programs):
    """Whether this program is the last of the launch's ``programs`` to arrive; resets the counter for the next launch."""
    tl.debug_barrier()
    arrived = programs - 1
    if programs > 1:
        arrived = tl.atomic_add(counter, 1, sem="acq_rel", scope="gpu")
        if arrived == programs - 1:
            tl.atomic_xchg(counter, 0, sem="relaxed", scope="gpu")
    return arrived == programs - 1


@triton.jit
def post_flags(table, first, n, offset, epoch, N: tl.constexpr):
    """Set the int32 at byte ``offset`` of ranks ``first .. first + n`` to ``epoch``, after the launch's earlier stores."""
    lane = tl.arange(0, N)
    address = tl.load(table + first + lane, mask=lane < n, other=0) + offset
    flags = address.to(tl.pointer_type(tl.int32), bitcast=True)
    tl.atomic_xchg(flags, tl.zeros([N], tl.int32) + epoch, mask=lane < n, sem="release", scope="sys")
