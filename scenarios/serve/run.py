"""Play the requests of a serving question, and answer in the record that every deployment is answered with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ... import __version__
from ...hwmodels.backends import Backend, load_backend
from ...hwmodels.errors import BadInput
from ...hwmodels.prices import load_prices
from ...hwmodels.units import format_time
from ...sim.inputs.serving_question import ServingQuestion
from ...sim.layer.result import InputRow
from ...sim.serving.requests.loop import layout as at
from ...sim.serving.requests.play import Played, play
from ...sim.serving.requests.tally import Distribution, interval_bins, name_of
from ...sim.step.worker import precision_of
from ..answer.cost import cost_of
from ..answer.evaluate import evaluate
from ..answer.evaluation import Evaluation, Limit, Metric
from ..answer.operating_point import pools_of, running, setting_of
from ..answer.provenance import provenance
from ..answer.request_run import RequestRun, Timeline
from .setup import Load, Setup, chunks_of, set_up
from .weighed import Weighed

Sink = Callable[[Any], None]
Progress = Callable[[int, int], None]
SPANS = 200_000
_EQUAL = {"length_spread": 0.0}
_WORDS = {
    "ttft": "time to first token",
    "tpot": "time per output token",
    "itl": "time between two tokens",
    "e2e": "time from arrival to last token",
    "queue": "time in the queue",
    "later_ttft": "time to first token of later turns",
    "talk": "time of a whole conversation, pauses included",
}


def serve(
    question: ServingQuestion,
    engine: Backend | None = None,
    *,
    sink: Sink | None = None,
    progress: Progress | None = None,
    window: tuple[float, float] | None = None,
    spans: Callable[[Any, Setup], None] | None = None,
) -> RequestRun:
    """``question`` with its requests played one by one.

    ``sink`` gets `layout.FINISHED` records as requests end; ``spans`` the steps (`layout.SPAN`) of the seconds in ``window``.
    Raises Unanswerable or BadInput.
    """
    setup = set_up(question, engine, window)
    slo = question.slo
    warmup = question.requests.warmup if question.requests else 0.0
    weighed = Weighed(slo, warmup, setup.rules.keeps > 0)

    def ended(records: Any) -> None:
        weighed.take(records)
        if sink is not None:
            sink(records)

    whole = setup.load.count or max(1, round((setup.load.duration_s or 1.0) * (setup.load.rate or 1.0)))
    told = (lambda done, _: progress(min(done, whole), whole)) if progress is not None else None
    played = play(
        setup.kinds, setup.rules, setup.shelf, chunks_of(question, setup.load), ended,
        changes=setup.changes, tiers=setup.tiers, core_bytes_per_s=setup.core_bytes_per_s,
        spans=SPANS if window else 0, progress=told,
    )  # fmt: skip
    if weighed.counts["played"] == 0:
        raise BadInput(f"{question.name}: no request arrives: raise requests.count or requests.duration")
    if spans is not None:
        spans(played.world.spans[: played.world.n[at.SPANS]], setup)
    return _weigh(question, engine, setup, played, weighed)


def _weigh(question: ServingQuestion, engine: Backend | None, setup: Setup, played: Played, weighed: Weighed) -> RequestRun:
    serving = question.serving
    assert serving is not None
    distributions = {key: histogram.distribution() for key, histogram in weighed.histograms.items()}
    for key in ("later_ttft", "talk"):
        if not distributions[key].count:
            del distributions[key]
    distributions["itl"] = interval_bins(played.world.itl, 1e5)
    closed, plain = _closed_form(question, engine, setup.load)
    seconds = max(1e-9, (weighed.last_ps - max(weighed.first_ps, weighed.warmup)) * 1e-12)
    use = _use(setup, played)
    metrics = tuple(_metrics(question, closed, plain, played, weighed, distributions, seconds, use))
    limits = tuple(_limits(question, weighed, distributions))
    notes = (*setup.notes, *_notes(setup, played, weighed, use, plain, distributions))
    evaluation = _evaluation(question, engine, closed, metrics, limits, notes)
    sentence = _sentence(question, setup, weighed, distributions, limits)
    evaluation = replace(evaluation, sentence=sentence)
    counts: dict[str, float] = {**weighed.counts, "unfinished": float(played.unfinished)}
    counts |= {"preemptions": float(weighed.preempted), "tries": float(weighed.tries), "steps": float(played.world.n[at.STEPS])}
    counts |= {f"tokens {name}": float(value) for name, value in weighed.tokens.items()} | use
    means = plain
    return RequestRun(
        question.name, question.description, sentence, evaluation, distributions, counts, tuple(_timelines(setup, played)),
        weighed.slowest, setup.schedule.happenings if setup.schedule else (), means, notes, question.seed, __version__,
    )  # fmt: skip


def _closed_form(question: ServingQuestion, engine: Backend | None, load: Load) -> tuple[Evaluation | None, dict[str, float]]:
    """The same deployment at the same mean load in closed form, and its times before measured
    deployments' residuals; None where it has no answer (beyond its capacity)."""
    workload = question.workload
    if question.requests is not None and (question.requests.trace is not None or question.requests.conversations is not None):
        workload = workload.model_copy(
            update={
                "input_tokens": max(1, round(load.input)),
                "output_tokens": max(1, round(load.output)),
                "length_spread": 0.0,
            }
        )
    arrivals = {"rate": load.rate, "concurrency": load.clients or None}
    if load.rate is None:
        arrivals |= {"arrivals": None, "burstiness": None}
    workload = workload.model_copy(update=arrivals)
    asked = replace(question, workload=workload, requests=None, faults=None, slo=type(question.slo)(), seed=0)
    serving = question.serving
    assert serving is not None
    try:
        closed = evaluate(asked, engine)
    except BadInput:
        return None, {}
    backend = engine or load_backend(serving.backend)
    precision = precision_of(question.model, serving)
    setting, pools = setting_of(asked, serving, backend, precision), pools_of(asked, serving, precision)
    served = running(asked, serving, backend, setting, pools).served
    return closed, {"tpot": _one(served.tpot_s), "ttft": _one(served.ttft_s)}


def _one(value: object) -> float:
    return float(np.asarray(value, float).ravel()[0])


def _metrics(
    question: ServingQuestion,
    closed: Evaluation | None,
    plain: Mapping[str, float],
    played: Played,
    weighed: Weighed,
    distributions: Mapping[str, Distribution],
    seconds: float,
    use: Mapping[str, float],
) -> Iterator[Metric]:
    gpus = question.serving.gpus if question.serving else 1
    bands = {m.key: m for m in closed.metrics} if closed else {}

    def timed(key: str, words: str, value: float, like: str) -> Metric:
        """The model's own error, as the closed form knows it; what chance adds stands beside the distributions."""
        band = bands.get(like)
        limits = (band.low90, band.low50, band.high50, band.high90) if band and plain.get(like) else (None,) * 4
        scaled = [None if limit is None or band is None else value * limit / plain[like] for limit in limits]
        return Metric(key, words, "s", value, "low", *scaled)

    for key in ("tpot", "ttft"):
        yield timed(key, _WORDS[key], distributions[key].mean, key)
    for key, like in (("ttft", "ttft"), ("tpot", "tpot"), ("itl", "tpot"), ("e2e", "tpot")):
        for p, value in distributions[key].percentile.items():
            yield timed(f"{key}_{p}", f"{_WORDS[key]}, {p}", value, like)
    yield timed("e2e", _WORDS["e2e"], distributions["e2e"].mean, "tpot")
    if "later_ttft" in distributions:
        yield timed("later_ttft", _WORDS["later_ttft"], distributions["later_ttft"].mean, "ttft")
    if "talk" in distributions:
        yield Metric("talk", _WORDS["talk"], "s", distributions["talk"].mean, "low")
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
    end_s = max(1e-9, played.end_ps * 1e-12)
    yield Metric("concurrency", "requests in flight", "", float(played.world.n[at.AREA]) * 1e-6 / end_s, "")
    for name, value in use.items():
        yield Metric(name.replace(" ", "_").replace(":", ""), name, "", value, "")
    yield from _dollars(question, weighed, seconds, use, gpus)


def _dollars(
    question: ServingQuestion, weighed: Weighed, seconds: float, use: Mapping[str, float], gpus: int
) -> Iterator[Metric]:
    spares = question.faults.spares if question.faults else 0
    out, tokens_in = weighed.after["output"] / seconds, weighed.after["input"] / seconds
    cost = cost_of(
        gpus + spares,
        question.cluster.node.gpu,
        question.cluster.node.gpus,
        tokens_in,
        out,
        load_prices(question.prices_overrides, question.cluster.node.gpu),
        basis=question.bill.basis,
        fixed_usd_per_hour=question.bill.fixed_per_hour,
    )
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


def _use(setup: Setup, played: Played) -> dict[str, float]:
    """Shares of time and of peak rates, by pool."""
    world, end = played.world, max(1, played.end_ps)
    found: dict[str, float] = {}
    gpu_on = gpu_all = gpu_down = 0.0
    for role, name in setup.pools.items():
        w = world.workers[world.workers["role"] == role]
        on = max(1.0, float(w["on"].sum()))
        found[f"{name}: share of time in steps"] = float(w["busy"].sum()) / on
        gpu_on += float((w["on"] * w["gpus"]).sum())
        gpu_down += float((w["down"] * w["gpus"]).sum())
        gpu_all += float((w["gpus"] * end).sum())
    found["availability"] = 1.0 - gpu_down / gpu_all
    if gpu_on < 0.999 * gpu_all:
        found["share of GPU time that is on"] = gpu_on / gpu_all
    looked = float(world.n[at.LOOKED])
    if setup.rules.prefix and looked:
        found["share of prompt tokens found in a cache"] = float(world.n[at.HITS]) / looked
    return found


def _limits(question: ServingQuestion, weighed: Weighed, found: Mapping[str, Distribution]) -> Iterator[Limit]:
    slo = question.slo
    lever = {"ttft": "more prefill workers, smaller chunks, or a lower load", "e2e": "more workers, or a lower load"}
    lever["tpot"] = "a smaller batch (deployment.decode.batch), more GPUs a worker, or a lower load"
    if slo.goodput is None:
        for key in ("ttft", "tpot"):
            wanted = getattr(slo, key)
            if wanted is not None:
                got = found[key].mean
                yield Limit(key, _WORDS[key], wanted, got, "s", got <= wanted, "" if got <= wanted else lever[key])
    for name, wanted in slo.tails.items():
        if name == "goodput":
            counts = weighed.counts
            asked = max(1, counts["served"] + counts["failed"] + counts["refused"] + counts["gave up"])
            got = counts["kept"] / asked
            met = got >= wanted
            yield Limit(name, "share of requests that keep the limits", wanted, got, "", met, "" if met else lever["e2e"])
            continue
        key, percentile = name.split("_")
        got = found[key].percentile[percentile]
        yield Limit(name, f"{_WORDS[key]}, {percentile}", wanted, got, "s", got <= wanted, "" if got <= wanted else lever[key])


def _evaluation(
    question: ServingQuestion,
    engine: Backend | None,
    closed: Evaluation | None,
    metrics: tuple[Metric, ...],
    limits: tuple[Limit, ...],
    notes: tuple[str, ...],
) -> Evaluation:
    serving = question.serving
    assert serving is not None
    inputs = tuple(_inputs(question, engine))
    if closed is not None:
        return replace(
            closed,
            name=question.name,
            metrics=metrics,
            limits=limits,
            notes=(*notes, *(note for note in closed.notes if "pool is busy" not in note)),
            inputs=inputs,
            seed=question.seed,
        )
    return Evaluation(
        question.name, question.description, "", question.model.name, question.cluster.label, serving.gpus, serving, metrics,
        (), {}, limits, notes, (), inputs=inputs, seed=question.seed, version=__version__,
    )  # fmt: skip


def _inputs(question: ServingQuestion, engine: Backend | None) -> Iterator[InputRow]:
    serving = question.serving
    assert serving is not None
    yield from provenance(question, serving, engine or load_backend(serving.backend))
    for section, given in (("requests", question.requests), ("faults", question.faults)):
        if given is not None:
            for name, value in given.model_dump(mode="json", exclude_none=True, exclude_defaults=True).items():
                yield InputRow(section, name, str(value), "scenario")


def _timelines(setup: Setup, played: Played) -> Iterator[Timeline]:
    rows = int(played.world.n[at.SERIES])
    series = played.world.series[:rows]
    if rows < 2:
        return
    seconds = tuple(series[:, 0, at.S_AT] * 1e-12)
    step = np.diff(series[:, 0, at.S_AT]) * 1e-12
    for role, name in setup.pools.items():
        s = series[:, role]
        per_s = np.concatenate(([0.0], np.diff(s[:, at.S_TOKENS]) / step))
        prompts = np.concatenate(([0.0], np.diff(s[:, at.S_PROMPT]) / step))
        count = sum(kind.count for kind in setup.kinds if kind.role == role)
        busy = np.concatenate(([0.0], np.diff(s[:, at.S_BUSY]) * 1e-12 / step / count))
        values = {
            "waiting": s[:, at.S_WAITING],
            "prompts in work": s[:, at.S_PREFILLING],
            "decoding": s[:, at.S_DECODING],
            "KV cache in use": s[:, at.S_USED] / np.maximum(s[:, at.S_UNITS], 1.0),
            "groups up": s[:, at.S_UP],
            "output tokens/s": per_s,
            "prompt tokens/s": prompts,
            "share of time in steps": np.minimum(busy, 1.0),
        }
        yield Timeline(name, seconds, {key: tuple(float(v) for v in value) for key, value in values.items()})


def _notes(
    setup: Setup,
    played: Played,
    weighed: Weighed,
    use: Mapping[str, float],
    plain: Mapping[str, float],
    found: Mapping[str, Distribution],
) -> Iterator[str]:
    if weighed.preempted:
        yield f"{weighed.preempted:,} preemptions: the KV cache is too small for what was let in"
    if setup.schedule is not None:
        lost = float(played.world.n[at.LOST_KV])
        yield (
            f"{len(setup.schedule.happenings)} failures, availability {use['availability']:.4%}; {lost:,.0f} tokens of "
            f"KV cache lost, "
            f"{weighed.tokens['wasted']:,} output tokens made in vain, {weighed.tries:,} tries again"
        )
    if played.unfinished:
        yield f"{played.unfinished:,} requests were still in flight when the time was up"
    if not plain:
        yield "the closed form has no steady state at this load: arrivals are beyond what the deployment carries"
    else:
        tpot, ttft = plain["tpot"], plain["ttft"]
        yield (
            f"in closed form, at the same mean load: first token after {format_time(ttft)}, then one every {format_time(tpot)}"
        )
    counts = weighed.counts
    if counts["served"] and name_of(99.0) not in found["ttft"].low:
        yield f"{counts['served']:,} requests are too few to say how sure a 99th percentile is: raise requests.count"


def _sentence(
    question: ServingQuestion,
    setup: Setup,
    weighed: Weighed,
    found: Mapping[str, Distribution],
    limits: tuple[Limit, ...],
) -> str:
    serving = question.serving
    assert serving is not None
    counts, ttft, tpot = weighed.counts, found["ttft"], found["tpot"]
    ended = counts["served"] + counts["failed"] + counts["refused"] + counts["gave up"]
    head = f"{question.model.name} on {serving.gpus} {question.cluster.node.gpu.label} GPUs ({serving.mode}, {serving.backend})"
    if not counts["served"]:
        return f"{head} serves none of {ended:,} requests."
    missed = [limit.words for limit in limits if not limit.met]
    verdict = f" It misses its limits: {', '.join(missed)}." if missed else " It meets its limits." if limits else ""
    rest = "" if counts["served"] == ended else f" of {ended:,}"
    return (
        f"{head} serves {counts['served']:,}{rest} requests: first token after {format_time(ttft.percentile['p50'])} (median) "
        f"and {format_time(ttft.percentile['p99'])} (p99), then one every {format_time(tpot.percentile['p50'])} (p99 "
        f"{format_time(tpot.percentile['p99'])}).{verdict}"
    )
