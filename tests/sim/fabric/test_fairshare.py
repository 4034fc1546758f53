"""Max-min fairness by its definition, against a plain reference, over drawn networks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epicycle.sim.fabric.fairshare import csr_routes, max_min, routes

SLACK = 1e-9


def reference(capacity, flows, cap):
    """Progressive filling as in the textbook, one level at a time, with dense matrices. Returns rates [flow]."""
    use = np.zeros((flows.flows, len(capacity)))
    for f in range(flows.flows):
        for e in range(flows.indptr[f], flows.indptr[f + 1]):
            use[f, flows.resource[e]] = flows.coefficient[e]
    rate = np.zeros(flows.flows)
    rising = np.ones(flows.flows, bool)
    while rising.any():
        weight = rising @ use
        spare = capacity - (rate * ~rising) @ use
        level = np.full(len(capacity), np.inf)
        np.divide(spare, weight, out=level, where=weight > 0)
        now = min(level.min(initial=np.inf), cap[rising].min())
        now = max(now, 0.0)
        full = level <= now * (1 + 1e-12)
        stop = rising & ((use[:, full] > 0).any(axis=1) | (cap <= now))
        rate[stop] = np.minimum(now, cap[stop])
        rising &= ~stop
    return rate


@st.composite
def networks(draw, max_flows=12, max_resources=6):
    resources = draw(st.integers(1, max_resources))
    flows = draw(st.integers(1, max_flows))
    numbers = st.floats(0.01, 100.0)
    capacity = draw(st.lists(st.one_of(numbers, st.just(0.0)), min_size=resources, max_size=resources))
    table = draw(st.lists(st.lists(st.integers(-1, resources - 1), min_size=3, max_size=3), min_size=flows, max_size=flows))
    weight = draw(st.lists(st.lists(numbers, min_size=3, max_size=3), min_size=flows, max_size=flows))
    cap = draw(st.lists(st.one_of(numbers, st.just(np.inf)), min_size=flows, max_size=flows))
    path = routes(table, weight)
    cap = np.where(np.isinf(cap) & (np.diff(path.indptr) == 0), 1.0, cap)
    return np.array(capacity), path, cap


@settings(deadline=None, max_examples=200)
@given(networks())
def test_agrees_with_the_textbook(network):
    capacity, path, cap = network
    np.testing.assert_allclose(max_min(capacity, path, cap).rate, reference(capacity, path, cap), rtol=1e-9, atol=1e-12)


@settings(deadline=None, max_examples=200)
@given(networks())
def test_no_flow_can_rise_without_lowering_a_slower_or_equal_one(network):
    """The definition: every flow is at its cap, or crosses a full resource where no flow is faster than itself."""
    capacity, path, cap = network
    share = max_min(capacity, path, cap)
    owner = np.repeat(np.arange(path.flows), np.diff(path.indptr))
    used = np.bincount(path.resource, path.coefficient * share.rate[owner], minlength=capacity.size)
    np.testing.assert_allclose(share.used, used, rtol=1e-9, atol=1e-9)
    assert (used <= capacity * (1 + SLACK)).all()
    assert (share.rate <= cap * (1 + SLACK)).all()
    for f in range(path.flows):
        r = share.bottleneck[f]
        if r < 0:
            assert share.rate[f] == cap[f]
        else:
            assert used[r] >= capacity[r] * (1 - SLACK)
            assert (share.rate[owner[path.resource == r]] <= share.rate[f] * (1 + SLACK)).all()


def test_worked_example():
    """Bertsekas & Gallager's kind of line: a long flow and one short flow a link; the tight link decides first."""
    share = max_min([1.0, 2.0], routes([[0, 1], [0, -1], [1, -1]]))
    np.testing.assert_allclose(share.rate, [0.5, 0.5, 1.5])
    assert share.bottleneck.tolist() == [0, 0, 1]


def test_coefficients_are_units_per_byte():
    share = max_min([10.0], routes([[0], [0]], [[1.0], [4.0]]))
    np.testing.assert_allclose(share.rate, [2.0, 2.0])


def test_large_and_small_coefficients_do_not_cancel():
    path = routes([[0, 1], [0, -1]], [[1e9, 1.0], [1e-9, 1.0]])
    share = max_min([1.0, 1e-12], path)
    np.testing.assert_allclose(share.rate, [1e-12, (1 - 1e-3) / 1e-9], rtol=1e-9)


def test_entries_on_one_resource_add_up_and_zeros_vanish():
    path = routes([[0, 0, 1]], [[1.0, 2.0, 0.0]])
    assert path.resource.tolist() == [0] and path.coefficient.tolist() == [3.0]


def test_a_resource_that_is_down_stalls_its_flows():
    share = max_min([0.0, 1.0], routes([[0, 1], [1, -1]]))
    assert share.rate.tolist() == [0.0, 1.0] and share.bottleneck[0] == 0


def test_large_network_agrees_with_itself_when_relabelled():
    """Fair rates do not depend on the order of flows or resources."""
    rng = np.random.default_rng(0)
    capacity = rng.uniform(1, 10, 200)
    table = rng.integers(0, 200, (5000, 4))
    weight = rng.uniform(0.5, 2, (5000, 4))
    flows, resources = rng.permutation(5000), rng.permutation(200)
    plain = max_min(capacity, routes(table, weight)).rate
    there = np.empty(200)
    there[resources] = capacity
    np.testing.assert_allclose(max_min(there, routes(resources[table][flows], weight[flows])).rate, plain[flows], rtol=1e-9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: max_min([np.inf], routes([[0]])), "capacity of resource 0"),
        (lambda: max_min([-1.0], routes([[0]])), "capacity of resource 0"),
        (lambda: max_min([1.0], routes([[1]])), "there are 1"),
        (lambda: max_min([1.0], routes([[-1]])), "give it a cap"),
        (lambda: max_min([1.0], routes([[0]]), [np.nan]), "a cap must be"),
        (lambda: routes([[0]], [[-1.0]]), "coefficient must be"),
        (lambda: csr_routes([0, 2], [0], [1.0]), "indptr"),
        (lambda: csr_routes([0, 1], [-2], [1.0]), "resource numbers"),
    ],
)
def test_bad_input_says_what_is_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()
