"""Intervals: the right share of unseen rows inside, wider where constants are borrowed or a point lies outside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from epicycle.hwmodels.calibration import find_entry
from epicycle.hwmodels.interval import BORROWED_SD, OUTSIDE_SD, UNKNOWN, Interval, Regime, combined, interval_of
from epicycle.validate.fit.conformal import judged, regimes_of
from epicycle.validate.fit.widening import Outside, needed_sd, shifts
from epicycle.validate.predict.predicted import GroupError
from epicycle.validate.tables.ep_rows import grouped, read_table
from epicycle.validate.validate import validate_table

TABLES = ("ep_comm.csv", "grouped_gemm.csv", "gemm.csv", "collectives.csv", "mla_attention.csv")
LOW, HIGH = 86.0, 94.0


@pytest.fixture(scope="module")
def unseen(tables: Path) -> list[GroupError]:
    """All groups with rows that the fit did not see; each such row is judged by intervals it had no part in."""
    return [g for table in TABLES for g in validate_table(tables / table).groups if g.unseen_rows]


def test_nine_in_ten_unseen_rows_are_inside(unseen: list[GroupError]) -> None:
    large = [g for g in unseen if g.unseen_rows >= 100]
    assert len(large) > 10
    outside = {
        (g.system, g.protocol, g.op, g.nodes): g.covered_90_pct for g in large if not LOW <= (g.covered_90_pct or 0) <= HIGH
    }
    assert not outside


def test_small_groups_are_covered_together(unseen: list[GroupError]) -> None:
    """Groups of fewer rows (NCCL's 39 a collective, low latency between nodes): by protocol, and half of them within 50 %."""
    small: dict[tuple[str, str], list[GroupError]] = {}
    for g in unseen:
        if g.unseen_rows < 100:
            small.setdefault((g.system, g.protocol), []).append(g)
    assert ("h100_sxm", "nccl") in small
    for key, groups in small.items():
        rows = sum(g.unseen_rows for g in groups)
        if rows >= 100:
            assert LOW <= sum((g.covered_90_pct or 0) * g.unseen_rows for g in groups) / rows <= HIGH, key
            assert 44.0 <= sum((g.covered_50_pct or 0) * g.unseen_rows for g in groups) / rows <= 56.0, key


def test_coverage_on_fresh_draws() -> None:
    """Regimes made from one half of exchangeable residuals cover nine tenths of the other."""
    rng = np.random.default_rng(5)
    predicted = np.geomspace(1e-5, 1e-2, 4000)
    measured = predicted * np.exp(rng.normal(scale=0.02 + 0.1 * (predicted < 1e-4)))
    one = np.ones(2000, np.int64)
    regimes = regimes_of(predicted[::2], measured[::2], one)
    assert len(regimes) == 4
    assert regimes[0].high90 > regimes[-1].high90
    inside = []
    for p, m in zip(predicted[1::2], measured[1::2], strict=True):
        sure = interval_of(regimes, {}, p, 1, {})
        inside.append(sure.low90 * p <= m <= sure.high90 * p)
    assert 0.87 < np.mean(inside) < 0.93


def test_wider_where_it_extrapolates_or_borrows_and_says_why() -> None:
    entry, _ = find_entry("h100_sxm", "high-throughput", "dispatch", "one-node")
    fit = entry.fit
    here = {"tokens": 4096.0, "hidden": 7168.0, "ranks": 8.0}
    plain = interval_of(fit.intervals, fit.seen, 1e-3, 1, here)
    borrowed = interval_of(fit.intervals, fit.seen, 1e-3, 1, here, "h100_sxm")
    far = interval_of(fit.intervals, fit.seen, 1e-3, 1, here | {"hidden": 20000.0})
    assert plain.why == ()
    assert borrowed.high90 > plain.high90
    assert borrowed.low90 < plain.low90
    assert far.high90 > plain.high90
    assert "h100_sxm" in borrowed.why[0]
    assert "hidden 20000 outside 2048 to 7168" in far.why[0]
    assert plain.low90 < plain.low50 < plain.high50 < plain.high90


def test_without_residuals_the_interval_is_wide() -> None:
    assert interval_of((), {}, 1e-3, 1, {}) == UNKNOWN


@pytest.mark.parametrize("rows", [2, 6, 18, 19, 40])
def test_few_rows_are_not_overtrusted(rows: int) -> None:
    """Nine tenths of one further row, on average over many small tables."""
    rng = np.random.default_rng(rows)
    inside = []
    for _ in range(1500):
        drawn = np.exp(rng.normal(0.02, 0.05, rows + 1))
        (regime,) = regimes_of(np.ones(rows), drawn[:-1], np.ones(rows, np.int64))
        inside.append(regime.low90 <= drawn[-1] <= regime.high90)
    assert 0.87 < np.mean(inside) < 0.93


def test_a_single_row_tells_nothing() -> None:
    (regime,) = regimes_of(np.ones(1), np.ones(1), np.ones(1, np.int64))
    assert (regime.low90, regime.high90) == (UNKNOWN.low90, UNKNOWN.high90)


def test_a_row_has_no_part_in_its_own_interval() -> None:
    """One absurd row among many: its own interval is that of the others, theirs may know of it."""
    rng = np.random.default_rng(3)
    predicted = np.geomspace(1e-5, 1e-3, 120)
    measured = predicted * np.exp(rng.normal(scale=0.03, size=120))
    measured[60] *= 50.0
    fit = find_entry("h100_sxm", "high-throughput", "dispatch", "one-node")[0].fit
    one, points = np.ones(120, np.int64), [{}] * 120
    sure = judged(fit, predicted, measured, one, points, np.array([0, 1]))
    assert sure[60].high90 < 1.2
    assert sure[0] == fit.interval(float(predicted[0]), 1, {})  # a fitted row is judged by what is shipped
    alone = judged(fit, predicted, measured, one, points, None)
    assert alone == [fit.interval(float(p), 1, {}) for p in predicted]


def test_constants_without_rows_left_aside_lean_on_the_fitted_rows() -> None:
    entry, _ = find_entry("h100_sxm", "high-throughput", "dispatch", "one-node")
    bare = entry.fit.model_copy(update={"intervals": (), "residual_log_sd": 0.1})
    sure = bare.interval(1e-3, 1, {})
    assert sure.low90 == pytest.approx(np.exp(-0.16449), rel=1e-4)
    assert sure.high50 == pytest.approx(np.exp(0.06745), rel=1e-4)
    assert "no row was left aside" in sure.why[0]


halves = st.floats(0.0, 1.0)


@st.composite
def intervals(draw: st.DrawFn) -> Interval:
    """Any regime's interval, widened or not."""
    middle = draw(st.floats(-0.5, 0.5))
    inner = draw(halves)
    low, high = inner + draw(halves), inner + draw(halves)
    limits = np.exp([middle - low, middle - inner, middle + inner, middle + high])
    regime = Regime(nodes=1, seconds_from="0 us", rows=30, low90=limits[0], low50=limits[1], high50=limits[2], high90=limits[3])
    return interval_of((regime,), {"tokens": (1.0, 8.0)}, 1e-3, 1, {"tokens": draw(st.sampled_from((8.0, 64.0)))})


def factors(sure: Interval) -> list[float]:
    return [sure.low90, sure.low50, sure.high50, sure.high90]


@given(intervals(), st.floats(1e-7, 1e3))
def test_a_layer_of_one_op_is_as_sure_as_the_op(sure: Interval, time: float) -> None:
    found = combined([(time, sure), (0.0, UNKNOWN)])
    np.testing.assert_allclose(factors(found), factors(sure), rtol=1e-9)
    assert found.why == sure.why
    assert found.shared_sd == pytest.approx(sure.shared_sd)


#: One op sure to the last digit, one of about the same length within a factor of three either way.
SURE_AND_UNSURE = [(12.3, Interval(0.607, 0.607, 0.607, 0.607)), (6.2, Interval(0.607, 0.607, 4.48, 4.48))]


@given(st.lists(st.tuples(st.floats(1e-3, 1e3), intervals()), min_size=1, max_size=6))
@example(SURE_AND_UNSURE)
def test_a_sum_is_never_less_sure_than_its_least_sure_part(parts: list[tuple[float, Interval]]) -> None:
    found = combined(parts)
    assert found.low90 <= found.low50 <= found.high50 <= found.high90
    assert min(p.low90 for _, p in parts) <= found.low90 * (1 + 1e-9)
    assert found.high90 <= max(p.high90 for _, p in parts) * (1 + 1e-9)


def test_equal_independent_ops_narrow_with_their_root_and_shared_causes_do_not() -> None:
    own = Interval(*np.exp([-0.2, -0.1, 0.1, 0.2]))
    four = combined([(1.0, own)] * 4)
    assert np.log(four.high90) == pytest.approx(0.1)
    borrowed = interval_of((Regime.normal(1, 30, 1e-9),), {}, 1e-3, 1, {}, "h100_sxm")
    same = combined([(1.0, borrowed)] * 4)
    assert np.log(same.high90) == pytest.approx(np.log(borrowed.high90), rel=1e-6)
    assert same.why == ("constants of h100_sxm",)


def test_the_sum_of_log_normal_ops_is_covered() -> None:
    """Against draws: a few long ops and one short one, 3 to 15 % of spread each."""
    rng = np.random.default_rng(11)
    times, spreads = np.array([150.0, 190.0, 260.0, 20.0]), np.array([0.05, 0.15, 0.03, 0.1])
    ops = [interval_of((Regime.normal(1, 30, sd),), {}, 1e-4, 1, {}) for sd in spreads]
    found = combined(list(zip(times, ops, strict=True)))
    drawn = (times * np.exp(spreads * rng.normal(size=(20000, 4)))).sum(axis=1) / times.sum()
    assert 0.89 < np.mean((found.low90 <= drawn) & (drawn <= found.high90)) < 0.91
    assert 0.48 < np.mean((found.low50 <= drawn) & (drawn <= found.high50)) < 0.52


def test_the_further_outside_the_wider() -> None:
    regime = Regime.normal(1, 30, 0.05)
    sds = [interval_of((regime,), {"ranks": (2.0, 16.0)}, 1e-3, 1, {"ranks": r}).shared_sd for r in (16.0, 32.0, 256.0)]
    assert sds == pytest.approx([0.0, OUTSIDE_SD, 2.0 * OUTSIDE_SD])


def test_the_shift_of_borrowed_constants_is_what_the_tables_show(tables: Path) -> None:
    """`python -m epicycle.validate.fit.widening` says all of it; the refits for points outside take a minute."""
    found = list(shifts(list(grouped(read_table(tables / "ep_comm.csv")))))
    assert len(found) >= 12
    assert np.sqrt(np.mean([s.log_ratio**2 for s in found])) == pytest.approx(BORROWED_SD, rel=0.15)


def test_what_is_needed_is_what_was_added() -> None:
    rng = np.random.default_rng(2)
    limits = np.log(Regime.normal(1, 30, 0.03).model_dump()["high90"])
    rows = np.tile([-limits, -limits / 2.44, limits / 2.44, limits], (4000, 1))
    drawn = rng.normal(scale=np.hypot(0.03, 0.12), size=4000)
    assert needed_sd([Outside("tokens", "made up", 1, drawn, rows)]) == pytest.approx(0.12, abs=0.015)


def test_no_time_has_no_interval() -> None:
    with pytest.raises(ValueError, match="no time"):
        combined([(0.0, UNKNOWN)])
