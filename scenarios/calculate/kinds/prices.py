"""Own GPUs against an API, idle GPUs against busy ones, one maker's cost of ownership against another's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from ....hwmodels.errors import BadInput
from ....hwmodels.prices import load_prices
from ....hwmodels.units import UsdPerMtok
from ...answer.cost import cost_of, idle_multiple, utilisation_of
from ..calculator import Calculator, Figure, GpuName


class IdleCost(Calculator):
    """Cost of a token over the API's at a load: ``multiple`` of it at ``utilisation``, under the inverse law.

    ``fixed_share``: of the bill at full load that is paid whatever the load. ``arrivals`` and ``capacity`` (requests a second)
    give the utilisation instead of it.
    """

    kind: Literal["idle-cost"] = "idle-cost"
    multiple: float = Field(default=1.0, gt=0)
    utilisation: float | None = Field(default=None, gt=0, le=1)
    arrivals: float | None = Field(default=None, gt=0)
    capacity: float | None = Field(default=None, gt=0)
    fixed_share: float = Field(default=1.0, ge=0, le=1)
    other: float = Field(default=0.1, gt=0, le=1)

    def figures(self) -> Iterator[Figure]:
        if (self.utilisation is None) == (self.arrivals is None) or (self.arrivals is None) != (self.capacity is None):
            raise BadInput("give utilisation, or arrivals and capacity")
        used = (
            self.utilisation
            if self.utilisation is not None
            else float(utilisation_of(self.arrivals or 0.0, self.capacity or 0.0))
        )
        penalty = float(idle_multiple(used, self.fixed_share))
        at_full = self.multiple / penalty
        gain = 1.0 - at_full * (1.0 - self.fixed_share)
        yield Figure("penalty", "cost of a token over its cost at full load", "", penalty)
        yield Figure("utilisation", "share of the capacity in use", "", used)
        yield Figure(
            "break_even",
            "utilisation at which the API costs the same",
            "",
            at_full * self.fixed_share / gain if gain > 0 else float("inf"),
        )
        yield Figure(
            "multiple_at_other",
            "times the API's price at the other utilisation",
            "",
            at_full * float(idle_multiple(self.other, self.fixed_share)),
        )


class ApiRate(Calculator):
    """Tokens a second with which one GPU earns its hour at an API's price of ``side`` tokens."""

    kind: Literal["api-rate"] = "api-rate"
    gpu: GpuName
    api: str
    side: Literal["input", "output", "cached"]

    def figures(self) -> Iterator[Figure]:
        prices = load_prices()
        price, hour = float(getattr(prices.api_of(self.api), self.side)), float(prices.usd_per_gpu_hour(self.gpu, "rental"))
        yield Figure("rate", "tokens per second at which one GPU pays", "tokens/s", hour / price * 1e6 / 3600)
        yield Figure("price", "price of a million tokens", "USD/Mtok", price)


class PriceRatio(Calculator):
    """One price over another."""

    kind: Literal["price-ratio"] = "price-ratio"
    ours: UsdPerMtok
    theirs: UsdPerMtok = Field(gt=0)

    def figures(self) -> Iterator[Figure]:
        yield Figure("ratio", "one price over the other", "", self.ours / self.theirs)


class Ownership(Calculator):
    """Cost of ownership per throughput of a device against a GPU server: relative ``capital``, ``power`` and ``throughput``."""

    kind: Literal["ownership"] = "ownership"
    gpu: GpuName
    capital: float = Field(gt=0)
    power: float = Field(ge=0)
    throughput: float = Field(default=1.0, gt=0)

    def figures(self) -> Iterator[Figure]:
        cost = cost_of(8, self.gpu, 8, 1.0, 0.0, load_prices(), basis="owned")
        if cost.unpriced:
            raise BadInput(cost.unpriced)
        whole = float(cost.usd_per_hour)
        power = float(cost.power_usd_per_hour) / whole
        yield Figure(
            "saved",
            "less cost per throughput than the GPU server",
            "",
            1 - (self.capital * (1 - power) + self.power * power) / self.throughput,
        )
        yield Figure("power_share", "power's part of the GPU server's cost", "", power)


KINDS = (IdleCost, ApiRate, PriceRatio, Ownership)
