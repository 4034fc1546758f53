"""One deployment under one workload, answered in closed form: steady state, steps, memory, cost, limits."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ... import __version__
from ...hwmodels.backends import Backend, load_backend
from ...hwmodels.prices import load_prices
from ...hwmodels.units import format_time
from ...sim.ep.protocol import find_protocol
from ...sim.inputs.feasible import Unanswerable
from ...sim.inputs.serving import Serving, Worker
from ...sim.inputs.serving_question import ServingQuestion
from ...sim.layer.result import InputRow
from ...sim.layer.routing_file import counted
from ...sim.serving.deployment import PoolShape, Served, aggregated, disaggregated
from ...sim.serving.prompts import Scheduling
from ...sim.serving.queue import ArrivalLaw
from ...sim.serving.steady import Setting, Speculation
from ...sim.step.memory import WorkerMemory, worker_memory
from ...sim.step.worker import Precision, Skew, arrangement_of, precision_of
from .cost import Cost, cost_of
from .deployment_metrics import metrics_of
from .evaluation import Evaluation, Limit, Metric, Pool
from .provenance import provenance
from .step_time import BOUND_WORDS, step_time

#: Sequences of one attention group that decode together at most where neither memory nor the scenario says less; with the
#: low-latency exchange, whose slabs are sized for them, the largest that public deployments use (systems.md: 256 a GPU).
MOST_SEQUENCES, MOST_LOW_LATENCY = 1024, 256


def evaluate(question: ServingQuestion, backend: Backend | None = None) -> Evaluation:
    """The answer for the question's own deployment. ``backend``: its engine, if not as shipped.

    Raises Unanswerable (one line) if it has none, if its memory does not fit, or if an arrival rate is beyond its capacity.
    """
    serving = question.serving
    if serving is None:
        raise Unanswerable(("deployment",), "there is no deployment to evaluate: add one, or let `epicycle plan` look for one")
    backend = backend or load_backend(serving.backend)
    precision = precision_of(question.model, serving)
    memory = {role: memory_of(question, role, worker, precision) for role, worker in workers_of(serving)}
    served = _served(question, serving, backend, precision, memory)
    cost = _cost(question, serving, served)
    metrics, why = metrics_of(question, serving, backend, served, cost)
    limits = tuple(_limits(question, metrics))
    return Evaluation(
        name=question.name,
        description=question.description,
        sentence=_sentence(question, serving, served, cost, limits),
        model=question.model.name,
        cluster=question.cluster.label,
        gpus=serving.gpus,
        serving=serving,
        metrics=metrics,
        pools=tuple(_pools(question, serving, precision, served, memory)),
        cost=bill(cost),
        limits=limits,
        notes=tuple(_notes(question, serving, backend, served)),
        why_wide=why,
        unpriced=cost.unpriced,
        inputs=tuple(provenance(question, serving, backend)),
        seed=question.seed,
        version=__version__,
    )


def setting_of(question: ServingQuestion, serving: Serving, backend: Backend, precision: Precision) -> Setting:
    """What all pools of a deployment share. Raises BadInput for a routing file that cannot be read."""
    drafts = Speculation(serving.mtp, serving.acceptance)
    workload = question.workload
    arrivals = ArrivalLaw(workload.variation)
    skew = skew_of(question)
    scheduling = Scheduling(float(serving.poll_steps), float(serving.wait_steps), serving.wait_fill)
    shared = (question.model, question.cluster, precision, backend, workload, drafts, skew)
    return Setting(*shared, arrivals=arrivals, scheduling=scheduling)


def skew_of(question: ServingQuestion) -> Skew:
    """How unevenly the workload's router fills experts and ranks. Raises BadInput for a routing file that cannot be read."""
    routing, model = question.workload.routing, question.model
    recorded = None
    if routing.file is not None and model.experts:
        changed = routing.file.stat().st_mtime_ns
        recorded = counted(routing.file, changed, model.experts, model.top_k, routing.layer)
        if recorded.layers > model.moe_layers + model.mtp_layers:
            raise Unanswerable(
                ("workload", "routing", "file"),
                f"{routing.file} counts {recorded.layers} layers, {model.name} has {model.moe_layers} with experts: "
                "number the layers with experts from 0, or use routing.layer for one of them",
            )
    return Skew(
        routing.exponent,
        question.workload.rank_imbalance,
        recorded,
        routing.kind if routing.kind in ("balanced", "group-limited") else "uniform",
        None if routing.groups is None else float(routing.groups),
        None if routing.groups_kept is None else float(routing.groups_kept),
        question.workload.expert_spread,
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
    widths += ["overlap"] if worker.overlap else []
    return f"{worker.count} x ({', '.join(widths)})"


def workers_of(serving: Serving) -> Iterator[tuple[str, Worker]]:
    yield "decode", serving.decode
    if serving.prefill is not None:
        yield "prefill", serving.prefill


def most_sequences(worker: Worker) -> int:
    exchanged = worker.dp > 1 and find_protocol(worker.protocol).capacity is not None
    return worker.batch or (MOST_LOW_LATENCY * worker.tp if exchanged else MOST_SEQUENCES)


def memory_of(question: ServingQuestion, role: str, worker: Worker, precision: Precision) -> WorkerMemory:
    serving = question.serving
    assert serving is not None
    decodes = role == "decode"
    prompts = worker.chunk_tokens if not decodes or serving.mode == "aggregated" else 0
    rows = most_sequences(worker) * (1 + serving.mtp) if decodes else 0
    memory = worker_memory(
        question.model,
        arrangement_of(worker),
        precision,
        question.cluster,
        tokens_per_step=float(rows),
        prompt_tokens=float(prompts),
        memory_share=serving.memory_share,
        context=question.workload.mean_input + (question.workload.mean_output if decodes else 0.0),
        graphs=worker.cuda_graphs and decodes,
        mtp=serving.mtp,
    )
    if refusal := memory.refusal():
        lever = f"more GPUs a worker (deployment.{role}.tp or .ep), or narrower precisions (deployment.experts=fp4, .kv=fp8)"
        raise Unanswerable(("deployment", role), f"a {role} worker {refusal}: {lever}")
    return memory


def _served(
    question: ServingQuestion, serving: Serving, backend: Backend, precision: Precision, memory: dict[str, WorkerMemory]
) -> Served:
    setting = setting_of(question, serving, backend, precision)
    load = question.workload

    def pool(role: str, worker: Worker) -> PoolShape:
        fits = float(np.asarray(memory[role].sequences))
        slots = min(fits, float(most_sequences(worker)))
        return PoolShape(arrangement_of(worker), float(worker.count), max(1.0, slots), float(worker.chunk_tokens))

    decode = pool("decode", serving.decode)
    if serving.prefill is None:
        served = aggregated(setting, decode, load.concurrency, load.rate)
    else:
        served = disaggregated(setting, pool("prefill", serving.prefill), decode, load.concurrency, load.rate)
    capacity = float(np.asarray(served.capacity_per_s))
    if load.rate is not None and load.rate > capacity * 1.0001:
        raise Unanswerable(
            ("workload", "rate"),
            f"rate ({load.rate:.4g}/s) is beyond what {serving.gpus} GPUs carry ({capacity:.4g}/s): use more workers "
            f'(deployment.decode.count), or workload.rate="{capacity:.3g} /s"',
        )
    return served


def _cost(question: ServingQuestion, serving: Serving, served: Served) -> Cost:
    prices = load_prices(question.prices_overrides, question.cluster.node.gpu)
    per_s, capacity = _one(served.requests_per_s), _one(served.capacity_per_s)
    if serving.prefill is not None:
        share = serving.prefill.gpus * serving.prefill.count / serving.gpus
    else:
        prompts = _one(served.decode.prompt_s) / max(serving.decode.dp, 1) * per_s / serving.decode.count
        share = min(1.0, prompts)
    return cost_of(
        serving.gpus,
        question.cluster.node.gpu,
        question.cluster.node.gpus,
        capacity * question.workload.mean_input,
        capacity * question.workload.mean_output,
        prices,
        basis=question.bill.basis,
        utilisation=min(1.0, per_s / capacity),
        input_share=share,
        fixed_usd_per_hour=question.bill.fixed_per_hour,
    )


def _limits(question: ServingQuestion, metrics: tuple[Metric, ...]) -> Iterator[Limit]:
    levers = {
        "ttft": "more prefill workers, smaller chunks, or a lower load",
        "tpot": "a smaller batch (deployment.decode.batch), more GPUs a worker, or a lower load",
    }
    for key, words in (("ttft", "time to first token"), ("tpot", "time per output token")):
        wanted = getattr(question.slo, key)
        if wanted is not None:
            got = next(m.value for m in metrics if m.key == key)
            met = got <= wanted
            yield Limit(key, words, wanted, got, "s", met, "" if met else levers[key])


def _pools(
    question: ServingQuestion, serving: Serving, precision: Precision, served: Served, memory: dict[str, WorkerMemory]
) -> Iterator[Pool]:
    hbm, moe = int(question.cluster.node.gpu.hbm_capacity), question.model.experts > 0
    for role, worker in workers_of(serving):
        rates = served.prefill if role == "prefill" else served.decode
        assert rates is not None
        batch = _one(served.batch) if role == "decode" else 0.0
        steps = [
            step_time(phase, step, question, worker, precision, batch if phase != "prefill" else 0.0)  # type: ignore[arg-type]
            for phase, step in (("decode", rates.decode), ("prefill", rates.prefill))
            if step is not None
        ]
        name = "aggregated" if serving.prefill is None else role
        items = memory[role].table(0, batch or None)
        gpus = worker.gpus * worker.count
        yield Pool(name, in_words(worker, moe), worker.count, gpus, items, hbm, tuple(steps))  # type: ignore[arg-type]


def _sentence(question: ServingQuestion, serving: Serving, served: Served, cost: Cost, limits: tuple[Limit, ...]) -> str:
    gpu = question.cluster.node.gpu.label
    per_s = _one(served.requests_per_s)
    out = per_s * question.workload.mean_output
    step = served.decode.decode
    bound = ""
    if step is not None:
        shown = step_time("decode", step, question, serving.decode, precision_of(question.model, serving), 0.0)
        bound = f" A decode step of {format_time(shown.seconds)} is bound by {BOUND_WORDS[shown.bound]}."
    missed = [
        f"{limit.words} {format_time(limit.got)} of {format_time(limit.wanted)} wanted" for limit in limits if not limit.met
    ]
    verdict = f" It misses its limits: {', '.join(missed)}." if missed else " It meets its limits." if limits else ""
    dollars = "no price" if cost.unpriced else f"${float(cost.usd_per_hour) / out / 3600 * 1e6:.2f}"
    return (
        f"{question.model.name} on {serving.gpus} {gpu} GPUs ({serving.mode}, {serving.backend}) makes "
        f"{out / serving.gpus:,.0f} output tokens/s a GPU with {_one(served.concurrency):,.0f} requests in flight: first "
        f"token after {format_time(_one(served.ttft_s))}, then one every {format_time(_one(served.tpot_s))}, "
        f"{dollars} per million output tokens.{bound}{verdict}"
    )


def _notes(question: ServingQuestion, serving: Serving, backend: Backend, served: Served) -> Iterator[str]:
    yield from question.unused
    yield question.model.said
    if serving.prefill is not None:
        yield (
            f"the prefill pool is busy {_one(served.prefill_busy):.0%} of the time, decode slots {_one(served.slots_busy):.0%};"
            f" a prompt's KV cache takes {format_time(_one(served.transfer_s))} from pool to pool"
        )
    if backend.fit is None:
        yield f"{backend.name} has not been fitted to measured deployments: its own times are assumed"
    used = dict.fromkeys(worker.protocol for _, worker in workers_of(serving) if worker.dp > 1)
    for name in (name for name in used if find_protocol(name).lend is not None):
        yield f"nobody has measured the {name} exchange: links and barriers are measured kernels', intervals too narrow"


def _one(value: object) -> float:
    return float(np.asarray(value, float).ravel()[0])


__all__ = ["InputRow", "evaluate"]
