"""Two scenarios side by side: what differs, what it does to the answer, and which mechanism makes the difference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ..hwmodels.errors import BadInput
from .answered import answered, settled
from .evaluation import Change, Comparison, Evaluation
from .figure import figure, percent
from .headline import LEADING
from .mechanism import mechanism
from .scenario import Scenario, changed, read_scenario, scenario_document
from .walk import walk

_SHOWN = ("tpot", "ttft", "output_tokens_per_s_gpu", "usd_per_mtok_output", "layer")
_SAME = 5e-5

Progress = Callable[[int, int], None]


def compare(
    a: str | Path,
    b: str | Path | None = None,
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
    if type(a) is not type(b):
        raise BadInput(f"{a.name} and {b.name} are different kinds of question, one layer and serving: compare two of one kind")
    for scenario in (a, b):
        scenario.resolve()  # both can be asked, before either is answered
    a, b = settled(a), settled(b)
    at_a, at_b = answered(a), answered(b)
    changes = walk(a, b, at_a, at_b, progress)
    return Comparison(_sentence(at_a, at_b, changes), mechanism(at_a, at_b), at_a, at_b, changes)


def _sentence(a: Evaluation, b: Evaluation, changes: Sequence[Change]) -> str:
    if not changes:
        return f"{a.name} and {b.name} ask the same question."
    named = f"{b.name} against {a.name}" if a.name != b.name else _made(changes)
    shared = {metric.key for metric in b.metrics}
    told = []
    for metric in a.metrics:
        if metric.key in _SHOWN and metric.key in shared:
            after = b.metric(metric.key).value
            moved = after / metric.value - 1 if metric.value else 0.0
            if abs(moved) >= _SAME:
                told.append(
                    f"{metric.words} {figure(metric.value, metric.unit)} -> {figure(after, metric.unit)} ({percent(moved)})"
                )
    return f"{named}: {'; '.join(told) or 'nothing that is answered changes'}.{_strongest(changes, a)}"


def _made(changes: Sequence[Change]) -> str:
    return ", ".join(f"{change.path} {change.before} -> {change.after}" for change in changes[:4]) + (
        f" and {len(changes) - 4} more" if len(changes) > 4 else ""
    )


def _strongest(changes: Sequence[Change], a: Evaluation) -> str:
    """Of several changes, the one that moved the leading metric most."""
    if len(changes) < 2:
        return ""
    for key in LEADING:
        strongest = max(changes, key=lambda change: abs(change.effect.get(key, 0.0)))
        if abs(strongest.effect.get(key, 0.0)) >= _SAME:
            return f" Most of it comes from {strongest.path}: {a.metric(key).words} {percent(strongest.effect[key])}."
    return ""
