"""How the pages say a number with its unit: three digits, the prefix that suits it, and one scale for a whole axis."""

from __future__ import annotations

import math
from collections.abc import Iterable

from ...answer.words.number_text import digits

SHARES = ("mfu", "mbu")  # metrics of no unit that are shares of a peak
_SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))
_PRICES = {"USD/Mtok": "per Mtok", "USD/h": "per hour", "USD": ""}


def said(value: float, unit: str, key: str = "") -> str:
    """``value`` of ``unit`` in words: ``"31.2 ms"``, ``"$0.42 per Mtok"``, ``"1,840 tokens/s"``; a share as per cent."""
    if not math.isfinite(value):
        return "no price" if unit in _PRICES else "–"
    if unit == "s":
        size, name = _second_unit(value)
        return f"{digits(value / size)} {name}"
    if unit in _PRICES:
        return f"${_money(value)} {_PRICES[unit]}".rstrip()
    if unit == "" and key in SHARES:
        return f"{digits(100 * value)} %"
    return f"{digits(value)} {unit if unit != '1/s' else 'per second'}".rstrip()


def between(low: float, high: float, unit: str, key: str = "") -> str:
    """A range in words, its unit said once where both ends have the same: ``"128 to 186 requests/s"``."""
    first, last = said(low, unit, key), said(high, unit, key)
    number, _, name = first.partition(" ")
    return f"{number if name and last.endswith(' ' + name) else first} to {last}"


def scale(values: Iterable[float], unit: str, key: str = "") -> tuple[float, str]:
    """(factor, unit) that suits ``values`` on one axis: seconds may become ms, a share per cent."""
    if unit == "s":
        size, name = _second_unit(max((abs(v) for v in values if math.isfinite(v)), default=1.0))
        return 1 / size, name
    if unit == "" and key in SHARES:
        return 100.0, "%"
    return 1.0, "per second" if unit == "1/s" else unit.replace("USD/", "USD / ")


def change(before: float, after: float) -> str:
    """Relative change in words: ``"+4.2 %"``, ``"−31 %"``, ``"2.4×"`` from twice on."""
    if before == after:
        return "same"
    if before == 0 or not (math.isfinite(before) and math.isfinite(after)):
        return "–"
    return relative(after / before - 1)


def relative(share: float) -> str:
    """A relative change of ``share`` in words, with its sign."""
    if share > 1:
        return f"{digits(1 + share)}×"
    if abs(share) < 0.0005:
        return "0.0 %"
    places = 1 if abs(share) < 0.1 else 0
    return f"{'+' if share > 0 else '−'}{100 * abs(share):.{places}f} %"


def nice_step(span: float, ticks: int = 5) -> float:
    """A step of 1, 2, 2.5 or 5 times a power of ten that divides ``span`` into about ``ticks``."""
    if span <= 0 or not math.isfinite(span):
        return 1.0
    raw = span / ticks
    power = 10.0 ** math.floor(math.log10(raw))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)


def _second_unit(value: float) -> tuple[float, str]:
    return next((u for u in _SECONDS if abs(value) >= u[0]), _SECONDS[-1] if value else _SECONDS[0])


def _money(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.2f}" if abs(value) >= 0.1 else digits(value)
