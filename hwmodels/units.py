"""Quantities with units: SI floats inside (money in US dollars), strings such as "450 GB/s" or "2 USD/GPU-h" outside.

A field annotated ``Bytes``, ``BytesPerSecond``, … reads a string with its unit and holds a float in SI. A bare number is
refused, because "450" does not say whether bytes or bits were meant; code that already holds SI numbers says so once, with
``Record.model_validate(data, context=SI_NUMBERS)``. ``model_dump(mode="json")`` writes strings that read back exactly.

Units are case-sensitive: GB is 10^9 bytes, GiB 2^30 bytes, Gb 10^9 bits.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, ValidationInfo, WithJsonSchema

SI_NUMBERS: Mapping[str, str] = {"numbers": "SI"}

_QUANTITY = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([^\d\s].*?)?\s*")
_DECIMAL = {"": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50}


@dataclass(frozen=True)
class Dimension:
    """A kind of quantity: the ``units`` it is written in (unit -> SI factor) and the range ``[low, high]`` that is not absurd.

    ``shown`` are the units used for output, largest first; ``usual`` those an error suggests; ``hints`` say what a tempting
    but wrong unit would mean.
    """

    noun: str
    units: Mapping[str, Decimal]
    shown: tuple[str, ...]
    usual: tuple[str, ...]
    low: float
    high: float
    hints: Mapping[str, str]

    def parse(self, text: str) -> float:
        """The SI value of ``text``. Raises ValueError saying which units would do, or which bound was crossed."""
        match = _QUANTITY.fullmatch(text)
        if match is None:
            raise ValueError(f"wanted {self.noun} such as {self._examples()}, got {text!r}")
        number, unit = match.groups()
        if unit is None:
            raise ValueError(f"{self.noun} needs a unit: write {self._examples(number)}, got {text!r}")
        if unit not in self.units:
            raise ValueError(f"{unit!r} is not a unit of {self.noun}: {self._instead_of(unit, number)}")
        try:
            value = float(Decimal(number) * self.units[unit])
        except ArithmeticError:  # an exponent beyond even Decimal
            value = math.inf
        return self.check(value, text)

    def check(self, value: float, text: object = None) -> float:
        """``value`` unchanged if it is within ``[low, high]``. Raises ValueError otherwise."""
        shown = repr(text) if text is not None else repr(value)
        if not math.isfinite(value):
            raise ValueError(f"{self.noun} must be finite, got {shown}")
        if value < 0 or (value == 0 and self.low > 0):
            raise ValueError(f"{self.noun} must be {'positive' if self.low > 0 else 'zero or more'}, got {shown}")
        if value < self.low:
            raise ValueError(f"{self.noun} below {self.write(self.low)} is absurd, got {shown}: is a prefix missing?")
        if value > self.high:
            raise ValueError(f"{self.noun} beyond {self.write(self.high)} is absurd, got {shown}: is a unit wrong?")
        return value

    def read(self, value: object, info: ValidationInfo) -> float:
        """The pydantic side of ``parse``: strings with units, or SI numbers where the context says so."""
        if isinstance(value, str):
            return self.parse(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            if info.context and info.context.get("numbers") == "SI":
                return self.check(float(value))
            raise ValueError(f"{self.noun} needs a unit: write {self._examples(str(value))}, got the bare number {value!r}")
        raise ValueError(f"wanted {self.noun} such as {self._examples()}, got {value!r}")

    def write(self, value: float) -> str:
        """``value`` as the shortest string that ``parse`` reads back exactly."""
        exact = Decimal(repr(value))
        for unit in self.shown:
            if exact >= self.units[unit]:
                break
        return f"{_plain(exact / self.units[unit])} {unit}"

    def _examples(self, number: str = "1") -> str:
        return " or ".join(f'"{number} {unit}"' for unit in self.usual)

    def _instead_of(self, unit: str, number: str) -> str:
        if unit in self.hints:
            return self.hints[unit]
        other_case = [known for known in self.units if known.lower() == unit.lower()]
        near = other_case or difflib.get_close_matches(unit, list(self.units), n=1)
        return (
            "did you mean " + " or ".join(f'"{number} {u}"' for u in near) + "?" if near else f"write {self._examples(number)}"
        )


def _plain(number: Decimal) -> str:
    text = format(number, "f") if -6 <= number.adjusted() <= 20 else format(number, "e")
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text


def _prefixed(symbol: str, scale: Decimal = Decimal(1), prefixes: str = "kMGTP", plain: bool = True) -> dict[str, Decimal]:
    wanted = ([""] if plain else []) + list(prefixes)
    return {prefix + symbol: scale * 10 ** _DECIMAL[prefix] for prefix in wanted}


def _binary(symbol: str) -> dict[str, Decimal]:
    return {prefix + symbol: Decimal(2**power) for prefix, power in _BINARY.items()}


_BIT = Decimal("0.125")
_TIME = {"s": Decimal(1), "ms": Decimal("1e-3"), "us": Decimal("1e-6"), "µs": Decimal("1e-6"), "ns": Decimal("1e-9")}
_BITS_ARE_NOT_BYTES = {f"{p}b": f"{p}b is bits: write {p}B (10^n bytes) or {p}iB (2^n bytes)" for p in "kMGTP"}

BYTES = Dimension(
    "a size", {**_prefixed("B"), **_binary("B")}, ("TB", "GB", "MB", "kB", "B"), ("GB", "GiB"), 1, 1e18, _BITS_ARE_NOT_BYTES
)
BYTES_PER_SECOND = Dimension(
    "a bandwidth",
    {**_prefixed("B/s"), **_binary("B/s"), **_prefixed("b/s", _BIT), **_prefixed("bit/s", _BIT), **_prefixed("bps", _BIT)},
    ("TB/s", "GB/s", "MB/s"),
    ("GB/s", "Gb/s"),
    1e6,
    1e15,
    {"GB": "a bandwidth is per second: write GB/s", "Gb": "a bandwidth is per second: write Gb/s (bits) or GB/s (bytes)"},
)
HERTZ = Dimension("a clock", _prefixed("Hz"), ("GHz", "MHz"), ("GHz", "MHz"), 1e6, 2e10, {})
PER_SECOND = Dimension("a rate", _prefixed("/s"), ("M/s", "k/s", "/s"), ("M/s", "k/s"), 1e-3, 1e13, {})
SECONDS = Dimension("a latency", _TIME, ("us", "ns"), ("us", "ns"), 0, 1, {})
DURATION = Dimension(
    "a duration",
    {**_TIME, "min": Decimal(60), "h": Decimal(3600), "d": Decimal(86400)},
    ("s", "ms", "us", "ns"),
    ("s", "ms"),
    0,
    1e10,
    {},
)
FLOPS = Dimension(
    "a tensor rate",
    {"TFLOP/s": Decimal("1e12"), "PFLOP/s": Decimal("1e15"), "GFLOP/s": Decimal("1e9")},
    ("PFLOP/s", "TFLOP/s", "GFLOP/s"),
    ("TFLOP/s",),
    1e9,
    1e18,
    {"TFLOPS": "write a rate per second: TFLOP/s, dense", "TOPS": "write TFLOP/s, dense"},
)
WATTS = Dimension("a power", _prefixed("W", prefixes="kM"), ("kW", "W"), ("W", "kW"), 1e-3, 1e9, {})

# Money has no SI unit: these are held in the unit that their names say.
_NO_OTHER_MONEY = dict.fromkeys(("EUR", "CNY", "RMB", "GBP"), "prices are in US dollars: convert, and write USD")
USD = Dimension(
    "a price", {"USD": Decimal(1), "kUSD": Decimal(1000), "MUSD": Decimal(10**6)}, ("USD",), ("USD",), 0, 1e12, _NO_OTHER_MONEY
)
USD_PER_GPU_HOUR = Dimension(
    "a price of GPU time",
    {"USD/GPU-h": Decimal(1)},
    ("USD/GPU-h",),
    ("USD/GPU-h",),
    0,
    1e4,
    {"USD": "a GPU is rented by the hour: write USD/GPU-h", "USD/h": "of one GPU or of a node? write USD/GPU-h, of one GPU"},
)
USD_PER_KWH = Dimension(
    "a price of electricity",
    {"USD/kWh": Decimal(1), "USD/MWh": Decimal("0.001")},
    ("USD/kWh",),
    ("USD/kWh",),
    0,
    100,
    {"USD/kW": "energy is paid for, not power: write USD/kWh"},
)
USD_PER_MTOK = Dimension(
    "a price of tokens",
    {"USD/Mtok": Decimal(1), "USD/ktok": Decimal(1000)},
    ("USD/Mtok",),
    ("USD/Mtok",),
    0,
    1e6,
    {"USD/tok": "write the price of a million tokens: USD/Mtok", "USD/M": "a million of what? write USD/Mtok"},
)


def _as_text(dimension: Dimension) -> WithJsonSchema:
    """In a JSON schema a quantity is text: a number and its unit."""
    units = "|".join(re.escape(unit) for unit in dimension.units)
    return WithJsonSchema(
        {"type": "string", "pattern": rf"^\s*[-+0-9.,_eE]+\s*({units})\s*$", "description": f"{dimension.noun} with its unit"}
    )


Bytes = Annotated[float, BeforeValidator(BYTES.read), PlainSerializer(BYTES.write, when_used="json"), _as_text(BYTES)]
BytesPerSecond = Annotated[
    float,
    BeforeValidator(BYTES_PER_SECOND.read),
    PlainSerializer(BYTES_PER_SECOND.write, when_used="json"),
    _as_text(BYTES_PER_SECOND),
]
Hertz = Annotated[float, BeforeValidator(HERTZ.read), PlainSerializer(HERTZ.write, when_used="json"), _as_text(HERTZ)]
PerSecond = Annotated[
    float, BeforeValidator(PER_SECOND.read), PlainSerializer(PER_SECOND.write, when_used="json"), _as_text(PER_SECOND)
]
Seconds = Annotated[float, BeforeValidator(SECONDS.read), PlainSerializer(SECONDS.write, when_used="json"), _as_text(SECONDS)]
Duration = Annotated[
    float, BeforeValidator(DURATION.read), PlainSerializer(DURATION.write, when_used="json"), _as_text(DURATION)
]
Watts = Annotated[float, BeforeValidator(WATTS.read), PlainSerializer(WATTS.write, when_used="json"), _as_text(WATTS)]
Usd = Annotated[float, BeforeValidator(USD.read), PlainSerializer(USD.write, when_used="json"), _as_text(USD)]
UsdPerGpuHour = Annotated[
    float,
    BeforeValidator(USD_PER_GPU_HOUR.read),
    PlainSerializer(USD_PER_GPU_HOUR.write, when_used="json"),
    _as_text(USD_PER_GPU_HOUR),
]
UsdPerKwh = Annotated[
    float, BeforeValidator(USD_PER_KWH.read), PlainSerializer(USD_PER_KWH.write, when_used="json"), _as_text(USD_PER_KWH)
]
UsdPerMtok = Annotated[
    float, BeforeValidator(USD_PER_MTOK.read), PlainSerializer(USD_PER_MTOK.write, when_used="json"), _as_text(USD_PER_MTOK)
]


def _rounded(value: float, steps: tuple[tuple[float, str], ...]) -> str:
    if value == 0 or not math.isfinite(value):
        return f"{value:g} {steps[-1][1]}"
    # Rounded first, so that 999.9 kB becomes 1 MB and not 1000 kB.
    factor, unit = next((step for step in steps if abs(float(f"{value / step[0]:.3g}")) >= 1), steps[-1])
    text = f"{value / factor:.3g}"
    return f"{float(text):.0f} {unit}" if "e" in text else f"{text} {unit}"


def format_bytes(value: float, binary: bool = False) -> str:
    """``value`` bytes for people, three significant digits: "1.91 GB", or with ``binary`` "1.78 GiB"."""
    if binary:
        return _rounded(value, (*((2.0**p, f"{name}B") for name, p in reversed(_BINARY.items())), (1, "B")))
    return _rounded(value, ((1e15, "PB"), (1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B")))


def format_rate(value: float) -> str:
    """``value`` bytes/s for people, three significant digits: "43.5 GB/s"."""
    return f"{format_bytes(value)}/s"


def format_time(value: float) -> str:
    """``value`` seconds for people, three significant digits: "2.1 us", "14.8 ms", "3.2 s"."""
    return "0 s" if value == 0 else _rounded(value, ((1, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"), (1e-12, "ps")))
