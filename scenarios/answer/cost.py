"""What a deployment costs: dollars an hour by cause, dollars per million tokens, and where an API would be as cheap.

Every number may be a float or a numpy array, so that one call prices a whole table of deployments.

**The bill of an hour.** Whole nodes are paid for. Rented GPUs cost their rate, and power and network come with them. Owned ones
cost their server's price over the ``lifetime``, the fabric's share likewise, and their power: each GPU draws ``idle_power`` of
its rated power and, in proportion to the utilisation, the rest; hosts draw what the server's maximum leaves; all times the PUE.
Buildings, staff, storage and interest are in no price: put them into ``fixed_usd_per_hour``.

**Tokens.** Rates are given at full load; what is served is ``utilisation`` of it. Utilisation is a result: the arrival rate
over the capacity (`utilisation_of`). The bill hardly falls when it does, so tokens get dearer by about its inverse.

**Input and output.** They share the bill by the GPU time they take: ``input_share`` is the prefill pool's share of all GPUs in
a disaggregated deployment, the share of time spent on prompts in an aggregated one. Without it every token costs the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...hwmodels.catalog import load_gpu
from ...hwmodels.errors import BadInput
from ...hwmodels.prices import ApiPrice, Basis, NoPrice, Prices
from ...hwmodels.specs import Gpu
from ...sim.step.part import Num

_HOUR_SECONDS = 3600.0
_MTOK = 1e6


@dataclass(frozen=True, slots=True)
class Cost:
    """Dollars an hour by cause, averaged over all hours, and the tokens of that hour.

    ``gpu_usd_per_hour``: GPU time, rented or written off; ``power_…``, ``network_…``: 0 where the rent includes them.
    ``load_usd_per_hour``: what full load adds to waiting GPUs' power bill (``power_usd_per_hour`` holds its utilised part).
    ``tokens_in_per_hour``, ``tokens_out_per_hour``: served. ``power_kw``: drawn from the grid, nan if the server is not known.
    ``unpriced``: why nobody can say what the GPUs cost; then every dollar is nan. Empty where there is a price.
    """

    gpu_usd_per_hour: Num
    power_usd_per_hour: Num
    network_usd_per_hour: Num
    fixed_usd_per_hour: Num
    load_usd_per_hour: Num
    tokens_in_per_hour: Num
    tokens_out_per_hour: Num
    input_share: Num
    utilisation: Num
    power_kw: Num
    unpriced: str = ""

    @property
    def usd_per_hour(self) -> Num:
        """The whole bill of an hour."""
        return self.gpu_usd_per_hour + self.power_usd_per_hour + self.network_usd_per_hour + self.fixed_usd_per_hour

    @property
    def usd_per_mtok_in(self) -> Num:
        """Dollars per million prompt tokens, cached ones counted; nan without any."""
        return _over(self.usd_per_hour * self.input_share * _MTOK, self.tokens_in_per_hour)

    @property
    def usd_per_mtok_out(self) -> Num:
        """Dollars per million generated tokens; nan without any."""
        return _over(self.usd_per_hour * (1.0 - self.input_share) * _MTOK, self.tokens_out_per_hour)

    @property
    def usd_per_mtok(self) -> Num:
        """Dollars per million tokens, prompt and generated alike (the blended price)."""
        return _over(self.usd_per_hour * _MTOK, self.tokens_in_per_hour + self.tokens_out_per_hour)

    def usd_per_request(self, tokens_in: Num, tokens_out: Num) -> Num:
        """Dollars for a request of ``tokens_in`` prompt tokens and ``tokens_out`` generated ones."""
        priced_in = np.where(np.asarray(tokens_in) > 0, self.usd_per_mtok_in, 0.0)
        priced_out = np.where(np.asarray(tokens_out) > 0, self.usd_per_mtok_out, 0.0)
        return _plain((tokens_in * priced_in + tokens_out * priced_out) / _MTOK)


@dataclass(frozen=True, slots=True)
class BreakEven:
    """Where a deployment and an API cost the same.

    ``utilisation``: at which the bills are equal; above 1 the API stays cheaper whatever the load, inf if load never helps.
    ``tokens_per_day``: prompt and generated tokens at that point (inf above what the deployment can serve).
    ``times_api``: own bill over the API's at the deployment's utilisation. ``api_usd_per_mtok``: the API's blended price.
    """

    utilisation: Num
    tokens_per_day: Num
    times_api: Num
    api_usd_per_mtok: Num


def cost_of(
    gpus: Num,
    gpu: Gpu | str,
    node_gpus: Num,
    tokens_in_per_s: Num,
    tokens_out_per_s: Num,
    prices: Prices,
    *,
    basis: Basis = "rental",
    utilisation: Num = 1.0,
    hours_fraction: Num = 1.0,
    input_share: Num | None = None,
    fixed_usd_per_hour: Num = 0.0,
) -> Cost:
    """The cost of ``gpus`` GPUs that serve ``tokens_in_per_s`` prompt and ``tokens_out_per_s`` generated tokens at full load.

    ``node_gpus``: GPUs of a node; begun nodes are paid whole. ``utilisation`` in (0, 1]. ``hours_fraction`` in (0, 1]: the
    share of hours in which they run (rented GPUs given back at night are not paid for; owned ones are, without their power).
    ``input_share`` in [0, 1]: prompts' share of GPU time, by default their share of the tokens.

    Raises UnknownName for a GPU that is not in the catalogue, BadInput for a number out of range. A GPU without a price of that
    ``basis`` costs nan, and ``unpriced`` says why.
    """
    if isinstance(gpu, str):
        gpu = load_gpu(gpu)
    _within("utilisation", utilisation, low_open=True, lever="an arrival rate beyond the capacity is served by more GPUs")
    _within("hours_fraction", hours_fraction, low_open=True, lever="a deployment that never runs serves nothing")
    for name, value in (
        ("gpus", gpus),
        ("tokens_in_per_s", tokens_in_per_s),
        ("tokens_out_per_s", tokens_out_per_s),
        ("fixed_usd_per_hour", fixed_usd_per_hour),
    ):
        if np.any(np.asarray(value) < 0):
            raise BadInput(f"{name} must be zero or more, got {np.min(value):g}")
    if np.any(np.asarray(node_gpus) < 1):
        raise BadInput(f"node_gpus must be 1 or more, got {np.min(node_gpus):g}")
    nodes = np.ceil(np.asarray(gpus, dtype=float) / node_gpus)
    paid = nodes * node_gpus
    served_hour = _HOUR_SECONDS * utilisation * hours_fraction
    tokens_in, tokens_out = tokens_in_per_s * served_hour, tokens_out_per_s * served_hour
    if input_share is None:
        input_share = np.nan_to_num(np.asarray(_over(tokens_in, tokens_in + tokens_out)))
    _within("input_share", input_share, low_open=False, lever="it is the prompts' part of all GPU time")

    idle_kw, load_kw = _power_kw(gpu, prices)
    power_kw = paid * (idle_kw + load_kw * utilisation) * hours_fraction
    owned = basis == "owned"
    kwh = prices.electricity if owned else 0.0
    hour_share = _HOUR_SECONDS / prices.lifetime
    each, unpriced = np.nan, ""
    try:
        each = prices.usd_per_server_gpu(gpu.name) * hour_share if owned else prices.usd_per_gpu_hour(gpu.name, basis)
    except NoPrice as error:
        unpriced = str(error)
    rate = each if owned else each * hours_fraction
    load_usd = paid * load_kw * hours_fraction * kwh if owned else paid * 0.0
    power_usd = power_kw * kwh if owned else paid * 0.0
    network_usd = paid * (prices.network_per_gpu * hour_share if owned else 0.0)
    return Cost(
        gpu_usd_per_hour=_plain(paid * rate),
        power_usd_per_hour=_plain(power_usd),
        network_usd_per_hour=_plain(network_usd),
        fixed_usd_per_hour=fixed_usd_per_hour,
        load_usd_per_hour=_plain(load_usd),
        tokens_in_per_hour=_plain(tokens_in),
        tokens_out_per_hour=_plain(tokens_out),
        input_share=_plain(input_share),
        utilisation=utilisation,
        power_kw=_plain(power_kw),
        unpriced=unpriced,
    )


def utilisation_of(arrival_per_s: Num, capacity_per_s: Num) -> Num:
    """The share of its capacity that a deployment serves: arrivals over capacity, in the same unit (requests or tokens).

    Raises BadInput above 1: the queue would grow without end.
    """
    share = _over(arrival_per_s, capacity_per_s)
    if np.any(np.asarray(share) > 1):
        raise BadInput(f"arrivals are {np.nanmax(share):.3g} times the capacity: add GPUs, or lower the arrival rate")
    return share


def break_even(cost: Cost, api: ApiPrice, cached_share: Num = 0.0) -> BreakEven:
    """Where ``cost`` meets the ``api``, ``cached_share`` of whose prompt tokens are in its cache.

    Own bill: F + V u, with V the ``load_usd_per_hour`` and F the rest; the API's: A u. They are equal at u = F / (A - V), A
    being the API's bill for the tokens of a fully loaded hour.
    """
    _within("cached_share", cached_share, low_open=False, lever="it is a share of the prompt tokens")
    price_in = api.cached * cached_share + api.input * (1.0 - cached_share)
    bill = (cost.tokens_in_per_hour * price_in + cost.tokens_out_per_hour * api.output) / _MTOK
    full = bill / cost.utilisation
    fixed = cost.usd_per_hour - cost.load_usd_per_hour * cost.utilisation
    gain = np.asarray(full - cost.load_usd_per_hour, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        meets = np.where(gain > 0, fixed / gain, np.inf)
    tokens = cost.tokens_in_per_hour + cost.tokens_out_per_hour
    per_day = np.where(meets <= 1, tokens / cost.utilisation * np.minimum(meets, 1.0) * 24.0, np.inf)
    return BreakEven(
        utilisation=_plain(meets),
        tokens_per_day=_plain(per_day),
        times_api=_over(cost.usd_per_hour, bill),
        api_usd_per_mtok=_over(bill * _MTOK, tokens),
    )


def idle_multiple(utilisation: Num, fixed_share: Num = 1.0) -> Num:
    """Cost of a token at ``utilisation`` over its cost at full load, ``fixed_share`` of whose bill is paid whatever the load.

    ``fixed_share / u + (1 - fixed_share)``; with 1 the pure inverse, which rented GPUs follow.
    """
    _within("utilisation", utilisation, low_open=True, lever="an arrival rate beyond the capacity is served by more GPUs")
    return fixed_share / utilisation + (1.0 - fixed_share)


def _power_kw(gpu: Gpu, prices: Prices) -> tuple[float, float]:
    """Grid power of one GPU with its part of the host: while it waits, and what full load adds."""
    if gpu.name not in prices.server:
        return float("nan"), float("nan")
    rated = gpu.power
    server = prices.server[gpu.name]
    host = max(0.0, server.power / server.gpus - rated)
    return (host + rated * prices.idle_power) * prices.pue / 1e3, rated * (1.0 - prices.idle_power) * prices.pue / 1e3


def _within(name: str, value: Num, low_open: bool, lever: str) -> None:
    array = np.asarray(value, dtype=float)
    bad = ~((array > 0) if low_open else (array >= 0)) | ~(array <= 1)
    if np.any(bad):
        got = float(array[bad].flat[0]) if array.ndim else float(array)
        raise BadInput(f"{name} must lie in {'(' if low_open else '['}0, 1], got {got:g}: {lever}")


def _over(above: Num, below: Num) -> Num:
    """``above / below``, nan where ``below`` is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return _plain(np.where(np.asarray(below) > 0, np.divide(above, below), np.nan))


def _plain(value: Num) -> Num:
    """A float where there is one number, else the array."""
    array = np.asarray(value, dtype=float)
    return array if array.ndim else float(array)
