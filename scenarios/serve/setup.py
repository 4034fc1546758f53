"""From a serving question to what the loop plays: workers with their cache and step tables, rules, arrivals, failures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...hwmodels.backends import Backend, load_backend
from ...sim.ep.machine import machine_of
from ...sim.inputs.feasible import Unanswerable
from ...sim.inputs.requests import Requests, Transfer
from ...sim.inputs.serving import Serving, Worker
from ...sim.inputs.serving_question import ServingQuestion
from ...sim.serving.faults.schedule import Schedule
from ...sim.serving.prompts import ROUNDS
from ...sim.serving.requests.fleet import Kind, Tier
from ...sim.serving.requests.loop import layout as at
from ...sim.serving.requests.loop.layout import Rules
from ...sim.serving.requests.rules import NEVER, rules_of
from ...sim.serving.requests.times.shelf import Shelf
from ...sim.serving.steady import Setting
from ...sim.step.memory import WorkerMemory
from ...sim.step.worker import arrangement_of, precision_of
from ..answer.evaluate import evaluate
from ..answer.operating_point import memory_of, most_sequences, setting_of
from .changes import failures, in_time, rebalances
from .load import COUNT, DEFAULTS, PS, Load, blocks, load_of
from .tables import Tables

_ADMISSION = {"vllm": "prompt", "sglang": "half", "trtllm": "whole"}
_ROOM = {"prompt": "its prompt", "half": "its prompt and half of its output", "whole": "all of it"}
_SHARES = {"prompt": 0.0, "half": 0.5, "whole": 1.0}
_ROUTERS = {"round-robin": 0, "least-requests": 1, "least-tokens": 2, "prefix": 3, "sticky": 4}
_SAMPLES = 400


@dataclass(frozen=True, slots=True)
class Setup:
    """Everything of one run. ``roles``: name of each pool by the role of its workers."""

    kinds: tuple[Kind, ...]
    rules: Rules
    shelf: Shelf
    load: Load
    tiers: tuple[Tier, ...]
    schedule: Schedule | None
    changes: Any
    core_bytes_per_s: float
    pools: dict[int, str]
    notes: tuple[str, ...]


def set_up(question: ServingQuestion, engine: Backend | None = None, spans: tuple[float, float] | None = None) -> Setup:
    """The run that ``question`` asks for. ``spans``: seconds between which every step is noted for a trace.

    Raises Unanswerable or BadInput, as `evaluate`, and for a trace that cannot be read.
    """
    serving = question.serving
    if serving is None:
        raise Unanswerable(("deployment",), "there is no deployment to serve with: add one, or let `epicycle plan` find one")
    if serving.mode in ("decode", "prefill"):
        key = ("deployment", "mode")
        raise Unanswerable(
            key, f"requests pass through whole deployments: `epicycle explain` answers a {serving.mode} pool alone"
        )
    if question.prefill_cluster is not None:
        there = ("deployment", "prefill", "cluster")
        raise Unanswerable(there, "requests are played on one kind of hardware: remove it, or ask `epicycle explain` for means")
    asked = question.requests or DEFAULTS
    backend = engine or load_backend(serving.backend)
    precision = precision_of(question.model, serving)
    setting = setting_of(question, serving, backend, precision)
    load = load_of(question)
    memory = {role: memory_of(question, role, worker, precision) for role, worker in serving.workers.items()}
    unit, block = blocks(asked, serving, load)
    shelf = Tables(setting, load)
    kinds, pools = [], {}
    for role, worker in reversed(list(serving.workers.items())):
        kind = _kind(question, asked, serving, role, worker, memory[role], unit, shelf)
        pools[int(kind.role)] = "aggregated" if serving.prefill is None else role
        kinds.append(kind)
    seconds = load.duration_s or (load.count or COUNT) / (load.rate or _closed_rate(question, load))
    plan = failures(question, kinds, 1.5 * seconds, shelf)
    changes = in_time(plan, rebalances(asked, kinds, 1.5 * seconds))
    rules = _rules(question, asked, setting, load, seconds, unit, block, spans)
    tiers = tuple(
        Tier(tier.capacity / token_bytes(question, setting), tier.bandwidth, tier.latency, tier.shared) for tier in asked.tiers
    )
    fabric = question.cluster.fabric
    nic = machine_of(question.cluster).nic_bytes_per_s * question.cluster.node.nic.efficiency
    core = nic * serving.gpus / fabric.oversubscription
    notes = tuple(_notes(asked, serving, load, unit))
    return Setup(tuple(kinds), rules, shelf.whole(), load, tiers, plan, changes, core, pools, notes)


def token_bytes(question: ServingQuestion, setting: Setting) -> float:
    """KV cache of one more token, all GPUs of an attention group, what all of them hold alike counted once."""
    kv = setting.precision.kv
    return max(1.0, float(question.model.kv_bytes(8192, kv) - question.model.kv_bytes(4096, kv)) / 4096.0)


def _kind(
    question: ServingQuestion,
    asked: Requests,
    serving: Serving,
    role: str,
    worker: Worker,
    memory: WorkerMemory,
    unit: int,
    shelf: Tables,
) -> Kind:
    apart = serving.prefill is not None
    place = at.AGGREGATED if not apart else at.PREFILLS if role == "prefill" else at.DECODES
    slots = max(1, most_sequences(worker))
    per_token = _one(memory.kv_token_bytes)
    # A window or a constant state takes its room whatever the length: counted as units of the sequences that fit.
    constant = max(0.0, _one(memory.sequence_bytes) - per_token * _one(memory.context))
    if per_token <= 0.0:
        units = 1 << 40
        slots = max(1, min(slots, int(_one(memory.sequences))))
    else:
        held = min(slots, max(1.0, _one(memory.sequences))) * constant
        units = max(1, int((_one(memory.kv_bytes) - held) / per_token / unit))
    longest = question.workload.input_tokens + question.workload.output_tokens + 1
    if units * unit < longest and asked.trace is None:
        raise Unanswerable(
            ("deployment", role),
            f"a {role} worker's cache holds {units * unit:,} tokens of a group, a request needs {longest:,}",
        )
    mixes = shelf.setting.backend.mixes_prompts
    if asked.scheduler.prompts is not None:
        mixes = asked.scheduler.prompts == "mixed"
    scaling = asked.scaling
    spare = 0 if scaling is None else scaling.prefill_spare if role == "prefill" else scaling.spare
    if spare >= worker.count:
        raise Unanswerable(
            ("requests", "scaling"), f"{spare} spare of {worker.count} {role} workers leave none at the start: use fewer"
        )
    arrangement = arrangement_of(worker)
    table = shelf.place(arrangement, float(slots), float(worker.chunk_tokens), 1.0, 0.0)
    skewed = -1
    if asked.drift is not None and question.model.experts:
        skewed = shelf.place(arrangement, float(slots), float(worker.chunk_tokens), 1.0, asked.drift.imbalance)
    nic = machine_of(question.cluster).nic_bytes_per_s * question.cluster.node.nic.efficiency
    return Kind(
        role=int(place),
        count=worker.count,
        ranks=worker.dp,
        units=units,
        slots=slots,
        budget=worker.chunk_tokens,
        mixes=mixes or place == at.DECODES,
        table=table,
        gpus=worker.gpus,
        pp=worker.pp,
        skewed=skewed,
        port_bytes_per_s=worker.tp * worker.pp * nic,
        caches=place != at.DECODES or asked.router.append,
        spare=spare,
    )


def _closed_rate(question: ServingQuestion, load: Load) -> float:
    workload = question.workload.model_copy(
        update={"rate": None, "arrivals": None, "burstiness": None, "concurrency": load.clients}
    )
    return float(evaluate(replace(question, workload=workload, requests=None, faults=None)).metric("requests_per_s").value)


def _rules(
    question: ServingQuestion,
    asked: Requests,
    setting: Setting,
    load: Load,
    seconds: float,
    unit: int,
    block: int,
    spans: tuple[float, float] | None,
) -> Rules:
    serving = question.serving
    assert serving is not None
    scheduler, router, tools = asked.scheduler, asked.router, asked.tools
    apart = serving.prefill is not None
    if not apart and (router.append or asked.transfer != Transfer()):
        raise Unanswerable(
            ("requests",), "router.append and transfer are about prefill and decode workers: use deployment.mode=disaggregated"
        )
    named = asked.conversations is not None or (load.trace is not None and load.trace.block_tokens > 0)
    if asked.tiers and not named:
        raise Unanswerable(
            ("requests", "tiers"),
            "tiers keep named blocks of KV cache: they need requests.conversations, or a trace whose prompts have hash_ids",
        )
    if tools.cache != "keep" and not asked.conversations:
        raise Unanswerable(
            ("requests", "tools"),
            "tools.cache is about conversations whose turns end in tool calls: add requests.conversations",
        )
    host = question.cluster.node.gpu
    admission = scheduler.admission or _ADMISSION[serving.backend]
    layers = question.model.layers
    scaling, drift = asked.scaling, asked.drift
    span_from, span_to = spans or (0.0, 0.0)
    handover = asked.transfer.handover
    return rules_of(
        unit_tokens=unit,
        block_tokens=block,
        drafts=serving.mtp,
        acceptance=serving.acceptance,
        seed=question.seed,
        admission=_SHARES[admission],
        watermark=0.01,
        swap=scheduler.preemption == "swap",
        prefix=named and scheduler.prefix_cache,
        router=_ROUTERS[router.policy],
        far_router=_ROUTERS[router.decode_policy],
        most_waiting=-1 if router.waiting is None else router.waiting,
        patience=-1 if router.patience is None else router.patience * PS,
        layerwise=asked.transfer.by == "layer",
        layers=layers,
        early=asked.transfer.reserve or asked.transfer.by == "layer",
        append=router.append,
        token_bytes=token_bytes(question, setting),
        handover_steps=setting.engine.handover_steps if handover is None else 0.0,
        move_latency=(question.cluster.node.nic.latency + (setting.engine.handover if handover is None else handover)) * PS,
        tool_policy={"keep": 0, "drop": 1, "pin": 2}[tools.cache],
        ttl=(tools.ttl or 0.0) * PS,
        closed=load.clients,
        retries=asked.retries,
        backoff=asked.backoff * PS,
        resume=asked.resume,
        host_rate=getattr(host, "host_bandwidth", 5e10) or 5e10,
        sample=max(1e9, seconds / _SAMPLES * PS),
        until=NEVER if asked.duration is None or not load.clients else asked.duration * PS,
        first_steps=setting.engine.first_steps,
        first_token=setting.engine.first_token * PS,
        stream=scheduler.stream,
        poll=scheduler.poll * PS,
        poll_steps=max(1, round(serving.poll_steps)),
        wait_steps=serving.wait_steps,
        wait_fill=serving.wait_fill,
        balance_steps=_patience(setting, serving),
        span_from=span_from * PS,
        span_to=span_to * PS,
        scale_every=0 if scaling is None else scaling.every * PS,
        scale_up=0.0 if scaling is None else scaling.waiting,
        scale_down=0.0 if scaling is None else scaling.busy,
        scale_least=1 if scaling is None else scaling.least,
        scale_ahead=0 if scaling is None or scaling.policy == "reactive" else scaling.start_up * PS,
        scale_full=1.0 if scaling is None else scaling.full,
        start_up=0 if scaling is None else scaling.start_up * PS,
        imbalance_period=0 if drift is None else drift.period * PS,
        keeps=asked.conversations is not None,
    )


def _notes(asked: Requests, serving: Serving, load: Load, unit: int) -> Iterator[str]:
    admission = asked.scheduler.admission or _ADMISSION[serving.backend]
    yield f"{load.said}; KV cache in blocks of {unit} tokens, a request is let in with room for {_ROOM[admission]}"
    for role, worker in _workers(serving):
        if worker.balance == "perfect":
            yield f"deployment.{role}.balance=perfect is no scheduler's: requests are played dealt out in turn"
        elif worker.balance is not None and serving.prefill is not None:
            yield f"deployment.{role}.balance: groups of a pool of its own do not wait for each other's prompts"
    if load.trace is not None and load.trace.block_tokens == 0:
        yield f"the trace ({load.trace.name}) does not say which prompts share a prefix: nothing is found in the prefix cache"


def _patience(setting: Setting, serving: Serving) -> int:
    """Steps for which a group's prompts wait for the other groups'."""
    rounds = ROUNDS[serving.decode.balance or setting.backend.balance]
    return int(rounds) if 1.0 < rounds < np.inf and serving.decode.dp > 1 and serving.prefill is None else 0


def _workers(serving: Serving) -> Iterator[tuple[str, Worker]]:
    yield "decode", serving.decode
    if serving.prefill is not None:
        yield "prefill", serving.prefill


def _one(value: object) -> float:
    return float(np.asarray(value, float).ravel()[0])
