"""A process that checks one case after another: ``python tests/gpu/child.py cuda`` (or ``cpu``: Triton's interpreter).

A process of its own, because Triton decides at the import of a kernel whether it is compiled or interpreted, and the other
tests interpret. Reads a case's name a line, answers with a line of JSON: ``error`` (the largest relative error), ``failed``
(what was wrong, or null) and, in the interpreter, ``kernels`` (those launched). The name ``names`` lists the bench's cases.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

DEVICE = sys.argv[1] if __name__ == "__main__" else "cpu"
if DEVICE == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"
else:
    os.environ.pop("TRITON_INTERPRET", None)
sys.path.insert(0, str(Path(__file__).parents[1] / "kernels"))

import torch  # noqa: E402

from epicycle.kernels import interpreter  # noqa: E402

if DEVICE == "cpu":
    interpreter.use()
    torch.set_num_threads(1)

#: tokens x hidden x inter x experts x top-k: few rows (small tiles), the low-latency range, and full tiles.
POINTS = {"cpu": ("3x128x128x4x2",), "cuda": ("3x2048x768x16x4", "200x2048x768x16x4", "1024x2048x768x16x4")}
RANKS = {"cpu": 2, "cuda": 4}
MODE = {"cpu": "interpret", "cuda": "virtual"}
launched: set[str] = set()


def bench(name: str) -> float:
    """The bench's own check of one of its cases, at every point where it has it."""
    from epicycle.validate.bench.cases.single_rank import Point
    from epicycle.validate.bench.check import check
    from epicycle.validate.bench.run import cases

    points = [Point.parse(text, RANKS[DEVICE]) for text in POINTS[DEVICE]]
    found = [case for point in points for case in cases(point, MODE[DEVICE], [name])]
    if not found:
        raise LookupError(f"the bench has no case {name}")
    return max(check(case, (1,) if DEVICE == "cpu" else (1, 2)) for case in found)


def two_hop(fp8: bool) -> float:
    """A layer over two nodes of two virtual ranks, twice on the same buffers, against a dense layer."""
    from layers import TWO_HOP, draw, make, relative_error, run_phases

    from epicycle.kernels.exchange.symmetric import in_process
    from epicycle.kernels.experts.expert_ffn import MoeShape

    wide = DEVICE != "cpu"
    shape = MoeShape(4, experts=8, top_k=3, hidden=2048 if wide else 128, inter=512 if wide else 128, capacity=64, fp8=fp8)
    heaps, worst = in_process(TWO_HOP["two_hop"][1](shape), shape.ranks, DEVICE), 0.0
    layers: list[Any] = []
    for seed, tokens in enumerate(([64, 0, 17, 40], [1, 33, 64, 0]) if wide else ([3, 0, 2, 1],)):
        inputs = draw(shape, tokens, seed).to(DEVICE)
        layers = [make("two_hop", shape, heap, inputs, programs=16 if wide else 2) for heap in heaps]
        worst = max(worst, relative_error(run_phases(layers, inputs), [inputs.expected(r) for r in range(shape.ranks)]))
    limit = 0.05 if fp8 else 0.006
    if not worst <= limit:
        raise ValueError(f"relative error {worst:.3g}, allowed {limit}")
    return worst


def balanced(protocol: str) -> float:
    """A layer over more slots than experts, one expert in every token's choice, against a dense layer of the experts."""
    from layers import PROTOCOLS, Inputs, draw, make, relative_error, run_phases

    from epicycle.kernels.exchange.replicas import CHOICES, Replicas
    from epicycle.kernels.exchange.symmetric import in_process
    from epicycle.kernels.experts.expert_ffn import MoeShape

    wide, experts, worst = DEVICE != "cpu", 6, 0.0
    size = 2048 if wide else 128
    shape = MoeShape(4, experts + 2, 2, hidden=size, inter=256 if wide else 128, capacity=64)
    tokens = [64, 0, 17, 40] if wide else [3, 0, 2, 1]
    held = torch.tensor([0, 1, 1, 2, 1, 3, 4, 5])
    for seed, choice in enumerate(CHOICES):
        drawn = draw(MoeShape(1, experts, 2, size, shape.inter, 64), tokens, seed, one_expert=True)
        slots = Inputs(drawn.x, drawn.topk, drawn.weight, drawn.gate_up[held], drawn.down[held]).to(DEVICE)
        drawn = drawn.to(DEVICE)
        heaps = in_process(PROTOCOLS[protocol][1](shape), 4, DEVICE)
        layers = [make(protocol, shape, heap, slots, programs=16 if wide else 2) for heap in heaps]
        for rank, layer in enumerate(layers):
            layer.balance(Replicas.of(held.to(DEVICE), experts, choice), sum(tokens[:rank]))
        worst = max(worst, relative_error(run_phases(layers, slots), [drawn.expected(r) for r in range(4)]))
    if not worst <= 0.006:
        raise ValueError(f"relative error {worst:.3g}, allowed 0.006")
    return worst


def product(loads: str, fp8: bool) -> float:
    """Both row orders by one way of loading, rows that no tile divides, on a tall and a low tile."""
    from dataclasses import replace

    from epicycle.kernels.experts.grouped_gemm import grouped_gemm, grouped_gemm_reference
    from epicycle.kernels.experts.quantise import quantise_reference, quantise_weight
    from epicycle.kernels.experts.tiles import Table, Tile

    wide, worst = DEVICE != "cpu", 0.0
    n, k = (768, 2048) if wide else (128, 256)
    element = "fp8" if fp8 else "bf16"
    tiles = [replace(Tile(16, 128, 128, 4, 2), loads=loads)]
    if wide:
        tiles = [Table.shipped().pick(element, rows, n, k, loads) for rows in (4096, 1)]
    for tile in tiles:
        each = 3 * tile.m // 2
        counts = torch.tensor([each, 0, each - 5, tile.m])
        for masked in (False, True):
            heights = torch.full((4,), each) if masked else -(-counts // tile.m) * tile.m
            expert = torch.arange(4).repeat_interleave(heights)
            place = torch.cat([torch.arange(int(h)) for h in heights])
            row_expert = torch.where(place < counts[expert], expert, -1) if masked else expert
            order = {"count": counts.int().to(DEVICE)}
            if not masked:
                order = {"tile_expert": expert[:: tile.m].int().contiguous().to(DEVICE)}
            g = torch.Generator().manual_seed(3)
            x = torch.randn(row_expert.numel(), k, generator=g).to(DEVICE)
            w = torch.randn(4, n, k, generator=g).to(DEVICE)
            a, a_scale = quantise_reference(x) if fp8 else (x.bfloat16(), None)
            b, b_scale = quantise_weight(w) if fp8 else (w.bfloat16(), None)
            by_k = a_scale.T.contiguous() if a_scale is not None else None
            y = torch.full((row_expert.numel(), n), float("nan"), device=DEVICE).bfloat16()
            grouped_gemm(a, b, y, x_scale=by_k, w_scale=b_scale, tile=tile, **order)
            row_expert = row_expert.to(DEVICE)
            real, want = row_expert >= 0, grouped_gemm_reference(a, b, row_expert, by_k, b_scale)
            if not bool(y[~real].isnan().all()):
                raise ValueError(f"{tile} wrote rows that belong to nobody")
            worst = max(worst, float((y[real].double() - want[real]).norm() / want[real].norm()))
    if not worst <= 0.005:
        raise ValueError(f"relative error {worst:.3g}, allowed 0.005")
    return worst


MORE: dict[str, Callable[[], float]] = {
    **{f"balanced_layer_{p}": partial(balanced, p) for p in ("high_throughput", "low_latency")},
    **{f"product_{way}_{e}": partial(product, way, e == "fp8") for way in ("tma", "pointer") for e in ("bf16", "fp8")},
    "two_hop_layer_bf16": lambda: two_hop(False),
    "two_hop_layer_fp8": lambda: two_hop(True),
}


def names() -> list[str]:
    """Every case that the bench has at one of the points."""
    from epicycle.validate.bench.cases.single_rank import Point
    from epicycle.validate.bench.run import cases

    points = [Point.parse(text, RANKS[DEVICE]) for text in POINTS[DEVICE]]
    return sorted({case.name for point in points for case in cases(point, MODE[DEVICE], None)})


def answer(name: str) -> dict[str, Any]:
    launched.clear()
    try:
        if name == "names":
            return {"names": names()}
        error = MORE[name]() if name in MORE else bench(name)
        return {"error": error, "failed": None, "kernels": sorted(launched)}
    except Exception:
        return {"error": None, "failed": traceback.format_exc(limit=8), "kernels": sorted(launched)}


def note_launches() -> None:
    """Keep the names of the kernels that the interpreter runs."""
    from triton.runtime.interpreter import GridExecutor

    run = GridExecutor.__call__

    def noting(self: Any, *arguments: Any, **options: Any) -> Any:
        launched.add(f"{self.fn.__module__.rsplit('.', 1)[-1]}.{self.fn.__name__}")
        return run(self, *arguments, **options)

    GridExecutor.__call__ = noting


if __name__ == "__main__":
    if DEVICE == "cpu":
        note_launches()
    for line in sys.stdin:
        print(json.dumps(answer(line.strip())), flush=True)
