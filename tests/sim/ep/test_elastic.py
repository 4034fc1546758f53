"""DeepEP V2's exchange: what it moves and copies, by hand; and both interpreters of its description."""

import numpy as np
import pytest

from epicycle.hwmodels.calibration import find_entry
from epicycle.hwmodels.catalog import load_cluster
from epicycle.sim.engine import Simulator
from epicycle.sim.ep.bound import program_seconds, stage_loads
from epicycle.sim.ep.machine import machine_of
from epicycle.sim.ep.protocol import Context, describe
from epicycle.sim.ep.protocols import elastic
from epicycle.sim.ep.shape import Shape
from epicycle.sim.ep.transport import over
from epicycle.sim.fabric.topology import Topology
from epicycle.sim.layer.play import Player
from epicycle.sim.layer.program import build

MACHINE = machine_of(load_cluster("h100-cx7"))
TOKENS, SMS = 1200.0, 12.0
#: One slot: 7,168 fp8 values with 56 fp32 scales; 8 ids of 8 bytes, 8 weights and 8 links and a source index of 4; to 32 bytes.
#: Bytes a second that an SM stores, as fitted.
STORED = 18.29 * MACHINE.clock_hz
DISPATCHED, RETURNED = 7392 + 128, 14336 + 32


def shape(ranks):
    """Dealt tokens: 8 ranks a token and, across nodes, ``min(nodes, 8)`` nodes."""
    return Shape(TOKENS, 7168.0, 8.0, 256.0, ranks, 8.0, 7392.0, SMS, "balanced")


def loads(op, ranks):
    scope = "one-node" if ranks == 8 else "multi-node"
    described = describe("elastic", op, scope, "h100_sxm", shape(ranks), MACHINE, Context())
    found = [stage_loads(stage, shape(ranks), MACHINE) for stage in described.stages]
    return described, [{name: float(np.asarray(value)) for name, value in one.items()} for one in found]


def test_inside_a_node_a_token_is_loaded_once_and_stored_eight_times():
    described, (stream, order) = loads("dispatch", 8.0)
    assert described.calibrated_on == "h100_sxm" and described.entry.fit.lines == (138, 142)
    assert stream["sm_receive"] == pytest.approx(TOKENS * DISPATCHED / (SMS * 200e9))
    assert stream["sm_send"] == pytest.approx(TOKENS * 8 * DISPATCHED / (SMS * STORED))
    efficiency = float(find_entry("gb200", "one-sided", "dispatch", "nvlink-domain")[0].constants["nvlink_efficiency"])
    assert stream["nvlink"] == pytest.approx(TOKENS * 7 * DISPATCHED / (450e9 * efficiency))
    assert order["hbm"] == pytest.approx(TOKENS * 8 * 2 * DISPATCHED / (MACHINE.hbm_bytes_per_s * 0.85))


def test_combine_loads_and_stores_every_copy_and_sums_them_at_home():
    _, (stream, order) = loads("combine", 8.0)
    assert stream["sm_receive"] == pytest.approx(TOKENS * 8 * RETURNED / (SMS * 200e9))
    assert stream["sm_send"] == pytest.approx(TOKENS * 8 * RETURNED / (SMS * STORED))
    assert order["hbm"] == pytest.approx(TOKENS * (8 + 1) * RETURNED / (MACHINE.hbm_bytes_per_s * 0.85))


def test_across_nodes_by_hand():
    """Four nodes: a send slot, the own node's slot, eight forwarded copies; three rows over the NIC."""
    described, (stream, _) = loads("dispatch", 32.0)
    assert described.calibrated_on == "h100_sxm"
    assert stream["sm_send"] == pytest.approx(TOKENS * (1 + 1 + 8) * DISPATCHED / (SMS * STORED))
    assert stream["sm_receive"] == pytest.approx(TOKENS * (1 + 4) * DISPATCHED / (SMS * 200e9))
    efficiency = float(described.entry.constants["nic_efficiency"])
    assert stream["nic"] == pytest.approx(TOKENS * 3 * DISPATCHED / (50e9 * efficiency))
    assert stream["nic_msg"] == pytest.approx(TOKENS * 3 * (1 + 1 / 6) / MACHINE.nic_messages_per_s)
    _, (stream, order) = loads("combine", 32.0)
    assert stream["sm_send"] == pytest.approx(TOKENS * (8 + 4) * RETURNED / (SMS * STORED))
    assert stream["sm_receive"] == pytest.approx(TOKENS * (8 + 8) * RETURNED / (SMS * 200e9))
    assert order["hbm"] == pytest.approx(TOKENS * (4 + 1) * RETURNED / (MACHINE.hbm_bytes_per_s * 0.85))


@pytest.mark.parametrize(
    ("cluster", "ranks", "sms"), [("h100-cx7", 16.0, 12), ("h100-cx7", 32.0, 6), ("b200-cx7", 8.0, 24), ("h20-3e-cx7", 8.0, 12)]
)
def test_as_many_sms_as_the_library_publishes(cluster, ranks, sms):
    """README of DeepEP V2: 12 and 6 SMs at EP 8x2 and 8x4 on ConnectX-7, 24 at EP8 on SM100, whatever the payload."""
    for payload, tokens in ((7392.0, 8192.0), (14336.0, 1.0)):
        asked = Shape(tokens, 7168.0, 8.0, 256.0, ranks, 8.0, payload)
        assert float(np.asarray(elastic.theoretical_sms(asked, machine_of(load_cluster(cluster))))) == sms


def test_a_call_across_nodes_pays_four_trips():
    """Barrier, counts, rows, barrier: over EFA the hand-over of each comes on top of the NIC's own latency."""
    efa = machine_of(over(load_cluster("b200-efa"), "elastic"))
    plain = describe(
        "elastic", "dispatch", "multi-node", "b200_sxm", shape(16.0), machine_of(load_cluster("b200-cx7")), Context()
    )
    waits = describe("elastic", "dispatch", "multi-node", "b200_sxm", shape(16.0), efa, Context()).stages[0].latency_s
    assert waits - plain.stages[0].latency_s == pytest.approx(4 * (7.1e-6 + 27e-6 - 2.8e-6))


def test_slots_are_padded_to_32_bytes():
    one = Shape(1.0, 7168.0, 6.0, 256.0, 8.0, 8.0, 7392.0)
    assert float(np.asarray(elastic.dispatch_row_bytes(one))) == 7392 + 96  # 48 + 28 = 76 bytes
    assert float(np.asarray(elastic.combine_row_bytes(one))) == 14336 + 32  # 24 bytes


@pytest.mark.parametrize("ep", [8, 16, 32])
@pytest.mark.parametrize("tokens", [256, 4096])
def test_the_events_agree_with_the_closed_form(ask, ep, tokens):
    """Uniform routing: within 3 %, but for the busiest rank's draw where a rank sends little."""
    question = ask(protocol="elastic", ep=ep, tokens=tokens)
    program = build(question, "elastic", Simulator(question.seed))
    for op in ("dispatch", "combine"):
        steps = [step for step in program.steps if step.stage.op == op]
        topology = Topology(question.cluster, ep)
        topology.resources.add("pace", 1.0, ep)
        traces = Player(Simulator(0), topology, program.layout, program.machine).play(steps)
        events = max(trace.end().max() for trace in traces) * 1e-12
        closed = float(np.asarray(program_seconds(tuple(step.stage for step in steps), program.shape, program.machine)))
        assert events == pytest.approx(closed, rel=0.06 if tokens < 1000 else 0.03)
