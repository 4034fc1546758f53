"""The forms an answer comes in: on a terminal, as a flat table, as a page. `record_json` is the fourth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from rich.console import Console

from ..answer.evaluation import Comparison, Explanation, Plan, Sweep
from ..answer.exchange_choice import Exchanges
from .record_csv import comparison_csv, exchanges_csv, explanation_csv, plan_csv, sweep_csv
from .terminal.comparison import print_comparison
from .terminal.exchanges import print_exchanges
from .terminal.explanation import print_explanation
from .terminal.plan import print_plan
from .terminal.sweep import print_sweep

Record = Plan | Sweep | Comparison | Explanation | Exchanges
Launched = Callable[[], Mapping[str, Mapping[str, str] | str]]


def print_record(record: Record, console: Console) -> None:
    """Print ``record``."""
    if isinstance(record, Plan):
        print_plan(record, console)
    elif isinstance(record, Sweep):
        print_sweep(record, console)
    elif isinstance(record, Comparison):
        print_comparison(record, console)
    elif isinstance(record, Exchanges):
        print_exchanges(record, console)
    else:
        print_explanation(record, console)


def csv_text(record: Record) -> Iterable[str]:
    """``record`` as one table, piece by piece."""
    if isinstance(record, Plan):
        return (plan_csv(record),)
    if isinstance(record, Sweep):
        return sweep_csv(record)
    if isinstance(record, Exchanges):
        return (exchanges_csv(record),)
    return (comparison_csv(record) if isinstance(record, Comparison) else explanation_csv(record),)


def page_writer(record: Record, command: str, launched: Launched | None = None) -> Callable[[Path], None]:
    """What writes the page of ``record`` to a path. ``command`` is what reproduces it; ``launched`` says what starts a plan's
    best deployment."""
    from .. import report  # the plotting library is loaded by who wants a page

    if isinstance(record, Plan):
        return lambda path: report.write_plan_report(record, path, command, launched() if launched else None)
    if isinstance(record, Sweep):
        return lambda path: report.write_sweep_report(record, path, command)
    if isinstance(record, Comparison):
        return lambda path: report.write_comparison_report(record, path, command)
    if isinstance(record, Exchanges):
        return lambda path: report.write_exchanges_report(record, path, command)
    return lambda path: report.write_explanation_report(record, path, command)
