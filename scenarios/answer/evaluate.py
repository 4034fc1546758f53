"""One deployment under one workload, answered in closed form: steady state, steps, memory, cost, limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from ... import __version__
from ...hwmodels.backends import Backend, load_backend
from ...hwmodels.units import format_time
from ...sim.ep.protocol import find_protocol, unmeasured_note
from ...sim.inputs.feasible import Unanswerable
from ...sim.inputs.serving import Serving, Worker
from ...sim.inputs.serving_question import ServingQuestion
from ...sim.layer.result import InputRow
from ...sim.serving.deployment import Served
from ...sim.serving.steady import Setting
from ...sim.step.memory import WorkerMemory
from ...sim.step.worker import Precision, precision_of
from ..ask.idle_keys import idle_keys
from .cost import Cost
from .deployment_cost import deployment_cost
from .deployment_metrics import metrics_of
from .evaluation import Evaluation, Limit, Pool
from .flow import Flow, flow_of
from .limits import LIMIT_WORDS, limits_of, met_words
from .operating_point import Pools, Running, pools_of, running, setting_of
from .placement_notes import placement_notes
from .provenance import provenance
from .step_time import BOUND_WORDS, step_time


def evaluate(question: ServingQuestion, backend: Backend | None = None) -> Evaluation:
    """The answer for the question's own deployment. ``backend``: its engine, if not as shipped.

    Raises Unanswerable (one line) if it has none, if its memory does not fit, or if an arrival rate is beyond its capacity.
    """
    serving = question.serving
    if serving is None:
        raise Unanswerable(("deployment",), "there is no deployment to evaluate: add one, or let `epicycle plan` look for one")
    backend = backend or load_backend(serving.backend)
    precision = precision_of(question.model, serving)
    pools = pools_of(question, serving, precision)
    setting = setting_of(question, serving, backend, precision)
    found = running(question, serving, backend, setting, pools)
    flow = flow_of(question, serving, found)
    cost = deployment_cost(question, serving, found.served, flow)
    metrics, why = metrics_of(question, serving, found, flow, cost)
    limits = limits_of(question, found.times)
    return Evaluation(
        name=question.name,
        description=question.description,
        sentence=_sentence(question, serving, found, flow, cost, limits),
        model=question.model.name,
        cluster=where(question),
        gpus=serving.gpus,
        serving=serving,
        metrics=metrics,
        pools=tuple(_pools(question, serving, precision, found.served, pools.memory)),
        cost=bill(cost),
        limits=limits,
        notes=tuple(_notes(question, serving, backend, setting, found, pools)),
        why_wide=why,
        unpriced=cost.unpriced,
        inputs=tuple(provenance(question, serving, backend)),
        seed=question.seed,
        version=__version__,
    )


def bill(cost: Cost) -> dict[str, float]:
    """Dollars an hour by cause; causes that cost nothing left out. Nothing at all where the GPUs have no price."""
    if cost.unpriced:
        return {}
    lines = {
        "GPU time": cost.gpu_usd_per_hour,
        "power": cost.power_usd_per_hour,
        "network": cost.network_usd_per_hour,
        "fixed": cost.fixed_usd_per_hour,
    }
    return {name: float(usd) for name, usd in lines.items() if float(usd) > 0.0}


def in_words(worker: Worker, moe: bool) -> str:
    """ "4 x (tp 1, dp 32, ep 32, low-latency)": one kind of worker."""
    widths = [f"tp {worker.tp}", f"dp {worker.dp}"]
    widths += [f"pp {worker.pp}"] if worker.pp > 1 else []
    if moe:
        widths += [f"ep {worker.ep}"]
        widths += [worker.protocol] if worker.dp > 1 else []
        widths += [f"{worker.redundant_experts} redundant"] if worker.redundant_experts else []
    widths += [f"dcp {worker.dcp}"] if worker.dcp > 1 else []
    widths += ["overlap"] if worker.overlap else []
    return f"{worker.count} x ({', '.join(widths)})"


def where(question: ServingQuestion) -> str:
    """The hardware that an answer is of."""
    there = question.prefill_cluster
    return question.cluster.label + (f", prefill on {there.label}" if there is not None else "")


def _pools(
    question: ServingQuestion, serving: Serving, precision: Precision, served: Served, memory: Mapping[str, WorkerMemory]
) -> Iterator[Pool]:
    moe = question.model.experts > 0
    for role, worker in serving.workers.items():
        rates = served.prefill if role == "prefill" else served.decode
        assert rates is not None
        cluster = question.cluster_of(role)
        batch = _one(served.batch) if role == "decode" else 0.0
        decoding = {"decode": batch, "prefill": 0.0}
        steps = [
            step_time(phase, step, question, worker, precision, decoding[phase], cluster)  # type: ignore[arg-type]
            for phase, step in (("decode", rates.decode), ("prefill", rates.prefill))
            if step is not None
        ]
        name = "aggregated" if serving.prefill is None else role
        items = memory[role].table(0, batch or None)
        gpus, hbm = worker.gpus * worker.count, int(cluster.node.gpu.hbm_capacity)
        yield Pool(name, in_words(worker, moe), worker.count, gpus, items, hbm, tuple(steps))  # type: ignore[arg-type]


def _sentence(
    question: ServingQuestion, serving: Serving, found: Running, flow: Flow, cost: Cost, limits: tuple[Limit, ...]
) -> str:
    on = f"{serving.gpus} {question.cluster.node.gpu.label} GPUs"
    if question.prefill_cluster is not None and serving.prefill is not None:
        prompts = serving.prefill.gpus * serving.prefill.count
        on = f"{serving.gpus - prompts} {question.cluster.node.gpu.label} GPUs and {prompts} "
        on += f"{question.prefill_cluster.node.gpu.label} GPUs for prompts"
    out = flow.requests_per_s * question.workload.mean_output
    step = found.served.decode.decode
    bound = ""
    if step is not None:
        shown = step_time("decode", step, question, serving.decode, precision_of(question.model, serving), 0.0)
        bound = f" A decode step of {format_time(shown.seconds)} is bound by {BOUND_WORDS[shown.bound]}."
    missed = [
        f"{limit.words} {format_time(limit.got)} of {format_time(limit.wanted)} wanted" for limit in limits if not limit.met
    ]
    met = ", ".join(f"{limit.key.upper()} {met_words(limit)}" for limit in limits)
    verdict = f" It misses its limits: {', '.join(missed)}." if missed else f" It meets its limits: {met}." if limits else ""
    dollars = "no price" if cost.unpriced else f"${float(cost.usd_per_hour) / out / 3600 * 1e6:.2f}"
    return (
        f"{question.model.name} on {on} ({serving.mode}, {serving.backend}) makes "
        f"{out / serving.gpus:,.0f} output tokens/s a GPU with {flow.concurrency:,.0f} requests in flight: first "
        f"token after {format_time(flow.ttft_s)}, then one every {format_time(flow.tpot_s)}, "
        f"{dollars} per million output tokens.{bound}{verdict}"
    )


def _notes(
    question: ServingQuestion, serving: Serving, backend: Backend, setting: Setting, found: Running, pools: Pools
) -> Iterator[str]:
    served, load = found.served, question.workload
    yield from question.unused
    yield from idle_keys(question, serving)
    yield question.model.said
    if load.rate is None and load.concurrency is None:
        held = f"{pools.sequences:,} that memory holds"
        if found.hopeless:
            yield "no load meets the limits: these are the times of a lone request"
        elif found.limited_by:
            flying = f"{_one(served.concurrency):,.0f} requests in flight, of {held},"
            yield f"no load is given: {flying} are the most within the {LIMIT_WORDS[found.limited_by]}"
    elif load.rate is not None:
        how = {"even": "evenly spaced", "poisson": "at random (Poisson)", "bursty": f"in bursts of about {load.variation:g}"}
        yield f"requests arrive {how[load.arrivals or 'poisson']}"
    if pools.asked is not None:
        held = f"memory holds {_one(pools.decode.slots):,.0f} sequences of an attention group"
        yield f"{held}, deployment.decode.batch asks for {pools.asked}"
    elif "memory_share" in serving.model_fields_set and not _bound_by_memory(question, serving, pools):
        yield "not used: deployment.memory_share, memory holds all that is asked to decode at once"
    if serving.prefill is not None:
        if (there := question.prefill_cluster) is not None:
            numbers = f"hardware numbers that are moved or set are those of {question.cluster.name}"
            yield f"prompts are computed on {there.label}, the KV cache crosses the slower of both fabrics; {numbers}"
        yield (
            f"the prefill pool is busy {_one(served.prefill_busy):.0%} of the time, decode slots {_one(served.slots_busy):.0%};"
            f" a prompt's KV cache takes {format_time(_one(served.transfer_s))} from pool to pool"
        )
    routed = _one(pools.memory["decode"].items["routed expert weights"])
    yield from placement_notes(question, serving, setting, _one(served.batch), routed)
    if backend.fit is None:
        yield f"{backend.name} has not been fitted to measured deployments: its own times are assumed"
    used = dict.fromkeys(worker.protocol for _, worker in serving.workers.items() if worker.dp > 1)
    for name in (name for name in used if find_protocol(name).lend is not None):
        yield unmeasured_note(name)


def _bound_by_memory(question: ServingQuestion, serving: Serving, pools: Pools) -> bool:
    """Whether more memory would have more sequences decode together: not where a batch or the load is smaller."""
    worker, load = serving.decode, question.workload
    enough = worker.batch
    if load.concurrency is not None:
        each = -(-load.concurrency // (worker.dp * worker.count))
        enough = each if enough is None else min(enough, each)
    return enough is None or _one(pools.decode.slots) < enough


def _one(value: object) -> float:
    return float(np.asarray(value, float).ravel()[0])


__all__ = ["InputRow", "evaluate"]
