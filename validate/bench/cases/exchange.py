"""Cases between virtual ranks on one device: each phase of both protocols, and the whole layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from ....kernels.exchange.ht_combine import combine_bytes, reduce_bytes
from ....kernels.exchange.ht_dispatch import dispatch_bytes, expand_bytes
from ....kernels.exchange.layout import layout_bytes
from ....kernels.exchange.ll_dispatch import message_bytes
from ....kernels.exchange.notify import notify_bytes
from ....kernels.exchange.symmetric import in_process
from ....kernels.experts.expert_ffn import ExpertWeights, MoeShape, dense_moe
from ....kernels.experts.grouped_gemm import dequantise_weight
from ....kernels.experts.quantise import quantise_weight
from ....kernels.layers.high_throughput import HighThroughput, formats, high_throughput_plan
from ....kernels.layers.low_latency import LowLatency, low_latency_plan
from .answers import HT, LL, answers, packed_rows, payload_of, play, sorted_rows
from .case import Case, Problem, Setup, Tensors
from .single_rank import Point

#: phase -> the column ``op`` of its row; phases not named here are not timed alone.
OPS = {
    HT: {"layout": "layout", "notify_post": "notify_post", "notify_wait": "notify_wait", "dispatch": "dispatch",
         "expand": "expand", "reduce": "reduce", "combine": "combine"},
    LL: {"send": "dispatch_send", "receive": "dispatch_receive", "give_back": "combine_send", "combine": "combine_receive"},
}  # fmt: skip


#: phases timed alone, in the order of the layer; the cast and the experts are single-rank cases.
TIMED = {
    HT: ("layout", "notify_post", "notify_wait", "dispatch", "expand", "reduce", "combine"),
    LL: ("send", "receive", "give_back", "combine"),
}


def exchange_cases(point: Point, setup: Setup) -> list[Case]:
    """Phases and whole layers of both protocols in bf16 and with float8 payload. Low latency up to 256 tokens only."""
    cases = []
    for fp8 in (False, True):
        for protocol in (HT, LL) if point.tokens <= 256 else (HT,):
            build = _Build(point, protocol, fp8, setup)
            cases += [build.phase(phase) for phase in TIMED[protocol]]
            if protocol == LL:
                cases.append(build.first_token())
            cases.append(build.whole())
    return cases


class _Build:
    def __init__(self, point: Point, protocol: str, fp8: bool, setup: Setup) -> None:
        self.point, self.protocol, self.fp8 = point, protocol, fp8
        self.device, self.programs = setup.device, setup.programs
        local = point.experts // point.ranks
        mean = point.tokens * point.top_k
        room = None if setup.small else min(point.ranks * point.tokens * min(point.top_k, local), 2 * mean + 64 * local)
        self.shape = MoeShape(
            point.ranks, point.experts, point.top_k, point.hidden, point.inter, point.tokens, fp8, max_rows=room
        )
        each = mean * point.ranks / point.experts
        self.tiles = setup.tiles("fp8" if fp8 else "bf16", each, point.hidden, point.inter)

    def layers(self, seed: int, weights: bool) -> tuple[list[Any], Tensors, tuple[torch.Tensor, torch.Tensor]]:
        """Loaded ranks, their inputs, and the experts as held (float32). ``weights`` False: tiny ones."""
        point, shape, device = self.point, self.shape, self.device
        g = torch.Generator(device).manual_seed(seed)
        inter = shape.inter if weights else 128
        shape = MoeShape(shape.ranks, shape.experts, shape.top_k, shape.hidden, inter, shape.capacity, self.fp8, shape.max_rows)
        gate_up, down = [], []
        held: list[ExpertWeights] = []
        for _ in range(point.ranks):
            a = torch.randn(shape.local_experts, 2 * inter, shape.hidden, generator=g, device=device) / shape.hidden**0.5
            b = torch.randn(shape.local_experts, shape.hidden, inter, generator=g, device=device) / inter**0.5
            held.append(ExpertWeights.of(a, b, self.fp8))
            if weights:
                gate_up.append(dequantise_weight(*quantise_weight(a)).float() if self.fp8 else a.bfloat16().float())
                down.append(dequantise_weight(*quantise_weight(b)).float() if self.fp8 else b.bfloat16().float())
        plan = (high_throughput_plan if self.protocol == HT else low_latency_plan)(shape)
        kind: Callable[..., Any] = HighThroughput if self.protocol == HT else LowLatency
        layers = [
            kind(shape, heap, held[heap.rank], self.tiles, self.programs) for heap in in_process(plan, point.ranks, device)
        ]
        inputs: Tensors = {}
        for r, layer in enumerate(layers):
            x = torch.randn(point.tokens, point.hidden, generator=g, device=device).bfloat16()
            best = torch.rand(point.tokens, point.experts, generator=g, device=device).topk(point.top_k)
            layer.load(x, best.indices, best.values / best.values.sum(-1, keepdim=True))
            inputs[f"x{r}"] = x
        experts = (torch.cat(gate_up), torch.cat(down)) if weights else (torch.empty(0), torch.empty(0))
        return layers, inputs, experts

    def whole(self) -> Case:
        """The layer from routing to combined output, all ranks in turn; the time is of one rank's share."""

        def make(seed: int) -> Problem:
            layers, inputs, (gate_up, down) = self.layers(seed, weights=True)
            play(layers, layers[0].PHASES)

            def expected() -> Tensors:
                # From x as it travels: the cast is checked by itself, and would hide smaller faults here.
                outs = [dense_moe(payload_of(a, self.fp8), a.topk, a.weight, gate_up, down) for a in layers]
                return {"out": torch.cat(outs)}

            def plain() -> None:
                _plain_layer(layers, gate_up16, down16)

            gate_up16, down16 = gate_up.bfloat16(), down.bfloat16()
            outputs = {f"out{r}": layer.out for r, layer in enumerate(layers)}
            run = lambda: play(layers, layers[0].PHASES, check=False)  # noqa: E731
            return Problem(
                inputs | {"gate_up": gate_up16, "down": down16},
                outputs,
                run,
                expected,
                tuple(inputs),
                finish=lambda: {"out": torch.cat([layer.out for layer in layers])},
                torch_run=plain,
            )

        flops = 6 * self.point.tokens * self.point.top_k * self.point.hidden * self.point.inter
        return self._case("layer", "layer", make, 0.05 if self.fp8 else 0.006, 0, flops, "matmul")

    def phase(self, phase: str) -> Case:
        """One phase of every rank; what comes before it has run."""

        def make(seed: int) -> Problem:
            layers, inputs, _ = self.layers(seed, weights=False)
            phases = layers[0].PHASES
            before = phases[: phases.index(phase)]
            g = torch.Generator(self.device).manual_seed(seed + 5)
            if phase in ("reduce", "combine", "give_back"):
                inputs = {f"y{r}": layer.ffn.y for r, layer in enumerate(layers)}
                for y in inputs.values():
                    y.copy_(torch.randn(y.shape, generator=g, device=y.device).bfloat16())
            run_before = [p for p in before if p != "compute"]
            play(layers, tuple(run_before))
            outputs, expected, finish = answers(self.protocol, phase, layers)
            return Problem(
                inputs,
                outputs,
                lambda: play(layers, (phase,), check=False),
                expected,
                () if phase in ("layout", "notify_post", "notify_wait") else tuple(inputs),
                finish=finish,
                torch_run=_plain_phase(phase, layers),
                prepare=lambda: play(layers, tuple(run_before), check=False),
            )

        return self._case(phase, OPS[self.protocol][phase], make, 0.04 if self.fp8 else 0.004, self._bytes(phase), 0, "copy")

    def first_token(self) -> Case:
        """Low-latency send and receive of rank 0 alone, one after the other: the latency a token pays for dispatch."""

        def make(seed: int) -> Problem:
            layers, inputs, _ = self.layers(seed, weights=False)
            before = ("send", "receive")
            play(layers, before)

            def run() -> None:
                layers[0].send()
                layers[0].receive()

            return Problem(
                inputs,
                {"x0": layers[0].packed.x},
                run,
                lambda: {"x0": sorted_rows(layers, 0)},
                tuple(inputs),
                finish=lambda: {"x0": packed_rows(layers[0])},
                prepare=lambda: play(layers, before, check=False),
            )

        case = self._case("send_receive", "dispatch", make, 0.04 if self.fp8 else 0.004, 0, 0, "copy")
        return replace(case, repeat=1)

    def _bytes(self, phase: str) -> int:
        """Bytes of one rank's phase, expected over uniform routing."""
        p = self.point
        copies = round(p.tokens * p.ranks * (1 - (1 - 1 / p.ranks) ** p.top_k))
        pairs = p.tokens * p.top_k
        if self.protocol == LL:
            message = sum(message_bytes(p.hidden, self.fp8).values())
            returned = pairs * 2 * p.hidden
            return {"send": p.tokens * 2 * p.hidden + pairs * message, "receive": 2 * pairs * message,
                    "give_back": 2 * returned, "combine": returned + p.tokens * 2 * p.hidden}[phase]  # fmt: skip
        layer_row, sums = formats(self.shape)
        local = p.experts // p.ranks
        return {
            "layout": layout_bytes(p.tokens, p.top_k, p.ranks, p.experts),
            "notify_post": notify_bytes(p.ranks, local),
            "notify_wait": notify_bytes(p.ranks, local),
            "dispatch": dispatch_bytes(layer_row, p.tokens, copies),
            "expand": expand_bytes(layer_row, copies, pairs),
            "reduce": reduce_bytes(sums, copies, pairs),
            "combine": combine_bytes(sums, p.tokens, copies),
        }[phase]

    def _case(
        self, name: str, op: str, make: Callable[[int], Problem], tolerance: float, size: int, flops: int, work: str
    ) -> Case:
        p, dtype = self.point, "fp8" if self.fp8 else "bfloat16"
        labels = {
            "nodes": 1,
            "gpus_per_node": 1,
            "virtual_ranks": p.ranks,
            "library": "epicycle-triton",
            "protocol": f"epicycle-{self.protocol}",
            "op": op,
            "payload_dtype": dtype,
            "routing": "uniform",
            "tokens_per_rank": p.tokens,
            "hidden": p.hidden,
            "top_k": p.top_k,
            "experts": p.experts,
        }
        short = {HT: "ht", LL: "ll"}[self.protocol]
        full = f"{short}_{name}_{'fp8' if self.fp8 else 'bf16'}"
        tile = self.tiles.up if name == "layer" else None
        return Case(full, "ep_comm", labels, make, tolerance, size, flops, work, tile=tile, repeat=p.ranks)


def _plain_phase(phase: str, layers: list[Any]) -> Callable[[], None] | None:
    """The same movement by plain torch, with the index lists ready made."""
    local, ranks = layers[0].shape.local_experts, range(len(layers))
    if phase == "dispatch":
        lists = [[(s.topk // local == r).any(1).nonzero()[:, 0] for r in ranks] for s in layers]

        def gather() -> None:
            for source, to in zip(layers, lists, strict=True):
                for i in to:
                    source.payload().view(torch.uint8).index_select(0, i)

        return gather
    if phase == "combine" and hasattr(layers[0], "groups"):
        lists = [[(s.topk // local == r).any(1).nonzero()[:, 0] for r in ranks] for s in layers]

        def add() -> None:
            for s, to in enumerate(lists):
                total = torch.zeros(layers[s].out.shape, dtype=torch.float32, device=layers[s].out.device)
                for r, i in enumerate(to):
                    total.index_add_(0, i, layers[r].sums.values(layers[r].heap.view("partial")[s, : i.numel()]).float())
                layers[s].out.copy_(total)

        return add
    return None


def _plain_layer(layers: list[Any], gate_up: torch.Tensor, down: torch.Tensor) -> None:
    """The same layer over all ranks' tokens by plain torch, in bf16: gather per expert, multiply, scatter-add."""
    x, topk = torch.cat([p.x for p in layers]), torch.cat([p.topk for p in layers])
    weight = torch.cat([p.weight for p in layers])
    out = torch.zeros(x.shape, dtype=torch.float32, device=x.device)
    for e in range(gate_up.shape[0]):
        t, k = (topk == e).nonzero(as_tuple=True)
        gate, up = (x[t] @ gate_up[e].T).chunk(2, -1)
        out.index_add_(0, t, weight[t, k, None] * ((torch.nn.functional.silu(gate) * up) @ down[e].T).float())
    out.bfloat16()
