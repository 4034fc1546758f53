"""The numbers of one deployment's answer, each with its intervals."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...hwmodels.backends import Backend
from ...hwmodels.calibration import relatives
from ...hwmodels.foreign import why_foreign
from ...hwmodels.interval import interval_of
from ...hwmodels.prices import load_prices
from ...sim.ep.protocol import find_protocol
from ...sim.inputs.serving import Serving
from ...sim.inputs.serving_question import ServingQuestion
from ...sim.serving.deployment import Served
from ...sim.step.worker import precision_of
from .cost import Cost, break_even
from .evaluation import Metric
from .step_time import step_time

#: Fixed regime of a serving interval's nodes: its residuals are not told apart by nodes.
_ANY_NODES = 1


def metrics_of(
    question: ServingQuestion, serving: Serving, backend: Backend, served: Served, cost: Cost
) -> tuple[tuple[Metric, ...], tuple[str, ...]]:
    """Every number of the answer with its intervals, and what made them wide.

    The engine's residuals give the intervals of both times; rates and prices move with the time per token.
    """
    load, gpus = question.workload, serving.gpus
    per_s, tpot, ttft = _one(served.requests_per_s), _one(served.tpot_s), _one(served.ttft_s)
    out = per_s * load.mean_output
    fit = backend.fit
    point = {"mean_input": load.mean_input, "mean_output": load.mean_output, "batch": _one(served.batch)}
    point["gpus"] = float(serving.decode.gpus)
    seen, system = fit.seen if fit else {}, question.cluster.calibration
    other = "" if system in backend.systems or not fit else f"{backend.name} on {', '.join(sorted(backend.systems))}"
    protocol = serving.decode.protocol
    if serving.decode.dp > 1 and find_protocol(protocol).lend is not None:
        other = other or f"measured exchanges of another library: nobody measured {protocol}"
    widest = max(worker.tp * worker.dp for worker in (serving.decode, serving.prefill) if worker is not None)
    across = widest > question.cluster.nvlink_domain_gpus
    foreign = why_foreign(question.cluster, across, _lender(backend, system))
    bands = {
        "tpot": interval_of(fit.intervals if fit else (), seen, tpot, _ANY_NODES, point, other, foreign),
        "ttft": interval_of(fit.ttft_intervals if fit else (), seen, ttft, _ANY_NODES, point, other, foreign),
    }

    def timed(key: str, words: str, value: float) -> Metric:
        b = bands[key]
        return Metric(key, words, "s", value, "low", *(value * f for f in (b.low90, b.low50, b.high50, b.high90)))

    def inverse(key: str, words: str, unit: str, value: float) -> Metric:
        """A rate that falls as the time per token rises, so that its band is that of TPOT turned over; arrivals are what they
        are, and tokens come as they do."""
        if load.rate is not None and key != "tokens_per_s_user":
            return Metric(key, words, unit, value, "high")
        b = bands["tpot"]
        return Metric(key, words, unit, value, "high", *(value / f for f in (b.high90, b.high50, b.low50, b.low90)))

    def priced(key: str, words: str, value: float) -> Metric:
        if load.rate is not None:
            return Metric(key, words, "USD/Mtok", value, "low")
        b = bands["tpot"]
        return Metric(key, words, "USD/Mtok", value, "low", *(value * f for f in (b.low90, b.low50, b.high50, b.high90)))

    metrics = [
        timed("tpot", "time per output token", tpot),
        timed("ttft", "time to first token", ttft),
        inverse("output_tokens_per_s", "output tokens per second", "tokens/s", out),
        inverse("output_tokens_per_s_gpu", "output tokens per second and GPU", "tokens/s", out / gpus),
        inverse("input_tokens_per_s_gpu", "input tokens per second and GPU", "tokens/s", per_s * load.mean_input / gpus),
        inverse("tokens_per_s_user", "output tokens per second of one user", "tokens/s", 1.0 / tpot),
        inverse("requests_per_s", "requests per second", "1/s", per_s),
        Metric("concurrency", "requests in flight", "", _one(served.concurrency), ""),
        Metric("batch", "sequences decoding together in an attention group", "", _one(served.batch), ""),
        priced(
            "usd_per_mtok_output",
            "dollars per million output tokens, prompts included",
            float(cost.usd_per_hour) / out / 3600 * 1e6,
        ),
        priced("usd_per_mtok", "dollars per million tokens, in and out alike", float(cost.usd_per_mtok)),
        Metric("usd_per_hour", "dollars per hour", "USD/h", float(cost.usd_per_hour), "low"),
        *_against_api(question, cost),
        Metric("utilisation", "share of its capacity in use", "", per_s / _one(served.capacity_per_s), ""),
    ]
    step = served.decode.decode
    if step is not None:
        shown = step_time("decode", step, question, serving.decode, precision_of(question.model, serving), _one(served.batch))
        metrics += [
            Metric("mfu", "share of peak flop/s in a decode step (MFU)", "", shown.mfu, "high"),
            Metric("mbu", "share of HBM bandwidth in a decode step (MBU)", "", shown.mbu, "high"),
        ]
    return tuple(metrics), tuple(dict.fromkeys((*bands["tpot"].why, *bands["ttft"].why)))


def _lender(backend: Backend, system: str) -> str:
    """The system whose measured deployments made the engine's times for ``system``: itself, or the nearest of its relatives."""
    return next((name for name in relatives(system) if name in backend.systems), relatives(system)[-1])


def _against_api(question: ServingQuestion, cost: Cost) -> Iterator[Metric]:
    """The own bill beside that of the model's public API for the same tokens, where the price file knows one."""
    prices = load_prices(question.prices_overrides, question.cluster.node.gpu)
    if question.model.name not in prices.api or cost.unpriced:
        return
    even = break_even(cost, prices.api_of(question.model.name), question.workload.cached_input)
    share = float(even.utilisation) / float(cost.utilisation)
    yield Metric("times_api", "own cost of these tokens over the model's public API price", "", float(even.times_api), "low")
    yield Metric("break_even", "share of this load at which own cost equals the API's", "", share, "low")


def _one(value: object) -> float:
    return float(np.asarray(value, float).ravel()[0])
