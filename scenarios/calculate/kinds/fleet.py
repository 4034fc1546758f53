"""A fleet: nodes that a day's tokens need, the bill and the revenue, and how often something in it fails."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from ....hwmodels.errors import BadInput
from ....hwmodels.hazard import Hazard
from ....hwmodels.prices import load_prices
from ....hwmodels.units import Duration
from ...answer.cost import break_even, cost_of
from ..calculator import Calculator, Figure, GpuName

_DAY = 86_400.0


class Fleet(Calculator):
    """``tokens_in`` (``cached``: share of them in a prefix cache) and ``tokens_out`` a day, at rates a node and second.

    ``mean_nodes`` run on average, of ``peak_nodes`` that stand there; without them the nodes that the rates ask for.
    """

    kind: Literal["fleet"] = "fleet"
    tokens_in: float = Field(gt=0)
    tokens_out: float = Field(gt=0)
    cached: float = Field(default=0.0, ge=0, le=1)
    node_in: float = Field(gt=0)
    node_out: float = Field(gt=0)
    mean_nodes: float | None = Field(default=None, gt=0)
    peak_nodes: int | None = Field(default=None, ge=1)
    gpu: GpuName
    node_gpus: int = Field(default=8, ge=1)
    api: str

    def figures(self) -> Iterator[Figure]:
        prefill, decode = self.tokens_in / _DAY / self.node_in, self.tokens_out / _DAY / self.node_out
        mean = self.mean_nodes or prefill + decode
        peak = self.peak_nodes or math.ceil(mean)
        if mean > peak:
            raise BadInput(f"mean_nodes ({mean:g}) are more than peak_nodes ({peak})")
        share, prices = mean / peak, load_prices()
        cost = cost_of(
            peak * self.node_gpus,
            self.gpu,
            self.node_gpus,
            self.tokens_in / _DAY / share,
            self.tokens_out / _DAY / share,
            prices,
            hours_fraction=share,
            input_share=prefill / (prefill + decode),
        )
        meets = break_even(cost, prices.api_of(self.api), self.cached)
        bill = float(cost.usd_per_hour) * 24
        revenue = bill / float(meets.times_api)
        yield Figure("nodes", "nodes by the rates", "", prefill + decode)
        yield Figure("prefill_nodes", "of which prefill", "", prefill)
        yield Figure("decode_nodes", "of which decode", "", decode)
        yield Figure("peak_over_mean", "nodes that stand there over those that run on average", "", peak / mean)
        yield Figure("bill", "dollars a day", "USD/d", bill)
        yield Figure("revenue", "the same tokens at the API's price", "USD/d", revenue)
        yield Figure("margin", "revenue over cost, less one", "", revenue / bill - 1.0)
        yield Figure("usd_out", "dollars per million output tokens", "USD/Mtok", float(cost.usd_per_mtok_out))
        yield Figure("rate", "tokens per second, in and out", "tokens/s", (self.tokens_in + self.tokens_out) / _DAY)
        yield Figure("break_even", "share of this load that pays for the nodes", "", float(meets.utilisation))


class Failures(Calculator):
    """``failures`` of ``gpus`` in ``days``, carried over to a group of ``group`` GPUs that stops as one.

    ``drained``: share of them that announce themselves (ECC errors that were corrected), so that the GPU is taken out first; a
    drain takes ``drain`` of the group's time.
    """

    kind: Literal["failures"] = "failures"
    gpus: int = Field(ge=1)
    days: float = Field(gt=0)
    failures: float = Field(gt=0)
    group: int = Field(ge=1)
    outage: Duration
    drained: float = Field(default=0.0, ge=0, le=1)
    drain: Duration = 0.0

    def figures(self) -> Iterator[Figure]:
        hazard = Hazard.seen(self.gpus, self.days, self.failures)
        mean = (1.0 - self.drained) * self.outage + self.drained * self.drain
        sudden = hazard.announced(self.drained)
        yield Figure("gpu_hours", "GPU-hours between interruptions", "h", hazard.gpu_hours)
        yield Figure("days_between", "days between interruptions of the group", "d", hazard.hours_between(self.group) / 24)
        yield Figure("outage", "time that one failure costs the group, mean", "s", mean)
        yield Figure("lost", "share of all time lost", "", hazard.lost_share(self.group, mean / 3600))
        yield Figure("bad_days", "share of days with an interruption", "", sudden.chance(self.group, 24.0) if sudden else 0.0)


KINDS = (Fleet, Failures)
