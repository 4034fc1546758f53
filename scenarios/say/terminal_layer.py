"""The answer on a terminal: the sentence first, then where the time goes, the memory, and the protocols beside it."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ...hwmodels.interval import UNKNOWN, Interval
from ...hwmodels.units import format_bytes, format_rate
from ...sim.layer.result import Answer, LayerResult

MOVED = ("nvlink", "rdma")  # what stays on its own rank crosses no wire
SHOWN_RANKS = 8  # up to which every table of the exchange is printed


def print_answer(answer: Answer, console: Console) -> None:
    """Print ``answer``; text that came from a file is printed as it is, never as markup."""
    console.print(Text(answer.sentence, style="bold"), soft_wrap=True)
    own = answer.layers[0]
    console.print(_ops(own, answer.ranks))
    if own.interval.why:
        console.print(Text(f"wide because of {'; '.join(own.interval.why)}", style="dim"), soft_wrap=True)
    console.print(_memory_line(own), soft_wrap=True)
    for note in own.notes:
        console.print(Text(note, style="dim"), soft_wrap=True)
    if len(answer.layers) > 1:
        console.print(_compared(answer))
    if answer.ranks <= SHOWN_RANKS:
        for layer in answer.layers:
            _print_exchange(layer, console)


def _ops(layer: LayerResult, ranks: int) -> Table:
    whole = layer.makespan_ps / 1e6
    _, low50, high50, _ = layer.interval.scaled(whole)
    sure = f"90 %: {_range(layer.interval, whole)}, 50 %: {low50:,.1f} to {high50:,.1f}"
    table = _table(f"{layer.protocol}: {whole:,.1f} us ({sure})")
    for name in ("op", "us", "90 % interval", "bound by", "bytes moved", "rate per rank"):
        table.add_column(name, justify="left" if name in ("op", "bound by") else "right")
    for op in layer.ops:
        moved = _moved(layer, op.op)
        seconds = layer.op_us(op.op) / 1e6
        rate = format_rate(moved / ranks / seconds) if moved and seconds else ""
        time = layer.op_us(op.op)
        sure = _range(layer.intervals.get(op.op, UNKNOWN), time)
        table.add_row(op.op, f"{time:,.1f}", sure, _bound(layer, op.op), format_bytes(moved) if moved else "", rate)
    return table


def _range(interval: Interval, time_us: float) -> str:
    """The 90 % interval of ``time_us``: "581.4 to 611.2"."""
    low, _, _, high = interval.scaled(time_us)
    return f"{low:,.1f} to {high:,.1f}"


def _compared(answer: Answer) -> Table:
    table = _table("side by side")
    longest_first = sorted(answer.layers, key=lambda layer: -len(layer.ops))  # its ops are in the order they happen
    ops = list(dict.fromkeys(op.op for layer in longest_first for op in layer.ops))
    for name in ("protocol", "layer us", "90 % interval", *(f"{op} us" for op in ops), "bytes moved", "memory per rank"):
        table.add_column(name, justify="left" if name == "protocol" else "right")
    for layer in answer.layers:
        times = {op.op: f"{layer.op_us(op.op):,.1f}" for op in layer.ops}
        sure = _range(layer.interval, layer.makespan_ps / 1e6)
        cells = [layer.protocol, _us(layer.makespan_ps), sure, *(times.get(op, "") for op in ops)]
        moved = sum(_moved(layer, op) for op in ops)
        table.add_row(*cells, format_bytes(moved), format_bytes(sum(m.bytes for m in layer.memory), binary=True))
    return table


def _memory_line(layer: LayerResult) -> Text:
    used = sum(item.bytes for item in layer.memory)
    parts = ", ".join(f"{m.name} {format_bytes(m.bytes, binary=True)}" for m in layer.memory if m.bytes)
    free, whole = format_bytes(layer.hbm_bytes - used, binary=True), format_bytes(layer.hbm_bytes, binary=True)
    return Text(f"memory per rank: {parts}; {free} of {whole} left")


def _print_exchange(layer: LayerResult, console: Console) -> None:
    """The count tables, and who sends how many rows to whom over NVLink and RDMA, stage by stage."""
    tables = list(layer.exchange.items())
    tables += [
        (f"{m.stage} over {m.medium}: rows [source, destination], {format_bytes(int(m.bytes.sum()))}", m.rows)
        for m in layer.traffic
        if m.medium in MOVED
    ]
    for name, numbers in tables:
        console.print(Text(f"{layer.protocol}: {name}", style="dim"), soft_wrap=True)
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
    return max(total, key=lambda bound: total[bound]) if total else ""


def _us(ps: int) -> str:
    return f"{ps / 1e6:,.1f}"


def _table(title: str) -> Table:
    return Table(title=Text(title), title_justify="left", title_style="", box=None, padding=(0, 2, 0, 0), header_style="dim")
