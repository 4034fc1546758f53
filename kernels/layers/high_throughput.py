"""One rank of a high-throughput MoE layer: layout, notify, dispatch, experts, combine, as separate launches."""

from __future__ import annotations

from typing import ClassVar

import torch

from ..exchange.ht_combine import combine_fields, ht_combine, ht_reduce
from ..exchange.ht_dispatch import dispatch_fields, ht_dispatch, ht_expand
from ..exchange.layout import Experts, Groups, layout_experts, layout_groups
from ..exchange.notify import check_status, check_tokens, new_arrivals, notify_fields, notify_post, notify_wait
from ..exchange.replicas import Replicas, choose_replicas
from ..exchange.row import RowFormat, SumFormat
from ..exchange.symmetric import Heap, Plan
from ..experts.expert_ffn import ExpertFfn, ExpertWeights, MoeShape
from ..experts.quantise import quantise
from ..experts.tiles import Tiles


def formats(shape: MoeShape, two_hop: bool = False) -> tuple[RowFormat, SumFormat]:
    row = RowFormat.of(shape.hidden, shape.top_k, shape.fp8, two_hop)
    return row, SumFormat(shape.hidden, shape.top_k, two_hop)


def high_throughput_plan(shape: MoeShape, two_hop: bool = False, staged: bool = False) -> Plan:
    """``two_hop``: rows in the format that crosses nodes; ``staged``: with the buffers NVSHMEM puts are made from."""
    plan = Plan()
    row, sums = formats(shape, two_hop)
    notify_fields(plan, shape.ranks, shape.local_experts, staged)
    dispatch_fields(plan, shape.ranks, shape.capacity, row)
    combine_fields(plan, shape.ranks, shape.capacity, sums)
    return plan


class HighThroughput:
    """Launches of one rank, in the order of ``PHASES``. In one process all ranks finish a phase before the next begins."""

    PHASES: ClassVar[tuple[str, ...]] = (
        "layout",
        "notify_post",
        "notify_wait",
        "cast",
        "dispatch",
        "expand",
        "compute",
        "reduce",
        "combine",
    )

    def __init__(
        self, shape: MoeShape, heap: Heap, weights: ExpertWeights, tiles: Tiles, programs: int, two_hop: bool = False
    ) -> None:
        self.shape, self.heap, self.programs = shape, heap, programs
        self.row, self.sums = formats(shape, two_hop)
        device, tokens = heap.device, shape.capacity
        self.epoch = 0
        self.replicas: Replicas | None = None

        def ints(*size: int) -> torch.Tensor:
            return torch.zeros(size, dtype=torch.int32, device=device)

        self._groups = Groups(ints(shape.ranks), ints(tokens, shape.ranks))
        self._experts = Experts(ints(shape.experts), ints(tokens, shape.top_k))
        self.counters = ints(2)
        self.arrivals = new_arrivals(shape.ranks, shape.local_experts, shape.rows, tiles.m, device)
        rows = self.arrivals.capacity
        self.position = ints(shape.ranks * tokens, shape.top_k)
        payload = torch.float8_e4m3fn if shape.fp8 else torch.bfloat16
        self.quantised = torch.zeros(tokens, shape.hidden, dtype=payload, device=device) if shape.fp8 else None
        self.scale = torch.zeros(tokens, shape.hidden // 128, device=device) if shape.fp8 else None
        self.expert_x = torch.zeros(rows, shape.hidden, dtype=payload, device=device)
        self.expert_scale = torch.zeros(shape.hidden // 128, rows, device=device) if shape.fp8 else None
        self.ffn = ExpertFfn(shape, weights, rows, tiles)
        self._out = torch.zeros(tokens, shape.hidden, dtype=torch.bfloat16, device=device)
        self._out_weight = torch.zeros(tokens, shape.top_k, device=device)

    def balance(self, replicas: Replicas, first_token: int) -> None:
        """From now on ``topk`` names logical experts; each token takes a replica of them among the ``shape.experts`` slots.

        ``first_token``: number in the whole layer of this rank's first token.
        """
        self.replicas, self.first_token = replicas, first_token
        self._slots = torch.zeros(self.shape.capacity, self.shape.top_k, dtype=torch.int64, device=self.heap.device)

    def load(self, x: torch.Tensor, topk: torch.Tensor, weight: torch.Tensor) -> None:
        """Take the layer's inputs: [tokens, hidden] bf16, [tokens, top_k] integers (-1: unused), [tokens, top_k] float32."""
        tokens = x.shape[0]
        check_tokens(tokens, self.shape.capacity)
        self.x, self.topk, self.chosen, self.weight = x, topk, topk, weight
        self.groups = Groups(self._groups.counts, self._groups.slot[:tokens])
        self.experts = Experts(self._experts.counts, self._experts.place[:tokens])
        self.out, self.out_weight = self._out[:tokens], self._out_weight[:tokens]
        self.epoch += 1

    def layout(self) -> None:
        if self.replicas is not None:
            chosen = self._slots[: self.x.shape[0]]
            self.topk = choose_replicas(self.chosen, self.replicas, self.heap.rank, self.first_token, chosen)
        layout_groups(self.topk, self.shape.ranks, self.shape.local_experts, self.groups)
        layout_experts(self.topk, self.shape.experts, self.experts)

    def notify_post(self) -> None:
        notify_post(self.heap, self.groups, self.experts, self.epoch)

    def notify_wait(self) -> None:
        notify_wait(self.heap, self.epoch, self.arrivals)

    def check(self) -> None:
        """Raise CapacityError or MissingRankError if the device recorded one (synchronises; leave out under graph capture)."""
        check_status(self.heap, self.arrivals)

    def payload(self) -> torch.Tensor:
        """What travels: x itself, or x cast to float8 (its scales in ``scale``)."""
        return self.x if self.quantised is None else self.quantised[: self.x.shape[0]]

    def cast(self) -> None:
        if self.scale is not None:
            quantise(self.x, self.payload(), self.scale, self.programs)

    def dispatch(self) -> None:
        ht_dispatch(
            self.heap,
            self.row,
            self.payload(),
            self.scale,
            self.topk,
            self.weight,
            self.groups,
            self.experts,
            self.counters[:1],
            self.epoch,
            self.programs,
        )

    def expand(self) -> None:
        out, scale = self.expert_x, self.expert_scale
        ht_expand(self.heap, self.row, self.arrivals, out, scale, self.position, self.epoch, self.programs)

    def compute(self) -> None:
        self.ffn.run(self.expert_x, self.expert_scale, tile_expert=self.arrivals.tile_expert)

    def reduce(self, readers: range | None = None) -> None:
        ht_reduce(
            self.heap,
            self.row,
            self.sums,
            self.ffn.y,
            self.arrivals,
            self.position,
            self.counters[1:],
            self.epoch,
            self.programs,
            readers,
        )

    def combine(self) -> None:
        ht_combine(self.heap, self.sums, self.groups, self.out, self.out_weight, self.epoch, self.programs)

    def run(self, check: bool = True) -> torch.Tensor:
        """All phases; [tokens, hidden] bf16. For ranks that are processes of their own."""
        for phase in self.PHASES:
            getattr(self, phase)()
            if check and phase == "notify_wait":
                self.check()
        if check:
            self.check()
        return self.out
