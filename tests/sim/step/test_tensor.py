"""Tensor peak and issue cycles apart: what is measured comes back, and what carries to another balance."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epicycle.hwmodels.catalog import load_gpu
from epicycle.sim.step.tensor import Reach, carried_whole, measured_gpu

H100 = load_gpu("h100-sxm")
#: H20: H100's SMs with a quarter of the tensor rate.
STARVED = H100.model_copy(update={"tensor_flop_per_cycle_sm": {"bf16": 1024.0, "fp8": 2048.0}})


@given(st.floats(0.1, 1.0))
def test_on_its_own_gpu_a_kernel_reaches_what_was_measured(found: float) -> None:
    reach = Reach.of(H100, "h100_sxm")
    assert reach.efficiency(found) == pytest.approx(found)
    assert reach.same_dtype(found) == pytest.approx(found)


@given(st.floats(0.1, 0.8))
def test_where_tensor_cores_are_fewer_the_rest_hides_behind_them(found: float) -> None:
    reach = Reach.of(STARVED, "h100_sxm")
    assert found < reach.efficiency(found) <= reach.share
    # In seconds a flop: as many cycles of issue, four times the tensor time.
    issue = 1.0 / found - 1.0 / reach.share
    assert 4.0 / reach.efficiency(found) == pytest.approx(4.0 / reach.share + issue)


@given(st.floats(0.1, 0.8))
def test_a_narrower_dtype_shortens_the_tensor_part_alone(found: float) -> None:
    reach = Reach.of(H100, "h100_sxm")
    assert found < reach.efficiency(found, "fp8") < 2.0 * found
    assert reach.efficiency(found, "fp4") == pytest.approx(found), "no such rate on H100: bf16"
    assert reach.efficiency(reach.efficiency(found, "fp8"), "bf16", "fp8") == pytest.approx(found)


def test_more_exponentials_a_cycle_shorten_softmax() -> None:
    ultra, plain = (Reach.of(load_gpu(name), "b200_sxm") for name in ("gb300", "b200-sxm"))
    assert ultra.efficiency(0.6, softmax=True) > plain.efficiency(0.6, softmax=True) == pytest.approx(0.6)
    assert ultra.efficiency(0.6) == pytest.approx(0.6)


def test_constants_are_of_the_gpu_they_were_measured_on() -> None:
    found = measured_gpu("h100_sxm")
    assert found is not None
    assert found.name == "h100-sxm"


def test_carried_whole_an_efficiency_stays_one_number() -> None:
    """The switch that shows what taking it apart is worth, and that it is off again afterwards."""
    reach = Reach.of(STARVED, "h100_sxm")
    apart = reach.efficiency(0.5), reach.same_dtype(0.5)
    with carried_whole():
        assert reach.efficiency(0.5) == reach.same_dtype(0.5) == 0.5
    assert (reach.efficiency(0.5), reach.same_dtype(0.5)) == apart > (0.5, 0.5)
