"""How a number with its unit is said in plain text: three digits, the prefix that suits it."""

from __future__ import annotations

import math

from ....hwmodels.units import format_time

_SHARES = ("mfu", "mbu")


def number_text(value: float, unit: str, key: str = "") -> str:
    """``value`` of ``unit``: "31.2 ms", "1,840 tokens/s", "0.42 USD/Mtok"; "no price" or "n/a" if there is none."""
    if not math.isfinite(value):
        return "no price" if unit.startswith("USD") or key.startswith("usd_") else "n/a"
    if unit == "s":
        return format_time(value)
    if unit == "" and key in _SHARES:
        return f"{digits(100 * value)} %"
    return f"{digits(value)} {unit}".rstrip()


def digits(value: float) -> str:
    """Three significant digits, whole numbers whole: "0.0412", "7.31", "1,240"."""
    if value == 0:
        return "0"
    places = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text and (places > 2 or float(value).is_integer()) else text


def share(part: float) -> str:
    """A part of a whole: "41 %", "0.3 %"."""
    return f"{100 * part:.0f} %" if part >= 0.0095 or part == 0 else f"{100 * part:.1g} %"


def percent(change: float) -> str:
    """A relative change: "+4.2 %", "-31.0 %", "+179 %", "12.3 times" from ten times on; "0 %" below what prints."""
    if abs(change) < 5e-4:
        return "0 %"
    if change >= 9.0:
        return f"{digits(1 + change)} times"
    return f"{100 * change:+.{1 if abs(change) < 0.9995 else 0}f} %"
