"""The exchange of counts before a high-throughput dispatch: each rank tells every peer how many rows will come, per expert.

Fields of the heap: ``counts`` [ranks, 1 + local_experts] int32 (row of source s: rows from s, then per local expert),
``count_flag`` [ranks] int32 epochs, ``status`` [2] int32 (1 + rank that never posted; expert rows needed where too many).
"""
# mypy: allow-untyped-defs, allow-untyped-decorators, allow-untyped-calls
# ruff: noqa: N803

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from .layout import Experts, Groups
from .nvshmem import put_block, put_int, quiet, with_nvshmem
from .signal import address, peer, wait_flags
from .symmetric import Heap, Plan


class CapacityError(ValueError):
    """More rows than a buffer was built for. Nothing has been written out of bounds."""


def check_tokens(tokens: int, capacity: int) -> None:
    """Raise CapacityError if a rank brings more tokens than its buffers have slots per source."""
    if tokens > capacity:
        raise CapacityError(f"{tokens} tokens exceed the capacity of {capacity} per rank: build for {tokens} or more")


class MissingRankError(RuntimeError):
    """A rank never posted what this rank waited for."""


@dataclass(frozen=True)
class Arrivals:
    """What will arrive, and where each expert's rows go; ``align`` rows is the tile that never spans two experts.

    ``rows``: [ranks] int32 token rows from each source. ``base``: [ranks, local_experts] int32 first expert row of
    (source, expert). ``count``: [local_experts] int32. ``start``: [local_experts + 1] int32 aligned first rows; the last
    is the total. ``tile_expert``: [max_tiles] int32 expert of each tile of ``align`` rows, -1 beyond the last.
    """

    rows: torch.Tensor
    base: torch.Tensor
    count: torch.Tensor
    start: torch.Tensor
    tile_expert: torch.Tensor
    align: int

    @property
    def capacity(self) -> int:
        return int(self.tile_expert.numel()) * self.align


def notify_fields(plan: Plan, ranks: int, local_experts: int, staged: bool = False) -> None:
    """``staged``: also the rows NVSHMEM puts are made from."""
    for name in ("counts", "counts_stage")[: 1 + staged]:
        plan.add(name, (ranks, 1 + local_experts), torch.int32)
    plan.add("count_flag", (ranks,), torch.int32)
    plan.add("status", (2,), torch.int32)


def new_arrivals(ranks: int, local_experts: int, max_rows: int, align: int, device: torch.device) -> Arrivals:
    """Room for ``max_rows`` expert rows plus what aligning each expert can waste."""
    tiles = -(-max_rows // align) + local_experts

    def table(*shape: int) -> torch.Tensor:
        return torch.zeros(shape, dtype=torch.int32, device=device)

    return Arrivals(
        table(ranks), table(ranks, local_experts), table(local_experts), table(local_experts + 1), table(tiles), align
    )


@triton.jit(do_not_specialize=["me", "epoch"])
def post_kernel(
    table,
    per_rank,
    per_expert,
    me,
    counts_at,
    stage_at,
    flag_at,
    epoch,
    local_experts,
    LP: tl.constexpr,
    NVSHMEM: tl.constexpr,
):
    target = tl.program_id(0)
    lane = tl.arange(0, LP)
    if NVSHMEM:
        row = peer(table, me, stage_at, tl.int32) + target * (1 + local_experts)
    else:
        row = peer(table, target, counts_at, tl.int32) + me * (1 + local_experts)
    count = tl.load(per_expert + target * local_experts + lane, mask=lane < local_experts, other=0)
    tl.store(row, tl.load(per_rank + target))
    tl.store(row + 1 + lane, count, mask=lane < local_experts)
    tl.debug_barrier()
    if NVSHMEM:
        dest = address(peer(table, me, counts_at, tl.int32) + me * (1 + local_experts))
        put_block(dest, address(row), tl.cast((1 + local_experts) * 4, tl.int64), target)
        quiet()
        put_int(address(peer(table, me, flag_at, tl.int32) + me), epoch, target)
    else:
        tl.atomic_xchg(peer(table, target, flag_at, tl.int32) + me, epoch, sem="release", scope="sys")


@triton.jit(do_not_specialize=["me", "epoch"])
def wait_kernel(
    table,
    me,
    ranks,
    local_experts,
    counts_at,
    flag_at,
    status_at,
    epoch,
    rows,
    base,
    count,
    start,
    tile_expert,
    tiles,
    ALIGN: tl.constexpr,
    RP: tl.constexpr,
    LP: tl.constexpr,
    TILES: tl.constexpr,
):
    status = peer(table, me, status_at, tl.int32)
    wait_flags(peer(table, me, flag_at, tl.int32), epoch, status, ranks, RP)
    source, lane = tl.arange(0, RP), tl.arange(0, LP)
    counts = peer(table, me, counts_at, tl.int32)
    tl.store(rows + source, tl.load(counts + source * (1 + local_experts), mask=source < ranks), mask=source < ranks)
    mask = (source < ranks)[:, None] & (lane < local_experts)[None, :]
    table_of = tl.load(counts + source[:, None] * (1 + local_experts) + 1 + lane[None, :], mask=mask, other=0)
    total = tl.sum(table_of, axis=0)
    aligned = (total + ALIGN - 1) // ALIGN * ALIGN
    end = tl.cumsum(aligned, 0)
    first = end - aligned
    tl.store(count + lane, total, mask=lane < local_experts)
    tl.store(start + lane, first, mask=lane < local_experts)
    tl.store(start + local_experts, tl.sum(aligned))
    before = tl.cumsum(table_of, 0) - table_of
    tl.store(base + source[:, None] * local_experts + lane[None, :], before + first[None, :], mask=mask)
    needed = tl.sum(aligned)
    tl.store(status + 1, tl.where(needed > tiles * ALIGN, needed, 0))
    for t0 in range(0, tiles, TILES):
        tile = t0 + tl.arange(0, TILES)
        # A tile's expert is the number of experts that end at or before the tile's first row.
        ended = (tile[:, None] * ALIGN >= end[None, :]) & (lane < local_experts)[None, :]
        expert = tl.sum(ended.to(tl.int32), axis=1)
        tl.store(tile_expert + tile, tl.where(tile * ALIGN < needed, expert, -1), mask=tile < tiles)


def notify_post(heap: Heap, per_rank: Groups, per_expert: Experts, epoch: int) -> None:
    """Publish this rank's counts in every peer's heap. Posts; never waits."""
    local = per_expert.counts.numel() // heap.ranks
    kernel = with_nvshmem(post_kernel) if heap.remote else post_kernel
    kernel[(heap.ranks,)](
        heap.table,
        per_rank.counts,
        per_expert.counts,
        heap.rank,
        heap.offset("counts"),
        heap.offset("counts_stage") if heap.remote else 0,
        heap.offset("count_flag"),
        epoch,
        local,
        LP=triton.next_power_of_2(local),
        NVSHMEM=heap.remote,
    )


def notify_wait(heap: Heap, epoch: int, out: Arrivals) -> None:
    """Wait for every source's counts of ``epoch`` and lay out the expert rows in ``out``."""
    ranks, local = out.base.shape
    wait_kernel[(1,)](
        heap.table,
        heap.rank,
        ranks,
        local,
        heap.offset("counts"),
        heap.offset("count_flag"),
        heap.offset("status"),
        epoch,
        out.rows,
        out.base,
        out.count,
        out.start,
        out.tile_expert,
        out.tile_expert.numel(),
        ALIGN=out.align,
        RP=triton.next_power_of_2(ranks),
        LP=triton.next_power_of_2(local),
        TILES=64,
    )


def check_status(heap: Heap, out: Arrivals | None = None) -> None:
    """Raise what the device recorded (this synchronises): a rank that never posted, or more expert rows than fit."""
    missing, needed = heap.view("status").tolist()
    if missing:
        raise MissingRankError(f"rank {heap.rank} waited for rank {missing - 1}, which never posted")
    if needed:
        room = out.capacity if out is not None else "fewer"
        raise CapacityError(f"rank {heap.rank} would receive {needed} expert rows but its buffer holds {room}: raise max_rows")


def notify_reference(topks: list[torch.Tensor], rank: int, local_experts: int, align: int) -> dict[str, torch.Tensor]:
    """The tables of ``Arrivals`` (but tile_expert) from all ranks' routing ``topks``: [ranks] of [tokens, top_k]."""
    first = rank * local_experts
    local = torch.arange(first, first + local_experts)
    table = torch.stack([(t[:, :, None] == local).sum((0, 1)) for t in topks])
    rows = torch.stack([((t >= first) & (t < first + local_experts)).any(1).sum() for t in topks])
    total = table.sum(0)
    end = ((total + align - 1) // align * align).cumsum(0)
    start = torch.cat([torch.zeros(1, dtype=end.dtype), end])
    base = table.cumsum(0) - table + start[:-1]
    return {"rows": rows.int(), "base": base.int(), "count": total.int(), "start": start.int()}


def notify_bytes(ranks: int, local_experts: int) -> int:
    """Bytes one rank posts, itself included: a count row and a flag per peer."""
    return ranks * 4 * (1 + local_experts + 1)
