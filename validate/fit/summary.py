"""What `epicycle calibrate` says about its fits: constants with their uncertainty, errors, rows that fall out of line."""

from __future__ import annotations

from rich.console import Console

from ...scenarios.say.terminal.console import say
from ...scenarios.say.terminal.evaluation import new_table, print_table
from .calibrate import Calibrated
from .fit import Fitted
from .own.wanted import rows_that_tell
from .tables import Together

SHOWN_OUTLIERS = 8


def print_calibration(found: Calibrated, console: Console) -> None:
    """Print every kernel's fit, then warnings."""
    calibration = found.calibration
    say(f"{calibration.system}: {len(found.fits)} kernels, relative to the datasheets of {calibration.cluster}", console)
    for fitted in found.fits:
        _print_fit(fitted, console)
    for reason, rows in found.skipped.items():
        say(f"skipped {rows:,}: {reason}", console)
    for first, second in found.repeated:
        words = f"warning: line {second.line} repeats line {first.line}: {second.latency_us:g} us and {first.latency_us:g} us"
        say(words, console)
    for outlier in found.outliers[:SHOWN_OUTLIERS]:
        row = outlier.row
        where = f"line {row.line}: {row.protocol} {row.op}, {row.tokens} tokens, hidden {row.hidden}, top-{row.top_k}"
        words = f"warning: outlier, {where}: {row.latency_us:g} us measured, the fit is {outlier.error_pct:+.0f} % off"
        say(words, console)
    if len(found.outliers) > SHOWN_OUTLIERS:
        say(f"warning: {len(found.outliers) - SHOWN_OUTLIERS} more outliers", console)


def print_together(found: Together, console: Console) -> None:
    """Print what tables of several kinds gave: exchanges as `print_calibration`, the others a line a kernel."""
    if found.exchanges is not None:
        print_calibration(found.exchanges, console)
    else:
        place = found.calibration
        say(f"{place.system}: {len(place.entries)} kernels, relative to the datasheets of {place.cluster}", console)
    table = new_table("kernel", "scope", ">rows", ">MAPE %", ">aside %", "undetermined")
    known = {id(e) for e in found.exchanges.calibration.entries} if found.exchanges and found.own is None else set()
    for entry in found.entries:
        if id(entry) not in known:
            fit, rest = entry.fit, entry.fit.mape_rest_pct
            others = "" if rest is None else f"{rest:.1f}"
            errors = (str(fit.rows), f"{fit.mape_fit_pct:.1f}", others, ", ".join(fit.undetermined))
            table.add_row(f"{entry.protocol} {entry.op}", entry.scope, *errors)
    if table.rows:
        print_table("", table, console)
    if found.own is not None:
        free = f"{found.own.free} constants for {len(found.own.constants)} kernels"
        shared = ", ".join(f"{name} {value:.3g}" for name, value in found.own.shared.items())
        say(f"our own kernels: {free}; shared: {shared}", console)
        for wanted in rows_that_tell(found.own):
            say(f"these rows do not tell {wanted}", console)


def _print_fit(fitted: Fitted, console: Console) -> None:
    entry, record = fitted.entry, fitted.entry.fit
    rest = f", {record.mape_rest_pct:.1f} % on the others" if record.mape_rest_pct is not None else ""
    title = (
        f"{entry.protocol} {entry.op} ({entry.scope}): {record.rows} of {record.rows_available} rows,"
        f" MAPE {record.mape_fit_pct:.1f} % on them{rest}"
    )
    say(title, console, "bold")
    table = new_table("constant", ">value", ">± (1 sd)", "")
    for name, value in entry.constants.items():
        sd = record.uncertainty.get(name)
        if sd is None and name not in record.undetermined:
            continue
        remark = "undetermined: the rows cannot tell it from zero or from its bound" if name in record.undetermined else ""
        table.add_row(name, str(value), "at its bound" if sd is None else str(sd), remark)
    print_table("", table, console)
