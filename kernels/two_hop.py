"""One rank of a high-throughput MoE layer over several nodes: dispatch and combine go by the rails (``rail``)."""

from __future__ import annotations

import torch
import triton

from . import rail
from .expert_ffn import ExpertWeights, MoeShape
from .grouped_gemm import Tile
from .high_throughput import HighThroughput, high_throughput_plan
from .ht_combine import ht_reduce
from .layout import Groups, layout_groups
from .nvshmem import with_nvshmem
from .quantise import quantise
from .symmetric import Heap, Plan


def two_hop_plan(shape: MoeShape, local_ranks: int, staged: bool = False) -> Plan:
    """``local_ranks`` ranks per node; ``staged`` where NVSHMEM carries the first hop."""
    if shape.ranks % local_ranks:
        raise ValueError(f"ranks ({shape.ranks}) do not divide into nodes of {local_ranks}")
    if shape.experts > rail.MAX_EXPERTS:
        raise ValueError(f"experts ({shape.experts}) exceed {rail.MAX_EXPERTS}, the most a row's 4-byte index can name")
    plan = high_throughput_plan(shape, staged)
    row = sum(row_bytes(shape).values())
    rail.rail_fields(plan, shape.ranks // local_ranks, shape.capacity, row, shape.hidden, staged)
    return plan


def row_bytes(shape: MoeShape) -> dict[str, int]:
    element, scales = (1, shape.hidden // 128) if shape.fp8 else (2, 0)
    return rail.rail_row_bytes(shape.hidden, element, scales, shape.top_k)


class TwoHop(HighThroughput):
    """As HighThroughput; ``put``/``slots``/``forward`` replace ``dispatch``, ``give_back``/``combine`` replace ``combine``."""

    PHASES = (
        "layout",
        "notify_post",
        "notify_wait",
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
        self, shape: MoeShape, heap: Heap, weights: ExpertWeights, tile: Tile, programs: int, local_ranks: int
    ) -> None:
        super().__init__(shape, heap, weights, tile, programs)
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

    def _payload(self) -> dict[str, int]:
        shape = self.shape
        scales = shape.hidden // 128 if shape.fp8 else 0
        words = shape.hidden * (1 if shape.fp8 else 2) // 4
        return {
            "WORDS": words,
            "SCALES": scales,
            "SP": triton.next_power_of_2(max(scales, 1)),
            "K": shape.top_k,
            "KP": triton.next_power_of_2(shape.top_k),
            "BLOCK": min(4096, triton.next_power_of_2(words)),
        }

    def put(self) -> None:
        """Send each row to the own index on every node with one of its experts. Posts; never waits."""
        heap, payload = self.heap, self.x
        if self.quantised is not None and self.scale is not None:
            payload = self.quantised[: self.x.shape[0]]
            quantise(self.x, payload, self.scale, self.programs)
        kernel = with_nvshmem(rail.put_kernel) if heap.remote else rail.put_kernel
        kernel[(max(1, min(self.programs, self.x.shape[0])),)](
            heap.table,
            payload.view(torch.int32),
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
            sum(row_bytes(self.shape).values()) // 4,
            heap.offset("rail_x"),
            heap.offset("rail_stage") if heap.remote else 0,
            heap.offset("rail_flag"),
            self.epoch,
            **self._payload(),
            NVSHMEM=heap.remote,
            num_warps=8,
        )

    def slots(self) -> None:
        """Wait for the rows of every node and number those of each local rank."""
        shape, payload = self.shape, self._payload()
        rail.slots_kernel[(self.nodes * self.local_ranks,)](
            self.heap.table,
            self.rail_rows,
            self.rail_slots,
            self.heap.rank,
            self.nodes,
            self.local_ranks,
            shape.local_experts,
            shape.capacity,
            sum(row_bytes(shape).values()) // 4,
            payload["WORDS"] + 2 + payload["SCALES"],
            shape.top_k,
            self.heap.offset("rail_x"),
            self.heap.offset("rail_flag"),
            self.heap.offset("status"),
            self.epoch,
            BLOCK=min(1024, max(16, triton.next_power_of_2(shape.capacity))),
        )

    def forward(self) -> None:
        """Forward each row to the local ranks that need it. Posts; never waits."""
        heap, shape, payload = self.heap, self.shape, self._payload()
        rail.forward_kernel[(min(self.programs, self.nodes * shape.capacity),)](
            heap.table,
            self.rail_rows,
            self.rail_slots,
            self.rail_counters[1:],
            heap.rank,
            self.nodes,
            self.local_ranks,
            shape.capacity,
            sum(row_bytes(shape).values()) // 4,
            heap.offset("rail_x"),
            heap.offset("row_x"),
            heap.offset("row_scale") if payload["SCALES"] else 0,
            heap.offset("row_token"),
            heap.offset("row_index"),
            heap.offset("row_weight"),
            heap.offset("row_flag"),
            self.epoch,
            **payload,
            RP=triton.next_power_of_2(self.local_ranks),
            num_warps=8,
        )

    def reduce(self) -> None:
        first = self.heap.rank // self.local_ranks * self.local_ranks
        node = range(first, first + self.local_ranks)
        ht_reduce(
            self.heap, self.ffn.y, self.arrivals, self.position, self.counters[1:], self.epoch, self.programs, readers=node
        )

    def give_back(self) -> None:
        """Sum each forwarded token over the node and return it to its owner: waits on the node's sums, then posts."""
        heap, shape = self.heap, self.shape
        kernel = with_nvshmem(rail.return_kernel) if heap.remote else rail.return_kernel
        kernel[(min(self.programs, self.nodes * shape.capacity),)](
            heap.table,
            self.rail_rows,
            self.rail_slots,
            self.rail_counters[2:],
            heap.rank,
            self.nodes,
            self.local_ranks,
            shape.capacity,
            heap.offset("partial"),
            heap.offset("partial_flag"),
            heap.offset("rail_back"),
            heap.offset("rail_back_stage") if heap.remote else 0,
            heap.offset("rail_back_flag"),
            heap.offset("status"),
            self.epoch,
            HIDDEN=shape.hidden,
            LP=triton.next_power_of_2(self.local_ranks),
            BLOCK=min(8192, triton.next_power_of_2(shape.hidden)),
            NVSHMEM=heap.remote,
            num_warps=8,
        )

    def combine(self) -> None:
        """Wait for every node's sums and add them by ascending node."""
        heap, shape = self.heap, self.shape
        rail.sum_kernel[(max(1, min(self.programs, self.x.shape[0])),)](
            heap.table,
            self.node_groups.slot,
            self.out,
            self.x.shape[0],
            heap.rank,
            self.nodes,
            self.local_ranks,
            shape.capacity,
            heap.offset("rail_back"),
            heap.offset("rail_back_flag"),
            heap.offset("status"),
            self.epoch,
            HIDDEN=shape.hidden,
            BLOCK=min(8192, triton.next_power_of_2(shape.hidden)),
            num_warps=8,
        )
