"""Fitted constants of a system: what was measured, on which rows, with which residual.

One YAML file a system in ``data/calibrated``; one entry for each (protocol, op, scope). A system without an entry borrows its
relative's: times and efficiencies are taken over as they stand, rates come from its own datasheet, and the prediction says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from importlib.resources import files
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from . import strict_yaml
from .errors import BadInput, Uncalibrated, UnknownName, one_line
from .interval import Regime
from .units import BYTES, SECONDS

Scope = Literal["one-node", "multi-node", "nvlink-domain"]
_PER_CYCLE = " B/cycle"
_Constants = TypeVar("_Constants")


class Fit(BaseModel):
    """How an entry's constants came about. ``undetermined``: constants that the rows could not tell from zero or a bound."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    table: str
    library: str
    rows: int = Field(ge=0, description="rows the constants were fitted to")
    rows_available: int = Field(ge=0)
    mape_fit_pct: float
    mape_rest_pct: float | None = Field(default=None, description="on the rows not fitted to")
    residual_log_sd: float = Field(description="standard deviation of log(predicted / measured) on the fitted rows")
    undetermined: tuple[str, ...] = ()
    uncertainty: dict[str, str | float] = Field(
        default_factory=dict, description="one standard deviation of each fitted constant"
    )
    seen: dict[str, tuple[float, float]] = Field(default_factory=dict, description="range of each quantity in the table")
    intervals: tuple[Regime, ...] = Field(default=(), description="residuals of rows that the fit left aside, by regime")
    method: str


class Entry(BaseModel):
    """Constants of one kernel. Times and per-cycle rates carry their unit; ratios are bare numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    protocol: str
    op: str
    scope: Scope
    constants: dict[str, str | float]
    fit: Fit


class Calibration(BaseModel):
    """All entries of one system. ``cluster``: the catalogue cluster whose datasheets the constants are relative to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    system: str
    cluster: str
    relative: str | None = Field(default=None, description="system whose constants fill what is missing here")
    why: str = ""
    entries: tuple[Entry, ...] = ()


def load_calibration(system: str) -> Calibration:
    """The calibration file of ``system``. Raises UnknownName."""
    return _load(system)


def calibrated_systems() -> tuple[str, ...]:
    """Names of all systems with a calibration file."""
    return tuple(sorted(e.name.removesuffix(".yaml") for e in _folder().iterdir() if e.name.endswith(".yaml")))


def find_entry(system: str, protocol: str, op: str, scope: Scope) -> tuple[Entry, str]:
    """The entry for a kernel on ``system``, its own or its nearest relative's, and the system it came from.

    Raises Uncalibrated if neither the system nor its relatives ever measured that kernel in that scope.
    """
    seen: list[str] = []
    name: str | None = system
    while name is not None and name not in seen:
        seen.append(name)
        calibration = load_calibration(name)
        for entry in calibration.entries:
            if (entry.protocol, entry.op, entry.scope) == (protocol, op, scope):
                return entry, name
        name = calibration.relative
    raise Uncalibrated(
        f"no calibration of {protocol} {op} ({scope}) for {' or its relatives '.join((seen[0], ', '.join(seen[1:]) or 'none'))}"
    )


def constants_of(entry: Entry, record: type[_Constants]) -> _Constants:
    """An entry's constants as the protocol's own record, in seconds, bytes per cycle and ratios.

    Raises BadInput for a missing, unknown or ill-formed constant.
    """
    known = {f.name for f in fields(record)}  # type: ignore[arg-type]
    where = f"{entry.protocol} {entry.op} ({entry.scope})"
    if missing := sorted(known - set(entry.constants)):
        raise BadInput(f"{where}: constants {missing} are missing")
    if unknown := sorted(set(entry.constants) - known):
        raise BadInput(f"{where}: unknown constants {unknown}")
    return record(**{name: read_constant(name, value) for name, value in entry.constants.items()})


def read_constant(name: str, value: str | float) -> float:
    """ "20.5 us" -> 2.05e-5, "34 B/cycle" -> 34.0, a bare ratio as it is (only efficiencies, sharpness and shares are bare)."""
    if isinstance(value, str):
        if name.endswith("_bytes"):
            return BYTES.parse(value)
        if value.endswith(_PER_CYCLE):
            return float(value.removesuffix(_PER_CYCLE))
        return SECONDS.parse(value)
    if not unit_of(name):
        return float(value)
    raise BadInput(f"constant {name} needs a unit, got the bare number {value}")


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


def parse_calibration(document: Mapping[str, Any], where: str) -> Calibration:
    """A calibration from a YAML document. Raises BadInput in one line."""
    try:
        return Calibration.model_validate(document)
    except ValidationError as error:
        raise BadInput(one_line(error, where)) from None


@cache
def _load(system: str) -> Calibration:
    entry = _folder().joinpath(f"{system}.yaml")
    if not entry.is_file():
        raise UnknownName("calibrated system", system, calibrated_systems(), "epicycle catalog clusters")
    return parse_calibration(
        strict_yaml.load(entry.read_text(encoding="utf-8"), f"calibrated/{system}.yaml"), f"calibrated/{system}.yaml"
    )


def _folder() -> Any:
    return files("epicycle.hwmodels").joinpath("data", "calibrated")
