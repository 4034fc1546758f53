"""What the router draws: the right experts, equally or unequally likely as asked, and counts that agree with each other."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, chi2

from epicycle.hwmodels.errors import BadInput
from epicycle.sim.engine import Simulator
from epicycle.sim.inputs.traffic import Routing
from epicycle.sim.layer import routing
from epicycle.sim.layer.routing import Router, draw_calls


def picks(kind, experts, top_k, tokens, groups=1, kept=1, seed=0, **more):
    """[token, k] experts as the router yields them, for one rank."""
    router = Router(Routing(kind=kind, **more), experts, top_k, groups, kept)
    rng = Simulator(seed).stream("picks")
    popularity = router.popularity(rng)
    chunks = router.choices(np.array([tokens]), popularity, np.arange(experts), rng)
    return np.concatenate([chosen for _, chosen in chunks]), popularity


@settings(max_examples=60)
@given(
    st.sampled_from(["uniform", "balanced", "group-limited", "power-law"]),
    st.sampled_from([(8, 1, 1), (8, 4, 2), (12, 4, 3), (24, 6, 6), (64, 8, 3), (256, 8, 4)]),
    st.integers(1, 40),
    st.integers(1, 24),
    st.integers(0, 9),
)
def test_experts_are_distinct_and_in_range(kind, layer, tokens, top_k, seed):
    experts, groups, kept = layer
    top_k = min(top_k, kept * (experts // groups))
    chosen, _ = picks(kind, experts, top_k, tokens, groups, kept, seed)
    assert chosen.shape == (tokens, top_k)
    assert ((chosen >= 0) & (chosen < experts)).all()
    assert (np.diff(np.sort(chosen, axis=1), axis=1) > 0).all()
    if kind == "group-limited":
        assert all(len(set(row // (experts // groups))) <= kept for row in chosen)


def test_all_subsets_are_equally_likely():
    """Chi-square over the 20 ways to choose 3 of 6: Floyd's algorithm favours none (a wrong bound fails by thousands)."""
    chosen, _ = picks("uniform", 6, 3, 40_000, seed=1)
    subset = np.bincount((1 << chosen).sum(axis=1), minlength=64)
    seen = subset[subset > 0]
    assert seen.size == 20
    expected = 40_000 / 20
    assert ((seen - expected) ** 2 / expected).sum() < chi2.ppf(0.9999, 19)


def test_group_limited_subsets_are_equally_likely():
    """2 of 4 groups of 2 experts, top-3: 6 pairs of groups, 4 subsets each, every subset in exactly one pair."""
    chosen, _ = picks("group-limited", 8, 3, 48_000, 4, 2, seed=2)
    subset = np.bincount((1 << chosen).sum(axis=1), minlength=256)
    seen = subset[subset > 0]
    assert seen.size == 24
    assert ((seen - 2000) ** 2 / 2000).sum() < chi2.ppf(0.9999, 23)


@pytest.mark.parametrize(("kind", "groups", "kept"), [("uniform", 1, 1), ("group-limited", 8, 4)])
def test_every_expert_is_as_likely(kind, groups, kept):
    tokens, experts, k = 20_000, 64, 8
    chosen, _ = picks(kind, experts, k, tokens, groups, kept)
    load = np.bincount(chosen.ravel(), minlength=experts)
    low, high = binom.interval(1 - 1e-7, tokens, k / experts)
    assert low <= load.min() and load.max() <= high


def test_power_law_follows_its_popularity():
    """Top-1 of a power law: each expert within its binomial bounds; the popularity is a shuffled rank ** -alpha."""
    tokens, experts = 50_000, 32
    chosen, popularity = picks("power-law", experts, 1, tokens, alpha=1.2)
    law = np.arange(1, experts + 1) ** -1.2
    np.testing.assert_allclose(np.sort(popularity)[::-1], law / law.sum())
    assert (np.diff(popularity) > 0).any() and (np.diff(popularity) < 0).any()
    load = np.bincount(chosen.ravel(), minlength=experts)
    low, high = binom.interval(1 - 1e-7, tokens, popularity)
    assert ((low <= load) & (load <= high)).all()


def test_popular_experts_are_chosen_more_often_at_top_k():
    chosen, popularity = picks("power-law", 64, 8, 30_000, alpha=1.0)
    load = np.bincount(chosen.ravel(), minlength=64)[np.argsort(-popularity)]
    assert load[0] <= 30_000
    ranks = load.reshape(16, 4).sum(axis=1)
    assert (np.diff(ranks) < 0).all()


def test_alpha_zero_is_uniform():
    chosen, _ = picks("power-law", 32, 4, 20_000, alpha=0.0)
    low, high = binom.interval(1 - 1e-7, 20_000, 4 / 32)
    load = np.bincount(chosen.ravel(), minlength=32)
    assert low <= load.min() and load.max() <= high


def test_chunks_bound_memory_not_results(monkeypatch):
    """Balanced and file routings do not see chunk borders; a uniform draw covers every token whatever the chunk."""
    whole, _ = picks("balanced", 24, 5, 100)
    monkeypatch.setattr(routing, "_AT_ONCE", 7)
    parts, _ = picks("balanced", 24, 5, 100)
    np.testing.assert_array_equal(whole, parts)
    assert picks("uniform", 24, 5, 100)[0].shape == (100, 5)


@settings(max_examples=60)
@given(
    st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 9), st.sampled_from(["contiguous", "round-robin"]),
    st.lists(st.integers(0, 9), min_size=12, max_size=12),
)  # fmt: skip
def test_balanced_deals_everybody_the_same(nodes, domain, per_rank, top_k, placement, tokens):
    """Experts and ranks get the same rows, give or take one, and a token meets as many ranks and nodes as it can."""
    ranks = nodes * domain
    experts = ranks * per_rank
    top_k = min(top_k, experts)
    tokens = np.maximum(tokens[:ranks], [1] + [0] * (ranks - 1))
    router = Router(Routing(kind="balanced"), experts, top_k, 1, 1)
    (found,) = draw_calls(router, tokens, placement, 0, domain, Simulator(0).stream("x"), 99)
    total = int(tokens.sum())
    assert np.ptp(found.expert_load) <= 1
    assert np.ptp(found.expert_rows.sum(axis=0)) <= 1
    assert found.rank_rows.sum() == total * min(top_k, ranks)
    assert found.node_rows.sum() == total * min(top_k, nodes)


def test_balanced_with_replicas_is_refused(drawn):
    with pytest.raises(BadInput, match="balanced routing deals every expert once, got redundant_experts=8"):
        drawn("balanced", 8, 2, [4] * 16, redundant=8)


@st.composite
def layers(draw):
    domain, nodes, per_rank = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 4))
    ranks = domain * nodes
    slots = ranks * per_rank
    experts = draw(st.integers(max(1, slots // 2), slots))
    top_k = draw(st.integers(1, experts))
    tokens = draw(st.lists(st.integers(0, 30), min_size=ranks, max_size=ranks).filter(any))
    kind = draw(st.sampled_from(["uniform", "power-law"]))
    placement = draw(st.sampled_from(["contiguous", "round-robin", "balanced"]))
    return kind, experts, top_k, tokens, domain, slots - experts, placement, draw(st.integers(0, 99))


@settings(max_examples=100)
@given(layers())
def test_counts_agree(layer):
    kind, experts, top_k, tokens, domain, redundant, placement, seed = layer
    router = Router(Routing(kind=kind), experts, top_k, 1, 1)
    (found,) = draw_calls(router, np.array(tokens), placement, redundant, domain, Simulator(seed).stream("x"), 30)
    ranks = len(tokens)
    np.testing.assert_array_equal(found.tokens, tokens)
    np.testing.assert_array_equal(found.expert_rows.sum(axis=1), np.array(tokens) * top_k)
    np.testing.assert_array_equal(found.slot_load.reshape(ranks, -1).sum(axis=1), found.expert_rows.sum(axis=0))
    by_expert = np.bincount(found.placement.expert_of, found.slot_load, minlength=experts)
    np.testing.assert_array_equal(by_expert, found.expert_load)
    assert found.expert_load.max() <= sum(tokens)
    # A token reaches a rank at most once, and only if one of its experts is there; the same for nodes.
    node_of = np.arange(ranks) // domain
    per_node = np.add.reduceat(found.rank_rows, np.unique(node_of, return_index=True)[1], axis=1)
    assert (found.rank_rows <= np.minimum(found.expert_rows, found.tokens[:, None])).all()
    assert ((found.rank_rows > 0) == (found.expert_rows > 0)).all()
    assert (found.node_rows <= np.minimum(per_node, found.tokens[:, None])).all()
    assert ((found.node_rows > 0) == (per_node > 0)).all()
    per_rank = found.placement.slots_per_rank
    assert (found.expert_rows <= found.rank_rows * min(top_k, per_rank)).all()


def test_counts_against_a_loop(tmp_path):
    """The counting of 300 recorded tokens, replicas and all, redone token by token in plain Python."""
    rng = np.random.default_rng(5)
    chosen = np.argsort(rng.random((300, 12)), axis=1)[:, :3]
    file = tmp_path / "topk.csv"
    file.write_text("\n".join(",".join(map(str, row)) for row in chosen))
    tokens = np.array([50, 0, 120, 30, 70, 30])
    (found,) = draw_calls(Router(Routing(kind="file", file=file), 12, 3, 1, 1), tokens, "balanced", 6, 2, rng, 999)
    expert_rows, rank_rows, node_rows = (np.zeros((6, n), int) for n in (6, 6, 3))
    replicas = {e: np.flatnonzero(found.placement.expert_of == e) for e in range(12)}
    for number, (home, row) in enumerate(zip(np.repeat(np.arange(6), tokens), chosen, strict=True)):
        ranks = [int(replicas[e][number % len(replicas[e])]) // 3 for e in row]
        for rank in ranks:
            expert_rows[home, rank] += 1
        for rank in set(ranks):
            rank_rows[home, rank] += 1
        for node in {rank // 2 for rank in ranks}:
            node_rows[home, node] += 1
    np.testing.assert_array_equal(found.expert_rows, expert_rows)
    np.testing.assert_array_equal(found.rank_rows, rank_rows)
    np.testing.assert_array_equal(found.node_rows, node_rows)


def test_replicas_share_their_experts_load(drawn):
    found = drawn("power-law", 32, 4, [500] * 8, redundant=8, placement="balanced", alpha=1.0)
    for expert in np.flatnonzero(np.bincount(found.placement.expert_of) > 1):
        shares = found.slot_load[found.placement.expert_of == expert]
        assert shares.min() > 0.8 * shares.max()
    alone = drawn("power-law", 32, 4, [500] * 8, alpha=1.0)
    assert found.slot_load.max() < 0.7 * alone.slot_load.max()
    assert np.ptp(found.expert_rows.sum(axis=0)) < 0.5 * np.ptp(alone.expert_rows.sum(axis=0))


@pytest.mark.parametrize("kind", ["uniform", "power-law", "balanced", "group-limited"])
def test_calls_split_one_draw(kind):
    """Micro-batches carry the very tokens of the undivided draw, under one popularity and one placement."""
    tokens = np.array([70, 0, 130, 64, 65, 1, 128, 129])
    router = Router(Routing(kind=kind), 32, 4, 4, 2)

    def calls(most):
        return draw_calls(router, tokens, "balanced", 0, 4, Simulator(7).stream("x"), most)

    (whole,), parts = calls(999), calls(64)
    assert [part.tokens.tolist() for part in parts] == [
        [64, 0, 64, 64, 64, 1, 64, 64], [6, 0, 64, 0, 1, 0, 64, 64], [0, 0, 2, 0, 0, 0, 0, 1]
    ]  # fmt: skip
    for name in ("expert_rows", "rank_rows", "node_rows", "expert_load", "slot_load"):
        np.testing.assert_array_equal(sum(getattr(part, name) for part in parts), getattr(whole, name), err_msg=name)
    for part in parts:
        np.testing.assert_array_equal(part.placement.expert_of, whole.placement.expert_of)
        np.testing.assert_array_equal(part.expert_rows.sum(axis=1), part.tokens * 4)
