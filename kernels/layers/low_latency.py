"""One rank of a low-latency MoE layer: send, receive, masked experts, return, combine, as separate launches."""

from __future__ import annotations

from typing import ClassVar

import torch

from ..exchange.ll_combine import ll_combine, ll_combine_fields, ll_return
from ..exchange.ll_dispatch import ll_dispatch_fields, ll_receive, ll_send, new_packed
from ..exchange.notify import check_status, check_tokens
from ..exchange.replicas import Replicas, choose_replicas
from ..exchange.symmetric import Heap, Plan
from ..experts.expert_ffn import ExpertFfn, ExpertWeights, MoeShape
from ..experts.tiles import Tiles


def low_latency_plan(shape: MoeShape) -> Plan:
    plan = Plan()
    ll_dispatch_fields(plan, shape.ranks, shape.local_experts, shape.capacity, shape.hidden, shape.fp8)
    ll_combine_fields(plan, shape.experts, shape.capacity, shape.hidden, shape.top_k)
    plan.add("status", (2,), torch.int32)
    return plan


class LowLatency:
    """Launches of one rank, in the order of ``PHASES``. In one process all ranks finish a phase before the next begins."""

    PHASES: ClassVar[tuple[str, ...]] = ("send", "receive", "compute", "give_back", "combine")

    def __init__(
        self, shape: MoeShape, heap: Heap, weights: ExpertWeights, tiles: Tiles, programs: int, splits: int | None = None
    ) -> None:
        """``splits``: programs that share an (expert, source) pair (default: one per row it can have, up to 16)."""
        self.shape, self.heap, self.programs = shape, heap, programs
        self.splits = splits or max(1, min(16, shape.capacity))
        device = heap.device
        self.epoch = 0
        self.replicas: Replicas | None = None
        self.used = torch.zeros(shape.experts, dtype=torch.int32, device=device)
        self.counters = torch.zeros(1 + shape.experts, dtype=torch.int32, device=device)
        rows = shape.ranks * shape.capacity
        self.packed = new_packed(shape.ranks, shape.local_experts, shape.capacity, shape.hidden, shape.fp8, device)
        self.ffn = ExpertFfn(shape, weights, shape.local_experts * rows, tiles)
        self._out = torch.zeros(shape.capacity, shape.hidden, dtype=torch.bfloat16, device=device)

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
        self.out = self._out[:tokens]
        self.epoch += 1

    def send(self) -> None:
        if self.replicas is not None:
            chosen = self._slots[: self.x.shape[0]]
            self.topk = choose_replicas(self.chosen, self.replicas, self.heap.rank, self.first_token, chosen)
        ll_send(self.heap, self.x, self.topk, self.used, self.counters[:1], self.epoch, self.programs)

    def receive(self) -> None:
        ll_receive(self.heap, self.packed, self.epoch, self.splits)

    def compute(self) -> None:
        scale = self.packed.scale.flatten(1) if self.packed.scale is not None else None
        self.ffn.run(self.packed.x.flatten(0, 1), scale, count=self.packed.count)

    def give_back(self) -> None:
        y = self.ffn.y.unflatten(0, (self.shape.local_experts, -1))
        ll_return(self.heap, y, self.packed, self.counters[1:], self.epoch, self.splits)

    def combine(self) -> None:
        ll_combine(self.heap, self.topk, self.weight, self.out, self.epoch, self.programs)

    def check(self) -> None:
        """Raise MissingRankError if the device recorded one (synchronises; leave out under graph capture)."""
        check_status(self.heap)

    def run(self, check: bool = True) -> torch.Tensor:
        """All phases; [tokens, hidden] bf16. For ranks that are processes of their own."""
        for phase in self.PHASES:
            getattr(self, phase)()
        if check:
            self.check()
        return self.out
