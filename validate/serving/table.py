"""A table of measured deployments as a validation: time per output token by engine, system and arrangement."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...hwmodels.backends import Backend, load_backend
from ...hwmodels.calibration import load_calibration, relatives
from ...hwmodels.catalog import load_cluster
from ...hwmodels.interval import Interval, interval_of
from ...hwmodels.known.foreign import why_foreign
from ...hwmodels.plain_file import read_csv
from ..fit.conformal import JUDGES, LEAST_ROWS, conformal_rows, regimes_of
from ..predict.predicted import Predicted
from .rows import REQUIRED, ServingRow, read_serving
from .shipped import certain_rows, fitted_rows
from .steady import Predicted as Served
from .steady import backend_of, predict_serving

COLUMNS = frozenset(REQUIRED)
Found = tuple[list[Predicted], dict[str, int], tuple[str, ...]]


def serving_table(path: Path) -> Found:
    """The predicted rows, reason -> rows skipped, and what was assumed of how many rows with what error."""
    skipped: Counter[str] = Counter()
    rows = read_serving(path, skipped)
    found = predict_serving(rows)
    skipped.update(found.failed.values())
    reader = read_csv(path)
    records = {}
    for record in reader:
        records[reader.line_num] = record
    predicted: list[Predicted] = []
    for name in sorted({row.backend for row in rows}):
        mine = [i for i, row in enumerate(rows) if row.backend == name and i not in found.failed]
        if mine:
            predicted += _engine_rows(path, name, [rows[i] for i in mine], _taken(found, mine), records)
    return predicted, dict(skipped), tuple(_notes(rows, found))


def _engine_rows(
    path: Path, name: str, rows: list[ServingRow], found: Served, records: dict[int, dict[str, Any]]
) -> list[Predicted]:
    """One engine's rows: its intervals, those of rows that made them from the others."""
    backend = load_backend(backend_of(name))
    own = backend.fit is not None and backend.fit.table == path.name and backend.fit.rows_available == len(rows)
    used = fitted_rows(rows) if own and backend.name == name else None
    sure = _mixed(backend, rows, found, _judged(backend, rows, found, used))
    predicted = []
    for i, row in enumerate(rows):
        mode = "aggregated" if row.prefill is None else "disaggregated"
        values = dict(records[row.line]) | {
            "arrangement": arrangement_words(row),
            "predicted_ttft_ms": f"{1e3 * found.ttft_s[i]:.3f}",
            "decoding_batch": f"{found.batch[i]:.1f}",
        }
        times = (1e6 * row.tpot_s, 1e6 * float(found.tpot_s[i]))
        calibrated = backend.name if row.system in backend.systems else f"{backend.name} on other systems"
        seen = used is not None and i in used
        key = (row.system, name, mode, 1)
        note = "; ".join(row.assumed)
        predicted.append(Predicted(row.line, values, key, *times, calibrated, False, note, sure[i], seen, str(found.bound[i])))
    return predicted


def arrangement_words(row: ServingRow) -> str:
    """Workers and widths as predicted: ``3 x DP8 EP8 -> 1 x DP8 EP8, 2 drafts``."""
    pools = [
        f"{w.count} x {f'DP{w.dp}' if w.dp > 1 else f'TP{w.tp}'}{f' EP{w.ep}' if w.ep > 1 else ''}"
        for w in (row.prefill, row.decode)
        if w is not None
    ]
    return " -> ".join(pools) + (f", {row.drafts} drafts" if row.drafts else "")


def _judged(backend: Backend, rows: list[ServingRow], found: Served, used: NDArray[np.intp] | None) -> list[Interval | None]:
    fit = backend.fit
    if fit is None:
        return [None] * len(rows)
    points = [
        {
            "mean_input": float(row.isl),
            "mean_output": float(row.osl),
            "batch": float(found.batch[i]),
            "gpus": float(row.decode.tp * row.decode.dp * row.decode.pp),
        }
        for i, row in enumerate(rows)
    ]
    lent = ["" if row.system in backend.systems else "other systems" for row in rows]
    foreign = [_foreign(row.system, tuple(backend.systems)) for row in rows]
    sure: list[Interval | None] = [
        interval_of(fit.intervals, fit.seen, float(found.tpot_s[i]), 1, points[i], lent[i], foreign[i])
        for i in range(len(rows))
    ]
    aside = certain_rows(rows, conformal_rows(len(rows), used)) if used is not None else np.empty(0, np.intp)
    if len(aside) < LEAST_ROWS:
        return sure
    measured, one_node = np.array([row.tpot_s for row in rows]), np.ones(len(rows), np.int64)
    for part in range(JUDGES):
        others = np.delete(aside, np.s_[part::JUDGES])
        regimes = regimes_of(found.tpot_s[others], measured[others], one_node[others])
        for i in aside[part::JUDGES]:
            sure[i] = interval_of(regimes, fit.seen, float(found.tpot_s[i]), 1, points[i], lent[i], foreign[i])
    return sure


def _mixed(backend: Backend, rows: list[ServingRow], found: Served, sure: list[Interval | None]) -> list[Interval | None]:
    """Intervals of rows that may have been run with drafts as well hold both: the point stays that without, which the suite
    runs more often."""
    at = [i for i, row in enumerate(rows) if row.otherwise]
    if not at:
        return sure
    others = predict_serving([replace(rows[i], drafts=rows[i].otherwise) for i in at], {backend.name: backend}).tpot_s
    mixed = list(sure)
    for i, other in zip(at, others, strict=True):
        if (own := sure[i]) is not None:
            factor = float(other / found.tpot_s[i])
            low, high = min(own.low90, factor * own.low90), max(own.high90, factor * own.high90)
            mixed[i] = replace(own, low90=low, high90=high, why=(*own.why, "with or without multi-token prediction"))
    return mixed


@cache
def _foreign(system: str, measured: tuple[str, ...]) -> tuple[str, ...]:
    """What of a system's hardware no measured deployment speaks for."""
    lender = next((name for name in relatives(system) if name in measured), relatives(system)[-1])
    return why_foreign(load_cluster(load_calibration(system).cluster), False, lender)


def _notes(rows: list[ServingRow], found: Served) -> list[str]:
    """Error of the time to first token, and of TPOT under every assumption."""
    good = [i for i in range(len(rows)) if i not in found.failed]
    if not good:
        return []
    tpot = 100.0 * np.abs(found.tpot_s / np.array([row.tpot_s for row in rows]) - 1.0)
    ttft = 100.0 * (found.ttft_s / np.array([row.ttft_s for row in rows]) - 1.0)
    said = [
        f"time to first token: median error {np.median(np.abs(ttft[good])):.0f} %, bias {np.median(ttft[good]):+.0f} % (median)"
    ]
    total = tpot[good].sum()
    plain = [i for i in good if rows[i].drafts == 0 and rows[i].tpot_s < found.roof_s[i]]
    if plain:
        share = 100.0 * tpot[plain].sum() / total
        said.append(
            f"{len(plain):,} rows without known multi-token prediction are faster than memory can be read at its full rate: "
            "they must have it, or more workers than assumed; "
            f"mean error {tpot[plain].mean():.0f} %, {share:.0f} % of all error"
        )
    by_name: dict[str, list[int]] = {}
    for i in good:
        for name in rows[i].assumed or ("nothing",):
            by_name.setdefault(name, []).append(i)
    for name, at in sorted(by_name.items(), key=lambda item: -len(item[1])):
        errors = f"median {np.median(tpot[at]):.1f} %, mean {tpot[at].mean():.1f} %"
        said.append(f"assumed of {len(at):,} rows: {name}; {errors}, {100.0 * tpot[at].sum() / total:.0f} % of all error")
    return said


def _taken(found: Served, at: list[int]) -> Served:
    return Served(found.tpot_s[at], found.ttft_s[at], found.batch[at], found.bound[at], found.roof_s[at])
