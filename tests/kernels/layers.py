"""Inputs and runs of whole layers for the tests: in one process, phase by phase, or as forked processes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch

from epicycle.kernels.exchange.symmetric import Heap
from epicycle.kernels.experts.expert_ffn import ExpertWeights, MoeShape, dense_moe
from epicycle.kernels.experts.grouped_gemm import dequantise_weight
from epicycle.kernels.experts.quantise import quantise_weight
from epicycle.kernels.experts.tiles import Tile, Tiles
from epicycle.kernels.layers.high_throughput import HighThroughput, high_throughput_plan
from epicycle.kernels.layers.low_latency import LowLatency, low_latency_plan
from epicycle.kernels.layers.two_hop import TwoHop, two_hop_plan

NODE = 2  # ranks per node of the two-hop path in these tests
PROTOCOLS = {"high_throughput": (HighThroughput, high_throughput_plan), "low_latency": (LowLatency, low_latency_plan)}
TWO_HOP = {"two_hop": (TwoHop, partial(two_hop_plan, local_ranks=NODE))}
ALL = PROTOCOLS | TWO_HOP


@dataclass
class Inputs:
    """Per rank: x [tokens, hidden] bf16, topk [tokens, top_k], weight; and the experts of the whole layer, float32."""

    x: list[torch.Tensor]
    topk: list[torch.Tensor]
    weight: list[torch.Tensor]
    gate_up: torch.Tensor
    down: torch.Tensor

    def expected(self, rank: int) -> torch.Tensor:
        return dense_moe(self.x[rank], self.topk[rank], self.weight[rank], self.gate_up, self.down)

    def to(self, device: str) -> Inputs:
        """The same on another device."""
        lists = ([tensor.to(device) for tensor in each] for each in (self.x, self.topk, self.weight))
        return Inputs(*lists, self.gate_up.to(device), self.down.to(device))


def draw(shape: MoeShape, tokens: list[int], seed: int, one_expert: bool = False) -> Inputs:
    g = torch.Generator().manual_seed(seed)
    x, topk, weight = [], [], []
    for n in tokens:
        x.append(torch.randn(n, shape.hidden, generator=g).bfloat16())
        scores = torch.rand(n, shape.experts, generator=g)
        if one_expert:
            scores[:, 1] += 2
        best = scores.topk(shape.top_k)
        topk.append(best.indices)
        weight.append(best.values / best.values.sum(-1, keepdim=True))
    gate_up = torch.randn(shape.experts, 2 * shape.inter, shape.hidden, generator=g) / shape.hidden**0.5
    down = torch.randn(shape.experts, shape.hidden, shape.inter, generator=g) / shape.inter**0.5
    # The reference computes with the weights as the experts hold them: bf16, or float8 with block scales.
    held = [_float8_weight(w) if shape.fp8 else w.bfloat16().float() for w in (gate_up, down)]
    return Inputs(x, topk, weight, *held)


def _float8_weight(w: torch.Tensor) -> torch.Tensor:
    return dequantise_weight(*quantise_weight(w)).float()


def make(protocol: str, shape: MoeShape, heap: Heap, inputs: Inputs, programs: int = 2):
    mine = slice(heap.rank * shape.local_experts, (heap.rank + 1) * shape.local_experts)
    weights = ExpertWeights.of(inputs.gate_up[mine], inputs.down[mine], shape.fp8)
    tiles = Tiles.same(Tile(16, 128, 128, 4, 2))
    few = {"low_latency": {"splits": 1}, "two_hop": {"local_ranks": NODE}}.get(protocol, {})
    return ALL[protocol][0](shape, heap, weights, tiles, programs, **few)


def run_phases(layers: list, inputs: Inputs) -> list[torch.Tensor]:
    """All ranks in this process: each phase on every rank before the next."""
    for rank, layer in enumerate(layers):
        layer.load(inputs.x[rank], inputs.topk[rank], inputs.weight[rank])
    for phase in layers[0].PHASES:
        for layer in layers:
            getattr(layer, phase)()
            if phase == "notify_wait":
                layer.check()
    return [layer.out.clone() for layer in layers]


def relative_error(got: list[torch.Tensor], want: list[torch.Tensor]) -> float:
    """Of the whole layer's output, all ranks together; infinite if anything is not finite."""
    a, b = torch.cat(got).double(), torch.cat(want).double()
    return float((a - b).norm() / b.norm()) if bool(torch.isfinite(a).all()) else float("inf")
