"""What a validation is handed over as: a terminal table, JSON, or every row with its prediction as CSV."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict
from typing import Any

from rich.console import Console

from ...scenarios.say.envelope import enveloped
from ...scenarios.say.json_text import json_text
from ...scenarios.say.terminal.console import say
from ...scenarios.say.terminal.evaluation import new_table, print_table
from .predicted import Validation

_NAMES = ("system", "protocol", "op", "nodes", "rows")
_ERRORS = ("mape_pct", "median_ape_pct", "p90_ape_pct", "bias_pct")


def print_validation(outcome: Validation, console: Console) -> None:
    """Print the groups' errors, then what was skipped and why."""
    heads = (*_NAMES[:3], *(f">{name}" for name in _NAMES[3:]))
    table = new_table(*heads, ">MAPE %", ">median %", ">p90 %", ">bias %", ">in 50 %", ">in 90 %")
    for group in outcome.groups:
        errors = [f"{getattr(group, name):{'+.1f' if name == 'bias_pct' else '.1f'}}" for name in _ERRORS]
        covered = ["" if c is None else f"{c:.0f}" for c in (group.covered_50_pct, group.covered_90_pct)]
        table.add_row(*(str(getattr(group, name)) for name in _NAMES), *errors, *covered)
    print_table("", table, console)
    predicted = sum(group.rows for group in outcome.groups)
    far = sorted(abs(float(row["predicted_us"]) / float(row["latency_us"]) - 1) for row in outcome.rows)
    half = f"; half of the predictions are within {100 * far[len(far) // 2]:.1f} %" if far else ""
    say(f"{predicted:,} rows predicted, {sum(outcome.skipped.values()):,} skipped{half}", console)
    for group in outcome.groups:
        if group.mape_without_odd_pct is not None:
            where = f"{group.system} {group.protocol} {group.op}, {group.nodes} nodes"
            say(f"{where}: {group.mape_without_odd_pct:.1f} % without {group.odd_rows} odd rows", console)
    for note in outcome.notes:
        say(f"note: {note}", console, "dim")
    for reason, rows in outcome.skipped.items():
        say(f"skipped {rows:,}: {reason}", console)


def group_records(outcome: Validation) -> list[dict[str, Any]]:
    """The groups as plain records, percentages to six decimals."""
    records = [asdict(group) for group in outcome.groups]
    return [{key: round(value, 6) if isinstance(value, float) else value for key, value in r.items()} for r in records]


def validation_json(outcome: Validation) -> str:
    """``groups``, ``skipped`` and ``notes`` as JSON text, the same bytes for the same table."""
    return json_text(validation_dict(outcome))


def validation_dict(outcome: Validation) -> dict[str, Any]:
    """The same as plain data, in the envelope that all kinds have."""
    body = {"groups": group_records(outcome), "skipped": outcome.skipped, "notes": list(outcome.notes)}
    return enveloped("validate", body)


def rows_csv(outcome: Validation) -> str:
    """Every predicted row, its own columns and ``predicted_us``, as CSV text."""
    text = io.StringIO()
    columns = list(dict.fromkeys(name for row in outcome.rows for name in row)) or ["predicted_us"]
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(outcome.rows)
    return text.getvalue()
