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
    from epicycle.validate.bench.check import check
    from epicycle.validate.bench.run import cases
    from epicycle.validate.bench.single_rank import Point

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


MORE: dict[str, Callable[[], float]] = {
    "two_hop_layer_bf16": lambda: two_hop(False),
    "two_hop_layer_fp8": lambda: two_hop(True),
}


def names() -> list[str]:
    """Every case that the bench has at one of the points."""
    from epicycle.validate.bench.run import cases
    from epicycle.validate.bench.single_rank import Point

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
