"""Prices: every one has a source, reads back, can be replaced by key; what is refused and what the refusal says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from epicycle.hwmodels import catalog, units
from epicycle.hwmodels.errors import BadInput, UnknownName
from epicycle.hwmodels.price_tag import PriceTag
from epicycle.hwmodels.prices import NoPrice, Prices, load_prices, price_keys, with_overrides

PRICES = load_prices()
MONEY = [units.USD, units.USD_PER_GPU_HOUR, units.USD_PER_KWH, units.USD_PER_MTOK]


def test_every_price_has_a_source_with_a_date() -> None:
    for key, value, source in PRICES.entries():
        assert value
        dated = any(year in source for year in ("2020", "2021", "2023", "2024", "2025", "2026"))
        derived = source.startswith(("assumed:", "derived:", "as the", "NVIDIA DGX"))
        assert dated or derived, (key, source)


def test_the_prices_of_the_published_systems() -> None:
    assert PRICES.gpu_hour["h100-sxm"] == PRICES.gpu_hour["h800-sxm"] == 2.0
    r1 = PRICES.api_of("deepseek-r1")
    assert (r1.cached, r1.input, r1.output) == (0.14, 0.55, 2.19)
    assert PRICES.api_of("minimax-m2.7").input == 0.30


def test_every_gpu_with_a_price_is_in_the_catalogue() -> None:
    for table in ("gpu_hour", "gpu_hour_on_demand", "gpu_hour_reserved", "gpu_hour_three_years", "gpu", "server"):
        assert set(getattr(PRICES, table)) <= set(catalog.names("gpus"))
    assert "gb300" not in PRICES.gpu_hour, "sold by quotation only"


def test_a_gpu_of_the_users_brings_its_own_prices() -> None:
    server = {"gpus": 8, "power": "8 kW", "price": "200 kUSD"}
    tag = PriceTag.model_validate({"gpu_hour": "1.50 USD/GPU-h", "server": server})
    mine = catalog.load_gpu("h100-sxm").model_copy(update={"name": "mine-1", "price": tag})
    prices = load_prices({"gpu_hour_reserved.mine-1": "1.10 USD/GPU-h"}, mine)
    assert prices.usd_per_gpu_hour("mine-1", "rental") == 1.5
    assert prices.usd_per_gpu_hour("mine-1", "reserved") == 1.1
    assert prices.usd_per_server_gpu("mine-1") == 25_000.0
    with pytest.raises(NoPrice, match=r"set prices\.gpu_hour_on_demand\.mine-1"):
        prices.usd_per_gpu_hour("mine-1", "on-demand")
    with pytest.raises(UnknownName):
        load_prices({"gpu_hour.mine-2": "1 USD/GPU-h"}, mine)


def test_json_reads_back_as_the_same_prices() -> None:
    assert Prices.model_validate_json(PRICES.model_dump_json()) == PRICES


@given(data=st.data(), dimension=st.sampled_from(MONEY))
def test_money_reads_back_exactly(data: st.DataObject, dimension: units.Dimension) -> None:
    value = data.draw(st.floats(dimension.low, dimension.high, allow_nan=False))
    assert dimension.parse(dimension.write(value)) == value


@pytest.mark.parametrize(
    ("dimension", "text", "value"),
    [
        (units.USD, "310 kUSD", 310_000.0),
        (units.USD_PER_KWH, "80.6 USD/MWh", 0.0806),
        (units.USD_PER_MTOK, "0.002 USD/ktok", 2.0),
        (units.USD_PER_GPU_HOUR, "2.00 USD/GPU-h", 2.0),
    ],
)
def test_money_is_read_exactly(dimension: units.Dimension, text: str, value: float) -> None:
    assert dimension.parse(text) == value


@pytest.mark.parametrize("prefix", ["", "prices."])
@pytest.mark.parametrize(
    ("key", "text", "read"),
    [
        ("gpu_hour.h200-sxm", "2.10 USD/GPU-h", lambda p: p.gpu_hour["h200-sxm"]),
        ("gpu_hour.gb300", "2.10 USD/GPU-h", lambda p: p.gpu_hour["gb300"]),
        ("server.h800-sxm.price", "2.1 USD", lambda p: p.server["h800-sxm"].price),
        ("api.minimax-m2.7.input", "2.1 USD/Mtok", lambda p: p.api["minimax-m2.7"].input),
        ("pue", "2.1", lambda p: p.pue),
    ],
)
def test_a_price_is_replaced_by_its_key_and_says_so(prefix: str, key: str, text: str, read: object) -> None:
    changed = load_prices({prefix + key: text})
    assert read(changed) == 2.1  # type: ignore[operator]
    assert changed.source(key) == catalog.SET_BY_USER
    assert load_prices() is PRICES
    assert key in price_keys(PRICES)


def test_overrides_add_up() -> None:
    twice = with_overrides(with_overrides(PRICES, {"pue": 1.1}), {"idle_power": 0.0})
    assert (twice.pue, twice.idle_power) == (1.1, 0.0)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"prices.gpu_hour.h200-smx": "2 USD/GPU-h"}, "did you mean 'gpu_hour.h200-sxm'?"),
        ({"electricty": "1 USD/kWh"}, "did you mean 'electricity'?"),
        ({"api": "free"}, "unknown price 'api'"),
        ({"gpu_hour.h200-sxm": 2.0}, 'needs a unit: write "2.0 USD/GPU-h"'),
        ({"gpu_hour.h200-sxm": "2 USD"}, "a GPU is rented by the hour"),
        ({"electricity": "0.1 EUR/kWh"}, "is not a unit of a price of electricity"),
        ({"gpu_hour.h200-sxm": "-2 USD/GPU-h"}, "must be zero or more"),
        ({"pue": "0.9"}, "greater than or equal to 1"),
        ({"lifetime": "0 d"}, "lifetime must be positive"),
        ({"server.h100-sxm.gpus": "0"}, "server.h100-sxm.gpus"),
    ],
)
def test_a_price_that_does_not_fit_is_refused_in_one_line(changes: dict[str, object], says: str) -> None:
    with pytest.raises(BadInput) as refusal:
        load_prices(changes)
    assert says in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_what_has_no_price_names_the_lever() -> None:
    with pytest.raises(NoPrice, match=r"set prices\.gpu_hour\.gb300"):
        PRICES.usd_per_gpu_hour("gb300", "rental")
    with pytest.raises(NoPrice, match=r"set prices\.server\.h800-sxm\.price"):
        PRICES.usd_per_server_gpu("h800-sxm")
    with pytest.raises(UnknownName, match="did you mean 'deepseek-r1'"):
        PRICES.api_of("deepseek-r2")


@pytest.mark.parametrize("drop", ["pue", "gpu_hour.h800-sxm"])
def test_a_price_without_a_source_is_refused(drop: str) -> None:
    tree = PRICES.model_dump(mode="json")
    del tree["sources"][drop]
    with pytest.raises(ValidationError, match=f"no source for {drop}"):
        Prices.model_validate(tree)


def test_a_source_of_nothing_is_refused() -> None:
    tree = PRICES.model_dump(mode="json")
    tree["sources"]["gpu_huor"] = "somewhere, 2026"
    with pytest.raises(ValidationError, match="unknown prices gpu_huor"):
        Prices.model_validate(tree)
