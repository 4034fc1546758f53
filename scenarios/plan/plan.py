"""The cheapest deployment that meets the limits, and what it trades; or what no deployment meets, and what would help.

A deployment's numbers are the closed form's (`plan_table` says what a deployment is); the best few have their exchange played
event by event. Cheapest: dollars per million output tokens, the prompts' part of the bill included; at an arrival rate that is
the order of dollars an hour. The front: deployments that no other one beats in both cost and time per token, among those whose
first token comes in time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ... import __version__
from ...hwmodels.backends import load_backend
from ...hwmodels.errors import BadInput
from ...hwmodels.units import format_bytes, format_time
from ...sim.inputs.serving_question import ServingQuestion
from ...sim.layer.result import InputRow
from ..answer.evaluation import Evaluation, Limit, Plan
from ..ask.idle_keys import idle_search_keys
from ..ask.search import Search
from .candidates import Ranked, Shown, candidates
from .events import get_ready, longer_tpot_s, played_seconds
from .levers import unmet
from .second_process import SecondProcess
from .table import Table, on_cluster, setting_for, table_of
from .workers import NO_MEMORY

Progress = Callable[[int, int], None]
Play = Callable[..., float | None]


def plan(question: ServingQuestion, search: Search, progress: Progress | None = None) -> Plan:
    """Search for the cheapest deployment that meets the question's limits. Same question and search, same plan.

    ``progress`` is called with steps done and their number. Raises BadInput if the search asks for what cannot be.
    """
    if not search.confirm or not question.model.moe_layers:
        return _planned(question, search, progress, played_seconds)
    setting = setting_for(question, search)
    with SecondProcess(played_seconds, lambda: get_ready(setting, question.seed)) as play:
        return _planned(question, search, progress, play)


def _planned(question: ServingQuestion, search: Search, progress: Progress | None, play: Play) -> Plan:
    limited = question
    if question.plays:  # the request-level run is loaded by who asks for it
        from .tails import of_means, played

        limited = replace(question, slo=of_means(question.slo))
    questions = [limited, *(on_cluster(limited, name) for name in search.clusters)]
    steps = len(questions) + 2
    tables: list[Table] = []
    for asked in questions:
        tables.append(table_of(asked, search if asked is limited else search.model_copy(update={"gpus": asked.cluster.gpus})))
        if progress is not None:
            progress(len(tables), steps)
    if not any(t.considered or len(t.prefill) or len(t.decode) for t in tables):
        raise BadInput(
            f"search: no worker of {question.model.name} has any of these widths: heads divide over tp, experts and their "
            "replicas over ep, and a worker is no larger than search.gpus and worker_gpus: leave tp, dp, pp and ep open"
        )
    ranked = Ranked(tables)
    shown = candidates(ranked, search)
    missed: tuple[Limit, ...] = ()
    if question.plays:
        shown, missed = played(shown, question)
    best = shown[0].answer if shown and shown[0].candidate.meets else None
    notes: list[str] = [*search.held, *idle_search_keys(search, question.model)]
    limits: tuple[Limit, ...] = ()
    closest: Evaluation | None = None
    if best is not None:
        limits = best.limits
        notes += best.notes
    else:
        notes.append(question.model.said)
        closest = shown[0].answer if shown else None
        limits = missed or unmet(_closest(tables), closest, notes.append)
        if missed:
            notes.append("the cheapest that meet the limits on average were played request by request: none meets all limits")
    if progress is not None:
        progress(steps - 1, steps)
    shown = _confirmed(shown, search, question.seed, play)
    if "confirm" in search.model_fields_set and search.confirm and not any(s.candidate.events_tpot_s for s in shown):
        notes.append("nothing was played event by event (search.confirm): what meets the limits here exchanges no tokens")
    if progress is not None:
        progress(steps, steps)
    ruled_out: Counter[str] = Counter()
    for t in tables:
        ruled_out += t.ruled_out
    if unpriced := [t.unpriced for t in tables if t.unpriced]:
        notes.append(f"ranked by GPUs: {unpriced[0]}")
    considered = sum(t.considered for t in tables)
    fitting = considered - sum(count for reason, count in ruled_out.items() if reason == NO_MEMORY)
    chosen = shown[0].candidate if best is not None else None
    words = chosen.arrangement if chosen else ""
    if chosen and question.slo.tpot and (chosen.events_tpot_s or 0.0) > question.slo.tpot:
        notes.append(
            f"played event by event its time per token is {format_time(chosen.events_tpot_s or 0.0)}, beyond the limit: "
            "drawn routing is less even than expected rows; ask for a little less, or take the next on the front"
        )
    return Plan(
        name=question.name,
        description=question.description,
        sentence=_sentence(question, best, considered, limits, words),
        considered=considered,
        fitting=fitting,
        meeting=int((ranked.misses <= 1.0).sum()) - ranked.failed + ranked.gained,
        best=best,
        candidates=tuple(s.candidate for s in shown),
        limits=limits,
        ruled_out=dict(sorted(ruled_out.items(), key=lambda item: (-item[1], item[0]))),
        notes=tuple(notes),
        inputs=_said_or_found(evidence.inputs, search) if (evidence := best or closest) is not None else (),
        closest=closest,
        seed=question.seed,
        version=__version__,
    )


def _said_or_found(inputs: tuple[InputRow, ...], search: Search) -> tuple[InputRow, ...]:
    """``inputs`` in which a deployment's values say whether the search was told them or found them."""
    told = {name.removesuffix("s") for name in search.model_fields_set} | search.model_fields_set
    found = []
    for row in inputs:
        if row.section == "deployment" and row.source == "scenario":
            key = row.name.removeprefix("decode.").replace("prefill.", "prefill_")
            row = replace(
                row, source="scenario's search" if key in told or search.is_held(key, f"{key}s") else "found by the search"
            )
        found.append(row)
    return tuple(found)


def _closest(tables: list[Table]) -> Table:
    """The table with the deployment that misses least; of those without any, the one whose memory lacks least."""
    filled = [t for t in tables if len(t.rows)]
    if filled:
        return min(filled, key=lambda t: float(t.misses().min()))
    return min(tables, key=lambda t: t.short_bytes or np.inf)


def _confirmed(shown: list[Shown], search: Search, seed: int, play: Play) -> list[Shown]:
    """The same, the best few that meet the limits with their exchange played event by event; alike decode workers once."""
    known: dict[object, float | None] = {}
    best = sorted((s for s in shown if s.candidate.meets), key=lambda s: s.rank)
    places = [(id(s.table), s.row) for s in best if s.candidate.serving.decode.dp > 1][: search.confirm]
    played = []
    for s in shown:
        if (id(s.table), s.row) in places:
            tpot = _events(s, known, seed, play)
            s = replace(s, candidate=replace(s.candidate, events_tpot_s=tpot))
        played.append(s)
    return played


def _events(shown: Shown, known: dict[object, float | None], seed: int, play: Play) -> float | None:
    table, serving = shown.table, shown.candidate.serving
    setting = replace(table.setting, backend=load_backend(serving.backend))
    found = {metric.key: metric.value for metric in shown.answer.metrics}  # that of requests one by one has no batch
    batch = found.get("batch", float(serving.decode.batch or 1))
    key = (table.question.cluster.label, serving.backend, serving.decode.model_copy(update={"count": 1}), batch)
    if key not in known:
        known[key] = longer_tpot_s(setting, table.question.workload.routing, serving.decode, batch, seed, play)
    longer = known[key]
    return None if longer is None else shown.candidate.values["tpot"] + longer


def _sentence(
    question: ServingQuestion, best: Evaluation | None, considered: int, limits: tuple[Limit, ...], arrangement: str
) -> str:
    load, slo = question.workload, question.slo
    wanted = [
        f"{name} within {format_time(limit)}" for name, limit in (("TTFT", slo.ttft), ("TPOT", slo.tpot)) if limit is not None
    ]
    wanted += [f"in {10 * slo.confidence:g} of 10 cases"] if slo.confidence is not None else []
    wanted += [f"{load.rate:g} requests/s"] if load.rate is not None else []
    wanted += [f"{load.concurrency:,} in flight"] if load.concurrency is not None else []
    asked = (
        f"{question.model.name}, {load.input_tokens:,} tokens in and {load.output_tokens:,} out"
        f"{''.join(f', {each}' for each in wanted)}"
    )
    if best is None or best.serving is None:
        missed = [limit for limit in limits if not limit.met]
        why = "; ".join(f"{_gap(limit)}: {limit.lever}" for limit in missed)
        return f"{asked}: none of {considered:,} deployments will do. {why}."
    usd, per_gpu = best.metric("usd_per_mtok_output").value, best.metric("output_tokens_per_s_gpu").value
    which, price = ("smallest", "no price") if best.unpriced else ("cheapest", f"${usd:.2f} per million")
    return (
        f"{asked}: of {considered:,} deployments the {which} takes {best.gpus} GPUs of {best.cluster} ({best.serving.mode}: "
        f"{arrangement}) and makes {per_gpu:,.0f} output tokens/s a GPU at {price}, "
        f"TTFT {format_time(best.metric('ttft').value)}, TPOT {format_time(best.metric('tpot').value)}."
    )


def _gap(limit: Limit) -> str:
    if limit.unit == "s":
        return f"The closest has a {limit.words} of {format_time(limit.got)}, wanted {format_time(limit.wanted)}"
    if limit.unit == "B":
        return f"The {limit.words} is short of {format_bytes(limit.got - limit.wanted, binary=True)}"
    if limit.key == "gpus":
        return f"There are {limit.wanted:.0f} GPUs, {limit.got:.0f} are the fewest {limit.words}"
    if limit.key == "in_flight":
        return f"There are {limit.got:,.0f} requests in flight, batches that are looked at take {limit.wanted:,.0f} or more"
    return f"They carry {limit.got:.4g} of {limit.wanted:.4g} {limit.words}"
