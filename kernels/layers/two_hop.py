"""One rank of a high-throughput MoE layer over several nodes: dispatch and combine go by the rails (``rail``)."""

from __future__ import annotations

from typing import ClassVar

import torch
import triton

from ..exchange import rail
from ..exchange.layout import Groups, layout_groups
from ..exchange.nvshmem import with_nvshmem
from ..exchange.row import MAX_TWO_HOP_EXPERTS, MAX_TWO_HOP_TOKENS
from ..exchange.symmetric import Heap, Plan
from ..experts.expert_ffn import ExpertWeights, MoeShape
from ..experts.tiles import Tiles
from .high_throughput import HighThroughput, formats, high_throughput_plan


def two_hop_plan(shape: MoeShape, local_ranks: int, staged: bool = False) -> Plan:
    """``local_ranks`` ranks per node; ``staged`` where NVSHMEM carries the first hop."""
    if shape.ranks % local_ranks:
        raise ValueError(f"ranks ({shape.ranks}) do not divide into nodes of {local_ranks}")
    if shape.experts > MAX_TWO_HOP_EXPERTS or shape.capacity > MAX_TWO_HOP_TOKENS:
        limits = f"{MAX_TWO_HOP_EXPERTS} experts and {MAX_TWO_HOP_TOKENS} tokens"
        raise ValueError(f"{shape.experts} experts, {shape.capacity} tokens: a two-hop row's 4-byte index can name {limits}")
    plan = high_throughput_plan(shape, two_hop=True, staged=staged)
    rail.rail_fields(plan, shape.ranks // local_ranks, shape.capacity, *formats(shape, True), staged)
    return plan


class TwoHop(HighThroughput):
    """As HighThroughput; ``put``/``slots``/``forward`` replace ``dispatch``, ``give_back``/``combine`` replace ``combine``."""

    PHASES: ClassVar[tuple[str, ...]] = (
        "layout",
        "notify_post",
        "notify_wait",
        "cast",
        "put",
        "slots",
        "forward",
        "expand",
        "compute",
        "reduce",
        "give_back",
        "combine",
    )

    def __init__(
        self, shape: MoeShape, heap: Heap, weights: ExpertWeights, tiles: Tiles, programs: int, local_ranks: int
    ) -> None:
        super().__init__(shape, heap, weights, tiles, programs, two_hop=True)
        self.local_ranks, self.nodes = local_ranks, shape.ranks // local_ranks
        device, tokens = heap.device, shape.capacity

        def ints(*size: int) -> torch.Tensor:
            return torch.zeros(size, dtype=torch.int32, device=device)

        self._node_groups = Groups(ints(self.nodes), ints(tokens, self.nodes))
        self.rail_counters = ints(3)
        self.rail_rows = ints(self.nodes)
        self.rail_slots = ints(self.nodes * tokens, local_ranks)

    def load(self, x: torch.Tensor, topk: torch.Tensor, weight: torch.Tensor) -> None:
        super().load(x, topk, weight)
        self.node_groups = Groups(self._node_groups.counts, self._node_groups.slot[: x.shape[0]])

    def layout(self) -> None:
        super().layout()
        layout_groups(self.topk, self.nodes, self.shape.local_experts * self.local_ranks, self.node_groups)

    def put(self) -> None:
        """Send each row to the own index on every node with one of its experts. Posts; never waits."""
        heap, constants = self.heap, self.row.constants()
        constants["KP"] = triton.next_power_of_2(self.row.top_k)
        kernel = with_nvshmem(rail.put_kernel) if heap.remote else rail.put_kernel
        kernel[(max(1, min(self.programs, self.x.shape[0])),)](
            heap.table,
            self.payload().view(torch.int32),
            self.scale if self.scale is not None else self.weight,
            self.topk,
            self.weight,
            self.node_groups.slot,
            self.experts.place,
            self.node_groups.counts,
            self.rail_counters[:1],
            self.x.shape[0],
            heap.rank,
            self.nodes,
            self.local_ranks,
            self.shape.capacity,
            heap.offset("rail_row"),
            heap.offset("rail_stage") if heap.remote else 0,
            heap.offset("rail_flag"),
            self.epoch,
            **{name: constants[name] for name in rail.PUT_CONSTANTS},
            NVSHMEM=heap.remote,
            num_warps=8,
        )

    def slots(self) -> None:
        """Wait for the rows of every node and number those of each local rank."""
        constants = self.row.constants()
        rail.slots_kernel[(self.nodes * self.local_ranks,)](
            self.heap.table,
            self.rail_rows,
            self.rail_slots,
            self.heap.rank,
            self.nodes,
            self.local_ranks,
            self.shape.local_experts,
            self.shape.capacity,
            self.heap.offset("rail_row"),
            self.heap.offset("rail_flag"),
            self.heap.offset("status"),
            self.epoch,
            **{name: constants[name] for name in ("K", "STRIDE", "INDEX_AT")},
            BLOCK=min(1024, max(16, triton.next_power_of_2(self.shape.capacity))),
        )

    def forward(self) -> None:
        """Forward each row to the local ranks that need it. Posts; never waits."""
        rail.forward_kernel[(min(self.programs, self.nodes * self.shape.capacity),)](
            self.heap.table,
            self.rail_rows,
            self.rail_slots,
            self.rail_counters[1:],
            self.heap.rank,
            self.nodes,
            self.local_ranks,
            self.shape.capacity,
            self.heap.offset("rail_row"),
            self.heap.offset("row"),
            self.heap.offset("row_flag"),
            self.epoch,
            STRIDE=self.row.stride,
            TRAVELS=self.row.bytes // 4,
            LP=triton.next_power_of_2(self.local_ranks),
            BLOCK=min(4096, triton.next_power_of_2(self.row.bytes // 4)),
            num_warps=8,
        )

    def reduce(self, readers: range | None = None) -> None:
        first = self.heap.rank // self.local_ranks * self.local_ranks
        super().reduce(readers or range(first, first + self.local_ranks))

    def give_back(self) -> None:
        """Sum each forwarded token over the node and return it to its owner: waits on the node's sums, then posts."""
        heap, constants = self.heap, self.sums.constants()
        del constants["K"]
        kernel = with_nvshmem(rail.return_kernel) if heap.remote else rail.return_kernel
        kernel[(min(self.programs, self.nodes * self.shape.capacity),)](
            heap.table,
            self.rail_rows,
            self.rail_slots,
            self.rail_counters[2:],
            heap.rank,
            self.nodes,
            self.local_ranks,
            self.shape.capacity,
            heap.offset("partial"),
            heap.offset("partial_flag"),
            heap.offset("rail_back"),
            heap.offset("rail_back_stage") if heap.remote else 0,
            heap.offset("rail_back_flag"),
            heap.offset("status"),
            self.epoch,
            **constants,
            LP=triton.next_power_of_2(self.local_ranks),
            NVSHMEM=heap.remote,
            num_warps=8,
        )

    def combine(self) -> None:
        """Wait for every node's sums and add them by ascending node."""
        rail.home_kernel[(max(1, min(self.programs, self.x.shape[0])),)](
            self.heap.table,
            self.node_groups.slot,
            self.out,
            self.out_weight,
            self.x.shape[0],
            self.heap.rank,
            self.nodes,
            self.local_ranks,
            self.shape.capacity,
            self.heap.offset("rail_back"),
            self.heap.offset("rail_back_flag"),
            self.heap.offset("status"),
            self.epoch,
            **self.sums.constants(),
            num_warps=8,
        )
