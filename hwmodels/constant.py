"""A fitted constant as text with its unit and as a number: seconds, bytes, bytes per cycle, or a ratio, by its name."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

from .errors import BadInput
from .units import BYTES, SECONDS

_PER_CYCLE = " B/cycle"


@lru_cache(4096)
def read_constant(name: str, value: str | float) -> float:
    """ "20.5 us" -> 2.05e-5, "34 B/cycle" -> 34.0, a bare ratio as it is (only efficiencies, sharpness and shares are bare).

    Raises BadInput naming the constant if the unit is missing or of another kind, or the number is none it can have: an
    efficiency is above 0 and at most 1, a sharpness 1 or more, a copy rate above 0, anything else 0 or more.
    """
    unit = unit_of(name)
    try:
        if isinstance(value, str) != bool(unit):
            raise ValueError(f"wanted {_WANTED[unit]}, got {value!r}")
        if isinstance(value, str):
            number = _read_per_cycle(value) if unit == "B/cycle" else (BYTES if unit == "B" else SECONDS).parse(value)
        else:
            number = float(value)
        wanted, holds = _range(name, unit)
        if not (math.isfinite(number) and holds(number)):
            raise ValueError(f"wanted {wanted}, got {value!r}")
    except ValueError as error:
        raise BadInput(f"constant {name}: {error}") from None
    return number


def _range(name: str, unit: str) -> tuple[str, Callable[[float], bool]]:
    """Which numbers a constant can be, in words and as a test."""
    if name.endswith("efficiency"):
        return "a share above 0, at most 1", lambda x: 0.0 < x <= 1.0
    if name == "sharpness":
        return "1 or more", lambda x: x >= 1.0
    return ("a rate above 0", lambda x: x > 0.0) if unit == "B/cycle" else ("zero or more", lambda x: x >= 0.0)


_WANTED = {
    "us": "a time such as '20.5 us'",
    "B/cycle": "a copy rate such as '34 B/cycle'",
    "B": "a size such as '4 MB'",
    "": "a bare number",
}


def _read_per_cycle(text: str) -> float:
    try:
        if text.endswith(_PER_CYCLE):
            return float(text.removesuffix(_PER_CYCLE))
    except ValueError:
        pass
    raise ValueError(f"wanted {_WANTED['B/cycle']}, got {text!r}")


def write_constant(name: str, value: float) -> str | float:
    """The inverse of `read_constant`, four significant digits."""
    unit = unit_of(name)
    if unit == "B":
        return f"{value:.4g} B" if value < 1e4 else f"{value / 1e6:.4g} MB"
    if unit == "us":
        return f"{value * 1e6:.4g} us" if value >= 1e-15 else "0 us"
    return f"{value:.4g}{_PER_CYCLE}" if unit else float(f"{value:.4g}")


def unit_of(name: str) -> str:
    """ "us" for times, "B/cycle" for copy rates, "B" for sizes, "" for ratios, by the constant's name."""
    if name.endswith("efficiency") or name in ("sharpness", "translation"):
        return ""
    if name.endswith("_bytes"):
        return "B"
    return "B/cycle" if name.endswith("copy") else "us"
