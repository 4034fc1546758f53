"""Residuals as distributions: a median seen elsewhere fades with the distance, and never so fast that more is told quicker."""

from __future__ import annotations

import numpy as np
import pytest

from epicycle.hwmodels.certainty.residuals import carried, residuals_of
from epicycle.hwmodels.interval import Regime

SEEN = {"mean_input": (1000.0, 8192.0)}
LONG = (Regime(nodes=1, seconds_from="0 us", rows=30, low90=0.5, low50=1.1, high50=6.8, high90=29.0),)


def test_inside_what_was_seen_the_median_is_taken_as_it_is() -> None:
    assert carried(SEEN, {"mean_input": 4000.0, "other": 1e9}) == 1.0
    assert residuals_of(LONG, 1.0).faded(1.0).median == residuals_of(LONG, 1.0).median


def test_far_beyond_it_the_prediction_stands_and_the_interval_keeps_its_width() -> None:
    near, far = residuals_of(LONG, 1.0), residuals_of(LONG, 1.0).faded(carried(SEEN, {"mean_input": 131072.0}))
    assert float(near.median) == pytest.approx(np.sqrt(1.1 * 6.8))
    assert 1.0 < float(far.median) < 1.2
    widths = [float(r.interval().high90 / r.interval().low90) for r in (near, far)]
    assert widths[0] == pytest.approx(widths[1])


def test_more_tokens_are_never_told_quicker() -> None:
    tokens = np.geomspace(100, 1e7, 400)
    shown = tokens * residuals_of(LONG, tokens).faded(carried(SEEN, {"mean_input": tokens})).median
    assert (np.diff(shown) > 0).all()
