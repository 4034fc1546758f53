"""The expert block in closed form against routings drawn and counted slot by slot, and what it must never do."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epicycle.hwmodels.catalog import load_cluster
from epicycle.hwmodels.errors import BadInput
from epicycle.sim.ep.compute import experts as law
from epicycle.sim.ep.compute.expert_share import busiest_share, inclusion
from epicycle.sim.ep.compute.expert_time import busiest_rows, expected_counts, expert_constants, expert_time
from epicycle.sim.ep.compute.experts import ExpertConstants, ExpertShape, counted
from epicycle.sim.ep.machine import machine_of
from epicycle.sim.inputs.traffic import Routing
from epicycle.sim.layer.routing import Router, draw

MACHINE = machine_of(load_cluster("h100-cx7"))
V3 = ExpertShape(7168.0, 2048.0, "fp8", "fp8")
K = ExpertConstants(20e-6, tensor_efficiency=0.7, hbm_efficiency=0.8, side_hbm_efficiency=0.8, host=0.0, sharpness=4.0)
TRITON = replace(K, idle_tile=2e-7)
LAYERS = [(256, 8, 32), (256, 8, 8), (128, 8, 16), (256, 8, 1), (8, 2, 8)]


def drawn(alpha, experts, top_k, ranks, tokens, seed=0, redundant=0, placement="contiguous"):
    """[rank, slot] rows of one draw, by the simulator's own router."""
    kind = Routing(kind="power-law", alpha=alpha) if alpha else Routing()
    router = Router(kind, experts, top_k, 1, 1)
    spread = np.diff(np.round(np.linspace(0, tokens, ranks + 1))).astype(int)
    found = draw(router, spread, placement, redundant, ranks, np.random.default_rng(seed))
    return found.slot_load.reshape(ranks, -1).astype(float)


def point(*values):
    return [np.array(float(v)) for v in values]


@pytest.mark.parametrize("alpha", [0.0, 1.0])
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("tokens", [4, 64, 1024])
def test_counts_of_the_busiest_rank_are_those_of_draws(alpha, layer, tokens):
    rows, busy, tiles = [], [], []
    for seed in range(40):
        mine = max(drawn(alpha, *layer, tokens, seed), key=lambda slots: slots.sum())
        counts = counted(mine[None], 0.0)
        rows.append(counts.rows)
        busy.append(counts.busy)
        tiles.append(counts.tiles(64))
    experts, top_k, ranks = layer
    found = expected_counts(*point(tokens, experts, top_k, ranks, 0, alpha))
    # A handful of rows under a power law: which rank is busiest is luck more than popularity, and the two are only added up.
    loose = 0.06 if alpha and tokens == 4 else 0.0
    assert found.rows == pytest.approx(np.mean(rows), rel=0.09 + loose)
    assert found.busy == pytest.approx(np.mean(busy), rel=0.15 + loose, abs=0.5)
    assert found.tiles(64) == pytest.approx(np.mean(tiles), rel=0.15 + loose, abs=0.5)


@pytest.mark.parametrize("kind", ["contiguous", "masked", "triton"])
@pytest.mark.parametrize("tokens", [8, 512, 8192])
def test_seconds_are_those_of_the_slot_law_over_draws(kind, tokens):
    """Ranks of 8 experts: the slowest rank's time, mean over drawn routings, against one closed-form call."""
    seconds = []
    for seed in range(20):
        rows = drawn(0.0, 256, 8, 32, tokens, seed)
        block = law.block(kind, counted(rows, float(tokens)), V3, MACHINE, TRITON, float(MACHINE.sms))
        seconds.append(law.block_seconds(block, TRITON, graphs=True).max())
    found = expert_time(kind, float(tokens), V3, MACHINE, TRITON, experts=256, top_k=8, ranks=32)
    assert found.seconds == pytest.approx(np.mean(seconds), rel=0.1)


def test_one_rank_has_every_row():
    found = expert_time("masked", np.array([1.0, 1000.0]), V3, MACHINE, K, experts=256, top_k=8, ranks=1)
    np.testing.assert_allclose(found.rows, [8.0, 8000.0])
    np.testing.assert_allclose(found.flops, found.rows * V3.flops_per_row)


def test_few_tokens_read_only_the_experts_they_chose():
    """One token of top-8 on one rank: eight experts' weights, and all 256 of them once thousands of tokens came."""
    found = expert_time("masked", np.array([1.0, 1e4]), V3, MACHINE, K, experts=256, top_k=8, ranks=1)
    row = (2.0 * V3.inter + 2.0 * 7168 * 2) * 4
    assert 8 * V3.weight_bytes < found.hbm_bytes[0] < 8 * (V3.weight_bytes + row)
    assert found.hbm_bytes[1] > 256 * V3.weight_bytes


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(["contiguous", "masked", "triton"]),
    experts=st.sampled_from([8, 64, 256, 512]),
    ranks=st.sampled_from([1, 2, 8]),
    top_k=st.integers(1, 8),
    alpha=st.sampled_from([0.0, 0.8, 1.5]),
    graphs=st.booleans(),
)
def test_more_tokens_never_take_less(kind, experts, ranks, top_k, alpha, graphs):
    tokens = np.unique(np.round(np.geomspace(1, 1e6, 300)))
    k = replace(K, host=2e-4)
    given_ = {"experts": experts, "top_k": top_k, "ranks": ranks, "alpha": alpha, "graphs": graphs}
    found = expert_time(kind, tokens, V3, MACHINE, k, **given_)
    for values in (found.seconds, found.hbm_bytes, found.rows):
        assert np.isfinite(values).all() and (np.diff(values) >= -2e-3 * values[1:]).all()
    assert (found.seconds >= K.launch).all()
    assert (found.rows <= tokens * top_k + 1e-6).all() and (found.rows >= tokens * top_k / ranks - 1e-6).all()


def test_every_argument_broadcasts():
    tokens, ranks = np.array([[1.0], [64.0], [4096.0]]), np.array([8.0, 32.0])
    shape = ExpertShape(np.array([4096.0, 7168.0]), 1024.0, "bf16", "bf16")
    given_ = {"experts": 256, "top_k": 8, "redundant": np.array([0.0, 32.0]), "alpha": np.array([[0.0], [0.5], [1.0]])}
    whole = expert_time("triton", tokens, shape, MACHINE, K, ranks=ranks, **given_)
    assert whole.seconds.shape == whole.rows.shape == whole.hbm_bytes.shape == (3, 2)
    one = expert_time(
        "triton", 4096.0, ExpertShape(7168.0, 1024.0, "bf16", "bf16"), MACHINE, K,
        experts=256, top_k=8, ranks=32, redundant=32.0, alpha=1.0,
    )  # fmt: skip
    for name in ("seconds", "tensor_s", "hbm_s", "flops", "hbm_bytes", "rows"):
        assert getattr(whole, name)[2, 1] == pytest.approx(float(getattr(one, name)))


@pytest.mark.parametrize("kind", ["contiguous", "masked", "triton"])
@pytest.mark.parametrize("alpha", [0.0, 3.0])
@pytest.mark.parametrize(("experts", "top_k", "ranks"), [(8, 8, 1), (1, 1, 1), (256, 8, 256), (512, 22, 8)])
def test_ends_of_the_range_are_finite(kind, alpha, experts, top_k, ranks):
    tokens = np.array([0.0, 1e-9, 0.5, 1.0, 1e7])
    found = expert_time(kind, tokens, V3, MACHINE, TRITON, experts=experts, top_k=top_k, ranks=ranks, alpha=alpha)
    for name in ("seconds", "tensor_s", "hbm_s", "flops", "hbm_bytes", "rows"):
        assert np.isfinite(getattr(found, name)).all() and (getattr(found, name) >= 0).all()
    assert found.rows[0] == 0 and found.flops[0] == 0


def test_slots_that_do_not_divide_are_refused_with_the_number_that_does():
    with pytest.raises(BadInput, match="redundant_experts=24"):
        expert_time("masked", 64.0, V3, MACHINE, K, experts=256, top_k=8, ranks=40, redundant=8, alpha=1.0)


def test_popular_experts_fill_one_rank_and_placement_by_load_empties_it():
    given_ = {"experts": 256, "top_k": 8, "ranks": 32}
    rows = [
        float(expert_time("masked", 4096.0, V3, MACHINE, K, **given_, **how).rows)
        for how in ({}, {"alpha": 1.0, "redundant": 32}, {"alpha": 1.0, "balanced": True}, {"alpha": 1.0})
    ]
    assert rows == sorted(rows)
    assert rows[0] < 1.1 * 4096 * 8 / 32
    assert rows[1] < 1.3 * rows[0]
    assert rows[3] > 2 * rows[0]


@pytest.mark.parametrize(("redundant", "placement"), [(0, "balanced"), (32, "balanced")])
def test_placed_by_load_as_the_simulator_places(redundant, placement):
    rows = [drawn(1.0, 256, 8, 32, 4096, seed, redundant, placement).sum(axis=1).max() for seed in range(5)]
    found = expected_counts(*point(4096, 256, 8, 32, redundant, 1.0), balanced=True)
    assert found.rows == pytest.approx(np.mean(rows), rel=0.12)


def test_shares_of_all_experts_are_the_tokens_choices():
    weight = np.arange(1, 65, dtype=float) ** -1.2
    share = inclusion(weight / weight.sum(), 6.0)
    assert share.sum() == pytest.approx(6.0) and share.max() <= 1.0 and (np.diff(share) < 0).all()
    np.testing.assert_allclose(inclusion(np.full(64, 1 / 64), 6.0), 6 / 64)
    one = busiest_share(1.2, 64, 6.0, 1, 0, False)
    assert (one.share * one.slots).sum() == pytest.approx(6.0) and one.slots.sum() == 64 and one.lift == pytest.approx(1.0)


def test_the_busiest_of_many_ranks():
    """Poisson rows: the mean maximum of 32 of them, sampled."""
    rng = np.random.default_rng(1)
    for mean in (1.0, 4.0, 25.0, 400.0):
        sampled = rng.poisson(mean, (4000, 32)).max(axis=1).mean()
        found = busiest_rows(mean * 32 / 2, 10_000.0, 2.0, 32.0, 312.0)
        assert found == pytest.approx(sampled, rel=0.05)


def test_constants_are_found_by_kind():
    k, entry, source = expert_constants("h200_sxm", "masked", "fp8")
    assert (entry.op, source) == ("masked", "h100_sxm") and k.launch > 0


@pytest.mark.parametrize(
    ("kind", "alpha", "passes", "dear"), [("masked", 0, 210, 15), ("triton", 0, 215, 15), ("contiguous", 1, 750, 45)]
)
def test_a_table_costs_few_passes(kind, alpha, passes, dear, counted):
    """A nanosecond a pass, ten a dear one. A power law's classes of popularity are an axis, never a loop over points."""
    rng = np.random.default_rng(0)
    for points in (1000, 10_000):
        tokens, ranks = np.exp(rng.uniform(0, np.log(1e6), points)), rng.choice([1.0, 8.0, 32.0, 64.0], points)
        with counted.counting() as work:
            tokens, ranks = counted.Counted(tokens, work), counted.Counted(ranks, work)
            expert_time(kind, tokens, V3, MACHINE, K, experts=256, top_k=8, ranks=ranks, alpha=float(alpha))
        assert 1 < work.passes(points) <= passes
        assert 1 < work.dear(points) <= dear
        assert sum(work.calls.values()) < 400
