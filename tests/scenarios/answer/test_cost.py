"""The cost of a deployment against sums done by hand, its laws as properties, arrays against scalars, and refusals."""

from __future__ import annotations

import dataclasses
import math
import re
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epicycle.hwmodels.errors import BadInput, UnknownName
from epicycle.hwmodels.prices import ApiPrice, load_prices
from epicycle.hwmodels.units import SI_NUMBERS
from epicycle.scenarios.answer.cost import Cost, break_even, cost_of, idle_multiple, utilisation_of

PRICES = load_prices()
SHARE = st.floats(0.01, 1.0)
RATE = st.floats(1.0, 1e6)


def test_rented_gpus_by_hand() -> None:
    cost = cost_of(16, "h100-sxm", 8, 3000, 1000, PRICES, utilisation=0.5, input_share=0.25, fixed_usd_per_hour=8.0)
    assert cost.usd_per_hour == pytest.approx(16 * 2.0 + 8.0)
    assert cost.power_usd_per_hour == cost.network_usd_per_hour == 0.0
    assert cost.usd_per_mtok_in == pytest.approx(40.0 * 0.25 / (3000 * 3600 * 0.5 / 1e6))
    assert cost.usd_per_mtok_out == pytest.approx(40.0 * 0.75 / (1000 * 3600 * 0.5 / 1e6))
    assert cost.usd_per_mtok == pytest.approx(40.0 / (4000 * 3600 * 0.5 / 1e6))
    assert cost.usd_per_request(300, 100) == pytest.approx(300e-6 * cost.usd_per_mtok_in + 100e-6 * cost.usd_per_mtok_out)


def test_owned_gpus_by_hand() -> None:
    cost = cost_of(8, "h100-sxm", 8, 1000, 1000, PRICES, basis="owned", utilisation=0.5)
    hours = 1826 * 24
    assert cost.gpu_usd_per_hour == pytest.approx(310_000 / hours)
    assert cost.network_usd_per_hour == pytest.approx(8 * 4247.5 / hours)
    # Hosts: 10.2 kW less eight GPUs of 700 W; each GPU 10 % when waiting, and half of the rest at half load.
    watts = (10_200 - 8 * 700) + 8 * 700 * (0.1 + 0.9 * 0.5)
    assert cost.power_kw == pytest.approx(watts * 1.56 / 1000)
    assert cost.power_usd_per_hour == pytest.approx(watts * 1.56 / 1000 * 0.0806)
    assert cost.load_usd_per_hour == pytest.approx(8 * 700 * 0.9 * 1.56 / 1000 * 0.0806)


def test_begun_nodes_are_paid_whole() -> None:
    costs = cost_of(np.array([1.0, 8.0, 9.0, 64.0]), "h100-sxm", 8, 1.0, 1.0, PRICES)
    np.testing.assert_allclose(costs.gpu_usd_per_hour, 2.0 * np.array([8, 8, 16, 64]))


def test_hours_not_run_are_saved_by_the_tenant_and_not_by_the_owner() -> None:
    def hourly(basis: str, fraction: float) -> Cost:
        return cost_of(8, "h100-sxm", 8, 1.0, 1.0, PRICES, basis=basis, hours_fraction=fraction)  # type: ignore[arg-type]

    assert hourly("rental", 0.5).usd_per_hour == pytest.approx(0.5 * hourly("rental", 1.0).usd_per_hour)
    assert hourly("rental", 0.5).usd_per_mtok == pytest.approx(hourly("rental", 1.0).usd_per_mtok)
    assert hourly("owned", 0.5).gpu_usd_per_hour == hourly("owned", 1.0).gpu_usd_per_hour
    assert hourly("owned", 0.5).power_usd_per_hour == pytest.approx(0.5 * hourly("owned", 1.0).power_usd_per_hour)


@given(gpus=st.integers(1, 4096), tokens_in=RATE, tokens_out=RATE, load=SHARE, share=st.floats(0, 1), fixed=st.floats(0, 1e4))
def test_input_and_output_share_the_whole_bill(
    gpus: int, tokens_in: float, tokens_out: float, load: float, share: float, fixed: float
) -> None:
    for basis in ("rental", "on-demand", "reserved", "owned"):
        cost = cost_of(
            gpus,
            "h200-sxm",
            8,
            tokens_in,
            tokens_out,
            PRICES,
            basis=basis,  # type: ignore[arg-type]
            utilisation=load,
            input_share=share,
            fixed_usd_per_hour=fixed,
        )
        parts = cost.usd_per_mtok_in * cost.tokens_in_per_hour + cost.usd_per_mtok_out * cost.tokens_out_per_hour
        assert parts / 1e6 == pytest.approx(cost.usd_per_hour)
        assert cost.usd_per_request(cost.tokens_in_per_hour, cost.tokens_out_per_hour) == pytest.approx(cost.usd_per_hour)


@given(load=SHARE, fixed=st.floats(0, 1e3))
def test_a_rented_token_costs_the_inverse_of_the_utilisation(load: float, fixed: float) -> None:
    full = cost_of(8, "h100-sxm", 8, 500, 500, PRICES, fixed_usd_per_hour=fixed)
    part = cost_of(8, "h100-sxm", 8, 500, 500, PRICES, fixed_usd_per_hour=fixed, utilisation=load)
    assert part.usd_per_mtok == pytest.approx(full.usd_per_mtok * idle_multiple(load))


@given(load=SHARE, basis=st.sampled_from(["rental", "owned"]), cached=st.floats(0, 1))
def test_at_break_even_the_bills_are_equal(load: float, basis: str, cached: float) -> None:
    api = PRICES.api_of("deepseek-r1")

    def at(utilisation: float) -> Cost:
        return cost_of(64, "h100-sxm", 8, 60_000, 40_000, PRICES, basis=basis, utilisation=utilisation)  # type: ignore[arg-type]

    meets = break_even(at(load), api, cached)
    assert 0 < meets.utilisation < 1
    there = break_even(at(meets.utilisation), api, cached)
    assert there.times_api == pytest.approx(1.0)
    # It does not depend on the load at which the deployment was looked at.
    assert there.utilisation == pytest.approx(meets.utilisation)
    assert meets.tokens_per_day == pytest.approx(100_000 * meets.utilisation * 86_400)


def test_a_deployment_that_never_pays() -> None:
    tiny = break_even(cost_of(8, "h100-sxm", 8, 10, 10, PRICES), PRICES.api_of("deepseek-v3"))
    assert tiny.utilisation > 1
    assert tiny.tokens_per_day == math.inf
    free = ApiPrice.model_validate({"cached": 0.0, "input": 0.0, "output": 0.0}, context=SI_NUMBERS)
    assert break_even(cost_of(8, "h100-sxm", 8, 10, 10, PRICES), free).utilisation == math.inf


def test_without_prompts_all_is_output_and_the_other_way_round() -> None:
    only_out = cost_of(8, "h100-sxm", 8, 0, 100, PRICES)
    assert math.isnan(only_out.usd_per_mtok_in)
    assert only_out.usd_per_mtok_out == pytest.approx(only_out.usd_per_mtok)
    assert only_out.usd_per_request(0, 1e6) == pytest.approx(only_out.usd_per_mtok)
    only_in = cost_of(8, "h100-sxm", 8, 100, 0, PRICES)
    assert only_in.usd_per_mtok_in == pytest.approx(only_in.usd_per_mtok)


def test_a_table_of_deployments_is_priced_in_few_passes(counted: ModuleType) -> None:
    calls = []
    for points in (200, 20_000):
        rng = np.random.default_rng(1)
        with counted.counting() as work:
            gpus, load = (
                counted.Counted(rng.integers(1, 512, points), work),
                counted.Counted(rng.uniform(0.05, 1, points), work),
            )
            tokens = (counted.Counted(rng.uniform(10, 1e5, points), work) for _ in range(2))
            costs = cost_of(gpus, "h100-sxm", 8, *tokens, PRICES, basis="owned", utilisation=load)
            break_even(costs, PRICES.api_of("deepseek-v3"), 0.5)
            _ = costs.usd_per_mtok_out
        assert 10 < work.passes(points) < 110
        calls.append(work.calls)
    assert calls[0] == calls[1]


def test_a_table_of_deployments_is_the_same_as_one_after_the_other() -> None:
    rng = np.random.default_rng(1)
    gpus, tokens_in, tokens_out = rng.integers(1, 512, 20_000).astype(float), *rng.uniform(10, 1e5, (2, 20_000))
    load, share = rng.uniform(0.05, 1, 20_000), rng.uniform(0, 1, 20_000)
    costs = cost_of(gpus, "h100-sxm", 8, tokens_in, tokens_out, PRICES, basis="owned", utilisation=load, input_share=share)
    meets = break_even(costs, PRICES.api_of("deepseek-v3"), 0.5)
    assert np.isfinite(costs.usd_per_mtok_out).all()
    for row in range(0, 20_000, 1999):
        one = cost_of(
            float(gpus[row]),
            "h100-sxm",
            8,
            float(tokens_in[row]),
            float(tokens_out[row]),
            PRICES,
            basis="owned",
            utilisation=float(load[row]),
            input_share=float(share[row]),
        )
        for field in dataclasses.fields(one):
            assert np.broadcast_to(getattr(costs, field.name), 20_000)[row] == pytest.approx(getattr(one, field.name))
        assert isinstance(one.usd_per_mtok_in, float)
        single = break_even(one, PRICES.api_of("deepseek-v3"), 0.5)
        assert (meets.utilisation[row], meets.times_api[row]) == pytest.approx((single.utilisation, single.times_api))


def test_utilisation_is_what_arrives_over_what_can_be_served() -> None:
    assert utilisation_of(1.0, 20.0) == 0.05
    np.testing.assert_allclose(utilisation_of(np.array([1.0, 2.0]), 4.0), [0.25, 0.5])
    with pytest.raises(BadInput, match=r"arrivals are 1\.5 times the capacity: add GPUs"):
        utilisation_of(3.0, 2.0)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"utilisation": 0.0}, r"utilisation must lie in \(0, 1\], got 0"),
        ({"utilisation": np.array([0.5, 1.5])}, r"got 1\.5: .*more GPUs"),
        ({"utilisation": math.nan}, "got nan"),
        ({"hours_fraction": 2.0}, "hours_fraction must lie"),
        ({"input_share": -0.1}, r"input_share must lie in \[0, 1\]"),
        ({"node_gpus": 0}, "node_gpus must be 1 or more"),
        ({"tokens_in_per_s": -1.0}, "tokens_in_per_s must be zero or more"),
        ({"fixed_usd_per_hour": -1.0}, "fixed_usd_per_hour must be zero or more"),
    ],
)
def test_what_cannot_be_priced_is_refused_with_the_lever(changes: dict[str, object], says: str) -> None:
    call: dict[str, object] = {
        "gpus": 8,
        "gpu": "h100-sxm",
        "node_gpus": 8,
        "tokens_in_per_s": 1.0,
        "tokens_out_per_s": 1.0,
    }
    with pytest.raises(BadInput, match=says):
        cost_of(**{**call, "prices": PRICES, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("gpu", "basis", "why"),
    [
        ("gb300", "rental", r"set prices\.gpu_hour\.gb300"),
        ("mi300x", "reserved", r"no reserved price of mi300x"),
        ("mi300x", "owned", "no server of mi300x is priced"),
        ("h800-sxm", "owned", r"set prices\.server\.h800-sxm\.price"),
    ],
)
def test_what_nobody_prices_costs_nan_and_says_why(gpu: str, basis: Any, why: str) -> None:
    cost = cost_of(8, gpu, 8, 1.0, 1.0, PRICES, basis=basis)
    assert re.search(why, cost.unpriced)
    assert math.isnan(float(cost.usd_per_hour)) and math.isnan(float(cost.usd_per_mtok_out))
    assert cost.tokens_in_per_hour == 3600.0


def test_an_unknown_gpu_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'h100-sxm'"):
        cost_of(8, "h100", 8, 1.0, 1.0, PRICES, basis="owned")


def test_of_owned_gpus_little_of_the_bill_follows_the_tokens() -> None:
    """What would reconcile "six times at 10 %" with "pays above 90 %" is 40 % of the bill (scenario idle-cost): it is 7 %."""
    owned = cost_of(8, "h100-sxm", 8, 1.0, 1.0, load_prices(), basis="owned")
    assert owned.load_usd_per_hour / owned.usd_per_hour == pytest.approx(0.07, abs=0.01)


def test_a_fixed_cost_moves_the_utilisation_of_break_even() -> None:
    prices, at_full, crossing = load_prices(), 20.0, []
    api = prices.api_of("deepseek-v3")
    for fixed in (0.0, 20.0):
        tokens = (1000 * at_full, 300 * at_full)
        used = utilisation_of(2.0, at_full)
        cost = cost_of(8, "h100-sxm", 8, *tokens, prices, utilisation=used, fixed_usd_per_hour=fixed)
        meets = break_even(cost, api)
        assert meets.times_api == pytest.approx(10 * meets.utilisation)
        crossing.append(meets.utilisation)
    hourly_api = 3600 * at_full * (1000 * api.input + 300 * api.output) / 1e6
    assert crossing == pytest.approx([16 / hourly_api, 36 / hourly_api])
