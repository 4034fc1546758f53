"""Bytes traced from running kernels against tokens x row, counted from the routing alone."""

import sys
from pathlib import Path

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from layers import ALL, NODE, draw, make
from traced import trace_phases

from epicycle.kernels.exchange.symmetric import in_process
from epicycle.kernels.exchange.tracing import ATOMIC, LOAD, STORE, Trace
from epicycle.kernels.experts.expert_ffn import MoeShape

ROUTINGS = settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@st.composite
def routings(draw_from: st.DrawFn, two_hop: bool = False) -> tuple[MoeShape, list[int], int]:
    ranks = 4 if two_hop else draw_from(st.sampled_from([2, 3, 4]))
    local = draw_from(st.sampled_from([1, 2, 3]))
    top_k = draw_from(st.integers(1, min(4, ranks * local)))
    shape = MoeShape(ranks, ranks * local, top_k, hidden=128, inter=128, capacity=4, fp8=draw_from(st.booleans()))
    tokens = draw_from(st.lists(st.integers(0, 4), min_size=ranks, max_size=ranks))
    return shape, tokens, draw_from(st.integers(0, 2**31 - 1))


def _copies(topks: list[torch.Tensor], groups: int, per_group: int) -> np.ndarray:
    """[rank, group] tokens of the rank with an expert in the group."""
    return np.array([[int((t // per_group == g).any(1).sum()) for g in range(groups)] for t in topks])


@ROUTINGS
@given(routings())
def test_high_throughput(case: tuple[MoeShape, list[int], int]) -> None:
    shape, tokens, seed = case
    inputs = draw(shape, tokens, seed)
    layers, traces = trace_phases("high_throughput", shape, inputs)
    copies = _copies(inputs.topk, shape.ranks, shape.local_experts)
    payload = shape.hidden + 4 * shape.hidden // 128 if shape.fp8 else 2 * shape.hidden
    assert np.array_equal(traces["dispatch"].matrix(STORE, "row"), copies * (payload + 4 + 12 * shape.top_k))
    assert np.array_equal(traces["combine"].matrix(LOAD, "partial"), copies.T * (2 * shape.hidden + 4 + 4 * shape.top_k))
    assert np.array_equal(traces["notify_post"].matrix(STORE), np.full((shape.ranks,) * 2, 4 * (1 + shape.local_experts)))
    assert np.array_equal(traces["dispatch"].matrix(ATOMIC), np.full((shape.ranks,) * 2, 4))
    assert layers[0].row.bytes == payload + 4 + 12 * shape.top_k


@ROUTINGS
@given(routings())
def test_low_latency(case: tuple[MoeShape, list[int], int]) -> None:
    shape, tokens, seed = case
    inputs = draw(shape, tokens, seed)
    _, traces = trace_phases("low_latency", shape, inputs)
    pairs = [[int((t // shape.local_experts == r).sum()) for r in range(shape.ranks)] for t in inputs.topk]
    messages = np.array(pairs)
    payload = shape.hidden + 4 * shape.hidden // 128 if shape.fp8 else 2 * shape.hidden
    assert np.array_equal(traces["send"].matrix(STORE), messages * (payload + 16))
    assert np.array_equal(traces["give_back"].matrix(STORE), messages.T * 2 * shape.hidden)
    assert np.array_equal(traces["send"].matrix(ATOMIC), np.full((shape.ranks,) * 2, 8 * shape.local_experts))


@ROUTINGS
@given(routings(two_hop=True))
def test_two_hop(case: tuple[MoeShape, list[int], int]) -> None:
    shape, tokens, seed = case
    inputs = draw(shape, tokens, seed)
    layers, traces = trace_phases("two_hop", shape, inputs)
    ranks, nodes = shape.ranks, shape.ranks // NODE
    per_node = _copies(inputs.topk, nodes, NODE * shape.local_experts)
    per_rank = _copies(inputs.topk, ranks, shape.local_experts)
    network, forwarded = np.zeros((ranks, ranks), int), np.zeros((ranks, ranks), int)
    for home in range(ranks):
        for node in range(nodes):
            via = node * NODE + home % NODE
            network[home, via] += per_node[home, node]
            forwarded[via, node * NODE : (node + 1) * NODE] += per_rank[home, node * NODE : (node + 1) * NODE]
    row, sums = layers[0].row.bytes, layers[0].sums.bytes
    assert row % 16 == sums % 16 == 0
    assert np.array_equal(traces["put"].matrix(STORE, "rail_row"), network * row)
    assert np.array_equal(traces["forward"].matrix(STORE, "row"), forwarded * row)
    assert np.array_equal(traces["give_back"].matrix(LOAD, "partial"), forwarded.T * sums)
    assert np.array_equal(traces["give_back"].matrix(STORE, "rail_back"), network.T * sums)


def test_masked_lanes_and_foreign_memory_are_not_counted() -> None:
    shape = MoeShape(2, 2, 1, hidden=128, inter=128, capacity=3)
    inputs = draw(shape, [3, 0], seed=1)
    heaps = in_process(ALL["low_latency"][1](shape), 2)
    layer = make("low_latency", shape, heaps[1], inputs)
    layer.load(inputs.x[1], inputs.topk[1], inputs.weight[1])
    trace = Trace(heaps)
    with trace.on_behalf_of(1):
        layer.send()  # no tokens: only its counts
    layer.send()  # outside: not counted
    assert int(trace.matrix(STORE).sum()) == 0
    assert trace.matrix(ATOMIC).tolist() == [[0, 0], [8, 8]]
