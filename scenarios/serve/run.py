"""Play the requests of a serving question, and answer in the record that every deployment is answered with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ... import __version__
from ...hwmodels.backends import Backend, load_backend
from ...hwmodels.errors import BadInput
from ...hwmodels.units import format_time
from ...sim.inputs.serving_question import ServingQuestion
from ...sim.layer.result import InputRow
from ...sim.serving.requests.tally import Distribution, interval_bins, name_of
from ...sim.step.worker import precision_of
from ..answer.evaluate import evaluate
from ..answer.evaluation import Evaluation, Limit, Metric
from ..answer.operating_point import pools_of, running, setting_of
from ..answer.provenance import provenance
from ..answer.request_run import RequestRun
from .load import Load
from .metrics import WORDS, metrics_of
from .outcome import Outcome, merged, played_once
from .replications import others
from .setup import Setup, set_up
from .weighed import Weighed

Sink = Callable[[Any], None]
Progress = Callable[[int, int], None]


def serve(
    question: ServingQuestion,
    engine: Backend | None = None,
    *,
    sink: Sink | None = None,
    progress: Progress | None = None,
    window: tuple[float, float] | None = None,
    spans: Callable[[Any, Setup], None] | None = None,
) -> RequestRun:
    """``question`` with its requests played one by one, as often as it has replications.

    ``sink`` gets `layout.FINISHED` records of the first replication as its requests end; ``spans`` the steps (`layout.SPAN`) of
    the seconds in ``window``. Raises Unanswerable or BadInput.
    """
    setup = set_up(question, engine, window)
    first = played_once(question, setup, sink=sink, progress=progress, spans=spans, window=window is not None)
    if first.weighed.counts["played"] == 0:
        raise BadInput(f"{question.name}: no request arrives: raise requests.count or requests.duration")
    outcome = merged([first, *others(question, engine)])
    return _weigh(question, engine, setup, outcome)


def _weigh(question: ServingQuestion, engine: Backend | None, setup: Setup, outcome: Outcome) -> RequestRun:
    serving = question.serving
    assert serving is not None
    weighed, use = outcome.weighed, outcome.use
    distributions = {key: histogram.distribution() for key, histogram in weighed.histograms.items()}
    for key in ("later_ttft", "talk"):
        if not distributions[key].count:
            del distributions[key]
    distributions["itl"] = interval_bins(outcome.itl, 1e5)
    closed, plain = _closed_form(question, engine, setup.load)
    metrics = tuple(metrics_of(question, closed, plain, outcome, distributions))
    limits = tuple(_limits(question, weighed, distributions))
    notes = (*setup.notes, *_notes(setup, outcome, plain, distributions))
    evaluation = _evaluation(question, engine, closed, metrics, limits, notes)
    sentence = _sentence(question, setup, weighed, distributions, limits)
    evaluation = replace(evaluation, sentence=sentence)
    counts: dict[str, float] = {**weighed.counts, "unfinished": float(outcome.unfinished)}
    counts |= {"preemptions": float(weighed.preempted), "tries": float(weighed.tries), "steps": float(outcome.steps)}
    counts |= {f"tokens {name}": float(value) for name, value in weighed.tokens.items()} | use
    means = plain
    return RequestRun(
        question.name, question.description, sentence, evaluation, distributions, counts, outcome.timelines,
        weighed.slowest, outcome.happenings, means, notes, question.seed, __version__,
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


def _limits(question: ServingQuestion, weighed: Weighed, found: Mapping[str, Distribution]) -> Iterator[Limit]:
    slo = question.slo
    lever = {"ttft": "more prefill workers, smaller chunks, or a lower load", "e2e": "more workers, or a lower load"}
    lever["tpot"] = "a smaller batch (deployment.decode.batch), more GPUs a worker, or a lower load"
    if slo.goodput is None:
        for key in ("ttft", "tpot"):
            wanted = getattr(slo, key)
            if wanted is not None:
                got = found[key].mean
                yield Limit(key, WORDS[key], wanted, got, "s", got <= wanted, "" if got <= wanted else lever[key])
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
        yield Limit(name, f"{WORDS[key]}, {percentile}", wanted, got, "s", got <= wanted, "" if got <= wanted else lever[key])


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


def _notes(setup: Setup, outcome: Outcome, plain: Mapping[str, float], found: Mapping[str, Distribution]) -> Iterator[str]:
    weighed = outcome.weighed
    if outcome.runs > 1:
        yield (
            f"{outcome.runs} replications, seeds one after another: counts are sums, rates and shares means; timelines, listed "
            "failures and files are the first one's"
        )
    if weighed.preempted:
        yield f"{weighed.preempted:,} preemptions: the KV cache is too small for what was let in"
    if setup.schedule is not None:
        yield (
            f"{outcome.failures} failures, availability {outcome.use['availability']:.4%}; {outcome.lost_kv:,.0f} tokens of "
            f"KV cache lost, "
            f"{weighed.tokens['wasted']:,} output tokens made in vain, {weighed.tries:,} tries again"
        )
    if outcome.unfinished:
        yield f"{outcome.unfinished:,} requests were still in flight when the time was up"
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
