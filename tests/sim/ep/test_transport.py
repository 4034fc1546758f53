"""What carries messages between domains: chosen by the NIC, asked for by name, or the CPU's where the GPU may not post."""

import numpy as np
import pytest

from epicycle.hwmodels.catalog import load_cluster, load_transport
from epicycle.hwmodels.errors import BadInput
from epicycle.sim.ep.bound import program_seconds, stage_loads
from epicycle.sim.ep.machine import machine_of
from epicycle.sim.ep.protocol import Context, all_protocols, describe
from epicycle.sim.ep.shape import Shape
from epicycle.sim.ep.transport import can_cross, over, transport_of
from epicycle.sim.layer.layer import simulate

CX7, EFA = load_cluster("h100-cx7"), load_cluster("b300-efa")
DECODE = Shape(128.0, 7168.0, 8.0, 256.0, 32.0, 8.0, 7392.0)


def seconds(protocol: str, op: str, cluster: object, asked: str = "") -> float:
    seen = machine_of(over(cluster, protocol, asked))
    found = describe(protocol, op, "multi-node", cluster.calibration, DECODE, seen, Context())
    return float(np.asarray(program_seconds(found.stages, DECODE, seen)))


def test_a_protocol_takes_its_first_transport_that_posts_to_the_nic() -> None:
    assert transport_of(CX7, "low-latency").name == "ibgda"
    assert transport_of(EFA, "low-latency").name == "libfabric-proxy"
    assert transport_of(EFA, "elastic").name == "gin-efa-gda"
    assert transport_of(CX7, "one-sided") is None


def test_a_cluster_is_itself_where_the_gpu_posts_and_constants_were_fitted_over_that() -> None:
    assert over(CX7, "low-latency") is CX7 and over(CX7, "elastic") is CX7


def test_every_named_transport_is_one_of_the_catalogue() -> None:
    for record in all_protocols().values():
        for name in record.transports:
            assert load_transport(name).name == name


def test_one_cpu_thread_posts_as_many_messages_as_it_can() -> None:
    """A message for every (token, expert) elsewhere and a count for every expert there: 0.75 (1024 + 256) of them."""
    seen = machine_of(over(CX7, "low-latency", "ibrc"))
    assert seen.nic_messages_per_s == pytest.approx(1 / 0.9e-6)
    send = describe("low-latency", "dispatch", "multi-node", "h100_sxm", DECODE, seen, Context()).stages[0]
    assert float(np.asarray(stage_loads(send, DECODE, seen)["nic_msg"])) == pytest.approx(960 * 0.9e-6)
    assert seconds("low-latency", "dispatch", CX7, "ibrc") > 5 * seconds("low-latency", "dispatch", CX7)


def test_a_hand_over_is_paid_on_every_trip() -> None:
    def waits(asked: str) -> tuple[float, int]:
        seen = machine_of(over(CX7, "elastic", asked))
        stage = describe("elastic", "dispatch", "multi-node", "h100_sxm", DECODE, seen, Context()).stages[0]
        return float(np.asarray(stage.latency_s)), stage.crossings

    (proxy, trips), (plain, _) = waits("gin-proxy"), waits("gin-gda")
    assert proxy - plain == pytest.approx(0.7e-6 * trips)


def test_fewer_queue_pairs_hold_fewer_messages_under_way() -> None:
    """A cap that the user sets: two rings of 128 a peer in place of twelve, over trips of 2 x (7.1 + 35) us."""
    capped = load_cluster("h200-efa", None, {"node.nic.queue_pairs": 2})
    posted = machine_of(over(capped, "elastic", "gin-efa-proxy")).nic_messages_per_s
    assert posted == pytest.approx(min(1 / 0.57e-6, 2 * 128 / (2 * 42.1e-6)))
    one = load_cluster("h200-efa", None, {"node.nic.queue_pairs": 1})
    assert machine_of(over(one, "elastic", "gin-efa-proxy")).nic_messages_per_s == pytest.approx(128 / (2 * 42.1e-6))


@pytest.mark.parametrize(
    ("cluster", "protocol", "asked", "said"),
    [
        (CX7, "low-latency", "libfabric-proxy", "does not post to connectx7-400g: use ibgda or ibrc"),
        (CX7, "low-latency", "gin-gda", "low-latency runs over ibgda, ibrc, libfabric-proxy"),
        (CX7, "one-sided", "ibgda", "no choice of transports"),
        (EFA, "hybrid-ep", "doca", "use another NIC"),
    ],
)
def test_a_transport_that_cannot_carry_it_is_refused(cluster: object, protocol: str, asked: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        over(cluster, protocol, asked)


def test_sick_fabrics_by_name() -> None:
    well = load_cluster("h100-cx7", 32)
    slow = load_cluster("h100-cx7", 32, {"sick": "slow-nic"})
    assert slow.node.nic.bandwidth == pytest.approx(well.node.nic.bandwidth / 3) and slow.label.endswith("with slow-nic")
    static = load_cluster("h100-cx7", 32, {"sick": ["no-adaptive-routing"]})
    assert static.fabric.oversubscription == pytest.approx(1 / (1 - np.exp(-1)))
    fallen = load_cluster("h100-cx7", 32, {"sick": ["cpu-fallback"]})
    assert transport_of(fallen, "low-latency").name == "ibrc"
    with pytest.raises(BadInput, match="slow-nic"):
        load_cluster("h100-cx7", 32, {"sick": ["tired"]})


def test_what_no_transport_carries_stays_inside_a_domain(ask) -> None:
    assert not can_cross(EFA, "hybrid-ep") and can_cross(EFA, "elastic") and can_cross(CX7, "one-sided")
    with pytest.raises(BadInput, match="hybrid-ep runs over doca: none posts to aws-efa-v4"):
        transport_of(EFA, "hybrid-ep")
    with pytest.raises(BadInput, match="none posts to aws-efa-v3"):
        ask(protocol="hybrid-ep", ep=16, tokens=8, cluster="h200-efa")
    assert ask(protocol="hybrid-ep", ep=8, tokens=8, cluster="h200-efa").deployment.ep == 8


def test_a_layer_says_what_carried_it_and_refuses_what_carries_nothing(ask) -> None:
    answer = simulate(ask(protocol="low-latency", ep=16, tokens=8, deployment__transport="ibrc"))
    (row,) = [row for row in answer.inputs if row.section == "transport"]
    assert row.name == "low-latency" and row.value.startswith("ibrc: one CPU thread")
    with pytest.raises(BadInput, match="carries nothing: all 8 ranks share an NVLink domain"):
        ask(protocol="low-latency", ep=8, tokens=8, deployment__transport="ibrc")
