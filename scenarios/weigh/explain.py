"""Why the answer is what it is: what the step is made of, and what a little more or less of every hardware number would do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from ...hwmodels.backends import Backend, load_backend
from ...hwmodels.errors import BadInput
from ...hwmodels.units import format_time
from ...sim.inputs.question import Question
from ...sim.inputs.serving_question import ServingQuestion
from ..answer.evaluation import Evaluation, Explanation, Sensitivity, StepTime
from ..answer.words.glossary import bound_words
from ..answer.words.leading_metric import relative
from ..answer.words.number_text import digits, share
from ..ask.scenario import Source, load_simulated
from .engine_number import ENGINE_TIMES, slowed, time_words
from .evaluation_of import evaluation_of, evaluation_of_question, with_closest
from .hardware_number import NUMBERS, HardwareNumber, scaled, shown

STEP = 0.1
#: What "buys" speaks of: throughput, but where the load is given and only waiting can shrink, the time per token.
ANSWERS = ("output_tokens_per_s_gpu", "tpot", "ttft", "layer", "input_tokens_per_s_gpu")
_NOTHING = 1e-4
_LISTED = 3

Progress = Callable[[int, int], None]
#: Path, words, (value, source), and the answer with that many times of it.
Number = tuple[str, str, tuple[str, str], Callable[[float], Evaluation | None]]


def explain(
    name_or_path: Source, sets: Sequence[str] = (), step: float = STEP, progress: Progress | None = None
) -> Explanation:
    """The scenario's answer, and its sensitivity to ``step`` more and less of each number, the strongest first.

    A scenario that looks for a deployment is explained at the best one, or at the closest if none meets its limits. Raises
    BadInput.
    """
    if not 0 < step < 1:
        raise BadInput(f"step must lie between 0 and 1 (0.1: 10 % more and less), got {step:g}")
    scenario, said = with_closest(load_simulated(name_or_path, sets))
    question, answer = scenario.resolve(), evaluation_of(scenario)
    found: list[Sensitivity] = []
    shaken = list(_shaken(question))
    for done, (path, words, (value, source), vary) in enumerate(shaken):
        if progress is not None:
            progress(done, len(shaken))
        more, less = (_effect(answer, vary, factor) for factor in (1.0 + step, 1.0 - step))
        found.append(Sensitivity(path, words, value, source, step, more, less))
    key = answer_key(answer, found)
    found.sort(key=lambda s: -abs(strength(s, key)))
    return Explanation(said + _sentence(answer, found, key), answer, tuple(found))


def answer_key(answer: Evaluation, found: Sequence[Sensitivity]) -> str:
    """The metric that the sensitivities are sorted by: the first of `ANSWERS` that any of them moves."""
    keys = [key for key in ANSWERS if any(metric.key == key for metric in answer.metrics)]
    moved = [key for key in keys if any(abs(strength(s, key)) > _NOTHING for s in found)]
    return (moved or keys or [answer.metrics[0].key])[0]


def strength(sensitivity: Sensitivity, key: str) -> float:
    """The relative change of ``key`` with more of the number; with less, where more is impossible or changes nothing."""
    more = sensitivity.more.get(key, 0.0)
    return more if abs(more) > _NOTHING else sensitivity.less.get(key, 0.0)


def bought(answer: Evaluation, key: str, change: float) -> str:
    """A relative change of ``key`` as what it buys or costs: "buys 4.1 %"."""
    if abs(change) < _NOTHING:
        return "changes nothing"
    better = change < 0 if answer.metric(key).better == "low" else change > 0
    size = 100 * abs(change)
    return f"{'buys' if better else 'costs'} {size:.1f} %" if size >= 1 else f"{'buys' if better else 'costs'} {size:.1g} %"


def _shaken(question: Question | ServingQuestion) -> Iterator[Number]:
    """Every hardware number, and the times of the engine where there is one."""
    cluster = question.cluster
    for number in NUMBERS:
        yield f"cluster.{number.path}", number.words, shown(cluster, number), partial(_on_other_hardware, question, number)
    if isinstance(question, ServingQuestion) and question.serving is not None:
        engine = load_backend(question.serving.backend)
        for key, words in ENGINE_TIMES.items():
            told = time_words(engine, cluster.calibration, key)
            yield f"{engine.name}.{key}", f"{engine.name}'s {words}", told, partial(_by_other_engine, question, engine, key)


def _on_other_hardware(question: Question | ServingQuestion, number: HardwareNumber, factor: float) -> Evaluation | None:
    cluster = scaled(question.cluster, number, factor)
    return evaluation_of_question(replace(question, cluster=cluster)) if cluster is not None else None


def _by_other_engine(question: ServingQuestion, engine: Backend, key: str, factor: float) -> Evaluation | None:
    other = slowed(engine, question.cluster.calibration, key, factor)
    return evaluation_of_question(question, other) if other is not None else None


def _effect(answer: Evaluation, vary: Callable[[float], Evaluation | None], factor: float) -> dict[str, float]:
    """Relative change of every metric; empty if the number cannot be moved that way."""
    try:
        there = vary(factor)
    except BadInput:  # with less of it there is no answer (memory that no longer fits)
        return {}
    return relative(answer, there) if there is not None else {}


def _sentence(answer: Evaluation, found: Sequence[Sensitivity], key: str) -> str:
    steps = [step for pool in answer.pools for step in pool.steps]
    told = _composition(steps[0]) if steps else answer.name
    telling = [s for s in found if abs(s.more.get(key, 0.0)) > _NOTHING][:_LISTED]
    if not telling:
        return f"{told}; no hardware number moves the answer."
    first, *others = telling
    buys = f"{digits(100 * first.step)} % more {first.words} {bought(answer, key, first.more[key])}"
    buys += "".join(f", {s.words} {bought(answer, key, s.more[key]).removeprefix('buys ')}" for s in others)
    return f"{told}. For {answer.metric(key).words}: {buys}."


def _composition(step: StepTime) -> str:
    """The step's time and the groups it is made of, the largest first, each with what bounds most of it."""
    groups: dict[str, float] = {}
    bounds: dict[str, dict[str, float]] = {}
    for part in step.parts:
        groups[part.group] = groups.get(part.group, 0.0) + part.exposed_s
        held = bounds.setdefault(part.group, {})
        held[part.bound] = held.get(part.bound, 0.0) + part.exposed_s
    largest = sorted(groups, key=lambda group: -groups[group])[:4]
    whole = sum(groups.values()) or 1.0
    listed = ", ".join(
        f"{share(groups[group] / whole)} {group} ({bound_words(max(bounds[group], key=lambda b: bounds[group][b]))})"
        for group in largest
        if groups[group] > 0.005 * whole
    )
    named = "Layer" if step.phase == "layer" else f"{step.phase.capitalize()} step"
    return f"{named} {format_time(step.seconds)}: {listed}"
