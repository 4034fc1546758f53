"""Both protocols as 2, 4 and 8 real processes against a dense layer in float64."""

import multiprocessing
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import triton.language as tl

sys.path.insert(0, str(Path(__file__).parent))

from layers import ALL, PROTOCOLS, draw, make, relative_error, run_phases

from epicycle.kernels import processes
from epicycle.kernels.exchange import signal
from epicycle.kernels.exchange.notify import CapacityError, MissingRankError
from epicycle.kernels.exchange.symmetric import in_process, shared
from epicycle.kernels.experts.expert_ffn import MoeShape
from epicycle.kernels.processes import RankFailedError, run_forked

LIMIT = {False: 0.005, True: 0.05}


def _run(protocol: str, shape: MoeShape, tokens: list[int], seed: int = 7, epochs: int = 1, one_expert: bool = False) -> float:
    """Largest relative error of any epoch; the ranks are forked processes that use the same buffers each epoch."""
    heaps = shared(ALL[protocol][1](shape), shape.ranks)
    calls = [draw(shape, tokens if i % 2 == 0 else tokens[::-1], seed + i, one_expert) for i in range(epochs)]
    for inputs in calls[1:]:
        inputs.gate_up, inputs.down = calls[0].gate_up, calls[0].down
    wanted = [[inputs.expected(r) for r in range(shape.ranks)] for inputs in calls]

    def work(rank: int) -> list[list[list[float]]]:
        layer = make(protocol, shape, heaps[rank], calls[0])
        results = []
        for inputs in calls:
            layer.load(inputs.x[rank], inputs.topk[rank], inputs.weight[rank])
            results.append(layer.run().tolist())
        return results

    got = run_forked(shape.ranks, work, timeout_s=600)
    each = [[torch.tensor(rank[i]).view(-1, shape.hidden) for rank in got] for i in range(epochs)]
    return max(relative_error(out, want) for out, want in zip(each, wanted, strict=True))


@pytest.mark.parametrize("fp8", [False, True], ids=["bf16", "fp8"])
@pytest.mark.parametrize("ranks", [2, 4, 8])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_processes(protocol: str, ranks: int, fp8: bool) -> None:
    shape = MoeShape(ranks, experts=ranks * 2, top_k=3, hidden=512, inter=128, capacity=4, fp8=fp8)
    tokens = [(3 * r + 1) % 5 for r in range(ranks)]
    tokens[0] = 0  # a rank without tokens still takes part
    assert _run(protocol, shape, tokens) <= LIMIT[fp8]


@pytest.mark.parametrize(("ranks", "fp8", "epochs"), [(2, False, 1), (4, False, 2), (8, True, 1)])
def test_two_hop_processes(ranks: int, fp8: bool, epochs: int) -> None:
    """Nodes of two ranks; one more bf16 rounding on the way back."""
    shape = MoeShape(ranks, experts=ranks, top_k=2, hidden=256, inter=128, capacity=3, fp8=fp8)
    assert _run("two_hop", shape, [(3 * r + 2) % 4 for r in range(ranks)], epochs=epochs) <= LIMIT[fp8]


@pytest.mark.long(share=0.5)
@pytest.mark.parametrize("top_k", range(1, 9))
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_top_k(protocol: str, top_k: int) -> None:
    shape = MoeShape(2, experts=8, top_k=top_k, hidden=128, inter=128, capacity=4)
    assert _run(protocol, shape, [4, 1]) <= LIMIT[False]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_token_to_one_expert(protocol: str) -> None:
    shape = MoeShape(4, experts=4, top_k=1, hidden=128, inter=128, capacity=8)
    assert _run(protocol, shape, [8, 3, 0, 6], one_expert=True) <= LIMIT[False]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_repeated_calls_on_the_same_buffers(protocol: str) -> None:
    shape = MoeShape(4, experts=4, top_k=2, hidden=128, inter=128, capacity=6, fp8=True)
    assert _run(protocol, shape, [6, 0, 3, 5], epochs=4) <= LIMIT[True]


@pytest.mark.parametrize("hidden", [2048, 7168])
@pytest.mark.parametrize("fp8", [False, True], ids=["bf16", "fp8"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_hidden(protocol: str, fp8: bool, hidden: int) -> None:
    shape = MoeShape(2, experts=2, top_k=2, hidden=hidden, inter=128, capacity=2, fp8=fp8)
    inputs = draw(shape, [2, 1], seed=hidden)
    layers = [make(protocol, shape, heap, inputs) for heap in in_process(PROTOCOLS[protocol][1](shape), 2)]
    out = run_phases(layers, inputs)
    assert relative_error(out, [inputs.expected(r) for r in range(2)]) <= LIMIT[fp8]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_too_many_tokens_are_refused_before_anything_is_written(protocol: str) -> None:
    shape = MoeShape(2, experts=4, top_k=2, hidden=128, inter=128, capacity=4)
    heaps = in_process(PROTOCOLS[protocol][1](shape), 2)
    inputs = draw(shape, [5, 1], seed=3)
    layer = make(protocol, shape, heaps[0], inputs)
    with pytest.raises(CapacityError, match="5 tokens exceed the capacity of 4"):
        layer.load(inputs.x[0], inputs.topk[0], inputs.weight[0])
    assert all(int(heap.block.count_nonzero()) == 0 for heap in heaps)


def test_too_many_expert_rows_are_refused_and_never_written_out_of_bounds() -> None:
    shape = MoeShape(2, experts=4, top_k=2, hidden=128, inter=128, capacity=30, max_rows=16)
    inputs = draw(shape, [30, 30], seed=3)
    heaps = in_process(PROTOCOLS["high_throughput"][1](shape), 2)
    layers = [make("high_throughput", shape, heap, inputs) for heap in heaps]
    guards = []
    for rank, layer in enumerate(layers):
        layer.load(inputs.x[rank], inputs.topk[rank], inputs.weight[rank])
        # Put the expert rows into the middle of a larger block whose rest must stay as it is.
        rows = layer.expert_x.shape[0]
        guard = torch.full((3 * rows, shape.hidden), 7.0, dtype=torch.bfloat16)
        layer.expert_x = guard[rows : 2 * rows]
        guards.append((guard, rows))
    for phase in ("layout", "notify_post", "notify_wait", "cast", "dispatch", "expand"):
        for layer in layers:
            getattr(layer, phase)()
    for layer in layers:
        with pytest.raises(CapacityError, match="expert rows but its buffer holds 48"):
            layer.check()
    for guard, rows in guards:
        assert bool((guard[:rows] == 7).all() and (guard[2 * rows :] == 7).all())


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_rank_that_never_posts_is_named(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (signal, sys.modules["epicycle.kernels.exchange.ll_dispatch"]):
        monkeypatch.setattr(module, "POLLS", tl.constexpr(3))
    shape = MoeShape(2, experts=2, top_k=1, hidden=128, inter=128, capacity=2)
    inputs = draw(shape, [2, 2], seed=3)
    layer = make(protocol, shape, in_process(PROTOCOLS[protocol][1](shape), 2)[0], inputs)
    layer.load(inputs.x[0], inputs.topk[0], inputs.weight[0])
    with pytest.raises(MissingRankError, match="waited for rank 1"):
        layer.run()


def test_a_process_that_dies_or_hangs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(rank: int) -> None:
        if rank == 1:
            import os

            os._exit(3)

    def hangs(rank: int) -> None:
        if rank == 1:
            time.sleep(60)

    with pytest.raises(RankFailedError, match="rank 1 died with exit code 3"):
        run_forked(2, dies, timeout_s=300)

    alone = []

    def monotonic() -> float:
        """Time stands still until rank 0 has long reported, however loaded the machine is."""
        alone.extend([0] * (len(multiprocessing.active_children()) == 1))
        return 10.0 if len(alone) > 3 else 0.0

    monkeypatch.setattr(processes, "time", SimpleNamespace(monotonic=monotonic, sleep=time.sleep))
    with pytest.raises(RankFailedError, match="rank 1 did not finish within 1 s"):
        run_forked(2, hangs, timeout_s=1)
