"""Symmetric memory: the same named fields at the same offsets on every rank, reachable by address from each other.

A ``Plan`` lays fields out in one block of bytes; a ``Heap`` is one rank's view of that block and of its peers' (a table of
base addresses, valid in this process or on this device). Kernels take the table and byte offsets, so one source runs in
every mode:

==================  ============================================================  =============================
maker               memory                                                        what a peer address is
==================  ============================================================  =============================
``in_process``      N blocks on one device (CPU, or one GPU's N virtual ranks)    an ordinary address
``shared``          anonymous shared mapping, made before ``fork``                the same address in each process
``on_node``         ``torch.distributed._symmetric_memory``, one process per GPU  peer-mapped over NVLink
``across_nodes``    the same through its NVSHMEM backend                          0 beyond the node: put by NVSHMEM
==================  ============================================================  =============================
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from math import prod
from typing import Any

import torch

ALIGNMENT = 256


@dataclass(frozen=True, slots=True)
class Field:
    """A named array of the block; ``offset`` is in bytes from the block's base."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    offset: int

    @property
    def bytes(self) -> int:
        return prod(self.shape) * int(self.dtype.itemsize)


class Plan:
    """The fields of a rank's block, each starting at a multiple of 256 bytes.

    Raises ValueError for a name used twice or an empty field.
    """

    def __init__(self, **fields: tuple[tuple[int, ...], torch.dtype]) -> None:
        self.fields: dict[str, Field] = {}
        self.bytes = 0
        for name, (shape, dtype) in fields.items():
            self.add(name, shape, dtype)

    def add(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Field:
        if name in self.fields:
            raise ValueError(f"field {name!r} is already in the plan")
        if min(shape, default=1) < 1:
            raise ValueError(f"field {name!r} has shape {shape}: every dimension must be at least 1")
        field = Field(name, shape, dtype, self.bytes)
        self.fields[name] = field
        self.bytes += -(-field.bytes // ALIGNMENT) * ALIGNMENT
        return field


@dataclass(frozen=True)
class Heap:
    """One rank's view. ``block``: [bytes] uint8, own memory; ``table``: [ranks] int64 base addresses (0: not addressable)."""

    rank: int
    ranks: int
    plan: Plan
    block: torch.Tensor
    table: torch.Tensor
    remote: bool = False  # some peers are reached by NVSHMEM put only
    keep: Any = None  # whatever owns the memory behind the table, so that no peer's block is freed under a kernel

    def offset(self, name: str) -> int:
        return self.plan.fields[name].offset

    def view(self, name: str) -> torch.Tensor:
        """Own copy of field ``name``, as a tensor."""
        field = self.plan.fields[name]
        return self.block[field.offset : field.offset + field.bytes].view(field.dtype).view(field.shape)

    @property
    def device(self) -> torch.device:
        return self.block.device


def in_process(plan: Plan, ranks: int, device: str | torch.device = "cpu") -> list[Heap]:
    """``ranks`` virtual ranks on one device; their launches must come in an order in which no wait precedes its post."""
    blocks = [torch.zeros(plan.bytes, dtype=torch.uint8, device=device) for _ in range(ranks)]
    for block in blocks:
        if block.data_ptr() % 16:
            raise RuntimeError("allocator returned memory that is not aligned to 16 bytes")
    table = torch.tensor([b.data_ptr() for b in blocks], dtype=torch.int64, device=device)
    return [Heap(r, ranks, plan, blocks[r], table, keep=blocks) for r in range(ranks)]


def shared(plan: Plan, ranks: int) -> list[Heap]:
    """Heaps for ``ranks`` processes that will be forked from this one: the mapping keeps its address in every child."""
    mapping = mmap.mmap(-1, max(plan.bytes, 1) * ranks)
    whole = torch.frombuffer(mapping, dtype=torch.uint8)
    blocks = [whole[r * plan.bytes : (r + 1) * plan.bytes] for r in range(ranks)]
    table = torch.tensor([b.data_ptr() for b in blocks], dtype=torch.int64)
    return [Heap(r, ranks, plan, blocks[r], table, keep=mapping) for r in range(ranks)]


def on_node(plan: Plan, group: Any = None) -> Heap:
    """This process's heap on its current CUDA device; collective over ``group`` (default: the world), one node only."""
    heap = _rendezvous(plan, group, None)
    if heap.remote:
        raise RuntimeError("some ranks are not reachable by address: use across_nodes (NVSHMEM) for more than one node")
    return heap


def across_nodes(plan: Plan, group: Any = None) -> Heap:
    """As ``on_node`` through the NVSHMEM backend: table entries of ranks beyond the NVLink domain are 0."""
    return _rendezvous(plan, group, "NVSHMEM")


def _rendezvous(plan: Plan, group: Any, backend: str | None) -> Heap:
    import torch.distributed as dist
    import torch.distributed._symmetric_memory as symm_mem

    group = group or dist.group.WORLD
    if backend is not None:
        symm_mem.set_backend(backend)
    device = torch.device("cuda", torch.cuda.current_device())
    block = symm_mem.empty(plan.bytes, dtype=torch.uint8, device=device)
    handle = symm_mem.rendezvous(block, group)
    # Flags must read 0 before any peer can post: zero, then meet.
    block.zero_()
    torch.cuda.synchronize()
    dist.barrier(group)
    table = torch.tensor([int(p) for p in handle.buffer_ptrs], dtype=torch.int64, device=device)
    remote = bool((table == 0).any().item())
    return Heap(handle.rank, handle.world_size, plan, block, table, remote, keep=handle)
