"""From one scenario to another, a change at a time: what each change alone does to the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

from pydantic import ValidationError

from ...hwmodels.errors import BadInput
from ..answer.evaluation import Change, Evaluation
from ..answer.words.leading_metric import relative
from ..ask.changed_inputs import Difference, applied, differences, together, value_words, written
from ..ask.scenario import Simulated as Scenario
from .evaluation_of import evaluation_of

Progress = Callable[[int, int], None]
Group = tuple[Difference, ...]


def change_by_change(
    a: Scenario, b: Scenario, at_a: Evaluation, at_b: Evaluation, progress: Progress | None = None
) -> tuple[Change, ...]:
    """The changes from ``a`` to ``b`` in an order in which every scenario between them can be answered.

    ``at_a`` and ``at_b``: their evaluations. Each change's effect is on what the changes before it left. Changes that cannot
    stand alone (a wider EP that needs more nodes) are made together, and are one.
    """
    remaining = together(differences(a, b))
    count = len(remaining)
    state, here = written(a), at_a
    changes: list[Change] = []
    while remaining:
        if progress is not None:
            progress(count - len(remaining), count)
        if len(remaining) == 1:
            taken, there = remaining, at_b
        else:
            taken, there = _next(a, state, remaining, at_b)
        group = tuple(difference for group in taken for difference in group)
        changes.append(
            Change(
                " + ".join(difference.words for difference in group),
                ", ".join(value_words(difference, difference.before, a) for difference in group),
                ", ".join(value_words(difference, difference.after, b) for difference in group),
                relative(here, there),
            )
        )
        state, here = applied(state, group), there
        remaining = [group for group in remaining if group not in taken]
    return tuple(changes)


def _next(a: Scenario, state: dict[str, Any], remaining: Sequence[Group], at_b: Evaluation) -> tuple[list[Group], Evaluation]:
    """The fewest of ``remaining`` that can be made now, in their order, and the answer after them."""
    for size in (1, 2):
        if size >= len(remaining):
            break
        for taken in combinations(remaining, size):
            there = _tried(a, applied(state, (difference for group in taken for difference in group)))
            if there is not None:
                return list(taken), there
    for size in range(3, len(remaining)):  # every choice of many would be too many: the first ones
        there = _tried(a, applied(state, (difference for group in remaining[:size] for difference in group)))
        if there is not None:
            return list(remaining[:size]), there
    return list(remaining), at_b


def _tried(a: Scenario, state: dict[str, Any]) -> Evaluation | None:
    try:
        between = type(a).model_validate({"name": a.name, "description": a.description, **state})
        return evaluation_of(between)
    except (BadInput, ValidationError):
        return None
