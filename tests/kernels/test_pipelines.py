"""Both protocols as 2, 4 and 8 real processes against a dense layer in float64."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from layers import PROTOCOLS, draw, make, relative_error, run_phases

from epicycle.kernels.expert_ffn import MoeShape
from epicycle.kernels.notify import CapacityError
from epicycle.kernels.processes import RankFailure, run_forked
from epicycle.kernels.symmetric import in_process, shared

LIMIT = {False: 0.005, True: 0.05}


def _run(protocol: str, shape: MoeShape, tokens: list[int], seed: int = 7, epochs: int = 1, one_expert: bool = False) -> float:
    """Largest relative error of any rank in any epoch; the ranks are forked processes that use the same buffers each epoch."""
    heaps = shared(PROTOCOLS[protocol][1](shape), shape.ranks)
    calls = [draw(shape, tokens if i % 2 == 0 else tokens[::-1], seed + i, one_expert) for i in range(epochs)]
    for inputs in calls[1:]:
        inputs.gate_up, inputs.down = calls[0].gate_up, calls[0].down
    wanted = [[inputs.expected(r) for r in range(shape.ranks)] for inputs in calls]

    def work(rank: int) -> list[float]:
        layer = make(protocol, shape, heaps[rank], calls[0])
        errors = []
        for inputs, want in zip(calls, wanted, strict=True):
            layer.load(inputs.x[rank], inputs.topk[rank], inputs.weight[rank])
            errors.append(relative_error(layer.run(), want[rank]))
        return errors

    return max(e for rank in run_forked(shape.ranks, work, timeout_s=120) for e in rank)


@pytest.mark.parametrize("fp8", [False, True], ids=["bf16", "fp8"])
@pytest.mark.parametrize("ranks", [2, 4, 8])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_processes(protocol: str, ranks: int, fp8: bool) -> None:
    shape = MoeShape(ranks, experts=ranks * 2, top_k=3, hidden=512, inter=128, capacity=8, fp8=fp8)
    tokens = [(3 * r + 2) % 7 for r in range(ranks)]
    tokens[0] = 0  # a rank without tokens still takes part
    assert _run(protocol, shape, tokens) <= LIMIT[fp8]


if __name__ == "__main__":
    import time
    for protocol in PROTOCOLS:
        for ranks in (2, 4):
            for fp8 in (False, True):
                t = time.time()
                shape = MoeShape(ranks, experts=ranks * 2, top_k=3, hidden=512, inter=128, capacity=8, fp8=fp8)
                tokens = [(3 * r + 2) % 7 for r in range(ranks)]
                inputs = draw(shape, tokens, 7)
                layers = [make(protocol, shape, h, inputs) for h in in_process(PROTOCOLS[protocol][1](shape), ranks)]
                out = run_phases(layers, inputs)
                print(protocol, ranks, fp8, [relative_error(out[r], inputs.expected(r)) for r in range(ranks)], time.time() - t)
