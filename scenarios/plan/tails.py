"""Limits that no mean can settle: candidates of the closed form, the cheapest few played request by request."""

from __future__ import annotations

from dataclasses import replace

from ...sim.inputs.feasible import Unanswerable
from ...sim.inputs.serving import Serving, Slo, Workload
from ...sim.inputs.serving_question import ServingQuestion
from ..answer.evaluation import Limit
from ..serve.run import serve
from .candidates import Shown

#: Deployments that are played until one meets every limit.
_PLAYED = 5


def of_means(slo: Slo) -> Slo:
    """Limits that means must keep if tails are to: the closed form looks for candidates under them."""
    least: dict[str, float | None] = {}
    for key in ("ttft", "tpot"):
        given = [value for name, value in slo.tails.items() if name.startswith(key)]
        given += [getattr(slo, key)] if getattr(slo, key) is not None else []
        least[key] = min(given, default=None)
    return slo.model_copy(update={**dict.fromkeys(slo.tails), **least})


def with_room(serving: Serving, workload: Workload) -> Serving:
    """``serving`` as its requests are played: a plan's batch at an arrival rate is what decodes on average, and no engine that
    has to carry bursts would be limited to that; memory limits it."""
    if workload.rate is None:
        return serving
    return serving.model_copy(update={"decode": serving.decode.model_copy(update={"batch": None})})


def played(shown: list[Shown], question: ServingQuestion) -> tuple[list[Shown], tuple[Limit, ...]]:
    """``shown`` with the first that meets ``question``'s limits request by request in front, those before it marked as missing
    them; and, where none does, the limits of the one that misses least."""
    closest: tuple[float, tuple[Limit, ...]] | None = None
    kept = list(shown)
    unasked: Unanswerable | None = None
    for tried in [s for s in shown if s.candidate.meets][:_PLAYED]:
        room = with_room(tried.candidate.serving, question.workload)
        asked = replace(tried.table.question, serving=room, slo=question.slo)
        try:
            answer = serve(asked).evaluation
        except Unanswerable as error:
            unasked = error
            continue
        at = kept.index(tried)
        if all(limit.met for limit in answer.limits):
            del kept[at]
            return [replace(tried, answer=answer), *kept], ()
        kept[at] = replace(tried, candidate=replace(tried.candidate, meets=False))
        miss = max(max(x.got / x.wanted, x.wanted / max(x.got, 1e-9)) for x in answer.limits if not x.met)
        if closest is None or miss < closest[0]:
            closest = (miss, answer.limits)
    if closest is None and unasked is not None:  # none could be played, and why is the answer
        raise unasked
    kept = [replace(s, candidate=replace(s.candidate, meets=False)) for s in kept]
    return kept, closest[1] if closest is not None else ()
