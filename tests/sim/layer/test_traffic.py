"""Tokens and bytes are conserved: what every protocol puts on every hop, against the drawn counts and published sizes."""

import numpy as np
import pytest

from epicycle.sim.ep.protocols import collectives, high_throughput, low_latency
from epicycle.sim.ep.shape import Path, Shape
from epicycle.sim.layer.traffic import Layout, rows_of

CASES = {
    "ht-one-node": {"protocol": "high-throughput", "ep": 8, "tokens": 200},
    "ht-two-hop": {"protocol": "high-throughput", "ep": 32, "tokens": 64},
    "ht-ragged": {"protocol": "high-throughput", "ep": 16, "tokens": [*range(0, 128, 8)]},
    "elastic-one-node": {"protocol": "elastic", "ep": 8, "tokens": 200},
    "elastic-two-hop": {"protocol": "elastic", "ep": 32, "tokens": 64},
    "elastic-ragged": {"protocol": "elastic", "ep": 16, "tokens": [*range(0, 128, 8)]},
    "ll-one-node": {"protocol": "low-latency", "ep": 8, "tokens": 100},
    "ll": {"protocol": "low-latency", "ep": 32, "tokens": 64},
    "ll-half-node": {"protocol": "low-latency", "ep": 12, "tokens": 40, "model__experts": 240},
    "ll-ragged": {"protocol": "low-latency", "ep": 16, "tokens": [0, *range(15)]},
    "ll-calls": {"protocol": "low-latency", "ep": 16, "tokens": 100, "deployment__max_tokens": 32},
    "one-sided": {"protocol": "one-sided", "ep": 16, "cluster": "gb200-nvl72", "nodes": 4},
    "two-sided": {"protocol": "two-sided", "ep": 8, "cluster": "gb200-nvl72", "nodes": 2},
    "all-gather": {"protocol": "all-gather", "ep": 16},
    "padded": {"protocol": "padded-all-to-all", "ep": 16},
}


@pytest.fixture(scope="module")
def case(ask, play):
    known = {}

    def played(name):
        if name not in known:
            known[name] = play(ask(**CASES[name]))
        return known[name]

    return played


def near(layout: Layout) -> np.ndarray:
    return layout.node_of[:, None] == layout.node_of[None, :]


def total(played, op: str, medium: str) -> np.ndarray:
    """[source, destination] rows of ``op`` over ``medium``, zero if there are none."""
    n = played.program.layout.ranks
    return sum((m.rows for m in played.matrices if (m.op, m.medium) == (op, medium)), np.zeros((n, n), np.int64))


@pytest.mark.parametrize("hidden", [2048, 7168])
def test_published_row_sizes(hidden):
    """DeepEP at hidden 7168: 7,472 and 14,384 bytes a row between nodes, 7,408 and 14,352 - 16 bytes a low-latency message."""
    shape = Shape(128.0, float(hidden), 8.0, 256.0, 32.0, 8.0, payload_bytes=hidden * (1 + 4 / 128))
    sizes = (
        high_throughput.dispatch_row_bytes(shape, True),
        high_throughput.combine_row_bytes(shape, True),
        low_latency.dispatch_message_bytes(shape),
        low_latency.combine_message_bytes(shape),
        high_throughput.dispatch_row_bytes(shape, False),
        high_throughput.combine_row_bytes(shape, False),
    )
    if hidden == 7168:
        assert [float(np.asarray(s)) for s in sizes] == [7472, 14384, 7408, 14352 - 16, 7392 + 4 + 96, 14336 + 4 + 32]
    assert all(float(np.asarray(s)) % 16 == 0 for s in sizes[:4])


def test_matrices_carry_the_published_sizes(case):
    for stage, medium, row in [("dispatch.stream", "rdma", 7472), ("combine.stream", "rdma", 14384)]:
        np.testing.assert_array_equal(case("ht-two-hop").bytes(stage, medium), case("ht-two-hop").rows(stage, medium) * row)
    for stage, medium, row in [("dispatch.send", "rdma", 7408), ("combine.send", "nvlink", 14336)]:
        np.testing.assert_array_equal(case("ll").bytes(stage, medium), case("ll").rows(stage, medium) * row)


@pytest.mark.parametrize("name", CASES)
def test_every_medium_joins_only_whom_it_can(case, name):
    played = case(name)
    same, local = near(played.program.layout), np.eye(played.program.layout.ranks, dtype=bool)
    for matrix in played.matrices:
        allowed = {"local": local, "nvlink": same & ~local, "rdma": ~same}[matrix.medium]
        assert not matrix.rows[~allowed].any(), (matrix.stage, matrix.medium)
        assert matrix.rows.min() >= 0 and ((matrix.bytes > 0) == (matrix.rows > 0)).all()


@pytest.mark.parametrize("name", ["ht-two-hop", "ht-ragged", "elastic-two-hop", "elastic-ragged"])
def test_two_hops(case, name):
    """Once over RDMA to the same-index GPU of every node a token visits, then once over NVLink to every rank it visits."""
    played = case(name)
    drawn, layout = played.program.drawn, played.program.layout
    rdma, forward = np.zeros((2, layout.ranks, layout.ranks), np.int64)
    for home in range(layout.ranks):
        for node in range(layout.nodes):
            via = node * 8 + home % 8
            if node != home // 8:
                rdma[home, via] += drawn.node_rows[home, node]
            forward[via, node * 8 : node * 8 + 8] += drawn.rank_rows[home, node * 8 : node * 8 + 8]
    np.testing.assert_array_equal(total(played, "dispatch", "rdma"), rdma)
    np.testing.assert_array_equal(total(played, "dispatch", "nvlink") + total(played, "dispatch", "local"), forward)
    np.testing.assert_array_equal(forward.sum(axis=0), drawn.rank_rows.sum(axis=0))
    assert rdma.sum() == drawn.node_rows.sum() - sum(drawn.node_rows[r, r // 8] for r in range(layout.ranks))


@pytest.mark.parametrize("name", [n for n in CASES if n not in ("all-gather", "padded")])
def test_what_goes_out_comes_back(case, name):
    for medium in ("local", "nvlink", "rdma"):
        np.testing.assert_array_equal(
            total(case(name), "combine", medium), total(case(name), "dispatch", medium).T, err_msg=medium
        )


@pytest.mark.parametrize("name", ["ht-one-node", "elastic-one-node", "one-sided", "two-sided"])
def test_one_copy_a_rank(case, name):
    played = case(name)
    rows = total(played, "dispatch", "nvlink") + total(played, "dispatch", "local")
    np.testing.assert_array_equal(rows, played.program.drawn.rank_rows)


@pytest.mark.parametrize("name", ["ll", "ll-one-node", "ll-ragged", "ll-half-node", "ll-calls"])
def test_one_message_a_token_and_expert(case, name):
    """Every call's messages together: T x k rows leave every rank, and reach the ranks that hold the experts."""
    played = case(name)
    rows = sum(total(played, "dispatch", medium) for medium in ("local", "nvlink", "rdma"))
    np.testing.assert_array_equal(rows, sum(call.expert_rows for call in played.program.calls))
    tokens = sum(call.tokens for call in played.program.calls)
    np.testing.assert_array_equal(rows.sum(axis=1), tokens * 8)
    np.testing.assert_array_equal(tokens, np.broadcast_to(CASES[name]["tokens"], tokens.shape))


@pytest.mark.parametrize("ep", [8, 16, 32])
def test_fixed_collectives_move_r_where_an_all_to_all_moves_k(ask, play, ep):
    """``R T H`` against ``k T H`` bytes into every rank's memory in bf16, its own T rows among the gathered ones."""
    block = 2 * 7168 * 96
    keys = {"ep": ep, "tokens": 96, "deployment__payload": "bf16", "routing": "balanced"}
    gathered, sent = play(ask(protocol="all-gather", **keys)), play(ask(protocol="low-latency", **keys))
    into = sum(m.bytes for m in gathered.matrices if m.op == "dispatch").sum(axis=0) + block
    assert into.tolist() == [ep * block] * ep
    into = sum(m.bytes - 16 * m.rows for m in sent.matrices if m.op == "dispatch").sum(axis=0)
    assert into.tolist() == [8 * block] * ep


def test_gather_over_rails_then_nvlink(case):
    """Every other rank's block arrives exactly once: those of the rail over RDMA, the others from the node's ranks."""
    played = case("all-gather")
    block = 128 * 7392
    rdma, nvlink = played.bytes("dispatch.all_gather", "rdma"), played.bytes("dispatch.all_gather", "nvlink")
    assert (rdma.sum(axis=0) == block).all() and (np.count_nonzero(rdma, axis=0) == 1).all()
    assert (nvlink.sum(axis=0) == 7 * 2 * block).all() and (np.count_nonzero(nvlink, axis=0) == 7).all()
    assert (rdma + nvlink).sum(axis=0).tolist() == [15 * block] * 16
    returned = played.bytes("combine.reduce_scatter", "rdma") + played.bytes("combine.reduce_scatter", "nvlink")
    np.testing.assert_array_equal(returned * 7392, (rdma + nvlink).T * 2 * 7168)


def test_padded_slots_are_all_alike(case):
    """1.25 x 128 x 8 / 16 = 80 rows for every pair, full or not."""
    played = case("padded")
    shape = played.program.shape
    assert float(np.asarray(collectives.padded_rows(shape, 1.25))) == 80
    sent = played.bytes("dispatch.all_to_all", "nvlink") + played.bytes("dispatch.all_to_all", "rdma")
    assert set(sent[~np.eye(16, dtype=bool)]) == {80 * 7392} and not np.diag(sent).any()


def per_row(stage, medium: str, resource: str) -> float:
    """Units of ``resource`` that one row of ``stage`` over ``medium`` takes, by its description; the same on all moves."""
    paths = {"nvlink": (Path.NVLINK, Path.RAIL, Path.OWN), "rdma": (Path.RDMA, Path.RAIL)}[medium]
    loads = [load for move in stage.moves if move.path in paths for load in move.loads if load.resource == resource]
    (units,) = {float(np.asarray(load.per_row)) / load.efficiency for load in loads} or {0.0}
    return units


@pytest.mark.parametrize("name", CASES)
def test_the_engine_moves_what_the_matrices_say(case, name):
    """Bytes over their efficiency, and messages, as the network counted them at every port: the matrices' sums."""
    played = case(name)
    topology = played.topology
    ids, ranks = topology.resources.ids, np.arange(topology.ranks)
    wanted = {kind: np.zeros(ids(kind).size) for kind in ("nvlink_tx", "nvlink_rx", "nic_tx", "nic_rx", "nic_msg")}
    stages = {trace.step.stage.name: trace.step.stage for trace in played.traces}
    for matrix in played.matrices:
        stage, out, into = stages[matrix.stage], matrix.rows.sum(axis=1), matrix.rows.sum(axis=0)
        if matrix.medium == "nvlink":
            units = per_row(stage, "nvlink", "nvlink")
            wanted["nvlink_tx"] += np.bincount(ranks, out * units)
            wanted["nvlink_rx"] += np.bincount(ranks, into * units)
        elif matrix.medium == "rdma":
            units, port, ports = per_row(stage, "rdma", "nic"), topology.port_of, topology.ports
            wanted["nic_tx"] += np.bincount(port, out * units, minlength=ports)
            wanted["nic_rx"] += np.bincount(port, into * units, minlength=ports)
    for trace in played.traces:  # calls of one stage may have other messages behind their rows
        for move in getattr(trace.step.stage, "moves", ()):
            if messages := sum(float(np.asarray(load.per_row)) for load in move.loads if load.resource == "nic_msg"):
                rows = rows_of(move, trace.step.drawn, played.program.layout)
                if move.path is Path.RAIL and move.back:  # from the GPU of the home's index on every node
                    sent = np.bincount(played.program.layout.via()[rows > 0], rows[rows > 0], minlength=topology.ranks)
                else:
                    sent = rows.sum(axis=0 if move.back else 1)
                wanted["nic_msg"] += np.bincount(topology.port_of, sent * messages, minlength=topology.ports)
    counted = played.player.network.moved
    for kind, units in wanted.items():
        np.testing.assert_allclose(counted[ids(kind)], units, rtol=1e-6, atol=1e-3, err_msg=kind)


@pytest.mark.parametrize("name", CASES)
def test_a_rank_is_charged_for_the_fuller_side_of_its_links(case, name):
    """Seconds of NVLink and NIC in a rank's own work: the larger of its matrix row and column, at the reachable rate."""
    played = case(name)
    machine = played.program.machine
    for trace in played.traces if played.program.micro_batches == 1 else ():
        for medium, link, rate in (("nvlink", "nvlink", machine.nvlink_bytes_per_s), ("rdma", "nic", machine.nic_bytes_per_s)):
            rows = [m.rows for m in played.matrices if (m.stage, m.medium) == (trace.step.stage.name, medium)]
            if rows:
                fuller = np.maximum(rows[0].sum(axis=0), rows[0].sum(axis=1)) * per_row(trace.step.stage, medium, link) / rate
                np.testing.assert_allclose(trace.loads[link], fuller, rtol=1e-9, err_msg=f"{trace.step.stage.name} {medium}")


@pytest.mark.parametrize("name", ["ht-two-hop", "elastic-two-hop"])
def test_two_hops_land_on_the_ranks_of_a_node_and_come_home(case, name):
    """A forwarded flow is in when every rank of the node has its copies; a combined one when its home has the sum."""
    played = case(name)
    landing = {t.step.stage.name: t.flows.dst for t in played.traces if t.flows is not None and t.transfers}
    assert set(landing["dispatch.stream"]) == {-1, -2, -3, -4}
    assert set(landing["combine.stream"]) == set(range(32))
