"""Rows named by a short list: every one's address before any is read, several in flight, summed in the list's order.

A list is a vector with a mask of the lanes in use (a token's ranks, a row's top-k entries). Walking it lane by lane would pay
a load, a branch and another load one after the other for each; here the addresses come as one vector, and a lane is taken out
of it by a sum inside the warp.
"""
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls
# ruff: noqa: N803

import triton
import triton.language as tl

FEW = 512  # rows up to which a launch is bound by the time of one row


def summing(rows: int, hidden: int, most: int = 8192) -> dict[str, int]:
    """Columns at a time and warps of a launch that sums ``rows`` rows.

    Few rows: a whole row at once (up to ``most`` columns), by many warps. Many: little per program, so that eight share an SM.
    """
    most, warps = (most, 16) if rows <= FEW else (2048, 4)
    return {"BLOCK": min(most, int(triton.next_power_of_2(hidden))), "num_warps": warps}


@triton.jit
def order_of(here):
    """Place of each lane in use among those in use, from 0; -1 elsewhere."""
    return tl.where(here, tl.cumsum(here.to(tl.int32), 0) - 1, -1)


@triton.jit
def taken(values, order, n):
    """The value of the ``n``-th lane in use; 0 if there are fewer."""
    return tl.sum(tl.where(order == n, values, 0), axis=0)


@triton.jit
def bf16_row(address, h, mask):
    """bf16 values at byte ``address`` (a multiple of 16) as float32; 0 where masked."""
    row = tl.multiple_of(address.to(tl.pointer_type(tl.bfloat16), bitcast=True), 16)
    return tl.load(row + h, mask=mask, other=0.0)


@triton.jit
def sum_listed(start, index, share, order, n, h, LENGTH: tl.constexpr, BLOCK: tl.constexpr):
    """[BLOCK] float32: columns ``h`` (< LENGTH) of the ``n`` rows in use, each times its share, added in list order.

    Row ``index`` is bf16 at byte address ``start + 2 * LENGTH * index``. Two rows are on their way at a time: most lists
    have one or two.
    """
    total = tl.zeros([BLOCK], tl.float32)
    for i in range(0, n, 2):
        first, second = taken(index, order, i).to(tl.int64), taken(index, order, i + 1).to(tl.int64)
        a = bf16_row(start + first * (2 * LENGTH), h, h < LENGTH)
        b = bf16_row(start + second * (2 * LENGTH), h, (h < LENGTH) & (i + 1 < n))
        total += taken(share, order, i) * a.to(tl.float32)
        total += taken(share, order, i + 1) * b.to(tl.float32)
    return total


@triton.jit
def sum_scattered(address, order, n, h, LENGTH: tl.constexpr, BLOCK: tl.constexpr):
    """As ``sum_listed`` for rows that carry their weights already and lie anywhere: byte addresses, on several ranks."""
    total = tl.zeros([BLOCK], tl.float32)
    for i in range(0, n, 2):
        a = bf16_row(taken(address, order, i), h, h < LENGTH)
        b = bf16_row(taken(address, order, i + 1), h, (h < LENGTH) & (i + 1 < n))
        total += a.to(tl.float32)
        total += b.to(tl.float32)
    return total


@triton.jit
def nth_row(rows, mask, ranks, j):
    """(source, index) of the ``j``-th received row, sources in order; ``rows``: vector of rows per source."""
    ended = tl.cumsum(rows, 0) <= j
    source = tl.sum((ended & mask).to(tl.int32), axis=0)
    return source, j - tl.sum(tl.where(ended & mask, rows, 0), axis=0)
