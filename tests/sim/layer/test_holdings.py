"""A rank's memory, item by item: weights, the protocol's own buffers, and the busiest rank's rows."""

import pytest

from epicycle.sim.engine import Simulator
from epicycle.sim.ep.protocols.high_throughput import nvlink_rings, rdma_rings
from epicycle.sim.ep.protocols.low_latency import slabs
from epicycle.sim.inputs.question import Unanswerable
from epicycle.sim.layer.holdings import holdings
from epicycle.sim.layer.program import build

HBM = "cluster__node__gpu__hbm_capacity"


def held(question):
    program = build(question, question.deployment.protocol, Simulator(question.seed))
    return program, {item.name: item.bytes for item in holdings(question, program)}


def test_low_latency_holds_its_slabs_whatever_is_drawn(ask):
    _, items = held(ask(ep=32, tokens=64))
    assert items["low-latency slabs"] == slabs(128, 7168, 256)
    _, items = held(ask(ep=32, tokens=64, deployment__max_tokens=32, deployment__redundant_experts=32))
    assert items["low-latency slabs"] == slabs(32, 7168, 288)


def test_high_throughput_holds_what_the_busiest_rank_receives(ask):
    """Ragged tokens: what a rank sends is not what it receives, and what is received is what must fit."""
    question = ask(ep=32, protocol="high-throughput", tokens=[4096, *[64] * 31])
    program, items = held(question)
    received = program.drawn.rank_rows.sum(axis=0).max()
    assert received < program.drawn.rank_rows.sum(axis=1).max()
    assert items["received rows"] == received * 7472
    assert items["NVLink rings"] == nvlink_rings(12, 8, 4, 7168)
    assert items["RDMA rings"] == rdma_rings(12, 4, 7168)


def test_fixed_slots_are_for_the_worst_case(ask):
    _, items = held(ask(ep=16, protocol="one-sided", cluster="gb200-nvl72", nodes=4, tokens=100))
    assert items["exchange slots"] == 100 * 16 * (7392 + 64 + 14336)
    _, items = held(ask(ep=16, protocol="all-gather", tokens=100))
    assert items["gathered tokens"] == 100 * 16 * (7392 + 14336)
    _, items = held(ask(ep=16, protocol="padded-all-to-all", tokens=100))
    assert items["padded slots"] == 63 * 16 * (7392 + 14336)  # ceil(1.25 * 100 * 8 / 16) rows a pair


def test_elastic_slots_are_shared_by_both_ways_and_rows_are_counted_only_by_a_host(ask):
    """Four nodes: 8 x 4 x 128 returned rows at forwarders, 4 x 128 at home, 4 x (128 + 1024) between."""
    _, items = held(ask(ep=32, protocol="elastic"))
    returned = (8 * 4 * 128 + 4 * 128 + 4 * (128 + 1024)) * (14336 + 32)
    assert 0 <= items["elastic slots"] - returned < 2 * 2**20 and items["elastic slots"] % (2 * 2**20) == 0
    assert items["ordered rows"] == 32 * 128 * 8 * (7392 + 128)
    program, items = held(ask(ep=32, protocol="elastic", deployment__cuda_graphs="false"))
    assert items["ordered rows"] == program.drawn.rank_rows.sum(axis=0).max() * (7392 + 128)


def test_weights_are_the_local_experts_of_every_layer(ask):
    """8 of 256 experts on each of 32 ranks, 58 MoE layers, fp8 with a scale a block; replicas take their place too."""
    plain, replicas = held(ask(ep=32))[1], held(ask(ep=32, deployment__redundant_experts=32))[1]
    one = 3 * 7168 * 2048 * 58 * (1 + 4 / (128 * 128))
    assert plain["expert weights"] == pytest.approx(8 * one, rel=1e-9)
    assert replicas["expert weights"] == pytest.approx(9 * one, rel=1e-9)
    assert replicas["other weights"] == plain["other weights"] > 10e9


@pytest.mark.parametrize(
    ("keys", "lever"),
    [
        ({"ep": 8}, "raise deployment.ep above 8, or store the experts in fp4, or ask for the layer alone (memory=ignore)"),
        ({"ep": 32, "deployment__max_tokens": 4096}, "lower deployment.max_tokens, or use protocol=high-throughput"),
        ({"ep": 32, "protocol": "elastic", "tokens": 131072}, "lower traffic.tokens_per_rank"),
        (
            {"ep": 32, "protocol": "all-gather", "tokens": 32768, "model__top_k": 1, HBM: "40 GiB"},
            "lower traffic.tokens_per_rank",
        ),
    ],
)
def test_what_does_not_fit_names_the_lever(ask, keys, lever):
    with pytest.raises(Unanswerable, match=r"memory does not fit on h100-sxm( with .*)?: .* more than its \d+ GiB") as refused:
        held(ask(**keys))
    assert str(refused.value).endswith(lever)


def test_one_byte_decides(ask):
    """A rank fits exactly when its items' sum is within its HBM."""
    question = ask(ep=32)
    need = sum(held(question)[1].values())
    assert held(ask(ep=32, cluster__node__gpu__hbm_capacity=f'"{need / 1024:.10f} KiB"'))
    with pytest.raises(Unanswerable):
        held(ask(ep=32, cluster__node__gpu__hbm_capacity=f'"{(need - 1) / 1024:.10f} KiB"'))
