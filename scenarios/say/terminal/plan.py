"""A plan on a terminal: the front of deployments, the best one's steps, or what no deployment meets."""

from __future__ import annotations

from rich.console import Console

from ....hwmodels.units import format_time
from ...answer.evaluation import Candidate, Plan
from ...answer.words.leading_metric import HEADINGS
from ...answer.words.number_text import number_text
from ...plan.headline import headline, pool_lines
from .console import say
from .evaluation import new_table, print_evaluation, print_limits, print_sentence, print_table

_ROWS = 12
_TIMES = ("tpot", "ttft")
#: A deployment's numbers in its row; the rate of one user is one over its time per token.
_COLUMNS = ("usd_per_hour", "usd_per_mtok_output", "output_tokens_per_s_gpu", "tpot", "ttft")


def print_plan(plan: Plan, console: Console) -> None:
    """Print ``plan``."""
    print_sentence(headline(plan), console)
    for line in pool_lines(plan):
        say(line, console)
    counts = f"{plan.considered:,} deployments considered, {plan.fitting:,} fit in memory, {plan.meeting:,} meet every limit"
    say(counts, console)
    if plan.candidates:
        _print_candidates(plan, console)
    if plan.ruled_out:
        reasons = "; ".join(f"{count:,} {reason}" for reason, count in plan.ruled_out.items() if count)
        say(f"ruled out: {reasons}", console, "dim")
    if plan.best is not None:
        print_evaluation(plan.best, console)
    elif plan.limits:
        print_limits(plan.limits, console)
    told = plan.best.notes if plan.best is not None else ()
    for note in (note for note in plan.notes if note not in told):
        say(note, console, "dim")


def _print_candidates(plan: Plan, console: Console) -> None:
    """A short table of numbered deployments, and below it how each is arranged."""
    shown = plan.candidates[:_ROWS]
    keys = [key for key in _COLUMNS if any(key in candidate.values for candidate in shown)]
    events = any(candidate.events_tpot_s is not None for candidate in shown)
    title = "deployments" + (f", the first {len(shown)} of {len(plan.candidates)}" if len(plan.candidates) > len(shown) else "")
    heads = (f">{HEADINGS[key]}" for key in keys)
    table = new_table(">#", ">GPUs", "engine", *heads, *([">TPOT, events"] if events else []), "")
    for number, candidate in enumerate(shown, 1):
        values = (
            number_text(candidate.values[key], "s" if key in _TIMES else "", key) if key in candidate.values else ""
            for key in keys
        )
        played = [format_time(candidate.events_tpot_s) if candidate.events_tpot_s is not None else ""] if events else []
        engine = candidate.serving.backend
        table.add_row(str(number), str(candidate.gpus), engine, *values, *played, _standing(candidate))
    print_table(title, table, console)
    several = len({candidate.cluster for candidate in shown}) > 1
    listed = new_table(">#", "", "arrangement")
    for number, candidate in enumerate(shown, 1):
        listed.add_row(str(number), candidate.cluster if several else "", candidate.arrangement)
    print_table("how they are arranged" + ("" if several else f", on {shown[0].cluster}"), listed, console)


def _standing(candidate: Candidate) -> str:
    return ", ".join(word for word, holds in (("front", candidate.on_front), ("misses limits", not candidate.meets)) if holds)
