"""A row of the gallery in words, the same on a terminal, a page and in docs/gallery.md."""

from __future__ import annotations

from .row import Gallery, Row, Verdict

VERDICTS: tuple[Verdict, ...] = ("holds", "corrected", "no claim", "missed")


def summary(found: Gallery) -> str:
    """One line: how many figures, and of each verdict how many."""
    counts = ", ".join(f"{found.count(verdict)} {verdict}" for verdict in VERDICTS if found.count(verdict))
    return f"{len(found.rows)} figures of {len(found.entries)} scenario{'s' * (len(found.entries) != 1)}: {counts}"


def predicted_share(found: Gallery) -> str:
    """How many of the predicted figures that were published are within their tolerance; "" without any."""
    held, missed = found.count("holds", "predicted"), found.count("missed", "predicted")
    if not held + missed:
        return ""
    share = f"{100 * held / (held + missed):.0f} %"
    return f"Of {held + missed} predicted figures that were published, {held} are within their tolerance ({share})."


def figure_words(row: Row) -> str:
    """What the figure is, its unit, and where on its axis."""
    unit = f", {row.unit}" if row.unit else ""
    return f"{row.words}{unit}" + (f" at {row.over.rpartition('.')[2]} {row.at}" if row.at else "")


def published_text(row: Row) -> str:
    """The published value; where it is wrong the corrected one beside it."""
    if row.between is not None:
        return f"{number(row.between[0])} to {number(row.between[1])}"
    text = number(row.published)
    return f"{text} (corrected: {number(row.corrected)})" if row.verdict == "corrected" else text


def number(value: float | None) -> str:
    """Four significant digits, large numbers with their thousands apart."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def error_text(row: Row) -> str:
    """The error with its tolerance: per cent, of a change points."""
    if row.error_pct is None:
        return "-"
    error = f"{row.error_pct:+.0f}" if abs(row.error_pct) >= 100.0 else f"{row.error_pct:+.2g}"
    return f"{error} {row.error_in} of {row.tolerance_pct:g}"


def remark(row: Row) -> str:
    """Why there is no answer, what is wrong with a published figure, or what was fitted; "" for nothing of that."""
    return row.refusal or row.why or row.fitted
