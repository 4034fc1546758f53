"""The normal distribution against scipy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr, ndtri

from epicycle.sim.ep.normal import cumulative, largest_of


def test_the_share_below_is_within_1e_7():
    x = np.linspace(-12, 12, 4001)
    assert np.abs(cumulative(x) - ndtr(x)).max() < 1e-7


@pytest.mark.parametrize("ranks", [1, 2, 7, 8, 320, 4096])
def test_the_largest_of_some_is_bloms(ranks):
    assert float(largest_of(float(ranks))) == pytest.approx(ndtri((ranks - 0.375) / (ranks + 0.25)), abs=1e-12)
