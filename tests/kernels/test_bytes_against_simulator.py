"""The byte check: what running kernels move is, byte for byte, what the simulator says the protocol moves.

The simulator draws a routing and states its traffic matrices (`sim.layer.timeline.traffic`); the same choices go through the
real kernels in the interpreter, whose stores and loads are recorded. Flags are not payload and are left out on both sides.
"""

import sys
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from layers import NODE, Inputs, draw
from traced import trace_phases

from epicycle.kernels.exchange.tracing import LOAD, STORE
from epicycle.kernels.experts.expert_ffn import MoeShape
from epicycle.sim.ep.compute.own_kernels import OwnMove
from epicycle.sim.ep.protocol import Context, find_protocol
from epicycle.sim.ep.protocols import high_throughput, low_latency
from epicycle.sim.ep.shape import Shape
from epicycle.sim.ep.stage import Machine
from epicycle.sim.inputs.traffic import Routing
from epicycle.sim.layer import routing, timeline
from epicycle.sim.layer.traffic import Layout

ROUTINGS = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
MACHINE = Machine(132, 1.755e9, 450e9, 50e9, 1e7, 3.35e12, {"bf16": 989e12}, 2e-6, 1e-7, 24.0)


@st.composite
def cases(draw_from: st.DrawFn, two_hop: bool = False) -> tuple[MoeShape, list[int], int, str]:
    ranks = 4 if two_hop else draw_from(st.sampled_from([2, 3, 4]))
    local = draw_from(st.sampled_from([1, 2, 3]))
    top_k = draw_from(st.integers(1, min(4, ranks * local)))
    shape = MoeShape(ranks, ranks * local, top_k, hidden=128, inter=128, capacity=4, fp8=draw_from(st.booleans()))
    tokens = draw_from(st.lists(st.integers(0, 4), min_size=ranks, max_size=ranks))
    return shape, tokens, draw_from(st.integers(0, 2**31 - 1)), draw_from(st.sampled_from(["uniform", "power-law"]))


def _drawn(shape: MoeShape, tokens: list[int], seed: int, kind: str, domain: int) -> tuple[routing.Drawn, Inputs]:
    """The simulator's draw, and kernel inputs with the very same choices."""
    chosen: list[tuple[np.ndarray, np.ndarray]] = []

    class Recorded(routing.Router):
        def choices(self, *arguments, **named):
            for home, experts in routing.Router.choices(self, *arguments, **named):
                chosen.append((home, experts))
                yield home, experts

    extra = {"alpha": 1.0} if kind == "power-law" else {}
    router = Recorded(Routing(kind=kind, **extra), shape.experts, shape.top_k, 1, 1)
    drawn = routing.draw(router, np.array(tokens, np.int64), "contiguous", 0, domain, np.random.default_rng(seed))
    home = np.concatenate([h for h, _ in chosen] or [np.zeros(0, np.int64)])
    experts = np.concatenate([e for _, e in chosen] or [np.zeros((0, shape.top_k), np.int64)])
    inputs = draw(shape, tokens, seed)
    inputs.topk = [torch.from_numpy(experts[home == r]) for r in range(shape.ranks)]
    return drawn, inputs


def _simulated(stages: tuple, drawn: routing.Drawn, layout: Layout) -> dict[tuple[str, str], np.ndarray]:
    """(op, medium) -> [source, destination] bytes."""
    found: dict[tuple[str, str], np.ndarray] = {}
    for stage in stages:
        played = [SimpleNamespace(step=SimpleNamespace(stage=stage, drawn=drawn))]
        for matrix in timeline.traffic(played, layout):
            key = (matrix.op, matrix.medium)
            found[key] = found.get(key, np.zeros_like(matrix.bytes)) + matrix.bytes
    return found


def _shape(shape: MoeShape, domain: int) -> Shape:
    payload = shape.hidden + 4 * shape.hidden / 128 if shape.fp8 else 2.0 * shape.hidden
    return Shape(float(shape.capacity), shape.hidden, shape.top_k, shape.experts, shape.ranks, domain, payload)


def _ones(record: type) -> object:
    """Fitted constants set times, not bytes: any value will do."""
    return record(**{f.name: 1.0 for f in fields(record)})


def _near(found: dict[tuple[str, str], np.ndarray], op: str, ranks: int) -> np.ndarray:
    zero = np.zeros((ranks, ranks), np.int64)
    return found.get((op, "nvlink"), zero) + found.get((op, "local"), zero)


def _own(name: str, shape: Shape) -> tuple:
    """The stages of our own protocol of that name, launch for launch, with whatever constants."""
    return tuple(s for op in find_protocol(name).ops.values() for s in op.describe(shape, MACHINE, _ones(OwnMove), Context()))


def _same(found: dict[tuple[str, str], np.ndarray], other: dict[tuple[str, str], np.ndarray]) -> bool:
    """Whether two sets of matrices hold the same bytes; matrices of zeros may be absent."""
    kept = [{key: m for key, m in matrices.items() if m.any()} for matrices in (found, other)]
    return kept[0].keys() == kept[1].keys() and all(np.array_equal(m, kept[1][key]) for key, m in kept[0].items())


def _off_diagonal(matrix: np.ndarray) -> np.ndarray:
    return matrix - np.diag(np.diag(matrix))


@ROUTINGS
@given(cases())
def test_high_throughput(case: tuple[MoeShape, list[int], int, str]) -> None:
    shape, tokens, seed, kind = case
    drawn, inputs = _drawn(shape, tokens, seed, kind, shape.ranks)
    layout, described = Layout(shape.ranks, shape.ranks), _shape(shape, shape.ranks)
    k = _ones(high_throughput.Transfer)
    stages = [s for op in ("dispatch", "combine") for s in high_throughput.transfer(described, MACHINE, k, op)]
    stages += high_throughput.notify(described, MACHINE, _ones(high_throughput.Notify), "notify")
    found = _simulated(tuple(stages), drawn, layout)
    own = _simulated(_own("epicycle-high-throughput", described), drawn, layout)
    assert all(np.array_equal(_near(own, op, shape.ranks), _near(found, op, shape.ranks)) for op in ("dispatch", "combine"))
    assert np.array_equal(_off_diagonal(_near(own, "notify", shape.ranks)), _near(found, "notify", shape.ranks))
    _, traces = trace_phases("high_throughput", shape, inputs)
    assert np.array_equal(traces["dispatch"].matrix(STORE, "row"), _near(found, "dispatch", shape.ranks))
    assert np.array_equal(traces["combine"].matrix(LOAD, "partial"), _near(found, "combine", shape.ranks))
    # The simulator counts what crosses between ranks; a kernel also writes its own row of counts.
    assert np.array_equal(_off_diagonal(traces["notify_post"].matrix(STORE, "counts")), _near(found, "notify", shape.ranks))


@ROUTINGS
@given(cases())
def test_low_latency(case: tuple[MoeShape, list[int], int, str]) -> None:
    shape, tokens, seed, kind = case
    drawn, inputs = _drawn(shape, tokens, seed, kind, shape.ranks)
    layout, described = Layout(shape.ranks, shape.ranks), _shape(shape, shape.ranks)
    k = _ones(low_latency.LowLatencyConstants)
    stages = low_latency.dispatch(described, MACHINE, k) + low_latency.combine(described, MACHINE, k)
    found = _simulated(stages, drawn, layout)
    assert _same(_simulated(_own("epicycle-low-latency", described), drawn, layout), found)
    _, traces = trace_phases("low_latency", shape, inputs)
    fields_sent = ("message_x", "message_scale", "message_header")
    assert np.array_equal(traces["send"].matrix(STORE, *fields_sent), _near(found, "dispatch", shape.ranks))
    assert np.array_equal(traces["give_back"].matrix(STORE, "return_x"), _near(found, "combine", shape.ranks))


@ROUTINGS
@given(cases(two_hop=True))
def test_two_hop(case: tuple[MoeShape, list[int], int, str]) -> None:
    shape, tokens, seed, kind = case
    drawn, inputs = _drawn(shape, tokens, seed, kind, NODE)
    layout, described = Layout(shape.ranks, NODE), _shape(shape, NODE)
    k = _ones(high_throughput.Transfer)
    stages = [s for op in ("dispatch", "combine") for s in high_throughput.transfer(described, MACHINE, k, op)]
    found = _simulated(tuple(stages), drawn, layout)
    own = _simulated(_own("epicycle-two-hop", described), drawn, layout)
    assert _same({key: m for key, m in own.items() if key[0] != "notify"}, found)
    _, traces = trace_phases("two_hop", shape, inputs)
    zero = np.zeros((shape.ranks, shape.ranks), np.int64)
    # A token for the own node goes through the same slots on the sender itself: no network, so not in the simulator's matrix.
    assert np.array_equal(_off_diagonal(traces["put"].matrix(STORE, "rail_row")), found.get(("dispatch", "rdma"), zero))
    assert np.array_equal(traces["forward"].matrix(STORE, "row"), _near(found, "dispatch", shape.ranks))
    assert np.array_equal(traces["give_back"].matrix(LOAD, "partial"), _near(found, "combine", shape.ranks))
    assert np.array_equal(_off_diagonal(traces["give_back"].matrix(STORE, "rail_back")), found.get(("combine", "rdma"), zero))
