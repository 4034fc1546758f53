"""Fitted constants of a system: what was measured, on which rows, with which residual.

One YAML file a system in ``data/calibrated``; one entry for each (protocol, op, scope). A system without an entry borrows its
relative's: times and efficiencies are taken over as they stand, rates come from its own datasheet, and the prediction says so.
A file of one's own, as `epicycle calibrate --out` writes it, stands for a system wherever its path is given; its ``relative``
is a shipped one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import MISSING, fields, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from . import catalog, strict_yaml
from .constant import read_constant
from .errors import BadInput, Uncalibrated, UnknownName, one_line
from .interval import Interval, Regime, interval_of

Scope = Literal["kernel", "one-node", "multi-node", "nvlink-domain"]
_LIST = "epicycle catalog clusters"  # the column `calibration`
_Constants = TypeVar("_Constants")
_STAND_INS: ContextVar[Mapping[str, Calibration]] = ContextVar("_STAND_INS", default={})  # noqa: B039 - never changed in place


class Fit(BaseModel):
    """How an entry's constants came about. ``undetermined``: constants that the rows could not tell from zero or a bound."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    table: str
    library: str
    rows: int = Field(ge=0, description="rows the constants were fitted to")
    lines: tuple[int, ...] = Field(default=(), description="which rows, by line of the table, where they are few and named")
    beside: dict[str, tuple[int, ...]] = Field(
        default_factory=dict, description="lines of other tables, by name, that the fit took too"
    )
    rows_available: int = Field(ge=0)
    mape_fit_pct: float
    mape_rest_pct: float | None = Field(default=None, description="on the rows not fitted to")
    residual_log_sd: float = Field(
        ge=0, lt=10, description="standard deviation of log(predicted / measured) on the fitted rows"
    )
    undetermined: tuple[str, ...] = ()
    uncertainty: dict[str, str | float] = Field(
        default_factory=dict, description="one standard deviation of each fitted constant"
    )
    seen: dict[str, tuple[float, float]] = Field(default_factory=dict, description="range of each quantity in the table")
    intervals: tuple[Regime, ...] = Field(default=(), description="residuals of rows that the fit left aside, by regime")
    method: str

    def interval(
        self, seconds: float, nodes: int, point: Mapping[str, float], borrowed_from: str = "", foreign: Sequence[str] = ()
    ) -> Interval:
        """The interval of a prediction of ``seconds`` with these constants at the operating point ``point``.

        ``foreign``: as `interval_of`. Without rows left aside, it is that of normal errors with the spread of the fitted rows,
        and says so.
        """
        if self.lines:
            foreign = (*foreign, f"a law of {len(self.lines)} published rows, with no row left aside")
        if self.intervals or not (self.rows and self.residual_log_sd):
            return interval_of(self.intervals, self.seen, seconds, nodes, point, borrowed_from, foreign)
        spread = Regime.normal(nodes, self.rows, self.residual_log_sd)
        found = interval_of((spread,), self.seen, seconds, nodes, point, borrowed_from, foreign)
        return replace(found, why=(f"no row was left aside: the spread of the {self.rows} fitted rows", *found.why))


class Entry(BaseModel):
    """Constants of one kernel. Times and per-cycle rates carry their unit; ratios are bare numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    protocol: str
    op: str
    scope: Scope
    constants: dict[str, str | float]
    fit: Fit

    @field_validator("constants")
    @classmethod
    def _readable(cls, constants: dict[str, str | float]) -> dict[str, str | float]:
        for name, value in constants.items():
            read_constant(name, value)
        return constants


class Calibration(BaseModel):
    """All entries of one system. ``cluster``: the cluster (a name, or a file beside this one) whose datasheets the constants
    are relative to.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    system: str
    cluster: str
    relative: str | None = Field(default=None, description="system whose constants fill what is missing here")
    another_make: bool = Field(default=False, description="the relative's kernels and GPU are another vendor's")
    why: str = ""
    entries: tuple[Entry, ...] = ()

    @model_validator(mode="after")
    def _one_entry_a_kernel(self) -> Self:
        keys = [f"{e.protocol} {e.op} ({e.scope})" for e in self.entries]
        if twice := next((key for key in keys if keys.count(key) > 1), None):
            raise ValueError(f"entries: {twice} is there twice")
        return self


def load_calibration(system: str) -> Calibration:
    """The calibration of ``system``: a shipped name, or the path of a file (one that ends in .yaml or .yml, or holds a slash).

    Raises UnknownName, or BadInput in one line for a file that is not there or holds no calibration.
    """
    if not is_calibration_path(system):
        return load_shipped(system)
    path = Path(system)
    try:
        stat = path.stat()
        return _load_file(system, stat.st_mtime_ns, stat.st_size)
    except OSError as error:
        raise BadInput(f"calibration {system}: {error.strerror}") from None


def is_calibration_path(system: str) -> bool:
    """Whether ``system`` is meant as a file and not as a shipped name."""
    return "/" in system or system.endswith((".yaml", ".yml"))


def calibrated_systems() -> tuple[str, ...]:
    """Names of all systems with a calibration file."""
    return tuple(sorted(e.name.removesuffix(".yaml") for e in _folder().iterdir() if e.name.endswith(".yaml")))


@contextmanager
def standing_in(path: str) -> Iterator[Calibration]:
    """Inside, the calibration file at ``path`` stands before the system it names: its entries first, then that system's own.

    Raises BadInput as `load_calibration`.
    """
    mine = load_calibration(path if is_calibration_path(path) else f"./{path}")
    with standing_before(mine):
        yield mine


@contextmanager
def standing_before(mine: Calibration) -> Iterator[None]:
    """Inside, ``mine`` stands before the system it names."""
    token = _STAND_INS.set({**_STAND_INS.get(), mine.system: mine})
    try:
        yield
    finally:
        _STAND_INS.reset(token)


def find_entry(system: str, protocol: str, op: str, scope: Scope) -> tuple[Entry, str]:
    """The entry for a kernel on ``system``, its own or its nearest relative's, and the system it came from.

    Raises Uncalibrated if neither the system nor its relatives ever measured that kernel in that scope.
    """
    mine = _STAND_INS.get().get(system)
    for entry in mine.entries if mine else ():
        if (entry.protocol, entry.op, entry.scope) == (protocol, op, scope):
            return entry, system
    seen: list[str] = []
    name: str | None = system
    while name is not None and name not in seen:
        seen.append(name)
        calibration = load_calibration(name)
        for entry in (*calibration.entries, *library_entries(name)):
            if (entry.protocol, entry.op, entry.scope) == (protocol, op, scope):
                return entry, name
        name = calibration.relative
    relatives = f" or its relatives {', '.join(seen[1:])}" if seen[1:] else ", which names no relative"
    raise Uncalibrated(f"no calibration of {protocol} {op} ({scope}) for {seen[0]}{relatives}")


def relatives(system: str) -> tuple[str, ...]:
    """``system`` and those whose constants fill what is missing, the nearest first. Raises as `load_calibration`."""
    seen: list[str] = []
    name: str | None = system
    while name is not None and name not in seen:
        seen.append(name)
        name = load_calibration(name).relative
    return tuple(seen)


def constants_of(entry: Entry, record: type[_Constants]) -> _Constants:
    """An entry's constants as the protocol's own record, in seconds, bytes per cycle and ratios.

    Raises BadInput for a missing (if its field has no default), unknown or ill-formed constant.
    """
    known = {f.name for f in fields(record)}  # type: ignore[arg-type]
    needed = {f.name for f in fields(record) if f.default is MISSING}  # type: ignore[arg-type]
    where = f"{entry.protocol} {entry.op} ({entry.scope})"
    if missing := sorted(needed - set(entry.constants)):
        raise BadInput(f"{where}: constants {missing} are missing")
    if unknown := sorted(set(entry.constants) - known):
        raise BadInput(f"{where}: unknown constants {unknown}")
    return record(**{name: read_constant(name, value) for name, value in entry.constants.items()})


def parse_calibration(document: Mapping[str, Any], where: str) -> Calibration:
    """A calibration from a YAML document. Raises BadInput in one line."""
    try:
        return Calibration.model_validate(document)
    except ValidationError as error:
        raise BadInput(one_line(error, where)) from None


@cache
def load_shipped(system: str) -> Calibration:
    """The calibration that ships under the name ``system``. Raises UnknownName."""
    entry = _folder().joinpath(f"{system}.yaml")
    if not entry.is_file():
        raise UnknownName("calibrated system", system, calibrated_systems(), _LIST)
    return parse_calibration(
        strict_yaml.load(entry.read_text(encoding="utf-8"), f"calibrated/{system}.yaml"), f"calibrated/{system}.yaml"
    )


@cache
def library_entries(system: str) -> tuple[Entry, ...]:
    """What libraries that publish a few rows of themselves allow to fit on ``system``: the files of ``data/libraries``."""
    return tuple(entry for of, entry in _all_library_entries() if of == system)


@cache
def named_lines(protocol: str, table: str) -> frozenset[int]:
    """Lines of ``table`` that some law of ``protocol`` was fitted to, on any system: rows that judge it no more."""
    mine = (e.fit for _, e in _all_library_entries() if e.protocol == protocol and e.fit.table == table)
    shipped = (e.fit for name in calibrated_systems() for e in load_shipped(name).entries if e.protocol == protocol)
    taken = (line for fit in shipped for line in fit.beside.get(table, ()))
    return frozenset((*taken, *(line for fit in mine for line in fit.lines)))


@cache
def library_rows(protocol: str) -> int:
    """Published rows that laws of ``protocol`` were fitted to, on all systems."""
    return len({(e.fit.table, line) for _, e in _all_library_entries() if e.protocol == protocol for line in e.fit.lines})


@cache
def _all_library_entries() -> tuple[tuple[str, Entry], ...]:
    """(system, entry) of every library's file."""
    folder = files("epicycle.hwmodels").joinpath("data", "libraries")
    found: list[tuple[str, Entry]] = []
    for name in sorted(e.name for e in folder.iterdir() if e.name.endswith(".yaml")):
        document = strict_yaml.load(folder.joinpath(name).read_text(encoding="utf-8"), f"libraries/{name}")
        for system, entries in document.items():
            data = {"system": system, "cluster": "", "entries": entries}
            found += [(system, entry) for entry in parse_calibration(data, f"libraries/{name}: {system}").entries]
    return tuple(found)


@cache
def _load_file(path: str, _changed_ns: int, _bytes: int) -> Calibration:
    """The calibration in a file; when the file changes, so do the other arguments. Raises BadInput or OSError."""
    document = strict_yaml.parse_document(strict_yaml.read_text(Path(path)), path)
    try:
        calibration = Calibration.model_validate(document.data)
    except ValidationError as error:
        first, *others = one_line(error).split("; ")
        more = f" (and {len(others)} more)" if others else ""
        raise BadInput(f"{document.where(error.errors(include_url=False)[0]['loc'])}: {first}{more}") from None
    known = {"relative": ("calibrated system", calibrated_systems()), "cluster": ("cluster", catalog.names("clusters"))}
    for key, (kind, names) in known.items():
        name = getattr(calibration, key)
        if key == "cluster" and catalog.is_file(name):
            beside = str(Path(path).parent / name)  # it may lie elsewhere than the command runs
            calibration = calibration.model_copy(update={"cluster": beside if Path(beside).is_file() else name})
            catalog.load_cluster(calibration.cluster)
        elif name is not None and name not in names:
            raise BadInput(f"{document.where((key,))}: {key}: {UnknownName(kind, name, names, _LIST)}")
    return calibration


def _folder() -> Any:
    return files("epicycle.hwmodels").joinpath("data", "calibrated")
