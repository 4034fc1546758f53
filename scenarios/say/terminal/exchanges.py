"""Which exchange is fastest, on a terminal: the winners by tokens, then every protocol's times, then what cannot run."""

from __future__ import annotations

from rich.console import Console

from ....hwmodels.units import format_time
from ...answer.exchange_choice import Exchanges
from .console import say
from .evaluation import new_table, print_sentence, print_table

#: Columns of tokens that a terminal has room for.
_COLUMNS = 7


def print_exchanges(found: Exchanges, console: Console) -> None:
    """Print ``found``."""
    print_sentence(found.sentence, console)
    table = new_table("tokens a rank", "fastest", "next", ">as long", "intervals")
    for winner in found.winners:
        span = f"{winner.first_tokens:,}"
        span += "" if winner.first_tokens == winner.last_tokens else f" to {winner.last_tokens:,}"
        apart = "lie apart" if winner.sure else "overlap"
        table.add_row(span, winner.protocol, winner.runner_up, f"{winner.ratio:.2f}x", apart)
    print_table("where the winner flips", table, console)
    chosen = _spread(len(found.tokens))
    times = new_table("exchange", *(f">{found.tokens[i]:,}" for i in chosen), "known by")
    for curve in found.curves:
        times.add_row(curve.protocol, *(format_time(curve.layer_us[i] / 1e6) for i in chosen), curve.known)
    print_table("one layer by tokens a rank", times, console)
    console.print()
    for reason, protocols in _why_not(found).items():
        say(f"cannot run: {', '.join(protocols)}: {reason}", console, "dim")
    for note in found.notes:
        say(note, console, "dim")


def _why_not(found: Exchanges) -> dict[str, list[str]]:
    """Reason -> protocols that it keeps from running, without the protocol's name and what would help."""
    why: dict[str, list[str]] = {}
    for refused in found.refused:
        reason = refused.reason.removeprefix(f"{refused.protocol} ").removeprefix("cannot run so: ")
        why.setdefault(reason.split("; ep is ")[0].split(": use ")[0], []).append(refused.protocol)
    return why


def _spread(count: int) -> list[int]:
    """Evenly spread indices, the first and the last among them."""
    if count <= _COLUMNS:
        return list(range(count))
    return sorted({round(i * (count - 1) / (_COLUMNS - 1)) for i in range(_COLUMNS)})
