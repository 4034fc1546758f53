"""Which of an evaluation's numbers stands for it where there is room for one."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..evaluation import Evaluation

#: What a deployment is chosen by, the most telling first.
LEADING = (
    "usd_per_mtok_output",
    "output_tokens_per_s_gpu",
    "tpot",
    "layer",
    "usd_per_mtok_input",
    "input_tokens_per_s_gpu",
    "ttft",
)

#: How they head a column; a number under them has no unit, but for times.
HEADINGS = {
    "usd_per_hour": "$/h",
    "usd_per_mtok_output": "USD/Mtok out",
    "usd_per_mtok_input": "USD/Mtok in",
    "output_tokens_per_s_gpu": "tokens/s/GPU",
    "tokens_per_s_user": "tokens/s/user",
    "tpot": "TPOT",
    "ttft": "TTFT",
}


def leading(evaluations: Sequence[Evaluation], order: Sequence[str] = LEADING) -> str | None:
    """The first metric of ``order`` that all have and that differs among them; the first that all have if none does."""
    shared = [key for key in order if all(_value(evaluation, key) is not None for evaluation in evaluations)]
    differing = [key for key in shared if len({_value(evaluation, key) for evaluation in evaluations}) > 1]
    return next(iter(differing + shared), None)


def meets(evaluation: Evaluation) -> bool:
    """Whether every limit is met."""
    return all(limit.met for limit in evaluation.limits)


def relative(before: Evaluation, after: Evaluation) -> dict[str, float]:
    """Relative change of every metric that both have (0.1: a tenth more); those that are 0 or not finite left out."""
    found = {}
    for metric in before.metrics:
        other = _value(after, metric.key)
        if other is not None and metric.value and math.isfinite(metric.value):
            found[metric.key] = other / metric.value - 1.0
    return found


def _value(evaluation: Evaluation, key: str) -> float | None:
    value = next((metric.value for metric in evaluation.metrics if metric.key == key), math.nan)
    return value if math.isfinite(value) else None
