"""Two scenarios side by side: what differs, what it does to the answer, and which mechanism makes the difference."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...hwmodels.errors import BadInput
from ..answer.evaluation import Change, Comparison, Evaluation
from ..answer.words.leading_metric import LEADING
from ..answer.words.number_text import number_text, percent
from ..ask.changed_inputs import differences, search_differences, value_words
from ..ask.scenario import CalculatorScenario, Scenario, Simulated, Source, changed, read_scenario, scenario_document
from .change_by_change import change_by_change
from .evaluation_of import evaluation_of, with_deployment
from .mechanism import mechanism

_SHOWN = ("tpot", "ttft", "output_tokens_per_s_gpu", "usd_per_mtok_output", "layer")
_SAME = 5e-5
_LISTED = 4

Progress = Callable[[int, int], None]


def compare(
    a: Source,
    b: Source | None = None,
    sets: Sequence[str] = (),
    sets_a: Sequence[str] = (),
    sets_b: Sequence[str] = (),
    progress: Progress | None = None,
) -> Comparison:
    """Scenario ``a`` beside ``b``. ``sets`` change both, the others one of them. Without ``b``, ``sets`` make the second.

    Where deployments are looked for, the best of each is compared. Raises BadInput.
    """
    if b is None:
        if not (sets or sets_b):
            raise BadInput("one scenario alone has nothing to be compared with: name a second, or give --set path=value")
        first = changed(scenario_document(a), sets_a, "--set-a")
        second = changed(changed(first, sets), sets_b, "--set-b")
    else:
        first = changed(changed(scenario_document(a), sets), sets_a, "--set-a")
        second = changed(changed(scenario_document(b), sets), sets_b, "--set-b")
    return compared(read_scenario(first), read_scenario(second), progress)


def compared(a: Scenario, b: Scenario, progress: Progress | None = None) -> Comparison:
    """``a`` and ``b``, loaded. Raises BadInput."""
    if isinstance(a, CalculatorScenario) or isinstance(b, CalculatorScenario):
        name = a.name if isinstance(a, CalculatorScenario) else b.name
        raise BadInput(f"{name} is arithmetic (it has calculate): see its variants with `epicycle sweep`")
    if type(a) is not type(b):
        raise BadInput(f"{a.name} and {b.name} are different kinds of question, one layer and serving: compare two of one kind")
    for scenario in (a, b):
        scenario.resolve()  # both can be asked, before either is answered
    ours, theirs = with_deployment(a), with_deployment(b)
    at_a, at_b = evaluation_of(ours), evaluation_of(theirs)
    changes = change_by_change(ours, theirs, at_a, at_b, progress)
    asked = _asked(a, b)
    if ours is not a or theirs is not b:
        asked += f": the best deployment goes from {_deployment(at_a)} to {_deployment(at_b)}"
    return Comparison(_sentence(at_a, at_b, asked, changes), mechanism(at_a, at_b), at_a, at_b, changes)


def _sentence(a: Evaluation, b: Evaluation, asked: str, changes: Sequence[Change]) -> str:
    if not changes:
        return f"{a.name} and {b.name} ask the same question."
    shared = {metric.key for metric in b.metrics}
    told = []
    for metric in a.metrics:
        if metric.key in _SHOWN and metric.key in shared:
            after = b.metric(metric.key).value
            moved = after / metric.value - 1 if metric.value else 0.0
            if abs(moved) >= _SAME:
                before_text, after_text = number_text(metric.value, metric.unit), number_text(after, metric.unit)
                told.append(f"{metric.words} {before_text} -> {after_text} ({percent(moved)})")
    return f"{asked}: {'; '.join(told) or 'nothing that is answered changes'}. {strongest(changes, a)}".rstrip()


def _asked(a: Simulated, b: Simulated) -> str:
    """What was changed, as it was asked: two names, or the inputs that differ."""
    if a.name != b.name:
        return f"{b.name} against {a.name}"
    found = [*differences(a, b), *search_differences(a, b)]
    told = [f"{d.words} {value_words(d, d.before, a)} -> {value_words(d, d.after, b)}" for d in found[:_LISTED]]
    return ", ".join(told) + (f" and {len(found) - _LISTED} more" if len(found) > _LISTED else "")


def _deployment(answer: Evaluation) -> str:
    return f"{answer.gpus} GPUs ({'; '.join(f'{pool.role} {pool.arrangement}' for pool in answer.pools)})"


def strongest(changes: Sequence[Change], a: Evaluation) -> str:
    """Of several changes, the one that moved the leading metric most."""
    if len(changes) < 2:
        return ""
    for key in LEADING:
        strongest = max(changes, key=lambda change: abs(change.effect.get(key, 0.0)))
        if abs(strongest.effect.get(key, 0.0)) >= _SAME:
            return f"Most of it comes from {strongest.path}: {a.metric(key).words} {percent(strongest.effect[key])}."
    return ""
