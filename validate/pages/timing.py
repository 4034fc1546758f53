"""One predicted row as the pages of a validation show it, and how its group and regime are called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Key = tuple[str, str, str, int]  # system, protocol, op, nodes
#: Columns that say what was measured, and how the page says them.
CASE = (
    ("tokens_per_rank", "{} tokens"),
    ("tokens", "{} tokens"),
    ("message_bytes", "{} B"),
    ("gpus", "{} GPUs"),
    ("m", "m {}"),
    ("n", "n {}"),
    ("k", "k {}"),
    ("heads", "{} heads"),
    ("batch", "batch {}"),
    ("context_len", "context {}"),
    ("hidden", "hidden {}"),
    ("inter", "inter {}"),
    ("ep", "EP{}"),
    ("top_k", "top-{}"),
    ("experts", "{} experts"),
    ("comm_sms", "{} SMs"),
    ("payload_dtype", "{}"),
    ("routing", "{}"),
    ("model", "{}"),
    ("isl", "{} in"),
    ("osl", "{} out"),
    ("concurrency", "{} clients"),
    ("arrangement", "{}"),
)
#: The column whose powers of four are a table's regimes, the first that a row has, and what it counts.
SIZES = (
    ("tokens_per_rank", "tokens per rank"),
    ("tokens", "tokens"),
    ("message_bytes", "bytes"),
    ("m", "rows of the product"),
    ("context_len", "tokens of context"),
    ("concurrency", "clients"),
)


@dataclass(frozen=True, slots=True)
class Timing:
    """``case``: what was measured, in words; ``size``: how much of ``unit`` (`SIZES`), 0 if the table says neither.

    ``bound``: the resource needed longest, if known; ``low90_us`` and ``high90_us``: the 90 % interval, 0.0 if there is none.
    """

    key: Key
    size: int
    case: str
    measured_us: float
    predicted_us: float
    bound: str = ""
    low90_us: float = 0.0
    high90_us: float = 0.0
    unit: str = ""

    @property
    def error_pct(self) -> float:
        """Signed relative error, percent: positive when the prediction is too slow."""
        return 100 * (self.predicted_us / self.measured_us - 1)


def timing(row: Mapping[str, Any]) -> Timing:
    """``row`` of a validation (its table's columns and ``predicted_us``). Raises KeyError without its times or names."""

    def number(name: str) -> float:
        return float(str(row[name]))

    said = [words.format(row[name]) for name, words in CASE if row.get(name) not in (None, "")]
    column, unit = next(((name, unit) for name, unit in SIZES if row.get(name) not in (None, "")), ("", ""))
    size = int(number(column)) if column else 0
    low90, high90 = (float(row.get(name) or 0.0) for name in ("predicted_low90_us", "predicted_high90_us"))
    times = (number("latency_us"), number("predicted_us"))
    return Timing(key_of(row), size, ", ".join(said), *times, str(row.get("bound", "")), low90, high90, unit)


def key_of(record: Mapping[str, Any]) -> Key:
    """The group of a row, or of a group's record."""
    op = record.get("group_op") or record["op"]
    return str(record["system"]), str(record["protocol"]), str(op), int(float(str(record["nodes"])))


def name_of(key: Key) -> str:
    """A group in words."""
    system, protocol, op, nodes = key
    return f"{system}, {nodes} node{'s' if nodes != 1 else ''}: {protocol} {op}"


def regime_of(size: int) -> int:
    """Bands of size, in powers of four."""
    return max(0, (max(size, 1).bit_length() - 1) // 2)


def regime_words(regime: int) -> str:
    """A band: "16–64", "4k–16k"."""
    return "–".join(_short(4**power) for power in (regime, regime + 1))


def _short(number: int) -> str:
    factor, letter = next(((f, c) for f, c in ((1 << 30, "G"), (1 << 20, "M"), (1 << 10, "k")) if number >= f), (1, ""))
    return f"{number // factor}{letter}"
