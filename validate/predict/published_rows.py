"""Figures that libraries print about themselves, predicted blind."""

from __future__ import annotations

from pathlib import Path

from ..tables.published import FAR_PCT, read_figures
from .predicted import Found, Predicted


def published_rows(path: Path) -> Found:
    """Published figures, blind."""
    figures, skipped = read_figures(path)
    predicted = []
    for figure in figures:
        key = (figure.system, figure.protocol, figure.op, figure.nodes)
        times = (figure.measured_us, figure.predicted_us)
        source, note, sure = figure.calibrated_on, figure.reason, figure.interval
        predicted.append(
            Predicted(figure.line, figure.values, key, *times, source, note=note, interval=sure, seen=figure.fitted)
        )
    reasons: dict[str, int] = {}
    for figure in figures:
        if figure.reason:
            reasons[figure.reason] = reasons.get(figure.reason, 0) + 1
    notes = tuple(f"{rows} rows beyond {FAR_PCT:.0f} %: {why}" for why, rows in reasons.items())
    return predicted, skipped, notes
