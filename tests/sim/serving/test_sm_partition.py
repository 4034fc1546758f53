"""A GPU's SMs shared in space: waves by hand, and the partition that ends soonest."""

from __future__ import annotations

import pytest

from epicycle.sim.serving.sm_partition import Partition, Tiles, best_partition, idle_of_all


def test_the_last_wave_is_what_idles() -> None:
    # 8 x 16 tiles on 108 SMs: two waves, of which the second has 20.
    assert Tiles(1024, 4096).idle_share(108) == pytest.approx((108 - 20) / (2 * 108))
    assert Tiles(128, 256 * 108).idle_share(108) == 0.0
    assert idle_of_all([Tiles(1024, 4096)], [4096], 108) == pytest.approx(Tiles(1024, 4096).idle_share(108))


def test_decoding_needs_no_more_sms_than_draw_the_bandwidth() -> None:
    assert Partition(54, 108, 0.5, 1.0).decode_seconds(1.0) == 1.0
    assert Partition(81, 108, 0.5, 1.0).decode_seconds(1.0) == pytest.approx(2.0)
    assert Partition(54, 108, 0.5, 1.2).decode_seconds(1.0) == pytest.approx(1.2)


def test_the_best_partition_gives_prompts_what_decoding_does_not_need() -> None:
    whole = (Tiles(128 * 100, 256 * 100),)  # so many tiles that waves do not matter
    best, seconds = best_partition(100, 0.4, 1.0, 1.0, 0.5, whole, (1024,))
    assert 50 <= best.prompt_sms <= 60
    assert seconds == pytest.approx(1.0, rel=0.02)
