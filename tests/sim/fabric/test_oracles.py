"""Queueing theory and alpha-beta against the engine: closed forms that know nothing of its code."""

from heapq import heappop, heappush

import numpy as np
import pytest
import simpy

from epicycle.sim.engine import Simulator, seconds_to_ps
from epicycle.sim.fabric.fairshare import routes
from epicycle.sim.fabric.flows import FlowBatch
from epicycle.sim.fabric.network import FlowNetwork, Tolerance

EXACT = Tolerance(0, 0.0)


def finish_ps(capacity, batch, tolerance=EXACT):
    simulator = Simulator()
    transfer = FlowNetwork(simulator, capacity, tolerance=tolerance).start(batch)
    simulator.run()
    return transfer


@pytest.mark.parametrize(("size", "alpha_ps"), [(1, 0), (1_000_000, 1_500_000), (7408, 2_100_000)])
def test_one_flow_takes_alpha_plus_bytes_over_bandwidth(size, alpha_ps):
    transfer = finish_ps([50e9], FlowBatch([size], routes([[0]]), latency_ps=alpha_ps))
    assert transfer.landed_ps[0] == alpha_ps + size * 20  # 20 ps a byte


def test_n_equal_flows_on_one_link_end_together_after_n_times_as_long():
    transfer = finish_ps([50e9], FlowBatch(np.full(10, 1e5), routes([[0]] * 10)))
    assert (transfer.finish_ps == 10 * 100_000 * 20).all()


@pytest.mark.parametrize(
    ("tolerance", "each", "last"), [(EXACT, 1e-9, 1e-9), (Tolerance(), 5e-3, 1e-3), (Tolerance(0, 0.3), 0.1, 1e-2)]
)
def test_flows_of_growing_size_on_one_link_end_as_processor_sharing_says(tolerance, each, last):
    """Flow k of sizes 1..n (in units of time u) ends at u * (sum of the sizes up to k + k * the flows that are left)."""
    n, unit = 50, 1e5
    transfer = finish_ps([50e9], FlowBatch(np.arange(1, n + 1) * unit, routes([[0]] * n)), tolerance)
    k = np.arange(1, n + 1)
    expected = (k * (k + 1) / 2 + k * (n - k)) * unit * 20
    np.testing.assert_allclose(transfer.finish_ps, expected, rtol=each)
    assert transfer.finish_ps[-1] == pytest.approx(expected[-1], rel=last)


def test_a_fast_flow_takes_what_a_capped_one_leaves():
    transfer = finish_ps([50e9], FlowBatch([1e6, 4e6], routes([[0], [0]]), cap=[10e9, np.inf]))
    assert transfer.finish_ps.tolist() == [100_000_000, 100_000_000]


def test_uniform_all_to_all_meets_the_port_bound():
    """Every rank sends B to every other: (n - 1) B over its port, all ports busy to the end."""
    n, size = 16, 1e5
    src, dst = np.nonzero(~np.eye(n, dtype=bool))
    transfer = finish_ps(np.full(2 * n, 50e9), FlowBatch(np.full(src.size, size), routes(np.stack([src, n + dst], 1))))
    assert transfer.finish_ps.max() == (n - 1) * 100_000 * 20


def test_bisection_bound_is_met_by_traffic_across_the_cut():
    """Halves of 8 ranks exchange all-to-all over a cut of 100 GB/s each way: 64 B / 100 GB/s, though ports could go faster."""
    n, size, cut = 16, 1e5, 100e9
    src, dst = np.nonzero(np.arange(n)[:, None] // 8 != np.arange(n)[None, :] // 8)
    crossing = 2 * n + (src >= 8)
    path = routes(np.stack([src, n + dst, crossing], 1))
    transfer = finish_ps(np.concatenate([np.full(2 * n, 50e9), [cut, cut]]), FlowBatch(np.full(src.size, size), path))
    assert transfer.finish_ps.max() == 64 * 100_000 * 10
    assert (transfer.bottleneck >= 2 * n).all()


LINK = 1e6  # bytes/s
MEAN_S = 1e-3


def jobs(load, law, n):
    """Poisson arrivals (gaps, s) and sizes (bytes) of mean ``MEAN_S`` on the link."""
    draws = Simulator(11)
    gaps = draws.stream("arrivals").exponential(MEAN_S / load, n)
    work = draws.stream("work").exponential(MEAN_S, n) if law == "exponential" else np.full(n, MEAN_S)
    return gaps, work * LINK


def on_the_network(gaps, sizes):
    """Seconds each job spends as a flow on one link, in order of arrival."""
    simulator = Simulator()
    network = FlowNetwork(simulator, [LINK], tolerance=EXACT)
    path = routes([[0]])
    transfers = []
    for at, size in zip(np.cumsum(gaps), sizes, strict=True):
        simulator.call(lambda size=size: transfers.append(network.start(FlowBatch([size], path))), seconds_to_ps(at))
    simulator.run()
    return np.array([t.finish_ps[0] - t.start_ps[0] for t in transfers]) * 1e-12


def by_attained_service(gaps, sizes):
    """The same in ten lines: every job in service attains it at the same pace, so jobs end in order of attained + size."""
    spent, heap, attained, now = np.zeros(len(sizes)), [], 0.0, 0.0
    arrivals = np.cumsum(gaps)
    i = 0
    while i < len(sizes) or heap:
        end = now + (heap[0][0] - attained) * len(heap) / LINK if heap else np.inf
        if i < len(sizes) and arrivals[i] < end:
            attained += (arrivals[i] - now) * LINK / len(heap) if heap else 0.0
            now = arrivals[i]
            heappush(heap, (attained + sizes[i], i))
            i += 1
        else:
            attained, job = heappop(heap)
            now = end
            spent[job] = end - arrivals[job]
    return spent


LAWS = pytest.mark.parametrize("law", ["exponential", "constant"])


@LAWS
def test_flows_on_one_link_are_processor_sharing_job_by_job(law):
    work = jobs(0.7, law, 2000)
    np.testing.assert_allclose(on_the_network(*work), by_attained_service(*work), rtol=1e-6, atol=1e-11)


@LAWS
@pytest.mark.parametrize("load", [0.4, 0.7])
def test_processor_sharing_sojourn_depends_on_the_mean_size_alone(load, law):
    """M/G/1-PS: E[T] = E[S] / (1 - load) = 1 / (mu - lambda), whatever the law of S (Kleinrock, Queueing Systems II, 4.4)."""
    assert by_attained_service(*jobs(load, law, 300_000)).mean() == pytest.approx(MEAN_S / (1 - load), rel=0.02)


@LAWS
def test_the_network_meets_the_processor_sharing_sojourn(law):
    """The same law on the network itself; 3,000 jobs leave a standard error of some 3 %."""
    assert on_the_network(*jobs(0.4, law, 3000)).mean() == pytest.approx(MEAN_S / 0.6, rel=0.1)


def test_a_first_come_first_served_queue_meets_m_m_1():
    """M/M/1: E[T] = 1 / (mu - lambda) for a stream of work on the clock."""
    simulator = Simulator(5)
    arrivals, work = simulator.stream("arrivals"), simulator.stream("work")
    server = simpy.Resource(simulator.clock)
    mu, lam, spent = 1e6, 0.5e6, []

    def job():
        came = simulator.now_ps
        with server.request() as turn:
            yield turn
            yield simulator.delay(seconds_to_ps(work.exponential(1 / mu)))
        spent.append(simulator.now_ps - came)

    def source():
        for _ in range(40_000):
            yield simulator.delay(seconds_to_ps(arrivals.exponential(1 / lam)))
            simulator.process(job())

    simulator.process(source())
    simulator.run()
    assert np.mean(spent) * 1e-12 == pytest.approx(1 / (mu - lam), rel=0.04)
