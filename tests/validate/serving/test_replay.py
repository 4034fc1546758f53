"""Measured deployments replayed request by request: no worse than the closed form, on a share that is always the same."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from epicycle.validate.serving.replay import replay
from epicycle.validate.serving.rows import read_serving
from epicycle.validate.serving.steady import predict_serving

TABLE = Path(__file__).parents[4] / "shared" / "measurements" / "serving.csv"
SHARE = 634 if os.environ.get("EPICYCLE_LONG") else 32


@pytest.mark.skipif(not TABLE.is_file(), reason="the table of measured deployments is not here")
def test_replayed_requests_are_no_worse_than_the_closed_form() -> None:
    """Median errors of both times, within two points; few points, because the closed form is what the constants were fitted
    with. What both say of a deployment's tokens differs by little."""
    rows = read_serving(TABLE, Counter())
    pick = np.sort(np.random.default_rng(7).permutation(len(rows))[:SHARE])
    mine = [rows[i] for i in pick]
    closed, played = predict_serving(mine), replay(mine, rounds=10.0)
    good = np.isfinite(played.tpot_s) & np.isfinite(closed.tpot_s)
    assert good.sum() >= 0.9 * len(mine)

    def error(found: np.ndarray, measured: list[float]) -> float:
        return float(np.median(100.0 * np.abs(found / np.array(measured) - 1.0)[good]))

    tpot, ttft = [row.tpot_s for row in mine], [row.ttft_s for row in mine]
    assert error(played.tpot_s, tpot) < error(closed.tpot_s, tpot) + 2.0
    assert error(played.ttft_s, ttft) < error(closed.ttft_s, ttft) + 5.0
    assert np.median(played.tpot_s[good] / closed.tpot_s[good]) == pytest.approx(1.0, abs=0.03)
