"""Flows on the clock: landings, conservation, capacity, causality, determinism, failures, and what the window costs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epicycle.sim.engine import Simulator
from epicycle.sim.fabric.fairshare import max_min, routes
from epicycle.sim.fabric.flows import FlowBatch
from epicycle.sim.fabric.network import FlowNetwork, Tolerance

EXACT = Tolerance(0, 0.0)


def play(capacity, batches, tolerance=None, **network_options):
    """Run ``batches`` [(start ps, FlowBatch)] to the end. Returns (network, transfers)."""
    simulator = Simulator()
    network = FlowNetwork(simulator, capacity, tolerance=tolerance, **network_options)
    transfers = []
    for at, batch in batches:
        simulator.call(lambda batch=batch: transfers.append(network.start(batch)), at, 1)
    simulator.run()
    return network, transfers


@st.composite
def loads(draw):
    """A few batches over a few links, of mixed sizes, caps and start times."""
    resources = draw(st.integers(1, 5))
    capacity = np.array(draw(st.lists(st.floats(1e9, 1e11), min_size=resources, max_size=resources)))
    batches = []
    for _ in range(draw(st.integers(1, 4))):
        n = draw(st.integers(1, 10))
        table = draw(st.lists(st.lists(st.integers(0, resources - 1), min_size=2, max_size=2), min_size=n, max_size=n))
        size = draw(st.lists(st.one_of(st.just(0.0), st.floats(1.0, 1e6)), min_size=n, max_size=n))
        cap = draw(st.lists(st.sampled_from([5e8, 5e9, np.inf]), min_size=n, max_size=n))
        group = draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))
        latency = draw(st.lists(st.integers(0, 2_000_000), min_size=n, max_size=n))
        batch = FlowBatch(size, routes(table), cap=cap, latency_ps=latency, group=group, groups=3)
        batches.append((draw(st.integers(0, 200_000_000)), batch))
    return capacity, sorted(batches, key=lambda b: b[0])


def moved(capacity, batches):
    total = np.zeros(capacity.size)
    for _, b in batches:
        each = np.repeat(b.bytes, np.diff(b.routes.indptr))
        total += np.bincount(b.routes.resource, b.routes.coefficient * each, minlength=capacity.size)
    return total


@settings(deadline=None, max_examples=100)
@given(loads(), st.sampled_from([EXACT, Tolerance(), Tolerance(1_000_000, 0.2)]))
def test_bytes_are_conserved_capacity_is_kept_and_effects_follow_causes(load, tolerance):
    capacity, batches = load
    network, transfers = play(capacity, batches, tolerance)
    np.testing.assert_allclose(network.moved, moved(capacity, batches), rtol=1e-12)
    assert network.active == 0
    assert (network.peak <= 1 + 1e-9).all()
    for (start, batch), transfer in zip(batches, transfers, strict=True):
        alone = [np.inf] * batch.flows
        for f in range(batch.flows):
            own = slice(batch.routes.indptr[f], batch.routes.indptr[f + 1])
            alone[f] = min(batch.cap[f], (capacity[batch.routes.resource[own]] / batch.routes.coefficient[own]).min())
        assert (transfer.start_ps == start).all()
        # half a picosecond: the finish is rounded up, the float quotient is not
        assert (transfer.finish_ps - start >= batch.bytes / np.array(alone) * 1e12 - 0.5).all()
        assert (transfer.landed_ps == transfer.finish_ps + batch.latency_ps).all()
        for g, event in enumerate(transfer.landed):
            of_group = transfer.landed_ps[batch.group == g]
            assert event.value == of_group.max(initial=start)


@settings(deadline=None, max_examples=50)
@given(loads())
def test_no_resource_moves_more_than_it_can_in_the_time(load):
    capacity, batches = load
    batches = [(0, b) for _, b in batches]
    _, transfers = play(capacity, batches, Tolerance(10_000_000, 0.3))
    for r in range(capacity.size):
        last, units = 0, 0.0
        for (_, b), t in zip(batches, transfers, strict=True):
            on = np.repeat(np.arange(b.flows), np.diff(b.routes.indptr))[b.routes.resource == r]
            last = max(last, t.finish_ps[on].max(initial=0))
            units += (b.bytes[on] * b.routes.coefficient[b.routes.resource == r]).sum()
        assert units <= capacity[r] * (last + 1) * 1e-12 * (1 + 1e-9)


def test_an_event_fires_when_its_group_has_landed_not_at_the_windows_end():
    simulator = Simulator()
    network = FlowNetwork(simulator, [1e12, 1e12], tolerance=Tolerance(10**9, 0.5))
    transfer = network.start(FlowBatch([1000, 1500], routes([[0], [1]]), group=[0, 1]))
    simulator.run(transfer.landed[0])
    assert simulator.now_ps == 1000
    simulator.run(transfer.landed[1])
    assert simulator.now_ps == 1500


def test_zero_bytes_land_after_their_latency_and_empty_groups_at_once():
    simulator = Simulator()
    network = FlowNetwork(simulator, [1.0])
    transfer = network.start(FlowBatch([0.0], routes([[0]]), latency_ps=77, group=1, groups=2))
    assert simulator.run(transfer.landed[0]) == 0
    assert simulator.run(transfer.landed[1]) == 77


def test_all_flows_that_start_at_one_picosecond_are_shared_once():
    batches = [(100, FlowBatch([5e5], routes([[0]]))) for _ in range(20)]
    network, transfers = play([1e9], batches)
    assert network.retimings == 1
    assert len({int(t.finish_ps[0]) for t in transfers}) == 1


def test_a_landing_that_starts_flows_is_shared_in_the_same_instant():
    simulator = Simulator()
    network = FlowNetwork(simulator, [1e12])
    first = network.start(FlowBatch([1000], routes([[0]])))
    simulator.run(first.landed[0])
    second = network.start(FlowBatch([1000], routes([[0]])))
    simulator.run(second.landed[0])
    assert simulator.now_ps == 2000 and network.retimings == 2


def test_ends_that_nobody_waits_for_cost_no_sharing():
    network, _ = play([1e15], [(0, FlowBatch(np.arange(1, 101) * 1000.0, routes([[0]] * 100), cap=1e9))], EXACT)
    assert network.retimings == 1


def test_time_bound_is_split_by_kind_and_adds_up():
    batch = FlowBatch([1e6, 2e6, 5e5], routes([[0, 1], [0, -1], [1, -1]]), cap=[np.inf, np.inf, 1e9])
    _, (transfer,) = play([1e11, 2e9], [(0, batch)], EXACT, resource_kind=[0, 1])
    np.testing.assert_allclose(transfer.bound_s.sum(axis=1), (transfer.finish_ps - transfer.start_ps) * 1e-12, rtol=1e-6)
    assert transfer.bottleneck.tolist()[1] == 0
    assert transfer.bound_s[2, 0] > 0 and transfer.bound_s[1, 1] > 0 and transfer.bound_s[0, 2] > 0


def test_a_link_that_goes_down_stalls_its_flows_until_it_is_back():
    simulator = Simulator()
    network = FlowNetwork(simulator, [1e12])
    transfer = network.start(FlowBatch([1000], routes([[0]])))
    simulator.call(lambda: network.set_capacity(0, 0.0), 400)
    simulator.call(lambda: network.set_capacity([0], [2e12]), 5000)
    assert simulator.run(transfer.landed[0]) == 5300
    np.testing.assert_allclose(network.moved, [1000.0])


def test_a_flow_that_can_never_land_is_an_error_not_a_hang():
    simulator = Simulator()
    network = FlowNetwork(simulator, [0.0])
    with pytest.raises(RuntimeError):
        simulator.run(network.start(FlowBatch([1.0], routes([[0]]))).landed[0])


def test_units_moved_are_known_on_the_way():
    simulator = Simulator()
    network = FlowNetwork(simulator, [1e12])
    network.start(FlowBatch([1000, 3000], routes([[0], [0]])))
    simulator.run(1000)
    np.testing.assert_allclose(network.moved, [1000.0])


def all_pairs(ranks, seed):
    rng = np.random.default_rng(seed)
    messages = rng.multinomial(512, np.full(ranks, 1 / ranks), size=ranks)
    np.fill_diagonal(messages, 0)
    src, dst = np.nonzero(messages)
    path = routes(np.stack([src, ranks + dst, 2 * ranks + src], axis=1))
    batch = FlowBatch(messages[src, dst] * 7408.0, path, cap=40e9, latency_ps=1000, group=dst, groups=ranks)
    return np.concatenate([np.full(2 * ranks, 50e9), np.full(ranks, 200e9)]), batch


@pytest.mark.parametrize("seed", range(3))
def test_the_window_moves_results_by_less_than_a_fifth_of_a_percent(seed):
    capacity, batch = all_pairs(24, seed)
    exact_network, (exact,) = play(capacity, [(0, batch)], EXACT)
    network, (fast,) = play(capacity, [(0, batch)])
    assert fast.finish_ps.max() == pytest.approx(exact.finish_ps.max(), rel=2e-3)
    assert fast.finish_ps.mean() == pytest.approx(exact.finish_ps.mean(), rel=2e-3)
    assert network.retimings < exact_network.retimings


def test_same_input_same_bits():
    capacity, batch = all_pairs(16, 1)
    (_, (one,)), (_, (two,)) = (play(capacity, [(0, batch)]) for _ in range(2))
    np.testing.assert_array_equal(one.finish_ps, two.finish_ps)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(1.0, 1e6), min_size=1, max_size=20), st.floats(1e9, 1e11), st.floats(1.0, 10.0))
def test_more_bandwidth_is_never_slower_on_one_shared_link(size, capacity, factor):
    """A theorem for flows that share one link: every finish scales with 1 / capacity."""
    batch = FlowBatch(size, routes([[0]] * len(size)))
    slow = play([capacity], [(0, batch)], EXACT)[1][0].finish_ps
    fast = play([capacity * factor], [(0, batch)], EXACT)[1][0].finish_ps
    assert (fast <= slow + len(size)).all()  # a picosecond of rounding an end


def test_more_bandwidth_can_slow_another_flow_down_in_a_network():
    """Why the theorem stops at one link: a faster second link lets B take more of the first, from A."""
    path = routes([[0, -1], [0, 1], [1, -1]])
    before, after = max_min([1.0, 0.6], path).rate, max_min([1.0, 1.0], path).rate
    assert after[0] < before[0] and after[1] > before[1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FlowBatch([1.0, 2.0], routes([[0]])), "bytes: expected"),
        (lambda: FlowBatch([-1.0], routes([[0]])), "bytes of a flow"),
        (lambda: FlowBatch([np.nan], routes([[0]])), "bytes of a flow"),
        (lambda: FlowBatch([1.0], routes([[0]]), latency_ps=0.5), "integer picoseconds"),
        (lambda: FlowBatch([1.0], routes([[0]]), latency_ps=-1), "latency_ps must be"),
        (lambda: FlowBatch([1.0], routes([[0]]), group=2, groups=2), "group must lie"),
        (lambda: FlowNetwork(Simulator(), [np.nan]), "capacity of resource 0"),
        (lambda: FlowNetwork(Simulator(), [1.0], resource_kind=[0, 1]), "resource_kind"),
        (lambda: FlowNetwork(Simulator(), [1.0]).start(FlowBatch([1.0], routes([[-1]]))), "give it a cap"),
        (lambda: FlowNetwork(Simulator(), [1.0]).set_capacity(0, -1.0), "capacity of resource 0"),
        (lambda: Tolerance(-1), "floor_ps"),
    ],
)
def test_bad_input_says_what_is_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_gate_fires_once_all_its_flows_of_all_batches_have_landed():
    simulator = Simulator()
    network = FlowNetwork(simulator, [1e12, 1e12])
    gates = network.open([2, 1, 0])
    network.start(FlowBatch([1000, 500], routes([[0], [1]]), group=[0, 1], gates=gates))
    assert network.active == 2
    assert simulator.run(gates.events[2]) == 0
    assert simulator.run(gates.events[1]) == 500
    network.start(FlowBatch([3000], routes([[1]]), latency_ps=10, gates=gates))
    assert simulator.run(gates.events[0]) == 3510


@pytest.mark.parametrize("at", [0, 500, 1200, 1999])
def test_a_gate_whose_last_flow_is_empty_and_starts_inside_a_window_still_fires(at):
    """The other flow of the gate ends at 1,000 ps, inside a window that lasts until 2,000 ps."""
    simulator = Simulator()
    network = FlowNetwork(simulator, [1e12] * 3, tolerance=Tolerance(10**6, 0.5))
    gates = network.open([2])
    network.start(FlowBatch([1000], routes([[0]]), gates=gates))
    network.start(FlowBatch([2000, 2000, 9000], routes([[1], [1], [1]])))
    simulator.call(lambda: network.start(FlowBatch([0.0], routes([[2]]), latency_ps=5, gates=gates)), at)
    assert simulator.run(gates.events[0]) == max(1000, at + 5)
