"""Which kind of table a header announces, and who predicts its rows."""

from __future__ import annotations

from pathlib import Path

from ..hwmodels.errors import BadInput
from .predict import Predicted
from .published import COLUMNS as PUBLISHED
from .published import FAR_PCT, read_figures

Found = tuple[list[Predicted], dict[str, int], tuple[str, ...]]


def other_table(path: Path) -> Found | None:
    """The predicted rows, skips and notes of any table but EP timings; None for those (or for a table of no kind)."""
    header = _header(path)
    if set(PUBLISHED) <= header:
        return published_rows(path)
    return None


def published_rows(path: Path) -> Found:
    """Published figures, blind."""
    figures, skipped = read_figures(path)
    predicted = []
    for figure in figures:
        key = (figure.system, figure.protocol, figure.op, figure.nodes)
        times = (figure.measured_us, figure.predicted_us)
        predicted.append(Predicted(figure.line, figure.values, key, *times, figure.calibrated_on, note=figure.reason))
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
