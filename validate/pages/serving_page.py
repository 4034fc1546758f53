"""The section on measured deployments of docs/validation.md."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...hwmodels.backends import backend_names, load_backend
from ..predict.predicted import Validation
from ..serving.rows import ServingRow, read_serving
from ..serving.shipped import TABLE, fitted_rows
from ..serving.steady import predict_serving
from ..validate import validate_table

WORST = 15


def section(tables: Path) -> Iterator[str]:
    """Markdown lines: how well, with which constants, under which assumptions, and the worst rows."""
    path = tables / TABLE
    outcome = validate_table(path)
    rows = read_serving(path)
    aside = rows_aside(rows)
    yield f"## {TABLE}"
    yield ""
    yield f"Deployments of a public suite, {len(rows):,} rows: time per output token of whole model steps in a closed loop."
    yield f"The engines' constants come from {len(rows) - len(aside)} of them, every tenth; of the others half are within"
    yield f"{_errors(rows, aside)}."
    yield ""
    yield from _engines()
    yield ""
    yield "| system | engine | arrangement | rows | mean, % | median, % | bias, % | in 90 % |"
    yield "|---|---|---|--:|--:|--:|--:|--:|"
    for g in outcome.groups:
        covered = "" if g.covered_90_pct is None else f"{g.covered_90_pct:.0f}"
        errors = f"{g.mape_pct:.1f} | {g.median_ape_pct:.1f} | {g.bias_pct:+.1f}"
        yield f"| {g.system} | {g.protocol} | {g.op} | {g.rows} | {errors} | {covered} |"
    yield ""
    yield "What the columns leave out was assumed. Workers and multi-token prediction stand in the suite's own configuration"
    yield "for most rows (`validate/serving/recipes.py`: inputs of its runs, none of its results)."
    unlisted = read_serving(path, listed=False)
    yield f"Without that list half of the rows aside are within {_errors(unlisted, aside)}."
    yield ""
    yield from (f"- {note}" for note in outcome.notes)
    yield from (f"- not predicted, {rows} rows: {why}" for why, rows in outcome.skipped.items())
    yield ""
    yield from _worst(outcome)


def rows_aside(rows: list[ServingRow]) -> list[int]:
    """Indices of the rows that no engine was fitted to."""
    used: set[int] = set()
    for name in backend_names():
        mine = [i for i, row in enumerate(rows) if row.backend == name]
        used |= {mine[i] for i in fitted_rows([rows[i] for i in mine])}
    return [i for i in range(len(rows)) if i not in used]


def _errors(rows: list[ServingRow], aside: list[int]) -> str:
    predicted = predict_serving(rows).tpot_s
    error = 100.0 * np.abs(predicted / np.array([row.tpot_s for row in rows]) - 1.0)[aside]
    return f"{np.median(error):.1f} % (mean {error.mean():.1f} %)"


def _engines() -> Iterator[str]:
    yield "| engine | rows | gap, us | step, us | sequence, us | all-reduce, us | kernels | 4-bit reads | accepted drafts |"
    yield "|---|--:|--:|--:|--:|--:|--:|--:|--:|"
    for name in backend_names():
        backend = load_backend(name)
        c, rows = backend.constants, backend.fit.rows if backend.fit else 0
        times = " | ".join(f"{1e6 * t:.1f}" for t in (c.gap, c.step, c.sequence, c.all_reduce))
        yield f"| {name} | {rows} | {times} | {c.busy:.2f} | {c.fp4_weights:.2f} | {backend.acceptance:.2f} |"


def _worst(outcome: Validation) -> Iterator[str]:
    yield f"The {WORST} rows furthest off:"
    yield ""
    yield "| model | system | engine | in/out, clients | as predicted | measured, ms | predicted, ms | bound by | assumed |"
    yield "|---|---|---|---|---|--:|--:|---|---|"
    far = sorted(outcome.rows, key=lambda r: -abs(np.log(float(r["predicted_us"]) / float(r["latency_us"]))))
    for r in far[:WORST]:
        case = f"{r['isl']}/{r['osl']}, {r['concurrency']}"
        times = f"{float(r['latency_us']) / 1e3:.1f} | {float(r['predicted_us']) / 1e3:.1f}"
        model = str(r["model"]).rsplit("/", 1)[-1]
        said = f"{r['arrangement']} | {times} | {r.get('bound', '')} | {r.get('reason', '')}"
        yield f"| {model} | {r['system']} | {r['protocol']} | {case} | {said} |"
