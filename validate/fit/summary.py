"""What `epicycle calibrate` says about its fits: constants with their uncertainty, errors, rows that fall out of line."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .calibrate import Calibrated
from .fit import Fitted
from .own.wanted import rows_that_tell
from .tables import Together

SHOWN_OUTLIERS = 8


def print_calibration(found: Calibrated, console: Console) -> None:
    """Print every kernel's fit, then warnings."""
    calibration = found.calibration
    console.print(Text(f"{calibration.system}: {len(found.fits)} kernels, relative to the datasheets of {calibration.cluster}"))
    for fitted in found.fits:
        _print_fit(fitted, console)
    for reason, rows in found.skipped.items():
        console.print(Text(f"skipped {rows:,}: {reason}"), soft_wrap=True)
    for first, second in found.repeated:
        words = f"warning: line {second.line} repeats line {first.line}: {second.latency_us:g} us and {first.latency_us:g} us"
        console.print(Text(words), soft_wrap=True)
    for outlier in found.outliers[:SHOWN_OUTLIERS]:
        row = outlier.row
        where = f"line {row.line}: {row.protocol} {row.op}, {row.tokens} tokens, hidden {row.hidden}, top-{row.top_k}"
        words = f"warning: outlier, {where}: {row.latency_us:g} us measured, the fit is {outlier.error_pct:+.0f} % off"
        console.print(Text(words), soft_wrap=True)
    if len(found.outliers) > SHOWN_OUTLIERS:
        console.print(Text(f"warning: {len(found.outliers) - SHOWN_OUTLIERS} more outliers"), soft_wrap=True)


def print_together(found: Together, console: Console) -> None:
    """Print what tables of several kinds gave: exchanges as `print_calibration`, the others a line a kernel."""
    if found.exchanges is not None:
        print_calibration(found.exchanges, console)
    else:
        place = found.calibration
        console.print(Text(f"{place.system}: {len(place.entries)} kernels, relative to the datasheets of {place.cluster}"))
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("kernel", "scope", "rows", "MAPE %", "aside %", "undetermined"):
        table.add_column(name, justify="right" if name in ("rows", "MAPE %", "aside %") else "left")
    known = {id(e) for e in found.exchanges.calibration.entries} if found.exchanges and found.own is None else set()
    for entry in found.entries:
        if id(entry) not in known:
            fit, rest = entry.fit, entry.fit.mape_rest_pct
            others = "" if rest is None else f"{rest:.1f}"
            errors = (str(fit.rows), f"{fit.mape_fit_pct:.1f}", others, ", ".join(fit.undetermined))
            table.add_row(f"{entry.protocol} {entry.op}", entry.scope, *errors)
    if table.row_count:
        console.print(table)
    if found.own is not None:
        free = f"{found.own.free} constants for {len(found.own.constants)} kernels"
        shared = ", ".join(f"{name} {value:.3g}" for name, value in found.own.shared.items())
        console.print(Text(f"our own kernels: {free}; shared: {shared}"), soft_wrap=True)
        for wanted in rows_that_tell(found.own):
            console.print(Text(f"these rows do not tell {wanted}"), soft_wrap=True)


def _print_fit(fitted: Fitted, console: Console) -> None:
    entry, record = fitted.entry, fitted.entry.fit
    rest = f", {record.mape_rest_pct:.1f} % on the others" if record.mape_rest_pct is not None else ""
    title = (
        f"{entry.protocol} {entry.op} ({entry.scope}): {record.rows} of {record.rows_available} rows,"
        f" MAPE {record.mape_fit_pct:.1f} % on them{rest}"
    )
    console.print(Text(title, style="bold"), soft_wrap=True)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("constant", "value", "± (1 sd)", ""):
        table.add_column(name, justify="right" if name in ("value", "± (1 sd)") else "left")
    for name, value in entry.constants.items():
        sd = record.uncertainty.get(name)
        if sd is None and name not in record.undetermined:
            continue
        remark = "undetermined: the rows cannot tell it from zero or from its bound" if name in record.undetermined else ""
        table.add_row(name, str(value), "at its bound" if sd is None else str(sd), remark)
    console.print(table)
