"""Which kind of table a header announces, and who predicts its rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..hwmodels.calibration import constants_of, find_entry, load_calibration
from ..hwmodels.catalog import load_cluster
from ..hwmodels.errors import BadInput, Uncalibrated, UnknownName
from .conformal import judged
from .expert_group import COLUMNS as EXPERTS
from .expert_rows import expert_rows
from .kernel_tables import Kind, kind_of, read_groups
from .predict import Predicted
from .published import COLUMNS as PUBLISHED
from .published import FAR_PCT, read_figures
from .serving_table import COLUMNS, serving_table

Found = tuple[list[Predicted], dict[str, int], tuple[str, ...]]


def other_table(path: Path) -> Found | None:
    """The predicted rows, skips and notes of any table but EP timings; None for those (or for a table of no kind)."""
    header = _header(path)
    if set(PUBLISHED) <= header:
        return published_rows(path)
    if set(EXPERTS) <= header:
        return expert_rows(path)
    if header >= COLUMNS:
        return serving_table(path)
    kind = kind_of(header)
    return kernel_rows(path, kind) if kind else None


def kernel_rows(path: Path, kind: Kind) -> Found:
    """Rows of single kernels, by the laws of the system or its nearest relative."""
    predicted: list[Predicted] = []
    skipped: dict[str, int] = {}
    for group in read_groups(path, kind):
        try:
            entry, source = find_entry(group.system, kind.protocol, group.op, "one-node")
        except (Uncalibrated, UnknownName) as error:
            skipped[str(error)] = skipped.get(str(error), 0) + len(group.rows)
            continue
        gpu = load_cluster(load_calibration(group.system).cluster).node.gpu
        seconds = group.seconds(gpu, constants_of(entry, kind.law))
        own = entry.fit.table == path.name and entry.fit.rows_available == len(group.rows) and source == group.system
        used = group.used() if own else None
        points = [{n: float(column[i]) for n, column in group.columns.items()} for i in range(len(group.rows))]
        borrowed = "" if source == group.system else source
        one_node = np.ones(len(group.rows), np.int64)
        sure = judged(entry.fit, np.asarray(seconds), group.measured_s, one_node, points, used, borrowed)
        for i, (line, record) in enumerate(group.rows):
            key = (group.system, kind.protocol, group.op, 1)
            times = (1e6 * float(group.measured_s[i]), 1e6 * float(seconds[i]))
            seen = used is not None and i in used
            predicted.append(Predicted(line, dict(record), key, *times, source, False, "", sure[i], seen))
    return predicted, skipped, ()


def published_rows(path: Path) -> Found:
    """Published figures, blind."""
    figures, skipped = read_figures(path)
    predicted = []
    for figure in figures:
        key = (figure.system, figure.protocol, figure.op, figure.nodes)
        times = (figure.measured_us, figure.predicted_us)
        source, note, sure = figure.calibrated_on, figure.reason, figure.interval
        predicted.append(Predicted(figure.line, figure.values, key, *times, source, note=note, interval=sure))
    reasons: dict[str, int] = {}
    for figure in figures:
        if figure.reason:
            reasons[figure.reason] = reasons.get(figure.reason, 0) + 1
    notes = tuple(f"{rows} rows beyond {FAR_PCT:.0f} %: {why}" for why, rows in reasons.items())
    return predicted, skipped, notes


def _header(path: Path) -> set[str]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            return set(file.readline().strip().split(","))
    except UnicodeDecodeError:
        raise BadInput(f"{path}: not a text file") from None
