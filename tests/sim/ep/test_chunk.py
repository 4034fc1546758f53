"""The chunk size of a ring: what the search finds against every size tried."""

import numpy as np
import pytest

from epicycle.hwmodels.laws.kernels import smooth_max
from epicycle.sim.ep.chunk import Chunk, share
from epicycle.sim.ep.protocols.high_throughput import NVLINK_CHUNKS, RDMA_CHUNKS

DRAWS = np.random.default_rng(5)
POINTS = 20_000


def log_uniform(low: float, high: float) -> np.ndarray:
    return np.exp(DRAWS.uniform(np.log(low), np.log(high), POINTS))


@pytest.mark.parametrize("sizes", [NVLINK_CHUNKS["dispatch"], NVLINK_CHUNKS["combine"], RDMA_CHUNKS], ids=str)
@pytest.mark.parametrize("handshake_s", [0.0, 2e-7, 6e-6])
@pytest.mark.parametrize("sharpness", [1.5, 4.0, 15.0])
def test_no_size_is_better_than_the_chosen_one(sizes, handshake_s, sharpness):
    """Kernels from 5 us to 50 ms, rings from a row to thousands: at most 1e-6 above the best of all sizes."""
    ring_rows, drain_s = log_uniform(0.5, 5000), log_uniform(1e-8, 1e-5)
    sender_s, *beside_s = (log_uniform(5e-6, 5e-2) for _ in range(3))
    least = np.full(POINTS, np.inf)
    for size in sizes:
        rows = np.clip(ring_rows, 1.0, size)
        sender = sender_s + np.maximum(ring_rows / rows, 1.0) * handshake_s
        least = np.minimum(least, smooth_max(sharpness, sender, *beside_s) + rows * drain_s)
    chunk = Chunk.best(sizes, ring_rows, handshake_s, drain_s, sender_s, tuple(beside_s), sharpness)
    cost = smooth_max(sharpness, sender_s + chunk.handshakes_s, *beside_s) + chunk.drain_s
    assert np.all(cost >= least * (1 - 1e-12))
    assert cost.max() < np.inf and (cost / least).max() <= 1 + 1e-6
    assert np.all(np.isin(chunk.rows, np.array(sizes, float)) | (chunk.rows == np.maximum(ring_rows, 1.0)))


def test_the_share_of_a_load_is_what_it_adds_to_the_smooth_maximum():
    """Twice as much of one load moves the maximum as its share says: the logarithmic derivative."""
    loads = [log_uniform(5e-6, 5e-2) for _ in range(3)]
    for sharpness in (1.5, 4.0):
        more = smooth_max(sharpness, loads[0] * (1 + 1e-6), *loads[1:]) / smooth_max(sharpness, *loads)
        assert share(sharpness, *loads) == pytest.approx((more - 1) * 1e6, abs=1e-5)
    assert share(4.0, 1.0, 0.0, 0.0) == 1.0
    assert share(20.0, 0.0, 1.0) < 1e-30
