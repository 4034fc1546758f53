"""UCCL-EP's proxies: queues that an op fills, credits that bound what is under way, and who wins on which EFA."""

import numpy as np
import pytest

from epicycle.hwmodels.catalog import load_cluster
from epicycle.sim.ep.bound import program_seconds, stage_loads
from epicycle.sim.ep.machine import machine_of
from epicycle.sim.ep.protocol import Context, describe
from epicycle.sim.ep.protocols import uccl
from epicycle.sim.ep.shape import Shape
from epicycle.sim.ep.transport import over

DECODE = Shape(128.0, 7168.0, 8.0, 256.0, 64.0, 8.0, 7392.0, routing="balanced")


def test_combine_fills_as_many_queues_as_a_rank_has_experts() -> None:
    assert float(np.asarray(uccl.queues(DECODE, "dispatch"))) == 32
    assert float(np.asarray(uccl.queues(DECODE, "combine"))) == 4


def test_no_more_is_under_way_than_the_queues_have_credits() -> None:
    """7 of 8 rows leave for other domains; a trip there and back over EFA is 2 x (7.1 + 27) us, 4 x 32 of them at once."""
    cluster = over(load_cluster("b300-efa"), "uccl-low-latency")
    seen = machine_of(cluster)
    send = describe("uccl-low-latency", "combine", "multi-node", cluster.calibration, DECODE, seen, Context()).stages[0]
    waits = float(np.asarray(stage_loads(send, DECODE, seen)["queue_pair"]))
    assert waits == pytest.approx(128 * 8 * 7 / 8 * 2 * 34.1e-6 / (4 * 32))


def logical(protocol: str, cluster: str, ranks: float) -> float:
    """GB/s of dispatch as DeepEP's benchmark counts them: rows to every node, the own one's too."""
    place = load_cluster(cluster)
    sms = 2.0 * np.floor(12.0 * max(1.0, place.node.gpu.sms / 132.0))
    asked = Shape(4096.0, 7168.0, 8.0, 256.0, ranks, 8.0, 14336.0, sms, "group-limited", ranks / 8.0, min(ranks / 8.0, 4.0))
    seen = machine_of(over(place, protocol))
    stages = describe(protocol, "dispatch", "multi-node", place.calibration, asked, seen, Context()).stages
    return float(np.asarray(4096.0 * asked.nodes_reached * 14336.0 / program_seconds(stages, asked, seen))) / 1e9


@pytest.mark.parametrize(("cluster", "nvshmem", "proxies"), [("b300-efa", 97.1, 102.1), ("h100-efa", 44.0, 38.0)])
def test_the_winner_flips_with_the_generation(cluster: str, nvshmem: float, proxies: float) -> None:
    """AWS's tables, EP32 dispatch of 4,096 bf16 tokens: DeepEP over NVSHMEM's one proxy against UCCL's four."""
    found = logical("high-throughput", cluster, 32.0), logical("uccl", cluster, 32.0)
    assert found == (pytest.approx(nvshmem, rel=0.04), pytest.approx(proxies, rel=0.04))
    assert (found[0] > found[1]) == (nvshmem > proxies)


def test_more_nodes_keep_the_order() -> None:
    """Rows that no number was taken from: EP64 on p6-b300 (84.2 against 93.9 GB/s)."""
    assert logical("high-throughput", "b300-efa", 64.0) == pytest.approx(84.2, rel=0.1)
    assert logical("uccl", "b300-efa", 64.0) == pytest.approx(93.9, rel=0.1)
