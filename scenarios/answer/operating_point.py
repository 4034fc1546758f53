"""Where a deployment runs: how many sequences its memory lets it hold, under which load, and what it then does.

The load is the scenario's own (an arrival rate, or a number in flight); without one, the largest number in flight that meets
every limit, which is all that its memory holds where that meets them or nothing is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ...hwmodels.backends import Backend
from ...sim.ep.compute.expert_share import Counted
from ...sim.ep.protocol import find_protocol
from ...sim.inputs.feasible import Unanswerable
from ...sim.inputs.serving import Serving, Worker
from ...sim.inputs.serving_question import ServingQuestion
from ...sim.layer.routing_file import counted
from ...sim.serving.deployment import PoolShape, Served, aggregated, disaggregated
from ...sim.serving.prompts import Scheduling
from ...sim.serving.queue import ArrivalLaw
from ...sim.serving.steady import Setting, Speculation
from ...sim.step.memory import WorkerMemory, worker_memory
from ...sim.step.worker import Precision, Skew, arrangement_of
from .sureness import Sure, Time, Workers, sure_times

#: Sequences of one attention group that decode together at most where neither memory nor the scenario says less; with the
#: low-latency exchange, whose slabs are sized for them, the largest that public deployments use (systems.md: 256 a GPU).
MOST_SEQUENCES, MOST_LOW_LATENCY = 1024, 256
#: Loads tried at once when the largest is looked for: each round leaves one of their gaps.
_TRIED = 24


@dataclass(frozen=True, slots=True)
class Pools:
    """The pools of a deployment: what a GPU of each holds, by role, and their shapes. ``asked``: sequences of an attention
    group that the scenario wanted to decode together and memory does not hold (None: it does, or does not say)."""

    memory: Mapping[str, WorkerMemory]
    decode: PoolShape
    prefill: PoolShape | None
    asked: int | None = None

    @property
    def sequences(self) -> int:
        """Requests that decode at most, in all workers."""
        return max(1, round(float(self.decode.slots * self.decode.arrangement.dp * self.decode.count)))


@dataclass(frozen=True, slots=True)
class Running:
    """A deployment at its load. ``limited_by``: the limit that a larger load would miss; None where the load is given, or is
    all that memory holds. ``hopeless``: not even a lone request meets the limits."""

    served: Served
    times: Mapping[Time, Sure]
    limited_by: Time | None = None
    hopeless: bool = False


def setting_of(
    question: ServingQuestion, serving: Serving, backend: Backend, precision: Precision, role: str = "decode"
) -> Setting:
    """What all pools of a deployment share but for their hardware, that of ``role``. Raises BadInput for a routing file that
    cannot be read.
    """
    workload = question.workload
    return Setting(
        question.model,
        question.cluster_of(role),
        precision,
        backend,
        workload,
        Speculation(serving.mtp, serving.acceptance),
        skew_of(question),
        arrivals=ArrivalLaw(workload.variation),
        scheduling=Scheduling(float(serving.poll_steps), float(serving.wait_steps), serving.wait_fill),
    )


def skew_of(question: ServingQuestion) -> Skew:
    """How unevenly the workload's router fills experts and ranks. Raises BadInput for a routing file that cannot be read."""
    routing = question.workload.routing
    return Skew(
        routing.exponent,
        question.workload.rank_imbalance,
        recorded_by(question),
        routing.kind if routing.kind in ("balanced", "group-limited") else "uniform",
        None if routing.groups is None else float(routing.groups),
        None if routing.groups_kept is None else float(routing.groups_kept),
        question.workload.expert_spread,
    )


def recorded_by(question: ServingQuestion) -> Counted | None:
    """The expert counts of the workload's routing file, if it has one. Raises BadInput."""
    routing, model = question.workload.routing, question.model
    if routing.file is None or not model.experts:
        return None
    found = counted(routing.file, routing.file.stat().st_mtime_ns, model.experts, model.top_k, routing.layer)
    if found.layers > model.moe_layers + model.mtp_layers:
        raise Unanswerable(
            ("workload", "routing", "file"),
            f"{routing.file} counts {found.layers} layers, {model.name} has {model.moe_layers} with experts: number the layers "
            "with experts from 0, or use routing.layer for one of them",
        )
    return found


def pools_of(question: ServingQuestion, serving: Serving, precision: Precision) -> Pools:
    """What the deployment's memory holds. Raises Unanswerable where a worker does not fit."""
    memory: dict[str, WorkerMemory] = {}
    shapes: dict[str, PoolShape] = {}
    asked = None
    for role, worker in serving.workers.items():
        memory[role], shapes[role] = pool_of(question, serving, role, worker, precision)
        if role == "decode" and worker.batch and float(shapes[role].slots) < worker.batch:
            asked = worker.batch
    return Pools(memory, shapes["decode"], shapes.get("prefill"), asked)


def pool_of(
    question: ServingQuestion, serving: Serving, role: str, worker: Worker, precision: Precision
) -> tuple[WorkerMemory, PoolShape]:
    """What one pool's memory holds. Raises Unanswerable where a worker does not fit."""
    batch = _batch(question, serving, role, worker, precision)
    found = memory_of(question, role, worker, precision)
    slots = max(1.0, min(float(np.asarray(found.sequences)), float(batch)))
    return found, PoolShape(arrangement_of(worker), float(worker.count), slots, float(worker.chunk_tokens))


def memory_of(question: ServingQuestion, role: str, worker: Worker, precision: Precision) -> WorkerMemory:
    """What a GPU of a worker holds, with buffers for its batch. Raises Unanswerable where it does not fit."""
    serving = question.serving
    assert serving is not None
    found = _memory(question, serving, role, worker, precision, _batch(question, serving, role, worker, precision))
    if refusal := found.refusal():
        lever = f"more GPUs a worker (deployment.{role}.tp or .ep), or narrower precisions (deployment.experts=fp4, .kv=fp8)"
        raise Unanswerable(("deployment", role), f"a {role} worker {refusal}: {lever}")
    return found


def most_sequences(worker: Worker) -> int:
    """Sequences of an attention group that decode together at most, whatever memory holds."""
    exchanged = worker.dp > 1 and find_protocol(worker.protocol).capacity is not None
    return worker.batch or (MOST_LOW_LATENCY * worker.tp if exchanged else MOST_SEQUENCES)


def running(question: ServingQuestion, serving: Serving, backend: Backend, setting: Setting, pools: Pools) -> Running:
    """The deployment at its load. Raises Unanswerable for an arrival rate beyond its capacity."""
    load = question.workload
    elsewhere = None
    if pools.prefill is not None and question.prefill_cluster is not None:
        elsewhere = replace(setting, cluster=question.prefill_cluster)

    def at(concurrency: float | NDArray[np.float64] | None) -> Served:
        if pools.prefill is None:
            return aggregated(setting, pools.decode, concurrency, load.rate)
        return disaggregated(setting, pools.prefill, pools.decode, concurrency, load.rate, elsewhere)

    def sure(served: Served) -> dict[Time, Sure]:
        widest = max(worker.tp * worker.dp for _, worker in serving.workers.items())
        decode = serving.decode
        workers = Workers(float(decode.gpus), float(widest), decode.protocol if decode.dp > 1 else "")
        found = sure_times(question, backend, workers, served.batch, {"tpot": served.tpot_s, "ttft": served.ttft_s})
        if elsewhere is None:
            return found
        # The first token comes from the other hardware.
        there = sure_times(question, backend, workers, served.batch, {"ttft": served.ttft_s}, elsewhere.cluster)
        return {**found, **there}

    if load.rate is not None or load.concurrency is not None:
        served = at(None if load.concurrency is None else float(load.concurrency))
        _carries(question, serving, served)
        return Running(served, sure(served))
    full = at(float(pools.sequences))
    times = sure(full)
    missed = missed_limits(question, times)
    if not missed:
        return Running(full, times)

    def meets(loads: NDArray[np.float64]) -> NDArray[np.bool_]:
        return worst_share(question, sure(at(loads))) <= 1.0

    most = _largest(pools.sequences, meets)
    served = at(float(max(most, 1)))
    return Running(served, sure(served), missed[0] if most else None, most == 0)


def worst_share(question: ServingQuestion, times: Mapping[Time, Sure]) -> NDArray[np.float64]:
    """How far the times are from the limits: the worst of got / wanted, at the confidence asked for; 0 without limits."""
    worst: NDArray[np.float64] = np.zeros(np.shape(next(iter(times.values())).predicted_s))
    for key, sure in times.items():
        wanted = getattr(question.slo, key)
        if wanted is not None:
            worst = np.maximum(worst, sure.within(question.slo.sure) / wanted)
    return worst


def missed_limits(question: ServingQuestion, times: Mapping[Time, Sure]) -> list[Time]:
    """Keys of the limits that one deployment misses, at the confidence asked for."""
    wanted = {key: getattr(question.slo, key) for key in times}
    return [
        key for key, sure in times.items() if wanted[key] is not None and float(sure.within(question.slo.sure)) > wanted[key]
    ]


def _largest(most: int, meets: Callable[[NDArray[np.float64]], NDArray[np.bool_]]) -> int:
    """The largest whole number up to ``most`` that ``meets`` is true of, and of the smaller ones tried; 0 if of none."""
    low, high = 0, most + 1  # low is fine, high is not
    while high - low > 1:
        inside = np.unique(np.geomspace(low + 1, high - 1, min(_TRIED, high - low - 1)).round())
        fine = np.asarray(meets(inside))
        first = len(inside) if fine.all() else int(np.argmin(fine))
        low, high = (int(inside[first - 1]) if first else low), (int(inside[first]) if first < len(inside) else high)
    return low


def _carries(question: ServingQuestion, serving: Serving, served: Served) -> None:
    rate, capacity = question.workload.rate, float(np.asarray(served.capacity_per_s))
    if rate is not None and rate > capacity * 1.0001:
        raise Unanswerable(
            ("workload", "rate"),
            f"rate ({rate:.4g}/s) is beyond what {serving.gpus} GPUs carry ({capacity:.4g}/s): use more workers "
            f'(deployment.decode.count), or workload.rate="{0.995 * capacity:.3g} /s"',
        )


def _batch(question: ServingQuestion, serving: Serving, role: str, worker: Worker, precision: Precision) -> int:
    """Sequences of an attention group that decode together: as asked, or the most that memory holds after the buffers for as
    many, no more than the load brings."""
    if worker.batch is not None or role != "decode":
        return worker.batch or 1
    most = most_sequences(worker)
    if question.workload.concurrency is not None:
        most = min(most, -(-question.workload.concurrency // (worker.dp * worker.count)))

    def holds(batches: NDArray[np.float64]) -> NDArray[np.bool_]:
        return np.asarray(_memory(question, serving, role, worker, precision, batches).sequences >= batches)

    return max(1, _largest(most, holds))


def _memory(
    question: ServingQuestion,
    serving: Serving,
    role: str,
    worker: Worker,
    precision: Precision,
    batch: float | NDArray[np.float64],
) -> WorkerMemory:
    decodes = role == "decode"
    prompts = worker.chunk_tokens if not decodes or serving.mode == "aggregated" else 0
    return worker_memory(
        question.model,
        arrangement_of(worker),
        precision,
        question.cluster_of(role),
        tokens_per_step=np.asarray(batch, float) * (1 + serving.mtp) if decodes else 0.0,
        prompt_tokens=float(prompts),
        memory_share=serving.memory_share,
        context=question.workload.mean_input + (question.workload.mean_output if decodes else 0.0),
        graphs=worker.cuda_graphs and decodes,
        mtp=serving.mtp,
    )
