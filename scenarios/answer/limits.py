"""The limits of a question against a deployment's times, each met with a chance that measured deployments tell."""

from __future__ import annotations

from collections.abc import Mapping

from ...sim.inputs.serving_question import ServingQuestion
from .evaluation import Limit
from .sureness import Sure, Time

#: What a limit in seconds is called.
LIMIT_WORDS: Mapping[Time, str] = {"ttft": "time to first token", "tpot": "time per output token"}
_LEVERS: Mapping[Time, str] = {
    "ttft": "more prefill workers, smaller chunks, or a lower load",
    "tpot": "a smaller batch (deployment.decode.batch), more GPUs a worker, or a lower load",
}


def met_words(limit: Limit) -> str:
    """How a limit stands: "yes", or with a known chance "in about 7 of 10 cases"; and the confidence asked for, if any."""
    if limit.chance is None:
        return "yes" if limit.met else "no"
    if limit.chance < 0.05:
        often = "in fewer than 1 of 20 cases"
    elif limit.chance > 0.95:
        often = "in more than 19 of 20 cases"
    else:
        often = f"in about {max(1, min(9, round(10 * limit.chance)))} of 10 cases"
    if limit.confidence == 0.5:
        return often if limit.met else f"no, {often}"
    return f"{often if limit.met else f'no, {often}'}, wanted in {10 * limit.confidence:g} of 10"


def limits_of(question: ServingQuestion, times: Mapping[Time, Sure]) -> tuple[Limit, ...]:
    """Each limit that is asked for: the median time, and the chance of keeping within the limit."""
    found = []
    for key, words in LIMIT_WORDS.items():
        wanted = getattr(question.slo, key)
        if wanted is not None:
            sure, asked = times[key], question.slo.sure
            met = float(sure.within(asked)) <= wanted
            lever = "" if met else _LEVERS[key]
            found.append(Limit(key, words, wanted, float(sure.shown_s), "s", met, lever, sure.chance(wanted), asked))
    return tuple(found)
