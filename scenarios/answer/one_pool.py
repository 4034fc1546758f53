"""One pool of a deployment alone: decoding at a batch, or computing prompts all the time, without a pool beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ... import __version__
from ...hwmodels.backends import Backend, load_backend
from ...hwmodels.prices import load_prices, overrides_for
from ...hwmodels.units import format_time
from ...sim.inputs.feasible import Unanswerable
from ...sim.inputs.serving import Serving, Worker
from ...sim.inputs.serving_question import ServingQuestion
from ...sim.serving.deployment import PoolShape, largest_batch, prompt_wait
from ...sim.serving.steady import Rates, Setting, decode_worker, prefill_worker
from ...sim.step.memory import WorkerMemory
from ...sim.step.worker import Precision, precision_of
from .cost import Cost, cost_of
from .evaluate import bill, in_words
from .evaluation import Evaluation, Metric, Pool, StepTime
from .limits import limits_of
from .operating_point import pool_of, setting_of
from .placement_notes import placement_notes
from .provenance import provenance
from .step_time import BOUND_WORDS, step_time
from .sureness import Sure, Time, Workers, sure_times

#: What each pool gives, and the limit and the keys that it has no use for.
_TIME: dict[str, Time] = {"decode": "tpot", "prefill": "ttft"}
_WORDS = {"decode": "time per output token", "prefill": "time to first token of a prompt once it is taken up"}
#: What a pool does not read: (record, field).
_UNUSED = {
    "decode": (*(("workload", key) for key in ("cached_input", "arrivals", "burstiness")), ("worker", "chunk_tokens")),
    "prefill": (("workload", "output_tokens"), ("serving", "mtp"), ("serving", "acceptance"), ("worker", "batch")),
}


@dataclass(frozen=True, slots=True)
class _Alone:
    """The pool at its load. ``sure``: its time; ``pace``: of its steps, which its rates follow. ``served_per_s`` and
    ``capacity_per_s``: requests a second as shown, medians; ``flying``: requests in it.
    """

    rates: Rates
    sure: Sure
    pace: Sure
    served_per_s: float
    capacity_per_s: float
    flying: float
    batch: float

    @property
    def seconds(self) -> float:
        """The time shown: per output token, or to the first one."""
        return _one(self.sure.shown_s)


def evaluate_pool(question: ServingQuestion, backend: Backend | None = None) -> Evaluation:
    """The answer for the pool that ``deployment.mode`` names. ``backend``: its engine, if not as shipped.

    Raises Unanswerable (one line) if its memory does not fit, for a load that it cannot have, or a limit on what it does not
    do.
    """
    serving = question.serving
    assert serving is not None
    role = str(serving.mode)
    (worker,) = serving.workers.values()
    cluster = question.cluster_of(role)
    _is_about(question, role)
    backend = backend or load_backend(serving.backend)
    precision = precision_of(question.model, serving)
    memory, shape = pool_of(question, serving, role, worker, precision)
    setting = setting_of(question, serving, backend, precision, role)

    def sure(key: Time, batch: float, seconds: object) -> Sure:
        exchange = worker.protocol if worker.dp > 1 else ""
        spread = Workers(float(worker.gpus), float(worker.tp * worker.dp), exchange)
        return sure_times(question, backend, spread, batch, {key: _one(seconds)}, cluster)[key]

    found = (_decoding if role == "decode" else _prompting)(question, worker, setting, shape, sure)
    cost = _cost(question, serving, role, found)
    step = _step(question, role, worker, precision, found)
    times = {_TIME[role]: found.sure}
    items = memory.table(0, found.batch or None)
    gpus, hbm = serving.gpus, int(cluster.node.gpu.hbm_capacity)
    arrangement = in_words(worker, question.model.experts > 0)
    return Evaluation(
        name=question.name,
        description=question.description,
        sentence=_sentence(question, serving, role, found, cost, step),
        model=question.model.name,
        cluster=cluster.label,
        gpus=gpus,
        serving=serving,
        metrics=tuple(_metrics(question, gpus, role, found, cost, step)),
        pools=(Pool(role, arrangement, worker.count, gpus, items, hbm, (step,)),),  # type: ignore[arg-type]
        cost=bill(cost),
        limits=limits_of(question, times),
        notes=tuple(_notes(question, serving, role, setting, found, memory, backend)),
        why_wide=tuple(dict.fromkeys((*found.sure.why, *found.pace.why))),
        unpriced=cost.unpriced,
        inputs=tuple(provenance(question, serving, backend)),
        seed=question.seed,
        version=__version__,
    )


def _is_about(question: ServingQuestion, role: str) -> None:
    """The limits and the load are ones that the pool has."""
    other, does = ("ttft", "computes no prompts") if role == "decode" else ("tpot", "decodes nothing")
    if getattr(question.slo, other) is not None:
        raise Unanswerable(
            ("slo", other), f"a {role} pool alone {does}: leave slo.{other} out, or ask for both pools (mode=disaggregated)"
        )
    if role == "prefill" and question.workload.concurrency is not None:
        raise Unanswerable(
            ("workload", "concurrency"),
            "a prefill pool alone is asked saturated, or at workload.rate: leave workload.concurrency out",
        )


def _decoding(
    question: ServingQuestion, worker: Worker, setting: Setting, shape: PoolShape, sure: Callable[[Time, float, object], Sure]
) -> _Alone:
    """The batch that is asked for, else what the load brings, else the largest within the limit that memory holds."""
    load, most = question.workload, float(np.asarray(shape.slots))
    if worker.batch is not None and most < worker.batch:
        raise Unanswerable(
            ("deployment", "decode", "batch"),
            f"batch ({worker.batch}): memory holds {most:,.0f} sequences of an attention group: "
            f"use deployment.decode.batch={most:.0f}, or more GPUs a worker",
        )
    groups = worker.dp * worker.count

    def at(batch: object) -> Rates:
        return decode_worker(setting, shape.arrangement, np.asarray(batch, float))

    def per_s(batch: object) -> NDArray[np.float64]:
        return np.asarray(at(batch).requests_per_s, float) * worker.count

    batch, capacity, rate = most, _one(per_s(most)), load.rate
    if rate is not None:
        _carries(question, rate, capacity, "decode")
        batch = _one(largest_batch(lambda b: np.less_equal(per_s(b), rate), np.asarray(most)))
    elif load.concurrency is not None:
        batch = min(most, load.concurrency / groups)
    elif worker.batch is None and question.slo.tpot is not None:
        limit = question.slo.tpot

        def keeps(batches: NDArray[np.float64]) -> NDArray[np.bool_]:
            one = _one(batches)
            return np.asarray(_one(sure("tpot", one, at(one).tpot_s).within(question.slo.sure)) <= limit)

        batch = max(1.0, np.floor(_one(largest_batch(keeps, np.asarray(most)))))
    rates = at(batch)
    found = sure("tpot", batch, rates.tpot_s)
    slower = _one(found.residuals.median)
    served = rate if rate is not None else _one(rates.requests_per_s) * worker.count / slower
    return _Alone(rates, found, found, served, capacity / slower, batch * groups, batch)


def _prompting(
    question: ServingQuestion, worker: Worker, setting: Setting, shape: PoolShape, sure: Callable[[Time, float, object], Sure]
) -> _Alone:
    """Busy all the time, or with the prompts that a rate brings, which then also wait for each other."""
    rate, rates = question.workload.rate, prefill_worker(setting, shape.arrangement, shape.chunk_tokens)
    capacity = _one(rates.requests_per_s) * worker.count
    waits = 0.0
    if rate is not None:
        _carries(question, rate, capacity, "prefill")
        waits = _one(prompt_wait(rates, shape, rate, setting.arrivals))
    ttft = _one(rates.ttft_s) + waits
    # How long a first token takes is measured with its waiting; how fast prompts are computed is as sure as a step is.
    assert rates.prefill is not None
    pace = sure("tpot", 1.0, rates.prefill.seconds)
    shown = capacity / _one(pace.residuals.median)
    served = shown if rate is None else rate
    return _Alone(rates, sure("ttft", 1.0, ttft), pace, served, shown, (rate or 0.0) * ttft, 0.0)


def _carries(question: ServingQuestion, rate: float, capacity: float, role: str) -> None:
    if rate > capacity * 1.0001:
        raise Unanswerable(
            ("workload", "rate"),
            f"rate ({rate:.4g}/s) is beyond what the {role} pool carries ({capacity:.4g}/s): use more workers "
            f'(deployment.{role}.count), or workload.rate="{0.995 * capacity:.3g} /s"',
        )


def _cost(question: ServingQuestion, serving: Serving, role: str, found: _Alone) -> Cost:
    node, load = question.cluster_of(role).node, question.workload
    decodes = role == "decode"
    return cost_of(
        serving.gpus,
        node.gpu,
        node.gpus,
        0.0 if decodes else found.capacity_per_s * load.mean_input,
        found.capacity_per_s * load.mean_output if decodes else 0.0,
        load_prices(overrides_for(question.prices_overrides, node.gpu), node.gpu),
        basis=question.bill.basis,
        utilisation=min(1.0, found.served_per_s / found.capacity_per_s),
        input_share=0.0 if decodes else 1.0,
        fixed_usd_per_hour=question.bill.fixed_per_hour,
    )


def _step(question: ServingQuestion, role: str, worker: Worker, precision: Precision, found: _Alone) -> StepTime:
    step = found.rates.decode if role == "decode" else found.rates.prefill
    assert step is not None
    return step_time(role, step, question, worker, precision, found.batch, question.cluster_of(role))  # type: ignore[arg-type]


def _metrics(question: ServingQuestion, gpus: int, role: str, found: _Alone, cost: Cost, step: StepTime) -> Iterator[Metric]:
    load, key = question.workload, _TIME[role]
    band = found.sure.residuals.interval()
    seconds = _one(found.sure.predicted_s)
    limits = found.pace.residuals.interval().scaled(1.0)
    median = _one(found.pace.residuals.median)
    given = load.rate is not None
    low90, low50, high50, high90 = (limit / median for limit in limits)

    def rated(key: str, words: str, unit: str, value: float) -> Metric:
        bands = () if given and key != "tokens_per_s_user" else tuple(value / f for f in (high90, high50, low50, low90))
        return Metric(key, words, unit, value, "high", *bands)

    yield Metric(key, _WORDS[role], "s", found.seconds, "low", *band.scaled(seconds))
    name, words, mean = (
        ("output", "output tokens", load.mean_output) if role == "decode" else ("input", "prompt tokens", load.mean_input)
    )
    per_s = found.served_per_s * mean
    yield rated(f"{name}_tokens_per_s", f"{words} per second", "tokens/s", per_s)
    yield rated(f"{name}_tokens_per_s_gpu", f"{words} per second and GPU", "tokens/s", per_s / gpus)
    if role == "decode":
        yield rated("tokens_per_s_user", "output tokens per second of one user", "tokens/s", 1.0 / found.seconds)
    yield rated("requests_per_s", "requests per second", "1/s", found.served_per_s)
    if role == "decode":
        yield Metric("concurrency", "requests decoding together", "", found.flying, "")
        yield Metric("batch", "sequences decoding together in an attention group", "", found.batch, "")
    dollars = float(cost.usd_per_mtok_out if role == "decode" else cost.usd_per_mtok_in)
    bands = () if given else tuple(dollars * f for f in (low90, low50, high50, high90))
    yield Metric(f"usd_per_mtok_{name}", f"dollars of this pool per million {words}", "USD/Mtok", dollars, "low", *bands)
    yield Metric("usd_per_hour", "dollars per hour", "USD/h", float(cost.usd_per_hour), "low")
    yield Metric("utilisation", "share of its capacity in use", "", found.served_per_s / found.capacity_per_s, "")
    yield Metric("mfu", f"share of peak flop/s in a {role} step (MFU)", "", step.mfu, "high")
    yield Metric("mbu", f"share of HBM bandwidth in a {role} step (MBU)", "", step.mbu, "high")


def _sentence(question: ServingQuestion, serving: Serving, role: str, found: _Alone, cost: Cost, step: StepTime) -> str:
    load, gpus = question.workload, serving.gpus
    decodes = role == "decode"
    tokens = found.served_per_s * (load.mean_output if decodes else load.mean_input) / gpus
    dollars = float(cost.usd_per_mtok_out if decodes else cost.usd_per_mtok_in)
    price = "no price" if cost.unpriced else f"${dollars:.2f}"
    what = (
        f"one token every {format_time(found.seconds)} with {found.batch:,.0f} sequences in an attention group"
        if decodes
        else f"first token {format_time(found.seconds)} after a prompt is taken up"
    )
    gpu = question.cluster_of(role).node.gpu.label
    return (
        f"{question.model.name}, the {role} pool alone, on {gpus} {gpu} GPUs ({serving.backend}): "
        f"{what}, {tokens:,.0f} {'output' if decodes else 'prompt'} tokens/s a GPU, {price} per million of them. "
        f"A {role} step of {format_time(step.seconds)} is bound by {BOUND_WORDS[step.bound]}."
    )


def _notes(
    question: ServingQuestion,
    serving: Serving,
    role: str,
    setting: Setting,
    found: _Alone,
    memory: WorkerMemory,
    backend: Backend,
) -> Iterator[str]:
    yield from question.unused
    if question.seed:
        yield f"not used: seed ({question.seed}), nothing is drawn in closed form"
    yield question.model.said
    other = "prefill" if role == "decode" else "decode"
    yield f"the {role} pool is asked alone: no {other} pool, no wait for one, and no way of the KV cache is in this answer"
    (worker,) = serving.workers.values()
    records = {"workload": question.workload, "worker": worker, "serving": serving}
    unused = [field for record, field in _UNUSED[role] if field in records[record].model_fields_set]
    if unused:
        yield f"not used by a {role} pool alone: {', '.join(unused)}"
    load = question.workload
    if role == "decode" and load.concurrency is not None and load.concurrency > found.flying * 1.001:
        yield f"{load.concurrency:,} in flight are more than the {found.flying:,.0f} that decode together: others wait outside"
    if role == "decode":
        routed = _one(memory.items["routed expert weights"])
        yield from placement_notes(question, serving, setting, found.batch, routed)
    if backend.fit is None:
        yield f"{backend.name} has not been fitted to measured deployments: its own times are assumed"


def _one(value: object) -> float:
    return float(np.asarray(value, float).ravel()[0])
