"""One predicted row as the pages of a validation show it, and how its group and regime are called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Key = tuple[str, str, str, int]  # system, protocol, op, nodes
#: Columns that say what was measured, and how the page says them.
CASE = (
    ("tokens_per_rank", "{} tokens"),
    ("hidden", "hidden {}"),
    ("top_k", "top-{}"),
    ("experts", "{} experts"),
    ("comm_sms", "{} SMs"),
    ("payload_dtype", "{}"),
    ("routing", "{}"),
)


@dataclass(frozen=True, slots=True)
class Timing:
    """``case``: what was measured, in words; ``tokens``: 0 if the table has none.

    ``bound``: the resource needed longest, if known; ``low90_us`` and ``high90_us``: the 90 % interval, 0.0 if there is none.
    """

    key: Key
    tokens: int
    case: str
    measured_us: float
    predicted_us: float
    bound: str = ""
    low90_us: float = 0.0
    high90_us: float = 0.0

    @property
    def error_pct(self) -> float:
        """Signed relative error, percent: positive when the prediction is too slow."""
        return 100 * (self.predicted_us / self.measured_us - 1)


def timing(row: Mapping[str, Any]) -> Timing:
    """``row`` of a validation (its table's columns and ``predicted_us``). Raises KeyError without its times or names."""

    def number(name: str) -> float:
        return float(str(row[name]))

    said = [words.format(row[name]) for name, words in CASE if row.get(name) not in (None, "")]
    tokens = int(number("tokens_per_rank")) if row.get("tokens_per_rank") not in (None, "") else 0
    limits = [float(row.get(name) or 0.0) for name in ("predicted_low90_us", "predicted_high90_us")]
    times = (number("latency_us"), number("predicted_us"))
    return Timing(key_of(row), tokens, ", ".join(said), *times, str(row.get("bound", "")), *limits)


def key_of(record: Mapping[str, Any]) -> Key:
    """The group of a row, or of a group's record."""
    return str(record["system"]), str(record["protocol"]), str(record["op"]), int(float(str(record["nodes"])))


def name_of(key: Key) -> str:
    """A group in words."""
    system, protocol, op, nodes = key
    return f"{system}, {nodes} node{'s' if nodes != 1 else ''}: {protocol} {op}"


def regime_of(tokens: int) -> int:
    """Bands of tokens per rank, in powers of four."""
    return max(0, (max(tokens, 1).bit_length() - 1) // 2)


def regime_words(regime: int) -> str:
    """A band: "16–64", "4k–16k"."""
    low, high = (f"{n // 1024}k" if n >= 1024 else str(n) for n in (4**regime, 4 ** (regime + 1)))
    return f"{low}–{high}"
