"""Plans, sweeps, comparisons and explanations as one flat table each, values in SI units."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Sequence

from ..answer.evaluation import Comparison, Evaluation, Explanation, Plan, Sweep
from ..answer.leading_metric import meets
from ..weigh.mechanism import step_changes


def plan_csv(plan: Plan) -> str:
    """A row a candidate: its arrangement, whether it lies on the front and meets the limits, and its metrics."""
    keys = _in_order(candidate.values for candidate in plan.candidates)
    rows = [
        [c.cluster, c.gpus, c.arrangement, c.on_front, c.meets, c.events_tpot_s, *(c.values.get(key) for key in keys)]
        for c in plan.candidates
    ]
    return _table(["cluster", "gpus", "arrangement", "on_front", "meets", "events_tpot_s", *keys], rows)


def sweep_csv(sweep: Sweep) -> Iterator[str]:
    """A row a point, one after another: the swept values, the metrics, whether every limit is met and the point lies on the
    front, or why there is no answer."""
    yield _line(sweep_columns(sweep))
    for row in sweep_rows(sweep):
        yield _line(row)


def sweep_columns(sweep: Sweep) -> list[str]:
    """The columns of a sweep's table."""
    return [*sweep.axes, "gpus", "meets", "on_front", *sweep.keys, "refusal"]


def sweep_rows(sweep: Sweep) -> Iterator[list[object]]:
    """The rows of a sweep's table, as `sweep_columns` names them."""
    on_front = set(sweep.front)
    for place, point in enumerate(sweep.points):
        answer = point.evaluation
        values = _values(answer) if answer is not None else {}
        told = [answer.gpus, meets(answer), place in on_front] if answer is not None else [None, None, None]
        yield [*point.values, *told, *(values.get(key) for key in sweep.keys), point.refusal]


def comparison_csv(comparison: Comparison) -> str:
    """Rows of three kinds: each change with its effect on every metric, each metric, each part of the steps in seconds."""
    a, b = _values(comparison.a), _values(comparison.b)
    rows: list[list[object]] = []
    for change in comparison.changes:
        effects: list[tuple[str, float | None]] = [*change.effect.items()] or [("", None)]
        rows += [["change", change.path, key, change.before, change.after, effect] for key, effect in effects]
    for key in [*a, *(key for key in b if key not in a)]:
        rows.append(["metric", "", key, a.get(key), b.get(key), _ratio(a.get(key), b.get(key))])
    for step in step_changes(comparison.a, comparison.b):
        rows.append(
            ["step", step.phase, "", step.before.seconds, step.after.seconds, _ratio(step.before.seconds, step.after.seconds)]
        )
        rows += [
            ["part", step.phase, part.name, part.before_s, part.after_s, _ratio(part.before_s, part.after_s)]
            for part in step.parts
        ]
    return _table(["kind", "of", "name", "a", "b", "relative_change"], rows)


def explanation_csv(explanation: Explanation) -> str:
    """A row a hardware number: its value, and the relative change of every metric with more and with less of it."""
    found = explanation.sensitivities
    keys = _in_order(effect for s in found for effect in (s.more, s.less))
    rows = [
        [s.path, s.words, s.value, s.step, *(s.more.get(key) for key in keys), *(s.less.get(key) for key in keys)]
        for s in found
    ]
    return _table(["path", "name", "value", "step", *(f"more:{key}" for key in keys), *(f"less:{key}" for key in keys)], rows)


def _values(evaluation: Evaluation) -> dict[str, float]:
    return {metric.key: metric.value for metric in evaluation.metrics}


def _ratio(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None or before == 0 else after / before - 1.0


def _in_order(keyed: Iterable[Iterable[str]]) -> list[str]:
    return list(dict.fromkeys(key for keys in keyed for key in keys))


def _table(names: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    return "".join(map(_line, (names, *rows)))


def _line(row: Sequence[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow([_cell(value) for value in row])
    return text.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.12g}" if math.isfinite(value) else ""
    return "" if value is None else value
