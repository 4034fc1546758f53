"""What a run's numbers are in the record that every deployment is answered with: times, rates, use, energy and the bill."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from ...hwmodels.prices import load_prices
from ...sim.inputs.serving_question import ServingQuestion
from ...sim.serving.requests.tally import Distribution
from ..answer.cost import cost_of
from ..answer.evaluation import Evaluation, Metric
from .outcome import Outcome

WORDS = {
    "ttft": "time to first token",
    "tpot": "time per output token",
    "itl": "time between two tokens",
    "e2e": "time from arrival to last token",
    "queue": "time in the queue",
    "later_ttft": "time to first token of later turns",
    "talk": "time of a whole conversation, pauses included",
}


def metrics_of(
    question: ServingQuestion,
    closed: Evaluation | None,
    plain: Mapping[str, float],
    outcome: Outcome,
    distributions: Mapping[str, Distribution],
) -> Iterator[Metric]:
    """Every number of ``outcome``. ``closed`` and ``plain``: the closed form's answer, whose own error times carry."""
    weighed, seconds = outcome.weighed, max(outcome.seconds, 1e-9)
    gpus = question.serving.gpus if question.serving else 1
    bands = {m.key: m for m in closed.metrics} if closed else {}

    def timed(key: str, words: str, value: float, like: str) -> Metric:
        """The model's own error, as the closed form knows it; what chance adds stands beside the distributions."""
        band = bands.get(like)
        limits = (band.low90, band.low50, band.high50, band.high90) if band and plain.get(like) else (None,) * 4
        scaled = [None if limit is None or band is None else value * limit / plain[like] for limit in limits]
        return Metric(key, words, "s", value, "low", *scaled)

    for key in ("tpot", "ttft"):
        yield timed(key, WORDS[key], distributions[key].mean, key)
    for key, like in (("ttft", "ttft"), ("tpot", "tpot"), ("itl", "tpot"), ("e2e", "tpot")):
        for p, value in distributions[key].percentile.items():
            yield timed(f"{key}_{p}", f"{WORDS[key]}, {p}", value, like)
    yield timed("e2e", WORDS["e2e"], distributions["e2e"].mean, "tpot")
    if "later_ttft" in distributions:
        yield timed("later_ttft", WORDS["later_ttft"], distributions["later_ttft"].mean, "ttft")
    if "talk" in distributions:
        yield Metric("talk", WORDS["talk"], "s", distributions["talk"].mean, "low")
    served, out = weighed.counts["served"], weighed.after["output"]
    yield Metric("output_tokens_per_s", "output tokens per second", "tokens/s", out / seconds, "high")
    yield Metric("output_tokens_per_s_gpu", "output tokens per second and GPU", "tokens/s", out / seconds / gpus, "high")
    yield Metric("requests_per_s", "requests per second", "1/s", weighed.after["served"] / seconds, "high")
    asked = max(1, served + weighed.counts["failed"] + weighed.counts["refused"] + weighed.counts["gave up"])
    if question.slo.ttft is not None or question.slo.tpot is not None:
        kept = weighed.counts["kept"]
        yield Metric("goodput", "share of requests that keep the limits", "", kept / asked, "high")
        yield Metric(
            "goodput_per_s", "requests per second that keep the limits", "1/s", weighed.after["kept"] / seconds, "high"
        )
    yield Metric("served", "share of requests that were served", "", served / asked, "high")
    yield Metric("concurrency", "requests in flight", "", outcome.in_flight, "")
    yield Metric(
        "preemptions", "sequences that had to give way and were computed again or moved", "", float(weighed.preempted), "low"
    )
    for name, value in outcome.use.items():
        yield Metric(name.replace(" ", "_").replace(":", ""), name, "", value, "")
    yield from _dollars(question, outcome, gpus)


def _dollars(question: ServingQuestion, outcome: Outcome, gpus: int) -> Iterator[Metric]:
    """The bill of the GPUs that are on, and the power they draw: what waits draws less than what computes."""
    weighed, seconds, use = outcome.weighed, max(outcome.seconds, 1e-9), outcome.use
    working = min(1.0, max(outcome.working, 1e-6))
    spares = question.faults.spares if question.faults else 0
    out, tokens_in = weighed.after["output"] / seconds, weighed.after["input"] / seconds
    cost = cost_of(
        gpus + spares,
        question.cluster.node.gpu,
        question.cluster.node.gpus,
        tokens_in / working,
        out / working,
        load_prices(question.prices_overrides, question.cluster.node.gpu),
        basis=question.bill.basis,
        fixed_usd_per_hour=question.bill.fixed_per_hour,
        utilisation=working,
    )
    drawn = float(cost.power_kw) * use.get("share of GPU time that is on", 1.0)
    if np.isfinite(drawn) and out > 0:
        yield Metric("power_kw", "power from the grid, waiting GPUs included", "kW", drawn, "low")
        yield Metric("energy_per_token", "energy of an output token, prompts included", "J", drawn * 1e3 / out, "low")
    if cost.unpriced:
        return
    hour = float(cost.usd_per_hour) * use.get("share of GPU time that is on", 1.0)
    yield Metric("usd_per_hour", f"dollars per hour{', spares included' if spares else ''}", "USD/h", hour, "low")
    if out > 0:
        yield Metric(
            "usd_per_mtok_output",
            "dollars per million output tokens, prompts included",
            "USD/Mtok",
            hour / out / 3600 * 1e6,
            "low",
        )
        yield Metric(
            "usd_per_mtok",
            "dollars per million tokens, in and out alike",
            "USD/Mtok",
            hour / (out + tokens_in) / 3600 * 1e6,
            "low",
        )
