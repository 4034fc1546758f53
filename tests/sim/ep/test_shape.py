"""Expected rows: against enumeration, against published figures, and against what is drawn."""

from itertools import combinations

import numpy as np
import pytest

from epicycle.sim.ep.placement import place
from epicycle.sim.ep.shape import Path, Rows, Shape
from epicycle.sim.ep.stage import Load, Move
from epicycle.sim.layer.traffic import Layout, forwarded_rows, rows_of

H = 7168.0


def shape(experts, top_k, ranks, domain=8, tokens=128, **more):
    return Shape(float(tokens), H, float(top_k), float(experts), float(ranks), float(domain), 7392.0, **more)


@pytest.mark.parametrize(
    ("experts", "top_k", "ranks", "said"), [(256, 8, 32, "7.27"), (16, 2, 8, "1.933"), (8, 2, 8, "2"), (256, 8, 8, "5.3")]
)
def test_distinct_ranks_a_token(experts, top_k, ranks, said):
    """DeepSeek-V3 at EP32 and the two toys of the EP-anatomy article; 5.3 behind the one-node rows of DeepEP's table."""
    digits = len(said.partition(".")[2])
    assert f"{float(shape(experts, top_k, ranks).distinct(ranks)):.{digits}f}" == said


@pytest.mark.parametrize(("experts", "top_k", "bins"), [(16, 2, 8), (12, 5, 3), (8, 8, 4), (9, 1, 3), (12, 11, 2)])
def test_uniform_distinct_against_enumeration(experts, top_k, bins):
    hit = [len({e * bins // experts for e in chosen}) for chosen in combinations(range(experts), top_k)]
    assert float(shape(experts, top_k, bins).distinct(bins)) == pytest.approx(np.mean(hit), rel=1e-9)


@pytest.mark.parametrize(
    ("experts", "top_k", "groups", "kept", "bins"),
    [(12, 3, 6, 2, 3), (12, 3, 6, 3, 2), (12, 3, 6, 4, 6), (12, 3, 3, 2, 6), (16, 4, 8, 2, 2), (16, 5, 8, 5, 4),
     (12, 4, 4, 2, 12), (12, 2, 4, 1, 2), (12, 3, 4, 4, 2), (12, 4, 2, 1, 1),
     (12, 3, 4, 2, 3), (12, 3, 3, 2, 4), (12, 4, 6, 3, 4), (12, 2, 2, 1, 3), (24, 3, 8, 3, 6), (24, 3, 6, 5, 4)],
)  # fmt: skip
def test_group_limited_distinct_against_enumeration(experts, top_k, groups, kept, bins):
    """Groups inside bins, bins inside groups, and both astride: every choice of groups, then of experts."""
    size = experts // groups
    hit = [
        np.mean([len({e * bins // experts for e in chosen}) for chosen in combinations(reach, top_k)])
        for chosen_groups in combinations(range(groups), kept)
        for reach in [[g * size + i for g in chosen_groups for i in range(size)]]
    ]
    found = shape(experts, top_k, bins, routing="group-limited", groups=float(groups), groups_kept=float(kept)).distinct(bins)
    assert float(found) == pytest.approx(np.mean(hit), rel=1e-9)


def test_a_table_of_points_is_as_good_as_one():
    """Arrays of operating points give what each point alone gives, whatever its routing's shape."""
    ranks, kept = np.array([8.0, 16.0, 32.0, 64.0, 32.0]), np.array([1.0, 4.0, 4.0, 2.0, 4.0])
    table = Shape(128.0, H, 8.0, 256.0, ranks, 8.0, 7392.0, routing="group-limited", groups=8.0, groups_kept=kept)
    for i, (r, k) in enumerate(zip(ranks, kept, strict=True)):
        one = Shape(128.0, H, 8.0, 256.0, r, 8.0, 7392.0, routing="group-limited", groups=8.0, groups_kept=k)
        for bins in ("ranks", "nodes"):
            many, single = table.distinct(getattr(table, bins)), one.distinct(getattr(one, bins))
            assert np.asarray(many)[i] == pytest.approx(float(np.asarray(single)), rel=1e-9)


KINDS = [
    ("uniform", 256, 8, 32, 8, 1, 1),
    ("uniform", 16, 2, 8, 4, 1, 1),
    ("uniform", 64, 8, 64, 8, 1, 1),
    ("group-limited", 256, 8, 32, 8, 4, 2),  # a group a node
    ("group-limited", 256, 8, 32, 8, 8, 4),  # two groups a node
    ("group-limited", 256, 8, 64, 8, 4, 2),  # a group over two nodes
    ("group-limited", 192, 8, 24, 8, 8, 4),  # groups astride nodes
    ("balanced", 256, 8, 16, 8, 1, 1),
    ("balanced", 64, 3, 32, 8, 1, 1),
]


@pytest.mark.parametrize(("kind", "experts", "top_k", "ranks", "domain", "groups", "kept"), KINDS)
def test_expected_rows_agree_with_what_is_drawn(drawn, kind, experts, top_k, ranks, domain, groups, kept):
    """Every kind of row on every path, summed over all ranks: within five standard errors (a token's count is at most k)."""
    tokens = 64_000 // ranks
    found = drawn(kind, experts, top_k, [tokens] * ranks, domain=domain, groups=groups, kept=kept)
    layout = Layout(ranks, domain)
    s = shape(experts, top_k, ranks, domain, tokens, routing=kind, groups=float(groups), groups_kept=float(kept))
    direct = [(rows, path) for rows in (Rows.RANK, Rows.EXPERT) for path in (Path.SELF, Path.NVLINK, Path.RDMA)]
    for rows, path in [*direct, (Rows.NODE, Path.RAIL), (Rows.NODE, Path.OWN), (Rows.TOKEN, Path.SELF)]:
        total = rows_of(Move(rows, path, 1.0, ()), found, layout).sum()
        expected = float(np.asarray(s.expected_rows(rows, path))) * ranks
        error = 5 * min(top_k, 2.0) * np.sqrt(max(expected, 1.0)) if kind != "balanced" else 0.02 * expected + 1
        assert abs(total - expected) <= error, (rows, path, total, expected)
    for path in (Path.RAIL, Path.OWN):
        move = Move(Rows.NODE, path, 1.0, (Load("nvlink", 1.0, forwarded=True),))
        expected = float(np.asarray(s.expected_rows(Rows.RANK, path))) * ranks
        assert forwarded_rows(move, found, layout).sum() == pytest.approx(expected, abs=10 * np.sqrt(expected))


@pytest.mark.parametrize("path", [Path.NVLINK, Path.RDMA, Path.RAIL])
def test_pairs_are_counted_not_drawn(drawn, path):
    found = drawn("uniform", 64, 4, [3] * 32)
    total = rows_of(Move(Rows.PAIR, path, 1.0, ()), found, Layout(32, 8)).sum()
    assert total == 32 * float(np.asarray(shape(64, 4, 32).expected_rows(Rows.PAIR, path)))


def test_the_busiest_rank_is_as_busy_as_expected(drawn):
    """Blom's approximation against the mean busiest rank of 40 draws: within 1 % of the rows."""
    s = shape(256, 8, 32, 8, 256)
    mean = float(np.asarray(s.expected_rows(Rows.RANK, Path.SELF))) * 32
    seen = [drawn("uniform", 256, 8, [256] * 32, seed=seed).rank_rows.sum(axis=0).max() for seed in range(40)]
    expected = float(np.asarray(s.busiest(mean, float(s.distinct(32.0)) / 32)))
    assert expected == pytest.approx(np.mean(seen), rel=0.01)
    assert expected > mean * 1.005


def test_placement_does_not_change_what_uniform_routing_expects(drawn):
    contiguous = drawn("uniform", 64, 4, [4000] * 16).rank_rows.sum()
    shuffled = drawn("uniform", 64, 4, [4000] * 16, placement="round-robin").rank_rows.sum()
    assert place("round-robin", 64, 0, 16, np.ones(64)).expert_of.tolist() != list(range(64))
    assert abs(contiguous - shuffled) < 5 * np.sqrt(contiguous)
