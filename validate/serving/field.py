"""Field reports: figures that other people published of their own clusters, each beside a scenario file of ours, as a table.

Columns ``id``, ``scenario`` (a file beside the table), ``metric`` (a number of the answer; ``sum``: dispatch and combine),
``measured`` (SI units; ``dispatch``, ``combine``, ``sum``: microseconds), ``counts`` and ``source``. Rows are grouped by
report, the first part of their id. Rates are judged as the time a token takes, so that all errors are errors of times.

``counts``: ``yes``; ``no``, with the source's reason; ``ratio``: only the ratio of the report's rows is meant; ``bracket``: the
report leaves a setting open, and rows with and without it should enclose the figure. The last three are notes, not errors.
"""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...hwmodels.errors import BadInput
from ...hwmodels.interval import Interval
from ...scenarios.answer.evaluation import Evaluation, Metric
from ...scenarios.ask.scenario import load_scenario
from ...scenarios.weigh.evaluation_of import evaluation_of
from ..predict.predicted import Found, Predicted

COLUMNS = frozenset({"id", "scenario", "metric", "measured", "counts"})
COUNTS = ("yes", "no", "ratio", "bracket")
#: Metrics whose measured figures are microseconds of one layer's exchange.
_EXCHANGE = ("dispatch", "combine", "sum")


@dataclass(frozen=True, slots=True)
class Figure:
    """One row answered: ``predicted`` and ``measured`` in the row's unit; ``seconds``: it is a time; a band of each side."""

    line: int
    record: dict[str, str]
    measured: float
    predicted: float
    seconds: bool
    band: Interval | None
    system: str
    engine: str

    @property
    def report(self) -> str:
        return self.record["id"].split("_")[0]

    def row(self) -> Predicted:
        """As a row of times: rates as the time of one."""
        measured, predicted = (1e6 * x if self.seconds else 1e6 / x for x in (self.measured, self.predicted))
        values = dict(self.record) | {"figure_predicted": f"{self.predicted:.6g}"}
        key = (self.system, self.report, self.record["metric"], 1)
        return Predicted(self.line, values, key, measured, predicted, self.engine, interval=self.band)


def field_table(path: Path) -> Found:
    """The rows that count, reason -> rows skipped, and what brackets and ratios say. Raises BadInput naming the line."""
    figures: list[Figure] = []
    skipped: Counter[str] = Counter()
    answers: dict[str, Evaluation | str] = {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        for record in reader:
            where = f"{path}: line {reader.line_num}"
            if record["counts"] not in COUNTS:
                raise BadInput(f"{where}: counts: wanted one of {', '.join(COUNTS)}, got {record['counts']!r}")
            if record["counts"] == "no":
                skipped[f"does not count: {record.get('source', '')}"] += 1
                continue
            name = record["scenario"]
            if name not in answers:
                answers[name] = _answer(path.parent / name)
            found = answers[name]
            if isinstance(found, str):
                skipped[found] += 1
                continue
            figures.append(_figure(where, reader.line_num, record, found))
    counted = [f.row() for f in figures if f.record["counts"] == "yes"]
    return counted, dict(skipped), tuple(_notes(figures))


def _answer(path: Path) -> Evaluation | str:
    """The scenario's answer, or why it has none."""
    try:
        return evaluation_of(load_scenario(path))
    except BadInput as error:
        return str(error)


def _figure(where: str, line: int, record: dict[str, str], answer: Evaluation) -> Figure:
    try:
        measured = float(record["measured"])
    except ValueError:
        raise BadInput(f"{where}: measured: wanted a number, got {record['measured']!r}") from None
    metrics = {m.key: m for m in answer.metrics}
    name = record["metric"]
    if name == "sum":
        both = [metrics[op] for op in ("dispatch", "combine")]
        # Independent errors of both would lie closer; their sums are a safe band.
        value, *bands = (sum(getattr(m, f) or m.value for m in both) for f in ("value", "low90", "low50", "high50", "high90"))
        metric = Metric("sum", "dispatch and combine", "s", value, "low", *bands)
    elif name == "input_tokens_per_s":
        metric = _times(metrics["input_tokens_per_s_gpu"], answer.gpus)
    elif name in metrics:
        metric = metrics[name]
    else:
        raise BadInput(f"{where}: metric: no such number in the answer: {name}; there are {', '.join(sorted(metrics))}")
    seconds = metric.unit == "s"
    if name in _EXCHANGE:
        measured /= 1e6
    engine = answer.serving.backend if answer.serving is not None else "event engine"
    return Figure(line, record, measured, metric.value, seconds, _band(metric, seconds), answer.cluster, engine)


def _times(metric: Metric, factor: float) -> Metric:
    bands = (None if x is None else factor * x for x in (metric.low90, metric.low50, metric.high50, metric.high90))
    return Metric(metric.key, metric.words, metric.unit, factor * metric.value, metric.better, *bands)


def _band(metric: Metric, seconds: bool) -> Interval | None:
    """Factors on the predicted time."""
    limits = (metric.low90, metric.low50, metric.high50, metric.high90)
    shares = [x / metric.value for x in limits if x is not None and x > 0.0]
    if len(shares) < len(limits):
        return None
    low90, low50, high50, high90 = shares if seconds else [1.0 / x for x in reversed(shares)]
    return Interval(low90, low50, high50, high90)


def _notes(figures: list[Figure]) -> list[str]:
    """The median over reports' rows, whether brackets enclose, and what ratios are."""
    said = []
    counted = [f for f in figures if f.record["counts"] == "yes"]
    if counted:
        errors = np.array([abs(f.predicted / f.measured - 1.0) for f in counted])
        said.append(f"{len(counted)} figures that count, none of them fitted: median error {100.0 * np.median(errors):.0f} %")
    sides: dict[tuple[str, str, float], list[Figure]] = defaultdict(list)
    ratios: dict[str, list[Figure]] = defaultdict(list)
    for f in figures:
        if f.record["counts"] == "bracket":
            sides[f.report, f.record["metric"], f.measured].append(f)
        elif f.record["counts"] == "ratio":
            ratios[f.report].append(f)
    for (report, metric, measured), pair in sides.items():
        low, high = min(f.predicted for f in pair), max(f.predicted for f in pair)
        near = min(pair, key=lambda f: abs(np.log(f.predicted / measured)))
        what = "encloses it" if low <= measured <= high else "does not enclose it"
        said.append(
            f"{report}: {metric} measured {measured:.4g}, predicted {low:.4g} to {high:.4g}, which {what}; nearest "
            f"{near.record['id']} ({100.0 * (near.predicted / measured - 1.0):+.0f} %)"
        )
    for report, rows in ratios.items():
        first, last = rows[0], rows[-1]
        said.append(
            f"{report}: {first.record['id']} over {last.record['id']} measured {first.measured / last.measured:.2f}, "
            f"predicted {first.predicted / last.predicted:.2f}"
        )
    return said
