"""A cache in fewer bits: bytes saved and values expanded, by hand."""

from __future__ import annotations

import pytest

from epicycle.hwmodels.catalog import load_gpu
from epicycle.sim.step.kv_width import narrow_cache_seconds


def test_bytes_saved_and_values_expanded_by_hand() -> None:
    gpu = load_gpu("h100-sxm")
    assert narrow_cache_seconds(1.0, 1e9, 16.0, 0.0, gpu, 1e10) == 1.0
    assert narrow_cache_seconds(1.0, 1e9, 4.0, 0.0, gpu, 1e10) == pytest.approx(1.0 - 0.1 * 12 / 16)
    lanes = gpu.sms * 128 * gpu.clock
    assert narrow_cache_seconds(1.0, 1e9, 16.0, 10.0, gpu, 1e10) == pytest.approx(1.0 + 5e8 * 10 / lanes)
    a100 = load_gpu("a100-sxm")
    assert narrow_cache_seconds(0.0, 2.0, 16.0, 1.0, a100, 1e10) == pytest.approx(1 / (108 * 64 * 1.41e9))
