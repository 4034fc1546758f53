"""Expert compute against hand counts: tiles, waves, weights read, and what its program makes of a draw."""

from dataclasses import replace

import numpy as np
import pytest

from epicycle.hwmodels.catalog import load_cluster
from epicycle.sim.engine import Simulator
from epicycle.sim.ep.compute import experts
from epicycle.sim.ep.compute.expert_time import expert_constants, expert_time
from epicycle.sim.ep.compute.experts import ExpertConstants, ExpertShape
from epicycle.sim.ep.machine import machine_of
from epicycle.sim.ep.stage import Join
from epicycle.sim.layer.program import build
from epicycle.sim.layer.traffic import own_seconds, rank_loads

HIDDEN, INTER, SMS = 7168, 2048, 132
RATES = {"bf16": 1e15, "fp8": 2e15}
MACHINE = replace(machine_of(load_cluster("h100-cx7")), sms=SMS, hbm_bytes_per_s=3e12, tensor_flops=RATES)
PERFECT = ExpertConstants(5e-6, tensor_efficiency=1.0, hbm_efficiency=1.0, side_hbm_efficiency=1.0, host=0.0, sharpness=20.0)
V3 = ExpertShape(float(HIDDEN), float(INTER), "fp8", "fp8")


def loads(rows, shape=V3, k=PERFECT, sms=SMS):
    found = dict(experts.loads(np.asarray(rows, float), shape, MACHINE, k, float(sms)))
    return {name: np.asarray(seconds) for name, seconds in found.items()}


def test_weights_and_flops_of_deepseek_v3():
    assert V3.weight_bytes == 3 * 7168 * 2048
    assert V3.flops_per_row == 2 * 7168 * 4096 + 2 * 2048 * 7168
    assert ExpertShape(7168.0, 2048.0, "fp4", "fp8").weight_bytes == 1.5 * 7168 * 2048


@pytest.mark.parametrize(
    ("rows", "tiles"), [([1], 1), ([128], 1), ([129], 2), ([1, 1, 1], 3), ([0, 256, 0], 2), ([127, 130], 3)]
)
def test_tiles_fill_waves(rows, tiles):
    """Each expert's rows in tiles of 128, times 32 columns of tiles up and 56 down, in waves of 132 SMs."""
    up, down = -(-tiles * 32 // SMS), -(-tiles * 56 // SMS)
    tile_s = 2 * 128 * 128 / (2e15 / SMS)
    assert loads([rows])["tensor"] == pytest.approx(tile_s * (up * HIDDEN + down * INTER))


def test_full_waves_reach_the_tensor_rate():
    """132 x 128 rows fill every wave: the time is flops over rate."""
    rows = 132 * 128
    assert loads([[rows]])["tensor"] == pytest.approx(rows * V3.flops_per_row / 2e15)
    assert loads([[rows]], k=replace(PERFECT, tensor_efficiency=0.5))["tensor"] == pytest.approx(
        2 * rows * V3.flops_per_row / 2e15
    )


def test_fewer_sms_take_longer():
    rows = [[2048.0] * 8]
    assert loads(rows, sms=66)["tensor"] == pytest.approx(2 * loads(rows)["tensor"], rel=0.02)


def test_only_experts_with_rows_read_their_weights():
    one, three = loads([[1, 0, 0, 0]])["hbm"], loads([[1, 1, 1, 0]])["hbm"]
    row = (one - V3.weight_bytes / 3e12).item()
    assert three == pytest.approx((3 * V3.weight_bytes) / 3e12 + 3 * row)
    assert 0 < row < 0.01 * V3.weight_bytes / 3e12
    assert loads([[0, 0, 0, 0]])["hbm"] == 0 and loads([[0, 0, 0, 0]])["tensor"] == 0


def test_ranks_are_counted_apart():
    both = loads([[1, 200], [0, 64]])
    assert both["hbm"].shape == (2,)
    for rank, rows in enumerate(([1, 200], [0, 64])):
        for name, seconds in loads([rows]).items():
            assert both[name][rank] == pytest.approx(seconds[0])


def test_the_tensor_rate_of_weights_a_gpu_cannot_multiply():
    """fp4 weights on a GPU without fp4 tensor cores run at the next wider rate."""
    assert experts.tensor_dtype(ExpertShape(1.0, 1.0, "fp4", "fp4"), MACHINE) == "fp8"
    assert experts.tensor_dtype(V3, MACHINE) == "fp8"
    assert experts.tensor_dtype(ExpertShape(1.0, 1.0, "bf16", "bf16"), MACHINE) == "bf16"


@pytest.mark.parametrize("host", [0.0, 3e-4])
def test_a_replayed_graph_costs_the_host_nothing(host):
    """Eager, the host's launches run beside all kernels: a rank waits for what they last beyond those."""
    k = replace(PERFECT, host=3e-4)
    rows, walked = np.full((2, 4), 8.0), np.full(2, 24.0)
    *kernels, last = experts.works("contiguous", rows, walked, 32.0, V3, MACHINE, k, float(SMS), graphs=host == 0.0)
    assert ("host" in dict(last.loads)) == (host > 0.0)
    busy = sum(own_seconds(w, {n: np.asarray(s) for n, s in w.loads}, 2) + w.latency_s for w in (*kernels, last))
    counts = replace(experts.counted(rows, 32.0), walked=walked)
    alone = experts.block_seconds(experts.block("contiguous", counts, V3, MACHINE, k, float(SMS)), k, graphs=host == 0.0)
    np.testing.assert_allclose(busy, alone)
    assert (busy == pytest.approx(3e-4)) == (host > 0.0)


def test_the_fused_kernel_walks_the_whole_group():
    """16 tokens of top-2 on two ranks of two experts: 32 pairs on either, and the tiles of the other's experts."""
    rows = np.array([[16.0, 0.0], [15.0, 1.0]])
    shape = ExpertShape(4096.0, 1024.0, "bf16", "bf16")
    k = replace(PERFECT, idle_tile=1e-6)
    found = experts.block("triton", experts.counted(rows, 16.0), shape, MACHINE, k, float(SMS))
    assert found.activation_s == pytest.approx(32 * (2 * 2048 * 2 + 2 * 1024 + 4 * 4096) / 3e12)
    columns = 2048 / 64 + 4096 / 64
    np.testing.assert_allclose(found.idle_s, [2 * columns * 1e-6 / SMS, 1 * columns * 1e-6 / SMS])
    np.testing.assert_allclose(found.hbm_s * 3e12, [(n * 3 * 4096 * 1024 + 16 * (4096 + 1024)) * 2 for n in (1, 2)])


@pytest.mark.parametrize(
    ("tokens", "weights", "tile"),
    [
        (1, "bf16", (16, 64)),
        (33, "bf16", (32, 64)),
        (65, "bf16", (32, 128)),
        (512, "bf16", (64, 128)),
        (513, "bf16", (128, 128)),
        (64, "fp8", (16, 128)),
        (65, "fp8", (64, 128)),
        (9e5, "fp8", (64, 128)),
    ],
)
def test_tiles_of_the_fused_kernel(tokens, weights, tile):
    assert tuple(float(x) for x in experts.triton_tile(float(tokens), weights)) == tile


def test_an_expert_without_a_gate_has_two_projections():
    plain = ExpertShape(2048.0, 5120.0, "bf16", "bf16", projections=2.0)
    assert plain.weight_bytes == 2 * 2048 * 5120 * 2 and plain.flops_per_row == 4 * 2048 * 5120 and plain.first_width == 5120


def test_what_lies_around_the_gemms_of_each_layout():
    """Contiguous: act and cast read and write rows, tokens that came are read and written, rows moved there and back."""
    rows = np.array([[100.0, 28.0]])
    counts = experts.counted(rows, 100.0)
    side = experts.side_bytes("contiguous", counts, V3)
    assert side.activation == 128 * (2 * 2 * INTER + 2 * INTER + 2 * INTER + INTER)
    assert side.permute == 128 * 3 * HIDDEN
    assert side.walk == pytest.approx(100 * (1 - 0.36**2) * 3 * HIDDEN)
    masked = experts.side_bytes("masked", counts, V3)
    assert masked.activation == 128 * (2 * 2 * INTER + INTER) and masked.permute == masked.walk == 0


def test_rows_are_permuted_as_the_law_of_the_block_has_it():
    """A token that came is read once and its rows are written; rows are read and the token's result is written, in bf16."""
    rows, walked = np.array([[10.0, 6.0], [0.0, 0.0]]), np.array([12.0, 0.0])
    k = replace(PERFECT, side_hbm_efficiency=0.5)
    gather, body, scatter = experts.works("contiguous", rows, walked, 100.0, V3, MACHINE, k, float(SMS), graphs=True)
    np.testing.assert_allclose(dict(gather.loads)["hbm"], [(12 + 16) * HIDDEN / 1.5e12, 0.0])
    np.testing.assert_allclose(dict(scatter.loads)["hbm"], [(12 + 16) * 2 * HIDDEN / 1.5e12, 0.0])
    assert (gather.waits, body.waits, scatter.waits) == (Join.INBOUND, Join.OWN, Join.OWN)
    (masked,) = experts.works("masked", rows, walked, 100.0, V3, MACHINE, k, float(SMS), graphs=True)
    assert masked.waits is Join.INBOUND


@pytest.mark.parametrize(("protocol", "stages"), [("low-latency", 1), ("high-throughput", 4), ("elastic", 1)])
def test_a_program_computes_the_rows_it_drew(ask, play, protocol, stages):
    """Every slot's rows enter the GEMMs of its rank, contiguous rows are permuted before and after, masked ones are not."""
    played = play(ask(ep=16, protocol=protocol, tokens=64, routing="power-law"))
    program = played.program
    works = [step.stage for step in program.steps if step.stage.op == "compute"]
    assert len(works) == stages
    block = works[1] if stages > 1 else works[0]
    rows = program.drawn.slot_load.reshape(16, -1).astype(float)
    busy = (rows > 0).sum(axis=1)
    hbm = dict(block.loads)["hbm"]
    assert (np.argsort(busy)[-1] == np.argsort(hbm)[-1]) or busy.max() == busy[np.argmax(hbm)]
    assert rows.sum() == 16 * 64 * 8
    if stages > 1:
        received = program.drawn.expert_rows.sum(axis=0) + program.drawn.rank_rows.sum(axis=0)
        np.testing.assert_allclose(dict(works[0].loads)["hbm"] / received, (dict(works[0].loads)["hbm"] / received)[0])
        assert np.argmax(dict(works[2].loads)["hbm"]) == np.argmax(received)


def test_elastic_rows_are_masked_where_no_host_knows_their_counts(ask):
    """Under CUDA graphs, the default, the experts run on masked kernels; else on contiguous ones, as high-throughput's do."""

    def names(protocol, **keys):
        program = build(ask(ep=16, protocol=protocol, tokens=64, **keys), protocol, Simulator(1))
        return [step.stage.name for step in program.steps if step.stage.op == "compute"]

    counted = names("elastic", deployment__cuda_graphs="false")
    assert names("elastic") == names("low-latency") == ["experts.masked"]
    assert counted == names("high-throughput")
    assert counted == ["experts.permute", "experts.contiguous", "experts.unpermute", "experts.host"]


def drawn_seconds(program, ranks):
    """[rank] seconds of the experts of one draw, alone."""
    works = [step.stage for step in program.steps if step.stage.op == "compute"]
    loads = [rank_loads(w, program.drawn, program.layout, program.machine) for w in works]
    return sum(own_seconds(w, found, ranks) + w.latency_s for w, found in zip(works, loads, strict=True))


@pytest.mark.parametrize("protocol", ["low-latency", "high-throughput", "elastic", "all-gather"])
@pytest.mark.parametrize("ep", [8, 32])
@pytest.mark.parametrize("tokens", [16, 96, 128, 160, 1024])
def test_drawn_experts_take_as_long_as_the_closed_form_says(ask, protocol, ep, tokens):
    """Busiest rank of one draw against `expert_time`, which is all that answers in closed form; no cliff at a tile's edge."""
    question = ask(ep=ep, protocol=protocol, tokens=tokens, cluster__node__gpu__hbm_capacity='"800 GiB"')
    program = build(question, protocol, Simulator(0))
    assert program.closed_experts_s == pytest.approx(drawn_seconds(program, ep).max(), rel=0.10)


def test_a_program_takes_what_a_plan_takes(ask):
    """One closed form: a program's is `expert_time` with the question's numbers."""
    question = ask(ep=16, protocol="high-throughput", tokens=4096)
    program = build(question, "high-throughput", Simulator(0))
    model = question.model
    shape = ExpertShape(float(model.hidden), float(model.moe_intermediate), "fp8", "fp8")
    k = expert_constants(question.cluster.calibration, "contiguous", "fp8")[0]
    given = {"experts": model.experts, "top_k": model.top_k, "ranks": 16, "graphs": False}
    found = expert_time("contiguous", 4096.0 * 16, shape, program.machine, k, **given)
    assert program.closed_experts_s == pytest.approx(float(found.seconds), rel=1e-12)


def test_dealt_experts_are_counted_not_expected(ask):
    """512 tokens of top-8 over 256 experts in turn: 16 rows an expert, every rank alike, in closed form and as played."""
    question = ask(ep=16, protocol="high-throughput", tokens=32, routing="balanced")
    program = build(question, "high-throughput", Simulator(0))
    assert drawn_seconds(program, 16) == pytest.approx(np.full(16, program.closed_experts_s), rel=0.01)
