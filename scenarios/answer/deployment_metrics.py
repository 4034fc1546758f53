"""The numbers of one deployment's answer, each with its intervals."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...hwmodels.prices import load_prices, overrides_for
from ...sim.inputs.serving import Serving
from ...sim.inputs.serving_question import ServingQuestion
from ...sim.step.worker import precision_of
from .cost import Cost, break_even
from .evaluation import Metric
from .flow import Flow
from .operating_point import Running
from .step_time import step_time
from .sureness import Time


def metrics_of(
    question: ServingQuestion, serving: Serving, found: Running, flow: Flow, cost: Cost
) -> tuple[tuple[Metric, ...], tuple[str, ...]]:
    """Every number of the answer with its intervals, and what made them wide.

    The engine's residuals give the intervals of both times; rates and prices move with the time per token. Each point is the
    median of its own interval.
    """
    load, gpus, served = question.workload, serving.gpus, found.served
    out = flow.requests_per_s * load.mean_output
    bands = {key: sure.residuals.interval() for key, sure in found.times.items()}

    def timed(key: Time, words: str) -> Metric:
        sure = found.times[key]
        value = float(np.ravel(sure.shown_s)[0])
        return Metric(key, words, "s", value, "low", *bands[key].scaled(_one(sure.predicted_s)))

    # Of a rate that falls as the time per token rises: the band of that turned over, around its own median.
    low90, low50, high50, high90 = (
        limit / float(np.ravel(found.times["tpot"].residuals.median)[0]) for limit in bands["tpot"].scaled(1.0)
    )

    def inverse(key: str, words: str, unit: str, value: float) -> Metric:
        """Arrivals are what they are, and tokens come as they do."""
        if load.rate is not None and key != "tokens_per_s_user":
            return Metric(key, words, unit, value, "high")
        return Metric(key, words, unit, value, "high", *(value / f for f in (high90, high50, low50, low90)))

    def priced(key: str, words: str, value: float) -> Metric:
        if load.rate is not None:
            return Metric(key, words, "USD/Mtok", value, "low")
        return Metric(key, words, "USD/Mtok", value, "low", *(value * f for f in (low90, low50, high50, high90)))

    metrics = [
        timed("tpot", "time per output token"),
        timed("ttft", "time to first token"),
        inverse("output_tokens_per_s", "output tokens per second", "tokens/s", out),
        inverse("output_tokens_per_s_gpu", "output tokens per second and GPU", "tokens/s", out / gpus),
        inverse(
            "input_tokens_per_s_gpu",
            "input tokens per second and GPU",
            "tokens/s",
            flow.requests_per_s * load.mean_input / gpus,
        ),
        inverse("tokens_per_s_user", "output tokens per second of one user", "tokens/s", 1.0 / flow.tpot_s),
        inverse("requests_per_s", "requests per second", "1/s", flow.requests_per_s),
        Metric("concurrency", "requests in flight", "", flow.concurrency, ""),
        Metric("batch", "sequences decoding together in an attention group", "", flow.batch, ""),
        priced(
            "usd_per_mtok_output",
            "dollars per million output tokens, prompts included",
            float(cost.usd_per_hour) / out / 3600 * 1e6,
        ),
        priced("usd_per_mtok", "dollars per million tokens, in and out alike", float(cost.usd_per_mtok)),
        Metric("usd_per_hour", "dollars per hour", "USD/h", float(cost.usd_per_hour), "low"),
        *_against_api(question, cost),
        Metric("utilisation", "share of its capacity in use", "", flow.requests_per_s / flow.capacity_per_s, ""),
    ]
    step = served.decode.decode
    if step is not None:
        shown = step_time("decode", step, question, serving.decode, precision_of(question.model, serving), _one(served.batch))
        metrics += [
            Metric("mfu", "share of peak flop/s in a decode step (MFU)", "", shown.mfu, "high"),
            Metric("mbu", "share of HBM bandwidth in a decode step (MBU)", "", shown.mbu, "high"),
        ]
    return tuple(metrics), tuple(dict.fromkeys(why for sure in found.times.values() for why in sure.why))


def _against_api(question: ServingQuestion, cost: Cost) -> Iterator[Metric]:
    """The own bill beside that of the model's public API for the same tokens, where the price file knows one."""
    prices = load_prices(overrides_for(question.prices_overrides, question.cluster.node.gpu), question.cluster.node.gpu)
    if question.model.name not in prices.api or cost.unpriced:
        return
    even = break_even(cost, prices.api_of(question.model.name), question.workload.cached_input)
    share = float(even.utilisation) / float(cost.utilisation)
    yield Metric("times_api", "own cost of these tokens over the model's public API price", "", float(even.times_api), "low")
    yield Metric("break_even", "share of this load at which own cost equals the API's", "", share, "low")


def _one(value: object) -> float:
    return float(np.asarray(value, float).ravel()[0])
