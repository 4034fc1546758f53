"""Prices: GPU time, capital, power and APIs, from one file that names the source and date of each.

Money has no SI unit: values are held in the unit of their field (US dollars per GPU-hour, per kWh, per million tokens).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from . import strict_yaml
from .catalog import SET_BY_USER, names
from .errors import BadInput, UnknownName, one_line
from .price_tag import Server
from .specs import Gpu
from .units import Duration, Usd, UsdPerGpuHour, UsdPerKwh, UsdPerMtok

#: How GPUs are paid for: rented at the low end of the market, on one card without a contract, on one card with one, on one
#: analyst's card for three years, or bought.
Basis = Literal["rental", "on-demand", "reserved", "three-years", "owned"]

_RATES: Mapping[str, str] = {
    "rental": "gpu_hour",
    "on-demand": "gpu_hour_on_demand",
    "reserved": "gpu_hour_reserved",
    "three-years": "gpu_hour_three_years",
}
_BY_GPU = (*_RATES.values(), "gpu")
_OF_RECORDS = ("server", "api")
_LIST = "epicycle catalog prices"


class NoPrice(BadInput):
    """Nobody says what that costs. Times need no price: only the dollars of an answer are missing."""


class ApiPrice(BaseModel):
    """Dollars per million tokens: prompt tokens found in the API's cache, other prompt tokens, and generated tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cached: UsdPerMtok
    input: UsdPerMtok
    output: UsdPerMtok


class Prices(BaseModel):
    """All prices. ``sources`` maps a dotted key, or the table that holds it, to its source and date.

    ``network_per_gpu``: switches, cables, transceivers. ``idle_power``: what a waiting GPU draws, as a share of rated power.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    gpu_hour: dict[str, UsdPerGpuHour]
    gpu_hour_on_demand: dict[str, UsdPerGpuHour]
    gpu_hour_reserved: dict[str, UsdPerGpuHour]
    gpu_hour_three_years: dict[str, UsdPerGpuHour]
    gpu: dict[str, Usd]
    server: dict[str, Server]
    switch: dict[str, Usd]
    network_per_gpu: Usd
    lifetime: Duration
    electricity: UsdPerKwh
    pue: Annotated[float, Field(ge=1, le=5)]
    idle_power: Annotated[float, Field(ge=0, le=1)]
    api: dict[str, ApiPrice]
    sources: dict[str, str] = Field(min_length=1)

    @model_validator(mode="after")
    def _every_price_has_a_source(self) -> Self:
        prices = dict(_leaves(self.model_dump(exclude={"sources"})))
        bare = [key for key, value in prices.items() if value is not None and not self.source(key)]
        if bare:
            raise ValueError(f"no source for {', '.join(bare)}: say where each price is from, and when it was read")
        tables = {key[:place] for key in prices for place, sign in enumerate(key) if sign == "."}
        unknown = sorted(set(self.sources) - tables - set(prices))
        if unknown:
            raise ValueError(f"sources names unknown prices {', '.join(unknown)}")
        if self.lifetime <= 0:
            raise ValueError("lifetime must be positive: it divides the price of what is bought")
        return self

    def source(self, key: str) -> str:
        """The source of the price at the dotted ``key``: its own, or that of the nearest table above it; "" if none."""
        while key:
            if key in self.sources:
                return self.sources[key]
            key = key.rpartition(".")[0]
        return ""

    def entries(self) -> Iterator[tuple[str, str, str]]:
        """Every price as (dotted key, value with its unit, source); unknown ones left out."""
        for key, value in _leaves(self.model_dump(mode="json", exclude={"sources"})):
            if value is not None:
                yield key, str(value), self.source(key)

    def usd_per_gpu_hour(self, gpu_name: str, basis: Basis) -> float:
        """Dollars for an hour of one rented GPU. Raises NoPrice where there is none, with the key that sets one."""
        table = _RATES[basis]
        rates: dict[str, float] = getattr(self, table)
        if gpu_name not in rates:
            raise NoPrice(f"no {basis} price of {gpu_name}: set prices.{table}.{gpu_name}, or use one of {', '.join(rates)}")
        return rates[gpu_name]

    def usd_per_server_gpu(self, gpu_name: str) -> float:
        """Dollars for one GPU with its part of a server. Raises NoPrice."""
        server = self.server.get(gpu_name)
        if server is None:
            known = [name for name, other in self.server.items() if other.price is not None]
            raise NoPrice(f"no server of {gpu_name} is priced: rent it, or own one of {', '.join(known)}")
        if server.price is None:
            raise NoPrice(f"no public price of a {gpu_name} server: set prices.server.{gpu_name}.price, or rent it")
        return server.price / server.gpus

    def api_of(self, model_name: str) -> ApiPrice:
        """What an API asks for that model's tokens. Raises UnknownName."""
        if model_name not in self.api:
            raise UnknownName("API price", model_name, self.api, _LIST)
        return self.api[model_name]


def load_prices(overrides: Mapping[str, object] | None = None, gpu: Gpu | None = None) -> Prices:
    """The prices that ship with the package, with those that ``gpu`` brings along, and ``overrides`` (dotted key -> text or
    number). Raises as `with_overrides`."""
    prices = _shipped()
    if gpu is not None and gpu.price is not None:
        prices = _with_tag(prices, gpu)
    return with_overrides(prices, overrides, (gpu.name,) if gpu is not None else ()) if overrides else prices


def price_keys(prices: Prices, gpus: Iterable[str] = ()) -> tuple[str, ...]:
    """Every dotted key that `with_overrides` accepts: all there are, and the GPU tables' keys of every GPU in the catalogue and
    of ``gpus``."""
    known = {key for key, _ in _leaves(prices.model_dump(exclude={"sources"}))}
    return tuple(sorted(known | {f"{table}.{gpu}" for table in _BY_GPU for gpu in (*names("gpus"), *gpus)}))


def gpu_of_key(key: str) -> str | None:
    """The GPU whose price ``key`` sets ("gpu_hour.h200-sxm"); None where it is of no single GPU."""
    table, _, name = key.removeprefix("prices.").partition(".")
    return name if table in _BY_GPU else None


def overrides_for(overrides: Mapping[str, object], gpu: Gpu) -> dict[str, object]:
    """Those of ``overrides`` that are not another GPU's of the user's."""
    known = (None, gpu.name, *names("gpus"))
    return {key: value for key, value in overrides.items() if gpu_of_key(key) in known}


def with_overrides(prices: Prices, changes: Mapping[str, object], gpus: Iterable[str] = ()) -> Prices:
    """``prices`` with some replaced: ``{"gpu_hour.h200-sxm": "2.10 USD/GPU-h"}``; a leading ``prices.`` may be written.

    ``gpus``: names beside the catalogue's. Raises UnknownName with the nearest key, or BadInput with one line on every value
    that does not fit.
    """
    tree: dict[str, Any] = prices.model_dump(mode="json")
    known = price_keys(prices, gpus)
    for written, value in changes.items():
        key = written.removeprefix("prices.")
        if key not in known:
            raise UnknownName("price", key, known, _LIST)
        # A model's name may hold a dot ("api.minimax-m2.7.input"): the table comes first, the field last, the name between.
        table, _, inside = key.partition(".")
        if not inside:
            tree[table] = value
        elif table in _OF_RECORDS:
            name, _, field = inside.rpartition(".")
            tree[table][name][field] = value
        else:
            tree[table][inside] = value
        tree["sources"][key] = SET_BY_USER
    return _validated(tree, "prices")


def _with_tag(prices: Prices, gpu: Gpu) -> Prices:
    """``prices`` with those that stand in the GPU's own file."""
    tree = prices.model_dump(mode="json")
    for table, value in gpu.model_dump(mode="json")["price"].items():
        if value is not None:
            tree[table][gpu.name] = value
            tree["sources"][f"{table}.{gpu.name}"] = gpu.source("price")
    return _validated(tree, "prices")


@cache
def _shipped() -> Prices:
    text = files("epicycle.hwmodels").joinpath("data", "prices", "prices.yaml").read_text(encoding="utf-8")
    prices = _validated(strict_yaml.load(text, "prices.yaml"), "prices.yaml")
    strange = sorted({gpu for table in (*_BY_GPU, "server") for gpu in getattr(prices, table)} - set(names("gpus")))
    if strange:
        raise BadInput(f"prices.yaml: no GPU of the catalogue is called {', '.join(strange)}")
    return prices


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _validated(tree: Mapping[str, Any], where: str) -> Prices:
    try:
        return Prices.model_validate(tree)
    except ValidationError as error:
        raise BadInput(one_line(error, where)) from None
