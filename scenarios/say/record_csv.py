"""Plans, sweeps, comparisons and explanations as one flat table each, values in SI units."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Sequence

from ...hwmodels.interval import UNKNOWN
from ...sim.inputs.serving import Serving
from ...sim.layer.result import Answer
from ..answer.evaluation import Comparison, Evaluation, Explanation, Plan, Sweep
from ..answer.exchange_choice import Exchanges
from ..answer.request_run import RequestRun
from ..answer.words.leading_metric import meets
from ..weigh.mechanism import step_changes


def plan_csv(plan: Plan) -> str:
    """A row a candidate: its arrangement, whether it lies on the front and meets the limits, and its metrics."""
    keys = _in_order(candidate.values for candidate in plan.candidates)
    front = [
        [c.cluster, c.gpus, c.arrangement, *shape(c.serving), c.on_front, c.meets, c.events_tpot_s] for c in plan.candidates
    ]
    rows = [[*cells, *(c.values.get(key) for key in keys)] for cells, c in zip(front, plan.candidates, strict=True)]
    return _table(["cluster", "gpus", "arrangement", *SHAPE, "on_front", "meets", "events_tpot_s", *keys], rows)


def sweep_csv(sweep: Sweep) -> Iterator[str]:
    """A row a point, one after another: the swept values, the metrics, whether every limit is met and the point lies on the
    front, or why there is no answer."""
    yield _line(sweep_columns(sweep))
    for row in sweep_rows(sweep):
        yield _line(row)


def sweep_columns(sweep: Sweep) -> list[str]:
    """The columns of a sweep's table."""
    return [*sweep.axes, "gpus", *SHAPE, "meets", "on_front", *sweep.keys, "refusal"]


def sweep_rows(sweep: Sweep) -> Iterator[list[object]]:
    """The rows of a sweep's table, as `sweep_columns` names them."""
    on_front = set(sweep.front)
    for place, point in enumerate(sweep.points):
        answer = point.evaluation
        values = _values(answer) if answer is not None else {}
        if answer is None:
            told: list[object] = [None] * (3 + len(SHAPE))
        else:
            told = [answer.gpus, *shape(answer.serving), meets(answer), place in on_front]
        yield [*point.values, *told, *(values.get(key) for key in sweep.keys), point.refusal]


#: Columns of a deployment: its engine, its workers' widths and settings; those of prefill workers with their name before them.
_WORKER = ("tp", "dp", "pp", "ep", "count", "protocol", "batch", "chunk_tokens", "redundant_experts", "overlap", "comm_sms")
SHAPE = (
    "backend",
    "mode",
    *_WORKER,
    *(f"prefill_{name}" for name in _WORKER),
    "kv",
    "weights",
    "experts",
    "mtp",
    "memory_share",
)


def shape(serving: Serving | None) -> list[object]:
    """The cells of `SHAPE`; empty where there is no such thing."""
    if serving is None:
        return [None] * len(SHAPE)
    workers = [getattr(worker, name, None) for worker in (serving.decode, serving.prefill) for name in _WORKER]
    rest = [serving.kv, serving.weights, serving.experts, serving.mtp, serving.memory_share]
    return [serving.backend, serving.mode, *workers, *rest]


def evaluation_csv(evaluation: Evaluation) -> str:
    """A row a metric: its value with its intervals."""
    rows = [[m.key, m.words, m.unit, m.value, m.low90, m.low50, m.high50, m.high90] for m in evaluation.metrics]
    return _table(["metric", "words", "unit", "value", "low90", "low50", "high50", "high90"], rows)


def run_csv(run: RequestRun) -> str:
    """A row a distribution of a run of requests: how many, the mean and the percentiles, seconds."""
    names = _in_order(d.percentile for d in run.distributions.values())
    rows = [[key, d.count, d.mean, *(d.percentile.get(name) for name in names)] for key, d in run.distributions.items()]
    return _table(["distribution", "count", "mean_s", *(f"{name}_s" for name in names)], rows)


def answer_csv(answer: Answer) -> str:
    """A row an op of each protocol's layer: its time on the critical path with its interval, microseconds."""
    rows: list[list[object]] = []
    for layer in answer.layers:
        whole = layer.makespan_ps / 1e6
        for op, us, sure in [
            ("layer", whole, layer.interval),
            *((op.op, layer.op_us(op.op), layer.intervals.get(op.op, UNKNOWN)) for op in layer.ops),
        ]:
            low90, low50, high50, high90 = sure.scaled(us)
            closed = layer.closed_form_us.get(op) if op != "layer" else None
            rows.append([layer.protocol, op, us, low90, low50, high50, high90, closed])
    return _table(["protocol", "op", "us", "low90_us", "low50_us", "high50_us", "high90_us", "closed_form_us"], rows)


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


def exchanges_csv(found: Exchanges) -> str:
    """A row a protocol and number of tokens a rank: its layer with interval, and what of it is exchange and experts."""
    names = ["protocol", "tokens", "layer_us", "low90_us", "high90_us", "dispatch_us", "experts_us", "combine_us", "known"]
    rows = [
        [curve.protocol, tokens, *(getattr(curve, name)[i] for name in names[2:-1]), curve.known]
        for curve in found.curves
        for i, tokens in enumerate(found.tokens)
    ]
    return _table(names, rows)


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
