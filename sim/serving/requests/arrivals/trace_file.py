"""Request traces from files, line by line: Azure, BurstGPT, Mooncake, Qwen-Bailian, and plain CSV or JSON lines of one's own.

The format is told by the first line. A line that cannot be read is one error with its number. Nothing is kept but the present
chunk, so that a trace may be longer than memory.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from .....hwmodels.errors import BadInput, nearest
from ..loop.chunk import NO_NAMES, Chunk
from .made_up import CHUNK, blank

#: Tokens beyond which a prompt or an answer is taken for a mistake.
MOST_TOKENS = 1 << 24
_COLUMNS = {
    "arrival_s": ("arrival_s", "arrival", "timestamp_s", "time_s"),
    "input_tokens": ("input_tokens", "input_length", "prompt_tokens"),
    "output_tokens": ("output_tokens", "output_length", "completion_tokens"),
}
_OTHER = ("session", "priority", "cached_tokens", "id")


@dataclass(frozen=True, slots=True)
class Line:
    """One request of a trace. ``names``: of its prompt's blocks, first to last."""

    seconds: float
    input: int
    output: int
    names: tuple[int, ...] = ()
    session: int = -1
    turn: int = 0
    priority: int = 0
    cached: int = 0


@dataclass(frozen=True, slots=True)
class Scale:
    """``rate`` 2: arrivals twice as fast; ``input`` and ``output``: lengths as many times as long."""

    rate: float = 1.0
    input: float = 1.0
    output: float = 1.0


@dataclass(frozen=True, slots=True)
class Format:
    """How a trace is written. ``block_tokens``: of one named block of a prompt, 0 where blocks are not named."""

    name: str
    block_tokens: int
    lines: Callable[[Path, TextIO], Iterator[tuple[int, Line]]]


def format_of(path: Path) -> Format:
    """The format of the file at ``path``. Raises BadInput for one that is none of them, OSError."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        first = file.readline()
    if not first.strip():
        raise BadInput(f"{path}:1: the trace is empty: wanted a header and requests, or one JSON object a line")
    if first.lstrip().startswith("{"):
        keys = set(_object(path, 1, first))
        if "hash_ids" in keys and keys & {"chat_id", "parent_chat_id", "turn"}:
            return Format("Qwen-Bailian", 16, _bailian)
        if "hash_ids" in keys:
            return Format("Mooncake", 512, _mooncake)
        return Format("JSON lines", 0, _plain_json)
    header = [column.strip() for column in next(csv.reader([first]))]
    if header[:3] == ["TIMESTAMP", "ContextTokens", "GeneratedTokens"]:
        return Format("Azure", 0, _azure)
    if {"Timestamp", "Request tokens", "Response tokens"} <= set(header):
        return Format("BurstGPT", 0, _burstgpt)
    return Format("CSV", 0, _plain_csv)


def trace_chunks(path: Path, scale: Scale = Scale(), limit: int | None = None, longest: int | None = None) -> Iterator[Chunk]:
    """The requests of ``path``, the first at time 0, at most ``limit`` of them. Raises BadInput with file and line.

    ``longest``: context that the model takes; a request beyond it is refused here, not cut.
    """
    kind = format_of(path)
    with path.open(encoding="utf-8-sig", errors="strict", newline="") as file:
        batch: list[Line] = []
        made, start, before = 0, math.nan, -math.inf
        lines = kind.lines(path, file)
        while limit is None or made + len(batch) < limit:
            try:
                number, line = next(lines)
            except StopIteration:
                break
            except UnicodeDecodeError:
                raise BadInput(f"{path}: it is not text in UTF-8: wanted a trace in CSV or JSON lines") from None
            if line.seconds < before:
                raise BadInput(
                    f"{path}:{number}: arrives at {line.seconds:.6f} s, before the line above it ({before:.6f} s): sort "
                    "the trace by time"
                )
            before = line.seconds
            start = line.seconds if math.isnan(start) else start
            batch.append(_scaled(line, scale, start))
            _fits(path, number, batch[-1], longest)
            if len(batch) == CHUNK:
                yield _chunk(batch, made)
                made, batch = made + len(batch), []
        if batch:
            yield _chunk(batch, made)
        elif made == 0:
            raise BadInput(f"{path}: the trace holds no request")


def _scaled(line: Line, scale: Scale, start: float) -> Line:
    return Line(
        (line.seconds - start) / scale.rate,
        max(1, round(line.input * scale.input)),
        max(1, round(line.output * scale.output)),
        line.names if scale.input == 1.0 else line.names[: max(1, int(len(line.names) * scale.input))],
        line.session,
        line.turn,
        line.priority,
        line.cached,
    )


def _fits(path: Path, number: int, line: Line, longest: int | None) -> None:
    if longest is not None and line.input + line.output > longest:
        raise BadInput(
            f"{path}:{number}: {line.input} tokens in and {line.output} out are more context than the model has ({longest}): "
            "scale the lengths down (requests.trace.input_scale), or use another model"
        )


def _chunk(lines: list[Line], first: int) -> Chunk:
    a = blank(len(lines))
    a["id"] = np.arange(first, first + len(lines))
    a["at"] = [round(line.seconds * 1e12) for line in lines]
    for field in ("input", "output", "session", "turn", "priority", "cached"):
        a[field] = [getattr(line, field) for line in lines]
    blocks = np.array([len(line.names) for line in lines])
    if not blocks.any():
        return Chunk(a, NO_NAMES)
    a["blocks"] = blocks
    a["names"] = np.where(blocks > 0, np.cumsum(blocks) - blocks, -1)
    return Chunk(a, np.fromiter(chain.from_iterable(line.names for line in lines), np.int64, int(blocks.sum())))


def _azure(path: Path, file: TextIO) -> Iterator[tuple[int, Line]]:
    rows = csv.reader(file)
    next(rows)
    for row in rows:
        number = rows.line_num
        if len(row) < 3:
            raise BadInput(f"{path}:{number}: wanted TIMESTAMP, ContextTokens and GeneratedTokens, got {len(row)} columns")
        try:
            moment = datetime.fromisoformat(row[0].strip()[:26])
        except ValueError:
            raise BadInput(f'{path}:{number}: TIMESTAMP: wanted a date and time, got "{row[0][:40]}"') from None
        seconds = (moment - datetime(2020, 1, 1)).total_seconds()
        yield (
            number,
            Line(seconds, _tokens(path, number, "ContextTokens", row[1]), _tokens(path, number, "GeneratedTokens", row[2], 0)),
        )


def _burstgpt(path: Path, file: TextIO) -> Iterator[tuple[int, Line]]:
    rows = csv.DictReader(file)
    for row in rows:
        number = rows.line_num
        answer = _tokens(path, number, "Response tokens", row["Response tokens"], 0)
        if answer == 0:  # the trace's failed requests
            continue
        seconds = _seconds(path, number, "Timestamp", row["Timestamp"])
        yield number, Line(seconds, _tokens(path, number, "Request tokens", row["Request tokens"]), answer)


def _mooncake(path: Path, file: TextIO) -> Iterator[tuple[int, Line]]:
    for number, item in _objects(path, file):
        yield number, _hashed(path, number, item, 1e-3, 512)


def _bailian(path: Path, file: TextIO) -> Iterator[tuple[int, Line]]:
    for number, item in _objects(path, file):
        line = _hashed(path, number, item, 1.0, 16)
        turn = item.get("turn", 1)
        session = item.get("chat_id", -1)
        yield (
            number,
            Line(line.seconds, line.input, line.output, line.names, _name(session), int(turn) if isinstance(turn, int) else 0),
        )


def _hashed(path: Path, number: int, item: dict[str, Any], unit_s: float, block: int) -> Line:
    _has(path, number, item, ("timestamp", "input_length", "output_length", "hash_ids"))
    ids = item["hash_ids"]
    if not isinstance(ids, list):
        raise BadInput(f"{path}:{number}: hash_ids: wanted a list, got {str(ids)[:40]}")
    size = _tokens(path, number, "input_length", item["input_length"])
    if len(ids) > -(-size // block):
        raise BadInput(
            f"{path}:{number}: {len(ids)} hash_ids are more than {size} tokens fill ({block} a block): "
            "is it another format's trace?"
        )
    seconds = _seconds(path, number, "timestamp", item["timestamp"]) * unit_s
    return Line(seconds, size, _tokens(path, number, "output_length", item["output_length"], 0), tuple(_name(i) for i in ids))


def _plain_csv(path: Path, file: TextIO) -> Iterator[tuple[int, Line]]:
    rows = csv.DictReader(file, skipinitialspace=True)
    columns = _columns(path, [c.strip() for c in rows.fieldnames or ()])
    for row in rows:
        if None in row or None in row.values():
            raise BadInput(f"{path}:{rows.line_num}: wanted {len(rows.fieldnames or ())} columns, as the header has")
        yield rows.line_num, _plain(path, rows.line_num, {k.strip(): v for k, v in row.items()}, columns)


def _plain_json(path: Path, file: TextIO) -> Iterator[tuple[int, Line]]:
    columns: dict[str, str] | None = None
    for number, item in _objects(path, file):
        columns = columns or _columns(path, list(item))
        _has(path, number, item, tuple(columns.values()))
        yield number, _plain(path, number, item, columns)


def _columns(path: Path, given: list[str]) -> dict[str, str]:
    found = {}
    for wanted, names in _COLUMNS.items():
        name = next((n for n in names if n in given), None)
        if name is None:
            raise BadInput(
                f"{path}:1: no column {wanted} (or {', '.join(names[1:])}): a trace has arrival_s, input_tokens and "
                f"output_tokens, and may have {', '.join(_OTHER)}; this one has {', '.join(given)[:120]}"
            )
        found[wanted] = name
    for column in given:
        if column not in found.values() and column not in _OTHER:
            near = nearest(column, _OTHER)
            raise BadInput(
                f"{path}:1: column {column[:40]} is not used"
                + (f": did you mean {near}?" if near else ": remove it, or rename it")
            )
    return found


def _plain(path: Path, number: int, item: dict[str, Any], columns: dict[str, str]) -> Line:
    def whole(name: str) -> int:
        return _tokens(path, number, name, item[name], 0) if item.get(name) not in (None, "") else 0

    priority = whole("priority")
    if priority > 3:
        raise BadInput(f"{path}:{number}: priority: wanted 0 (first) to 3, got {priority}")
    return Line(
        _seconds(path, number, columns["arrival_s"], item[columns["arrival_s"]]),
        _tokens(path, number, columns["input_tokens"], item[columns["input_tokens"]]),
        _tokens(path, number, columns["output_tokens"], item[columns["output_tokens"]], 0),
        session=_name(item["session"]) if item.get("session") not in (None, "") else -1,
        priority=priority,
        cached=whole("cached_tokens"),
    )


def _objects(path: Path, file: TextIO) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, text in enumerate(file, 1):
        if text.strip():
            yield number, _object(path, number, text)


def _object(path: Path, number: int, text: str) -> dict[str, Any]:
    try:
        item = json.loads(text)
    except ValueError:
        raise BadInput(f"{path}:{number}: wanted a JSON object, got {text.strip()[:60]}") from None
    if not isinstance(item, dict):
        raise BadInput(f"{path}:{number}: wanted a JSON object, got {text.strip()[:60]}")
    return item


def _has(path: Path, number: int, item: dict[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        if name not in item:
            raise BadInput(f"{path}:{number}: no {name}: every line needs {', '.join(names)}")


def _tokens(path: Path, number: int, name: str, value: object, least: int = 1) -> int:
    try:
        count = float(value)  # type: ignore[arg-type]
        good = count == int(count) and not isinstance(value, bool)
    except (TypeError, ValueError, OverflowError):
        good, count = False, 0.0
    if not good:
        raise BadInput(f"{path}:{number}: {name}: wanted a whole number of tokens, got {str(value)[:40]}")
    if count < least:
        raise BadInput(f"{path}:{number}: {name}: wanted {least} or more tokens, got {int(count)}")
    if count > MOST_TOKENS:
        raise BadInput(
            f"{path}:{number}: {name}: {int(count)} tokens are beyond any context ({MOST_TOKENS}): is the column another?"
        )
    return int(count)


def _seconds(path: Path, number: int, name: str, value: object) -> float:
    try:
        seconds = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        seconds = math.nan
    if not math.isfinite(seconds) or isinstance(value, bool):
        raise BadInput(f"{path}:{number}: {name}: wanted seconds, got {str(value)[:40]}")
    if seconds < 0:
        raise BadInput(f"{path}:{number}: {name}: {seconds:g} is before the trace begins: times are from 0 on")
    return seconds


def _name(value: object) -> int:
    """A block's or a conversation's name as a number, the same in every run."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62:
        return value
    return int.from_bytes(blake2b(str(value).encode(), digest_size=8).digest(), "little") >> 2
