"""A plan on a terminal: the front of deployments, the best one's steps, or what no deployment meets."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from ...hwmodels.units import format_time
from ..answer.evaluation import Candidate, Plan
from ..answer.leading_metric import HEADINGS
from ..answer.number_text import number_text
from .terminal_evaluation import new_table, print_evaluation, print_limits, print_sentence, print_table

_ROWS = 12
_TIMES = ("tpot", "ttft")


def print_plan(plan: Plan, console: Console) -> None:
    """Print ``plan``."""
    print_sentence(plan.sentence, console)
    counts = f"{plan.considered:,} deployments considered, {plan.fitting:,} fit in memory, {plan.meeting:,} meet every limit"
    console.print(Text(counts), soft_wrap=True)
    if plan.candidates:
        _print_candidates(plan, console)
    if plan.ruled_out:
        reasons = "; ".join(f"{count:,} {reason}" for reason, count in plan.ruled_out.items() if count)
        console.print(Text(f"ruled out: {reasons}", style="dim"), soft_wrap=True)
    if plan.best is not None:
        print_evaluation(plan.best, console)
    elif plan.limits:
        print_limits(plan.limits, console)
    told = plan.best.notes if plan.best is not None else ()
    for note in (note for note in plan.notes if note not in told):
        console.print(Text(note, style="dim"), soft_wrap=True)


def _print_candidates(plan: Plan, console: Console) -> None:
    shown = plan.candidates[:_ROWS]
    keys = [key for key in HEADINGS if any(key in candidate.values for candidate in shown)]
    events = any(candidate.events_tpot_s is not None for candidate in shown)
    title = "deployments" + (f", the first {len(shown)} of {len(plan.candidates)}" if len(plan.candidates) > len(shown) else "")
    table = new_table(
        "deployment", "cluster", ">GPUs", *(f">{HEADINGS[key]}" for key in keys), *([">TPOT, events"] if events else []), ""
    )
    for candidate in shown:
        values = (
            number_text(candidate.values[key], "s" if key in _TIMES else "", key) if key in candidate.values else ""
            for key in keys
        )
        played = [format_time(candidate.events_tpot_s) if candidate.events_tpot_s is not None else ""] if events else []
        table.add_row(candidate.arrangement, candidate.cluster, str(candidate.gpus), *values, *played, _standing(candidate))
    print_table(title, table, console)


def _standing(candidate: Candidate) -> str:
    return ", ".join(word for word, holds in (("front", candidate.on_front), ("misses limits", not candidate.meets)) if holds)
