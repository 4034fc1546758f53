"""EPLB: the exact mapping of its README's example, and what any placement must keep."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epicycle.hwmodels.errors import BadInput
from epicycle.sim.ep.eplb import gpu_load, imbalance, slots_of

#: deepseek-ai/EPLB, README: load and printed mapping of two layers; 16 slots, 4 groups, 2 nodes, 8 GPUs.
README = (
    (
        [90, 132, 40, 61, 104, 165, 39, 4, 73, 56, 183, 86],
        [5, 6, 5, 7, 8, 4, 3, 4, 10, 9, 10, 2, 0, 1, 11, 1],
    ),
    (
        [20, 107, 104, 64, 19, 197, 187, 157, 172, 86, 16, 27],
        [7, 10, 6, 8, 6, 11, 8, 9, 2, 4, 5, 1, 5, 0, 3, 1],
    ),
)


@pytest.mark.parametrize(("load", "slots"), README)
def test_the_example_of_the_readme(load: list[int], slots: list[int]) -> None:
    assert slots_of(load, 16, 4, 2, 8).tolist() == slots


@given(
    load=st.lists(st.floats(0.1, 100), min_size=16, max_size=16),
    extra=st.sampled_from([0, 8, 16]),
    groups=st.sampled_from([1, 2, 4]),
)
@settings(max_examples=40, deadline=None)
def test_every_expert_has_a_slot_and_no_load_is_lost(load: list[float], extra: int, groups: int) -> None:
    held = slots_of(load, 16 + extra, groups, 2, 8)
    assert set(held.tolist()) == set(range(16))
    carried = gpu_load(load, held, 8)
    assert carried.sum() == pytest.approx(sum(load))
    if groups > 1:  # a group stays on its node
        nodes = held.reshape(2, -1) // (16 // groups)
        assert not set(nodes[0].tolist()) & set(nodes[1].tolist())


def test_replicas_even_out_a_hot_expert_and_even_load_stays_even() -> None:
    load = np.ones(32)
    assert imbalance(gpu_load(load, slots_of(load, 32, 1, 1, 8), 8)) == 0
    load[3] = 20
    alone = imbalance(gpu_load(load, slots_of(load, 32, 1, 1, 8), 8))
    copied = imbalance(gpu_load(load, slots_of(load, 40, 1, 1, 8), 8))
    assert copied < alone / 4


def test_what_does_not_divide_is_refused() -> None:
    with pytest.raises(BadInput, match="do not divide"):
        slots_of(np.ones(12), 15, 1, 1, 8)
    with pytest.raises(BadInput, match="do not hold"):
        slots_of(np.ones(12), 8, 1, 1, 8)
