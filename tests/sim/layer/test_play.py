"""The event interpreter: no effect before its cause, no link above its capacity, and answers that move the right way."""

from itertools import pairwise

import numpy as np
import pytest

from epicycle.sim.ep.stage import Join, Stage

CASES = {
    "ht": {"protocol": "high-throughput", "ep": 16, "tokens": 96},
    "ht-one-node": {"protocol": "high-throughput", "ep": 8, "tokens": 300},
    "ht-ragged": {"protocol": "high-throughput", "ep": 16, "tokens": [0, 1, 500, *[40] * 13]},
    "elastic": {"protocol": "elastic", "ep": 16, "tokens": 96},
    "elastic-one-node": {"protocol": "elastic", "ep": 8, "tokens": 300},
    "elastic-ragged": {"protocol": "elastic", "ep": 16, "tokens": [0, 1, 500, *[40] * 13]},
    "ll": {"protocol": "low-latency", "ep": 32, "tokens": 64},
    "ll-skewed": {"protocol": "low-latency", "ep": 16, "tokens": [*[0] * 15, 128]},
    "ll-half-node": {"protocol": "low-latency", "ep": 12, "tokens": 40, "model__experts": 240},
    "ll-calls": {"protocol": "low-latency", "ep": 16, "tokens": 200, "deployment__max_tokens": 64},
    "ll-power-law": {"protocol": "low-latency", "ep": 16, "tokens": 64, "routing": "power-law", "traffic__routing__alpha": 1.5},
    "one-sided": {"protocol": "one-sided", "ep": 16, "cluster": "gb200-nvl72", "nodes": 4},
    "two-sided": {"protocol": "two-sided", "ep": 8, "cluster": "gb200-nvl72", "nodes": 2},
    "all-gather": {"protocol": "all-gather", "ep": 16},
    "padded": {"protocol": "padded-all-to-all", "ep": 16},
    "fat-tree": {"protocol": "low-latency", "ep": 16, "cluster": "h100-cx7-fat-tree", "cluster__fabric__nodes_per_leaf": 1},
}


@pytest.fixture(scope="module")
def case(ask, play):
    known = {}

    def played(name):
        if name not in known:
            known[name] = play(ask(**CASES[name]))
        return known[name]

    return played


@pytest.mark.parametrize("name", CASES)
def test_a_rank_begins_then_moves_then_is_done(case, name):
    for before, trace in zip([None, *case(name).traces], case(name).traces, strict=False):
        assert (trace.begin >= 0).all() and (trace.move >= trace.begin).all() and (trace.done >= trace.move).all()
        latency = int(np.ceil(float(np.asarray(trace.step.stage.latency_s)) * 1e12 - 1e-3))
        assert set(trace.move - trace.begin) == {latency}
        if before is not None:
            assert (trace.begin >= before.done).all()


@pytest.mark.parametrize("name", CASES)
def test_nobody_begins_before_what_it_waits_for(case, name):
    """INBOUND: every flow to the rank or its node has landed. ALL: everybody is done and has everything."""
    layout, traces = case(name).program.layout, case(name).traces
    for before, trace in pairwise(traces):
        if before.flows is None or not before.transfers:
            landed = before.done
        else:
            rank = np.arange(layout.ranks)
            to = [(before.flows.dst == r) | (before.flows.dst == -1 - layout.node_of[r]) for r in rank]
            all_landed = np.concatenate([before.transfers[r].landed_ps for r in sorted(before.transfers)])
            landed = np.array([all_landed[mask].max(initial=0) for mask in to])
        if trace.step.stage.waits is Join.INBOUND:
            assert (trace.begin == np.maximum(before.done, landed)).all()
        elif trace.step.stage.waits is Join.ALL:
            assert set(trace.begin) == {max(before.done.max(), landed.max())}
        else:
            assert (trace.begin == before.done).all()


@pytest.mark.parametrize("name", CASES)
def test_flows_start_when_their_rank_moves_and_end_in_its_stage(case, name):
    for trace in case(name).traces:
        for rank, transfer in trace.transfers.items():
            assert set(transfer.start_ps) == {trace.move[rank]}
            assert (transfer.finish_ps > transfer.start_ps).all() and (transfer.landed_ps >= transfer.finish_ps).all()
            if not (isinstance(trace.step.stage, Stage) and trace.step.stage.posts):
                assert transfer.landed_ps.max() == trace.done[rank]


@pytest.mark.parametrize("name", CASES)
def test_no_link_above_its_capacity(case, name):
    """At no moment (peak), over no stage (a rank's bytes against its port's time), and not over the whole layer."""
    played = case(name)
    network, makespan_s = played.player.network, played.makespan_ps * 1e-12
    assert network.peak.max() <= 1 + 1e-9
    assert (network.moved <= network.capacity * makespan_s * (1 + 1e-9)).all()
    machine = played.program.machine
    for trace in played.traces:
        if not trace.transfers:
            continue
        for medium, rate in (("nvlink", machine.nvlink_bytes_per_s), ("rdma", machine.nic_bytes_per_s)):
            tables = [m.bytes for m in played.matrices if (m.stage, m.medium) == (trace.step.stage.name, medium)]
            if tables and played.program.micro_batches == 1:
                took = (max(t.finish_ps.max() for t in trace.transfers.values()) - trace.move.min()) * 1e-12
                busiest = max(tables[0].sum(axis=0).max(), tables[0].sum(axis=1).max())
                assert busiest / rate <= took * (1 + 1e-6)


@pytest.mark.parametrize("name", CASES)
def test_a_rank_takes_at_least_its_own_work(case, name):
    """SM, HBM and wire time of a rank bound its stage from below, less the picosecond of rounding."""
    for trace in case(name).traces:
        if not (isinstance(trace.step.stage, Stage) and trace.step.stage.posts):
            assert (trace.done - trace.move >= trace.own_s * 1e12 * (1 - 1e-6) - 2).all()
        for resource, seconds in trace.loads.items():
            assert (seconds >= 0).all(), resource
            assert (trace.own_s >= seconds * (1 - 1e-9)).all(), resource


@pytest.mark.parametrize("name", ["ht", "elastic", "ll", "all-gather", "one-sided"])
def test_a_lone_stage_takes_what_its_slowest_rank_takes(case, name):
    """With equal flows nothing but the rank's own pace and its ports hold it: within 15 % of the longest own time."""
    for trace in case(name).traces:
        if trace.transfers:
            took = max(int(t.finish_ps.max()) for t in trace.transfers.values()) - int(trace.move.min())
            skew = int(trace.move.max() - trace.move.min())
            assert took <= trace.own_s.max() * 1e12 * 1.15 + skew + 1e4


def test_a_rank_without_tokens_takes_part(case):
    """It sends nothing, yet receives, computes and is waited for."""
    trace = next(t for t in case("ht-ragged").traces if t.step.stage.name == "dispatch.stream")
    assert 0 not in trace.transfers and trace.arrived[0] > trace.move[0]
    assert case("ht-ragged").rows("combine.stream", "nvlink")[0].sum() > 0
    sent = case("ll-skewed").traces[0]
    assert sorted(sent.transfers) == [15]
    assert set(sent.flows.src) == {15} and (sent.arrived >= sent.done).all()


@pytest.mark.parametrize("protocol", ["high-throughput", "elastic", "low-latency"])
@pytest.mark.parametrize("link", ["cluster__node__nic__bandwidth", "cluster__node__gpu__nvlink_bandwidth"])
def test_more_bandwidth_is_never_slower(ask, play, protocol, link):
    """Re-sharing within a window may cost 0.1 %, no more; ten times the link must help where the link was the bound."""
    base, ep = (12.5, 16) if "nic" in link else (50.0, 8)
    spans = []
    for factor in (1, 1.5, 2, 4, 10):
        keys = {link: f'"{base * factor:g} GB/s"'}
        spans.append(play(ask(ep=ep, protocol=protocol, tokens=128, **keys)).makespan_ps)
    assert all(after <= before * 1.001 for before, after in pairwise(spans)), spans
    assert spans[-1] < 0.97 * spans[0], spans


@pytest.mark.parametrize(
    "name", ["ht", "ht-one-node", "elastic", "elastic-one-node", "ll", "one-sided", "two-sided", "all-gather", "padded"]
)
def test_more_tokens_are_never_faster(ask, play, name):
    spans = [play(ask(**{**CASES[name], "tokens": tokens})).makespan_ps for tokens in (16, 32, 64, 128, 256, 512)]
    assert all(after > before for before, after in pairwise(spans)), spans


@pytest.mark.parametrize("protocol", ["high-throughput", "elastic", "low-latency"])
def test_one_hot_expert_slows_the_layer(ask, play, protocol, tmp_path):
    """Every token's first choice is expert 0: its rank receives 16 times the rows of the mean."""
    rng = np.random.default_rng(0)
    rows = [[0, *(1 + rng.choice(255, 7, replace=False))] for _ in range(16 * 128)]
    file = tmp_path / "hot.csv"
    file.write_text("\n".join(",".join(map(str, row)) for row in rows))
    even = play(ask(ep=16, protocol=protocol, tokens=128))
    hot = play(ask(ep=16, protocol=protocol, tokens=128, routing="file", traffic__routing__file=file))
    assert hot.makespan_ps > 1.1 * even.makespan_ps
    assert int(np.argmax(hot.program.drawn.expert_rows.sum(axis=0))) == 0


def test_an_oversubscribed_tree_slows_only_who_crosses_it(ask, play):
    def makespan(protocol, **fabric):
        keys = {f"cluster__fabric__{k}": v for k, v in fabric.items()}
        return play(ask(ep=16, protocol=protocol, tokens=128, cluster="h100-cx7-fat-tree", **keys)).makespan_ps

    for protocol in ("low-latency", "high-throughput", "elastic"):
        within = makespan(protocol, nodes_per_leaf=2, oversubscription=8)
        across = [makespan(protocol, nodes_per_leaf=1, oversubscription=o) for o in (1, 4, 8)]
        assert within <= across[0] < across[1] < across[2], protocol
        assert across[2] > 1.3 * within


def test_switches_beyond_the_first_are_paid_by_whoever_crosses_them(ask, play):
    """One token's messages over the spine take two more hops, whether or not anybody stays within a leaf."""
    keys = {"ep": 16, "protocol": "low-latency", "tokens": [1, *[0] * 15], "cluster": "h100-cx7-fat-tree"}
    near = play(ask(**keys, cluster__fabric__oversubscription=1, cluster__fabric__nodes_per_leaf=2))
    far = play(ask(**keys, cluster__fabric__oversubscription=1, cluster__fabric__nodes_per_leaf=1))
    hop = round(far.topology.cluster.fabric.switch.latency * 1e12)
    later = far.traces[0].arrived - near.traces[0].arrived
    reached = near.program.drawn.expert_rows[0] > 0
    assert set(later[:8]) == {0} and set(later[8:][reached[8:]]) == {2 * hop}


def test_playing_twice_is_the_same(ask, play):
    for name in ("ht", "ll-calls"):
        one, two = play(ask(**CASES[name])), play(ask(**CASES[name]))
        for a, b in zip(one.traces, two.traces, strict=True):
            for column in ("begin", "move", "done", "arrived", "arrived_from", "begin_cause"):
                np.testing.assert_array_equal(getattr(a, column), getattr(b, column))
