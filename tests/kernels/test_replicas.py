"""Replicas inside the dispatch kernels: which slot serves a token, whole layers over slots, bytes, and the balance gained."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from layers import PROTOCOLS, Inputs, draw, make, relative_error, run_phases
from traced import trace_phases

from epicycle.kernels.exchange.replicas import CHOICES, Replicas, choose_replicas, choose_replicas_reference, imbalance
from epicycle.kernels.exchange.symmetric import in_process
from epicycle.kernels.exchange.tracing import STORE
from epicycle.kernels.experts.expert_ffn import MoeShape
from epicycle.sim.ep.placement import place
from epicycle.sim.inputs.traffic import Routing
from epicycle.sim.layer import routing

RANKS, EXPERTS, REDUNDANT, TOP_K = 4, 6, 2, 2
TOKENS = [5, 3, 0, 6]


def _skewed(seed: int, tokens: list[int]) -> list[torch.Tensor]:
    """Expert 1 is in every token's choice: [rank] of [tokens, top_k]."""
    g = torch.Generator().manual_seed(seed)
    scores = [torch.rand(n, EXPERTS, generator=g) for n in tokens]
    for s in scores:
        s[:, 1] += 2
    return [s.topk(TOP_K).indices for s in scores]


def _replicas(choice: str, topks: list[torch.Tensor]) -> tuple[Replicas, np.ndarray]:
    load = torch.bincount(torch.cat([t[t >= 0] for t in topks]), minlength=EXPERTS).double().numpy()
    expert_of = place("balanced", EXPERTS, REDUNDANT, RANKS, load).expert_of
    return Replicas.of(torch.from_numpy(expert_of), EXPERTS, choice), expert_of


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_equals_its_reference(choice: str) -> None:
    topks = _skewed(3, [9, 1, 0, 7])
    topks[0][2, 1] = -1
    replicas, _ = _replicas(choice, topks)
    first = 0
    for rank, topk in enumerate(topks):
        out = torch.full_like(topk, -9)
        choose_replicas(topk, replicas, rank, first, out)
        assert torch.equal(out, choose_replicas_reference(topk, replicas, rank, first))
        first += topk.shape[0]


def test_what_cannot_be_chosen_is_refused() -> None:
    with pytest.raises(ValueError, match="one of static, round-robin, least-loaded"):
        Replicas.of(torch.arange(EXPERTS), EXPERTS, "best")
    with pytest.raises(ValueError, match="need a slot each"):
        Replicas.of(torch.arange(EXPERTS - 1), EXPERTS)


def test_least_loaded_and_round_robin_balance_a_skewed_routing() -> None:
    """One expert in every choice: before, its rank holds several times the mean; its replicas share that between them."""
    topks = _skewed(5, [64, 64, 64, 64])
    slots = EXPERTS + REDUNDANT
    load = torch.bincount(torch.cat([t.flatten() for t in topks]), minlength=EXPERTS).double().numpy()
    alone = place("balanced", EXPERTS, 0, 2, load).expert_of
    before = imbalance([Replicas.of(torch.from_numpy(alone), EXPERTS).slots.long()[t] for t in topks], 2, EXPERTS)
    after = {}
    for choice in CHOICES:
        replicas, _ = _replicas(choice, topks)
        sent = [choose_replicas(t, replicas, r, 64 * r, torch.empty_like(t)) for r, t in enumerate(topks)]
        after[choice] = imbalance(sent, RANKS, slots)
    assert before > 1.15
    assert after["round-robin"] < 1.1
    assert after["least-loaded"] < 1.1
    assert after["least-loaded"] <= after["static"]


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_balanced_layer_computes_what_the_plain_one_does(protocol: str, choice: str) -> None:
    topks = _skewed(7, TOKENS)
    replicas, expert_of = _replicas(choice, topks)
    logical = MoeShape(RANKS, EXPERTS + REDUNDANT, TOP_K, hidden=128, inter=128, capacity=8)
    inputs = draw(logical, TOKENS, seed=7)
    gate_up, down = inputs.gate_up[:EXPERTS], inputs.down[:EXPERTS]
    held = torch.from_numpy(expert_of)
    slots = Inputs(inputs.x, topks, inputs.weight, gate_up[held], down[held])
    want = Inputs(inputs.x, topks, inputs.weight, gate_up, down)
    layers = [make(protocol, logical, heap, slots) for heap in in_process(PROTOCOLS[protocol][1](logical), RANKS)]
    first = np.cumsum(TOKENS) - TOKENS
    for layer in layers:
        layer.balance(replicas, int(first[layer.heap.rank]))
    assert relative_error(run_phases(layers, slots), [want.expected(r) for r in range(RANKS)]) <= 0.005


@pytest.mark.parametrize("kind", ["uniform", "power-law"])
def test_bytes_are_those_of_the_simulator(kind: str) -> None:
    """The simulator's replicas take turns by token: its draw, and what the kernels send for the same choices."""
    extra = {"alpha": 1.0} if kind == "power-law" else {}
    chosen: list[tuple[np.ndarray, np.ndarray]] = []

    class Recorded(routing.Router):
        def choices(self, *arguments, **named):
            for home, experts in routing.Router.choices(self, *arguments, **named):
                chosen.append((home, experts))
                yield home, experts

    router = Recorded(Routing(kind=kind, **extra), EXPERTS, TOP_K, 1, 1)
    drawn = routing.draw(router, np.array(TOKENS), "balanced", REDUNDANT, RANKS, np.random.default_rng(5))
    home, experts = (np.concatenate(parts) for parts in zip(*chosen, strict=True))
    shape = MoeShape(RANKS, EXPERTS + REDUNDANT, TOP_K, hidden=128, inter=128, capacity=8)
    inputs = draw(shape, TOKENS, seed=1)
    inputs.topk = [torch.from_numpy(experts[home == r]) for r in range(RANKS)]
    replicas = Replicas.of(torch.from_numpy(drawn.placement.expert_of), EXPERTS)
    first = np.cumsum(TOKENS) - TOKENS
    layers, traces = trace_phases(
        "high_throughput", shape, inputs, lambda layer: layer.balance(replicas, int(first[layer.heap.rank]))
    )
    assert np.array_equal(traces["dispatch"].matrix(STORE, "row"), drawn.rank_rows * layers[0].row.bytes)
