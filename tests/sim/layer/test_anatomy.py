"""The EP-anatomy article's example through the command, against a little model of it in plain Python.

2 nodes of 4 GPUs, top-2, one token a rank: who announces what to whom, where rows go, what travels over NVLink and RDMA.
"""

import json

import numpy as np
import pytest

from epicycle.scenarios.ask.scenario import load_scenario
from epicycle.sim.engine import Simulator
from epicycle.sim.layer.routing import Router, _distinct

RANKS, NODE = 8, 4


@pytest.fixture(scope="module", params=[16, 8])
def experts(request):
    return request.param


@pytest.fixture
def layers(epicycle, experts):
    """protocol -> its layer in the JSON."""
    run = epicycle("simulate", "ep-anatomy", "--set", f"model.experts={experts}", "--json", "-")
    assert run.status == 0, run.err
    answer = json.loads(run.out)
    assert (answer["ranks"], answer["gpus_per_node"]) == (RANKS, NODE)
    return {layer["protocol"]: layer for layer in answer["layers"]}


@pytest.fixture(scope="module")
def topk(experts):
    """[rank, 2] the experts of each rank's one token, as the router drew them."""
    question = load_scenario("ep-anatomy", [f"model.experts={experts}"]).resolve()
    router = Router(question.traffic.routing, experts, 2, 1, 1)
    rng = Simulator(question.seed).stream("routing 0")
    ((home, chosen),) = router.choices(np.ones(RANKS, np.int64), router.popularity(rng), np.arange(experts), rng)
    assert home.tolist() == list(range(RANKS))
    np.testing.assert_array_equal(chosen, _distinct(RANKS, experts, 2, Simulator(question.seed).stream("routing 0")))
    return chosen


def copies(topk, experts):
    """Lists of (source, destination): per (token, expert), per (token, rank), per (token, node)."""
    per_rank = experts // RANKS
    pairs = [(source, int(expert) // per_rank) for source, row in enumerate(topk) for expert in row]
    ranks = sorted(set(pairs))
    nodes = sorted({(source, rank // NODE) for source, rank in pairs})
    return pairs, ranks, nodes


def matrix(entries):
    found = np.zeros((RANKS, RANKS), int)
    for source, destination in entries:
        found[source, destination] += 1
    return found


def hop(layer, op, medium, what="rows"):
    tables = [np.array(t[what]) for t in layer["traffic"] if (t["op"], t["medium"]) == (op, medium)]
    return sum(tables, np.zeros((RANKS, RANKS), int))


def test_counts_after_every_hop(layers, topk, experts):
    _, ranks, _ = copies(topk, experts)
    sent = matrix(ranks)
    after_rails, after_nvlink = np.zeros((2, RANKS, RANKS), int)
    for source, destination in ranks:
        after_rails[destination // NODE * NODE + source % NODE, destination] += 1  # held by the source's same-index GPU there
        after_nvlink[destination, source] += 1
    offsets = [[sum(row[:source]) for source in range(RANKS)] for row in after_nvlink.tolist()]
    exchange = layers["high-throughput"]["exchange"]
    assert exchange["counts sent [source, destination]"] == sent.tolist()
    assert exchange["counts after the RDMA rails [holder, destination]"] == after_rails.tolist()
    assert exchange["counts after NVLink [destination, source]"] == after_nvlink.tolist()
    assert exchange["write offsets [destination, source]"] == offsets
    assert after_rails.sum() == sent.sum()
    for destination in range(RANKS):  # rows of different sources never overlap, and fill the buffer
        places = [offsets[destination][s] + i for s in range(RANKS) for i in range(after_nvlink[destination][s])]
        assert sorted(places) == list(range(after_nvlink[destination].sum()))
    assert not layers["low-latency"]["exchange"]


def test_high_throughput_sends_one_copy_a_node_then_one_a_rank(layers, topk, experts):
    _, ranks, nodes = copies(topk, experts)
    layer = layers["high-throughput"]
    rdma = matrix((source, node * NODE + source % NODE) for source, node in nodes if node != source // NODE)
    forward = matrix((rank // NODE * NODE + source % NODE, rank) for source, rank in ranks)
    local = np.diag(np.diag(forward))
    for op, row, turn in (("dispatch", 7168 + 224 + 8 + 8 * 2, np.asarray), ("combine", 2 * 7168 + 8 + 4 * 2, np.transpose)):
        size = -(-row // 16) * 16
        for medium, rows in (("rdma", rdma), ("nvlink", forward - local), ("local", local)):
            np.testing.assert_array_equal(hop(layer, op, medium), turn(rows), err_msg=f"{op} {medium}")
            np.testing.assert_array_equal(hop(layer, op, medium, "bytes"), turn(rows) * size, err_msg=f"{op} {medium}")


def test_announcements_take_the_rails_then_nvlink(layers, experts):
    """To the same-index GPU of the other node: its node's, ranks' and experts' counts; to every peer: its own, a node each."""
    layer, local = layers["high-throughput"], experts // RANKS
    rails = np.eye(RANKS, dtype=int)[(np.arange(RANKS) + NODE) % RANKS]
    peers = np.kron(np.eye(2, dtype=int), 1 - np.eye(NODE, dtype=int))
    np.testing.assert_array_equal(hop(layer, "notify", "rdma", "bytes"), rails * 4 * (1 + NODE + NODE * local))
    np.testing.assert_array_equal(hop(layer, "notify", "nvlink", "bytes"), peers * 4 * 2 * (1 + local))


def test_low_latency_sends_a_message_an_expert(layers, topk, experts):
    pairs, _, _ = copies(topk, experts)
    layer = layers["low-latency"]
    for op, size, turn in (("dispatch", 16 + 7168 + 224, np.asarray), ("combine", 2 * 7168, np.transpose)):
        for medium, chosen in (
            ("rdma", [(s, d) for s, d in pairs if s // NODE != d // NODE]),
            ("nvlink", [(s, d) for s, d in pairs if s // NODE == d // NODE and s != d]),
            ("local", [(s, d) for s, d in pairs if s == d]),
        ):
            np.testing.assert_array_equal(hop(layer, op, medium), turn(matrix(chosen)), err_msg=f"{op} {medium}")
            np.testing.assert_array_equal(hop(layer, op, medium, "bytes"), turn(matrix(chosen)) * size)
    assert sum(hop(layer, "dispatch", medium).sum() for medium in ("rdma", "nvlink", "local")) == 16


def test_loads_and_totals(layers, topk, experts):
    for layer in layers.values():
        assert layer["expert_load"] == np.bincount(topk.ravel(), minlength=experts).tolist()
        assert layer["rank_load"] == np.bincount(topk.ravel() // (experts // RANKS), minlength=RANKS).tolist()
        for table in layer["traffic"]:
            assert table["total_bytes"] == np.sum(table["bytes"]) and table["total_rows"] == np.sum(table["rows"])


def test_two_shapes_two_times(layers):
    """Asking first costs two more steps; at one token a rank the shape that sends without asking is the faster one."""
    asks, sends = layers["high-throughput"], layers["low-latency"]
    assert [op["op"] for op in asks["ops"]] == ["notify", "dispatch", "compute", "combine_notify", "combine"]
    assert [op["op"] for op in sends["ops"]] == ["dispatch", "compute", "combine"]
    assert 0 < sends["makespan_us"] < asks["makespan_us"]
    for layer in layers.values():
        assert layer["critical_path"][0]["start_us"] == 0
        assert layer["critical_path"][-1]["end_us"] == layer["makespan_us"]


def test_with_as_many_experts_as_ranks_every_token_reaches_two(topk, experts, layers):
    counts = np.array(layers["high-throughput"]["exchange"]["counts sent [source, destination]"])
    if experts == RANKS:
        assert (counts.sum(axis=1) == 2).all()
    else:
        assert set(counts.sum(axis=1)) <= {1, 2}
