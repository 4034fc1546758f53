"""From a serving question to what the loop plays: workers with their cache and step tables, rules, arrivals, failures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...hwmodels.backends import Backend, load_backend
from ...sim.ep.machine import machine_of
from ...sim.inputs.feasible import Unanswerable
from ...sim.inputs.requests import Faults, Requests, Transfer
from ...sim.inputs.serving import Serving, Worker
from ...sim.inputs.serving_question import ServingQuestion
from ...sim.serving.faults.pools import Group
from ...sim.serving.faults.schedule import Schedule, schedule
from ...sim.serving.prompts import ROUNDS
from ...sim.serving.requests.arrivals.conversations import conversations
from ...sim.serving.requests.arrivals.made_up import Lengths, Wave, arrivals
from ...sim.serving.requests.arrivals.trace_file import Format, Scale, format_of, trace_chunks
from ...sim.serving.requests.fleet import Kind, Tier
from ...sim.serving.requests.loop import layout as at
from ...sim.serving.requests.loop.chunk import Chunk
from ...sim.serving.requests.loop.layout import Rules
from ...sim.serving.requests.rules import NEVER, rules_of
from ...sim.serving.requests.times.shelf import Shelf, shelf_of
from ...sim.serving.requests.times.step_table import Reach, Table, step_table
from ...sim.serving.steady import Setting
from ...sim.step.memory import WorkerMemory
from ...sim.step.worker import Arrangement, arrangement_of, precision_of
from ..answer.evaluate import evaluate
from ..answer.operating_point import memory_of, most_sequences, setting_of

_UNIT_TOKENS = {"vllm": 16, "trtllm": 32, "sglang": 64}
_ADMISSION = {"vllm": "prompt", "sglang": "half", "trtllm": "whole"}
_ROOM = {"prompt": "its prompt", "half": "its prompt and half of its output", "whole": "all of it"}
_SHARES = {"prompt": 0.0, "half": 0.5, "whole": 1.0}
_ROUTERS = {"round-robin": 0, "least-requests": 1, "least-tokens": 2, "prefix": 3, "sticky": 4}
_SAMPLES = 400
COUNT = 10_000
_PS = 1e12
#: Requests whose traced window is read to know a trace's means; the file is then played from its start.
_DEFAULTS = Requests()


@dataclass(frozen=True, slots=True)
class Load:
    """What arrives: ``rate`` a second on average, or ``clients`` of a closed loop. ``count``: requests, None if only the
    duration is known; ``input`` and ``output``: mean tokens; ``longest``: context of the longest request."""

    rate: float | None
    clients: int
    count: int | None
    duration_s: float | None
    input: float
    output: float
    longest: int
    said: str
    trace: Format | None = None


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
    if serving.mode in ("decode", "prefill"):
        raise Unanswerable(
            ("deployment", "mode"), f"requests need both prompts and answers, a {serving.mode} pool alone has one of them"
        )
    asked = question.requests or _DEFAULTS
    backend = engine or load_backend(serving.backend)
    precision = precision_of(question.model, serving)
    setting = setting_of(question, serving, backend, precision)
    load = load_of(question)
    memory = {role: memory_of(question, role, worker, precision) for role, worker in serving.workers.items()}
    unit, block = _blocks(asked, serving, load)
    shelf = _Shelf(setting, load, asked)
    kinds, pools = [], {}
    for role, worker in reversed(list(serving.workers.items())):
        kind = _kind(question, asked, serving, role, worker, memory[role], unit, shelf)
        pools[int(kind.role)] = "aggregated" if serving.prefill is None else role
        kinds.append(kind)
    seconds = load.duration_s or (load.count or COUNT) / (load.rate or _closed_rate(question, load))
    plan = _faults(question, kinds, 1.5 * seconds, shelf)
    changes = _in_time(plan, _rebalances(asked, kinds, 1.5 * seconds))
    rules = _rules(question, asked, setting, load, seconds, unit, block, spans)
    tiers = tuple(
        Tier(tier.capacity / token_bytes(question, setting), tier.bandwidth, tier.latency, tier.shared) for tier in asked.tiers
    )
    fabric = question.cluster.fabric
    nic = machine_of(question.cluster).nic_bytes_per_s * question.cluster.node.nic.efficiency
    core = nic * serving.gpus / fabric.oversubscription
    notes = tuple(_notes(asked, serving, load, unit))
    return Setup(tuple(kinds), rules, shelf.whole(), load, tiers, plan, changes, core, pools, notes)


def chunks_of(question: ServingQuestion, load: Load) -> Iterator[Chunk]:
    """The arrivals of ``load``, from the first."""
    asked, workload = question.requests or _DEFAULTS, question.workload
    if asked.trace is not None:
        yield from trace_chunks(asked.trace.file, _scale(asked), load.count, question.model.max_context)
        return
    lengths = Lengths(
        workload.input_tokens if not asked.input_sigma else workload.mean_input,
        workload.output_tokens if not asked.output_sigma else workload.mean_output,
        workload.length_spread,
        asked.input_sigma,
        asked.output_sigma,
        cached=0.0 if asked.conversations else workload.cached_input,
    )
    wave = Wave(asked.wave.amplitude, asked.wave.period, asked.wave.peak) if asked.wave else None
    law = "closed" if load.clients else {"even": "even", "bursty": "gamma"}.get(workload.arrivals or "poisson", "poisson")
    per = asked.conversations.turns if asked.conversations else 1
    roots = arrivals(
        law,  # type: ignore[arg-type]
        (load.rate or 1.0) / per,
        lengths,
        question.seed,
        count=None if load.count is None else max(1, load.count // per),
        duration_s=load.duration_s,
        cv=workload.variation**0.5,
        wave=wave,
    )
    if asked.conversations is None:
        yield from roots
    else:
        _, block = _blocks(asked, question.serving or Serving(), load)
        yield from conversations(roots, asked.conversations, block, load.longest, question.seed)


def load_of(question: ServingQuestion) -> Load:
    """How much arrives. With neither rate nor concurrency, as many are in flight as the closed form allows."""
    asked, workload = question.requests or _DEFAULTS, question.workload
    if asked.trace is not None:
        return _traced(question, asked)
    count = asked.count if asked.count is not None or asked.duration is not None else COUNT
    mean_in, mean_out = workload.mean_input, workload.mean_output
    longest = round(max(workload.input_tokens, 16 * mean_in if asked.input_sigma else 0)) + round(
        max(workload.output_tokens, 16 * mean_out if asked.output_sigma else 0)
    )
    if asked.conversations is not None:
        talk = asked.conversations
        turns = talk.turns * (4 if talk.spread_turns else 1)
        later = mean_out if talk.later_output is None else talk.later_output
        longest += (turns - 1) * (max(workload.output_tokens, round(later)) + talk.added_tokens)
        mean_in += 0.5 * (talk.turns - 1) * (later + talk.added_tokens) + (talk.turns - 1) / talk.turns * (mean_out - later)
        mean_out = (mean_out + (talk.turns - 1) * later) / talk.turns
    if question.model.max_context is not None:
        longest = min(longest, question.model.max_context)
    if workload.rate is not None:
        law = workload.arrivals or "poisson"
        return Load(
            workload.rate, 0, count, asked.duration, mean_in, mean_out, longest, f"{law} arrivals, {workload.rate:.4g}/s"
        )
    clients = workload.concurrency
    if clients is None:
        plain = replace(question, requests=None, faults=None)
        clients = max(1, round(evaluate(plain).metric("concurrency").value))
    if asked.wave is not None:
        raise Unanswerable(
            ("requests", "wave"), "a wave goes with workload.rate: a closed loop's requests come as others leave"
        )
    return Load(None, clients, count, asked.duration, mean_in, mean_out, longest, f"a closed loop of {clients:,}")


def _traced(question: ServingQuestion, asked: Requests) -> Load:
    """One pass over the trace, for its means and its longest request."""
    assert asked.trace is not None
    for name in ("rate", "concurrency"):
        if getattr(question.workload, name) is not None:
            raise Unanswerable(
                ("workload", name), f"requests.trace has its own arrivals: remove workload.{name}, or scale it with rate_scale"
            )
    total = count = longest = 0
    out, last = 0, 0
    for chunk in trace_chunks(asked.trace.file, _scale(asked), asked.count, question.model.max_context):
        a = chunk.arrivals
        if asked.duration is not None:
            a = a[a["at"] < asked.duration * _PS]
        count += a.size
        total += int(a["input"].sum())
        out += int(a["output"].sum())
        if a.size:
            longest, last = max(longest, int((a["input"] + a["output"]).max())), int(a["at"][-1])
        if a.size < chunk.arrivals.size:
            break
    if count == 0:
        raise Unanswerable(("requests", "duration"), f"no request of {asked.trace.file} arrives in {asked.duration:g} s")
    seconds = max(last / _PS, 1e-9)
    kind = format_of(asked.trace.file)
    said = f"{asked.trace.file.name} ({kind.name}), {count:,} requests in {seconds:,.0f} s"
    return Load(count / seconds, 0, count, None, total / count, max(1.0, out / count), longest, said, kind)


def _scale(asked: Requests) -> Scale:
    trace = asked.trace
    return Scale(trace.rate_scale, trace.input_scale, trace.output_scale) if trace else Scale()


def _blocks(asked: Requests, serving: Serving, load: Load) -> tuple[int, int]:
    """Tokens of a unit of KV cache, and of a named block of prompts: the trace's, else a unit."""
    unit = asked.scheduler.block_tokens or _UNIT_TOKENS[serving.backend]
    named = load.trace.block_tokens if load.trace else 0
    if named == 0:
        return unit, unit
    unit = min(unit, named)
    if named % unit:
        raise Unanswerable(
            ("requests", "scheduler", "block_tokens"),
            f"block_tokens ({unit}) must divide the {named} tokens of the trace's blocks: use {_UNIT_TOKENS['vllm']}",
        )
    return unit, named


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
    shelf: _Shelf,
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


class _Shelf:
    """Step tables as they are asked for, each made once."""

    def __init__(self, setting: Setting, load: Load, asked: Requests) -> None:
        self.setting, self.load = setting, load
        self.tables: list[Table] = []
        self.places: dict[object, int] = {}

    def place(self, arrangement: Arrangement, slots: float, chunk: float, nic_share: float, imbalance: float) -> int:
        """Where the table of that worker stands."""
        key = (arrangement, slots, chunk, nic_share, imbalance)
        if key not in self.places:
            setting = self.setting
            if nic_share != 1.0:
                node = setting.cluster.node
                slow = node.nic.model_copy(update={"bandwidth": node.nic.bandwidth * nic_share})
                cluster = setting.cluster.model_copy(update={"node": node.model_copy(update={"nic": slow})})
                setting = replace(setting, cluster=cluster)
            if imbalance:
                setting = replace(setting, skew=replace(setting.skew, rank_imbalance=setting.skew.rank_imbalance + imbalance))
            reach = Reach(max(2.0, slots / _one(arrangement.pp)), float(max(self.load.longest, 1024)), chunk)
            self.places[key] = len(self.tables)
            self.tables.append(step_table(setting, arrangement, reach))
        return self.places[key]

    def whole(self) -> Shelf:
        return shelf_of(self.tables)


def _faults(question: ServingQuestion, kinds: list[Kind], until_s: float, shelf: _Shelf) -> Schedule | None:
    faults = question.faults
    if faults is None or question.serving is None:
        return None
    serving = question.serving
    workers = {"decode": serving.decode, "prefill": serving.prefill}
    groups, place = [], 0
    for kind in kinds:
        pool = "prefill" if kind.role == at.PREFILLS else "decode"
        for number in range(kind.count):
            size = kind.gpus // kind.ranks
            groups.append(
                Group(place, pool, number, kind.ranks, size, question.cluster.node.gpus, kind.table, kind.port_bytes_per_s)
            )
            place += 1
    _hit_something(faults, groups)

    def table_of(group: Group, lost: int, share: float) -> int:
        worker = workers[group.pool]
        assert worker is not None
        arrangement = arrangement_of(worker)
        if lost:
            left = (group.ranks - lost) / group.ranks
            slots = (question.model.experts + worker.redundant_experts) / worker.ep
            ep = max(1.0, arrangement.ep * left)
            spare = max(0.0, slots * ep - question.model.experts) if question.model.experts else 0.0
            arrangement = replace(arrangement, dp=arrangement.dp * left, ep=ep, redundant=spare)
        return shelf.place(arrangement, float(most_sequences(worker)), float(worker.chunk_tokens), share, 0.0)

    return schedule(faults, groups, until_s, question.seed, table_of)


def _rebalances(asked: Requests, kinds: list[Kind], until_s: float) -> Iterator[tuple[int, int, int, int, float]]:
    """Every worker's experts rebalanced, one pool after the other."""
    drift = asked.drift
    if drift is None or drift.every is None:
        return
    for worker in range(sum(kind.count for kind in kinds)):
        for number in range(1, int(until_s / drift.every) + 1):
            when = number * drift.every
            yield round(when * _PS), int(at.REBALANCE), worker, round((when + drift.cost) * _PS), 1.0


def _in_time(plan: Schedule | None, others: Iterator[tuple[int, int, int, int, float]]) -> Any:
    """All planned changes by their times."""
    more = np.array(list(others), at.CHANGE)
    whole = np.concatenate((plan.changes, more)) if plan is not None else more
    return whole[np.argsort(whole["at"], kind="stable")]


def _closed_rate(question: ServingQuestion, load: Load) -> float:
    workload = question.workload.model_copy(
        update={"rate": None, "arrivals": None, "burstiness": None, "concurrency": load.clients}
    )
    return float(evaluate(replace(question, workload=workload, requests=None, faults=None)).metric("requests_per_s").value)


def _hit_something(faults: Faults, groups: list[Group]) -> None:
    known = {(g.pool, g.number) for g in groups}
    for number, fault in enumerate(faults.at):
        if (fault.pool, fault.worker) not in known:
            have = sum(g.pool == fault.pool for g in groups)
            raise Unanswerable(
                ("faults", "at", number),  # type: ignore[arg-type]
                f"there is no {fault.pool} worker {fault.worker}: the pool has {have}, counted from 0",
            )


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
        patience=-1 if router.patience is None else router.patience * _PS,
        layerwise=asked.transfer.by == "layer",
        layers=layers,
        early=asked.transfer.reserve or asked.transfer.by == "layer",
        append=router.append,
        token_bytes=token_bytes(question, setting),
        handover_steps=setting.engine.handover_steps if handover is None else 0.0,
        move_latency=(question.cluster.node.nic.latency + (setting.engine.handover if handover is None else handover)) * _PS,
        tool_policy={"keep": 0, "drop": 1, "pin": 2}[tools.cache],
        ttl=(tools.ttl or 0.0) * _PS,
        closed=load.clients,
        retries=asked.retries,
        backoff=asked.backoff * _PS,
        resume=asked.resume,
        host_rate=getattr(host, "host_bandwidth", 5e10) or 5e10,
        sample=max(1e9, seconds / _SAMPLES * _PS),
        until=NEVER if asked.duration is None or not load.clients else asked.duration * _PS,
        first_steps=setting.engine.first_steps,
        first_token=setting.engine.first_token * _PS,
        stream=scheduler.stream,
        poll=scheduler.poll * _PS,
        poll_steps=max(1, round(serving.poll_steps)),
        wait_steps=serving.wait_steps,
        wait_fill=serving.wait_fill,
        balance_steps=_patience(setting, serving),
        span_from=span_from * _PS,
        span_to=span_to * _PS,
        scale_every=0 if scaling is None else scaling.every * _PS,
        scale_up=0.0 if scaling is None else scaling.waiting,
        scale_down=0.0 if scaling is None else scaling.busy,
        scale_least=1 if scaling is None else scaling.least,
        scale_ahead=0 if scaling is None or scaling.policy == "reactive" else scaling.start_up * _PS,
        scale_full=1.0 if scaling is None else scaling.full,
        start_up=0 if scaling is None else scaling.start_up * _PS,
        imbalance_period=0 if drift is None else drift.period * _PS,
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
