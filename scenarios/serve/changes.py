"""What changes while a deployment serves: failures and repairs of its workers, and rebalances of their experts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from ...sim.inputs.feasible import Unanswerable
from ...sim.inputs.requests import Faults, Requests
from ...sim.inputs.serving_question import ServingQuestion
from ...sim.serving.faults.pools import Group
from ...sim.serving.faults.schedule import Schedule, schedule
from ...sim.serving.requests.fleet import Kind
from ...sim.serving.requests.loop import layout as at
from ...sim.step.worker import arrangement_of
from ..answer.operating_point import most_sequences
from .load import PS
from .tables import Tables


def failures(question: ServingQuestion, kinds: list[Kind], until_s: float, shelf: Tables) -> Schedule | None:
    """Failures and repairs up to ``until_s`` seconds, None where none are asked.

    Raises Unanswerable for a worker that is not there.
    """
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


def rebalances(asked: Requests, kinds: list[Kind], until_s: float) -> Iterator[tuple[int, int, int, int, float]]:
    """Every worker's experts rebalanced, one pool after the other."""
    drift = asked.drift
    if drift is None or drift.every is None:
        return
    for worker in range(sum(kind.count for kind in kinds)):
        for number in range(1, int(until_s / drift.every) + 1):
            when = number * drift.every
            yield round(when * PS), int(at.REBALANCE), worker, round((when + drift.cost) * PS), 1.0


def in_time(plan: Schedule | None, others: Iterator[tuple[int, int, int, int, float]]) -> Any:
    """All planned changes by their times."""
    more = np.array(list(others), at.CHANGE)
    whole = np.concatenate((plan.changes, more)) if plan is not None else more
    return whole[np.argsort(whole["at"], kind="stable")]


def _hit_something(faults: Faults, groups: list[Group]) -> None:
    known = {(g.pool, g.number) for g in groups}
    for number, fault in enumerate(faults.at):
        if (fault.pool, fault.worker) not in known:
            have = sum(g.pool == fault.pool for g in groups)
            raise Unanswerable(
                ("faults", "at", number),  # type: ignore[arg-type]
                f"there is no {fault.pool} worker {fault.worker}: the pool has {have}, counted from 0",
            )
