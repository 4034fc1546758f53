"""The answer on a terminal: the sentence first, then where the time goes, the memory, and the protocols beside it."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from ....hwmodels.interval import UNKNOWN, Interval
from ....hwmodels.units import format_bytes, format_rate
from ....sim.layer.result import Answer, LayerResult
from ...answer.words.glossary import bound_words
from .console import say
from .evaluation import new_table, print_table

MOVED = ("nvlink", "rdma")  # what stays on its own rank crosses no wire
SHOWN_RANKS = 8  # up to which every table of the exchange is printed


def print_answer(answer: Answer, console: Console) -> None:
    """Print ``answer``; text that came from a file is printed as it is, never as markup."""
    say(answer.sentence, console, "bold")
    own = answer.layers[0]
    _print_ops(own, answer.ranks, console)
    if own.interval.why:
        say(f"wide because of {'; '.join(own.interval.why)}", console, "dim")
    say(_memory_line(own), console)
    for note in own.notes:
        say(note, console, "dim")
    if len(answer.layers) > 1:
        _print_compared(answer, console)
    if answer.ranks <= SHOWN_RANKS:
        for layer in answer.layers:
            _print_exchange(layer, console)


def _print_ops(layer: LayerResult, ranks: int, console: Console) -> None:
    whole = layer.makespan_ps / 1e6
    _, low50, high50, _ = layer.interval.scaled(whole)
    sure = f"90 %: {_range(layer.interval, whole)}, 50 %: {low50:,.1f} to {high50:,.1f}"
    title = f"{layer.protocol}: {whole:,.1f} us ({sure})"
    table = new_table("op", ">us", ">90 % interval", "bound by", ">bytes moved", ">rate per rank")
    for op in layer.ops:
        moved = _moved(layer, op.op)
        seconds = layer.op_us(op.op) / 1e6
        rate = format_rate(moved / ranks / seconds) if moved and seconds else ""
        time = layer.op_us(op.op)
        sure = _range(layer.intervals.get(op.op, UNKNOWN), time)
        table.add_row(op.op, f"{time:,.1f}", sure, _bound(layer, op.op), format_bytes(moved) if moved else "", rate)
    print_table(title, table, console)


def _range(interval: Interval, time_us: float) -> str:
    """The 90 % interval of ``time_us``: "581.4 to 611.2"."""
    low, _, _, high = interval.scaled(time_us)
    return f"{low:,.1f} to {high:,.1f}"


def _print_compared(answer: Answer, console: Console) -> None:
    longest_first = sorted(answer.layers, key=lambda layer: -len(layer.ops))  # its ops are in the order they happen
    ops = list(dict.fromkeys(op.op for layer in longest_first for op in layer.ops))
    times_of = (f">{op.replace('_', ' ')} us" for op in ops)
    table = new_table("protocol", ">layer us", ">90 % interval", *times_of, ">bytes moved", ">memory per rank")
    for layer in answer.layers:
        times = {op.op: f"{layer.op_us(op.op):,.1f}" for op in layer.ops}
        sure = _range(layer.interval, layer.makespan_ps / 1e6)
        cells = [layer.protocol, _us(layer.makespan_ps), sure, *(times.get(op, "") for op in ops)]
        moved = sum(_moved(layer, op) for op in ops)
        table.add_row(*cells, format_bytes(moved), format_bytes(sum(m.bytes for m in layer.memory), binary=True))
    print_table("side by side", table, console)


def _memory_line(layer: LayerResult) -> str:
    used = sum(item.bytes for item in layer.memory)
    parts = ", ".join(f"{m.name} {format_bytes(m.bytes, binary=True)}" for m in layer.memory if m.bytes)
    free, whole = format_bytes(layer.hbm_bytes - used, binary=True), format_bytes(layer.hbm_bytes, binary=True)
    return f"memory per rank: {parts}; {free} of {whole} left"


def _print_exchange(layer: LayerResult, console: Console) -> None:
    """The count tables, and who sends how many rows to whom over NVLink and RDMA, stage by stage."""
    tables = list(layer.exchange.items())
    tables += [
        (f"{m.stage} over {m.medium}: rows [source, destination], {format_bytes(int(m.bytes.sum()))}", m.rows)
        for m in layer.traffic
        if m.medium in MOVED
    ]
    for name, numbers in tables:
        say(f"{layer.protocol}: {name}", console, "dim")
        width = max(len(str(n)) for n in numbers.ravel())
        for row in numbers:
            console.print(Text("  " + " ".join(f"{n or '.':>{width}}" for n in row)))


def _moved(layer: LayerResult, op: str) -> int:
    return sum(int(m.bytes.sum()) for m in layer.traffic if m.op == op and m.medium in MOVED)


def _bound(layer: LayerResult, op: str) -> str:
    """What bounded most of the critical path's time in ``op``."""
    total: dict[str, int] = {}
    for s in layer.critical_path:
        if s.op == op:
            total[s.bound] = total.get(s.bound, 0) + s.end_ps - s.start_ps
    return bound_words(max(total, key=lambda bound: total[bound])) if total else ""


def _us(ps: int) -> str:
    return f"{ps / 1e6:,.1f}"
