"""From a measurement table to a system's calibration, and what there is to say about the fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import yaml

from ...hwmodels.calibration import Calibration
from ...hwmodels.catalog import load_cluster
from ...hwmodels.errors import BadInput, UnknownName
from ...sim.ep.machine import machine_of
from ...sim.ep.protocol import find_protocol
from ...sim.ep.stage import Machine
from ..tables.ep_rows import PROTOCOL_NAMES, Group, Row, grouped, read_table, unfittable
from ..tables.plausible import check_duplicates, check_speed, duplicates, link_floor_s
from .beside import bounds_beside
from .bounds import bounds_for
from .fit import Fitted, fit

#: Fewer rows than this cannot settle a kernel's constants.
LEAST_ROWS = 12
#: A row is an outlier beyond this many robust standard deviations of its group's log errors, and beyond this error.
OUTLIER_DEVIATIONS = 4.0
OUTLIER_PCT = 15.0


@dataclass(frozen=True, slots=True)
class Outlier:
    """A row its own fit misses by far."""

    row: Row
    error_pct: float


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A calibration, the fits behind it, rows that fall out of line, and operating points measured twice that differ."""

    calibration: Calibration
    fits: tuple[Fitted, ...]
    outliers: tuple[Outlier, ...]
    repeated: tuple[tuple[Row, Row], ...]
    skipped: dict[str, int]


def calibrate(
    table: Path,
    system: str,
    cluster: str,
    *,
    relative: str | None = None,
    why: str = "",
    progress: Callable[[int, int], None] | None = None,
    beside: Mapping[str, tuple[Row, ...]] = MappingProxyType({}),
) -> Calibrated:
    """Fit every kernel of ``system`` that ``table`` has rows of, relative to the datasheets of catalogue ``cluster``.

    ``beside``: op of DeepEP's normal kernels on one node -> rows of another table that its fit takes too.

    Raises BadInput for a malformed table, a system without rows, a kernel with fewer than ``LEAST_ROWS``, a time below what the
    links allow, or rows that contradict each other.
    """
    machine = machine_of(load_cluster(cluster))
    rows = [r for r in read_table(table) if r.system == system]
    if not rows:
        raise UnknownName("system", system, {r.system for r in read_table(table)}, f"cut -d, -f1 {table.name} | sort -u")
    skipped: dict[str, int] = {}
    chosen = []
    for row in rows:
        reason = unfittable(row)
        if reason is None:
            chosen.append(row)
        else:
            skipped[reason] = skipped.get(reason, 0) + 1
    if not chosen:
        raise BadInput(f"{table}: no row of {system} can be fitted: {'; '.join(skipped)}")
    check_duplicates(table, chosen)
    groups = list(grouped(chosen))
    fits = []
    for group in groups:
        _check_speed(table, group, machine)
    for done, group in enumerate(groups):
        if len(group.rows) == 1:  # nothing to leave aside
            raise BadInput(_too_few(table, group, "all constants"))
        rows_too = beside.get(group.op, ()) if (group.protocol, group.scope) == ("deepep-normal", "one-node") else ()
        found = fit(group, machine, table.name, changed=bounds_beside(rows_too, group.op), beside=rows_too)
        if len(group.rows) < LEAST_ROWS:
            lost = ", ".join(found.entry.fit.undetermined) or "none, but nothing is left to judge the fit by"
            raise BadInput(_too_few(table, group, lost))
        fits.append(found)
        if progress:
            progress(done + 1, len(groups))
    calibration = Calibration(system=system, cluster=cluster, relative=relative, why=why, entries=tuple(f.entry for f in fits))
    outliers = tuple(o for f in fits for o in outliers_of(f))
    return Calibrated(calibration, tuple(fits), outliers, tuple(duplicates(chosen)), skipped)


def outliers_of(fitted: Fitted) -> list[Outlier]:
    """Rows of the group far outside its own spread, worst first."""
    log_error = np.log(fitted.predicted_s / fitted.group.measured_s)
    spread = 1.4826 * float(np.median(np.abs(log_error - np.median(log_error))))
    error_pct = 100.0 * np.expm1(log_error)
    far = (np.abs(log_error) > OUTLIER_DEVIATIONS * spread) & (np.abs(error_pct) > OUTLIER_PCT)
    worst = sorted(np.flatnonzero(far), key=lambda i: -abs(float(error_pct[i])))
    return [Outlier(fitted.group.rows[i], float(error_pct[i])) for i in worst]


def to_yaml(calibration: Calibration) -> str:
    """A calibration as the YAML text of its file."""
    document: dict[str, Any] = calibration.model_dump(mode="json", exclude_none=True)
    for entry in document["entries"]:
        for name in ("uncertainty", "seen", "intervals", "lines", "beside"):
            if not entry["fit"][name]:
                del entry["fit"][name]
    return yaml.safe_dump(document, sort_keys=False, width=120)


def _check_speed(table: Path, group: Group, machine: Machine) -> None:
    """Links are checked with any constants: what the rows move does not depend on them."""
    kernel = find_protocol(PROTOCOL_NAMES[group.protocol]).ops[group.op]
    bounds = bounds_for(kernel.constants, group.scope, group.op)
    constants = kernel.constants(**{name: bound.start for name, bound in bounds.items()})
    shape = group.shape()
    check_speed(table, group, link_floor_s(kernel.describe(shape, machine, constants, group.context()), shape, machine))


def _too_few(table: Path, group: Group, lost: str) -> str:
    rows = f"{len(group.rows)} row{'s' if len(group.rows) > 1 else ''}"
    return (
        f"{table}: {group.protocol} {group.op} ({group.scope}) of {group.system} has {rows}, wanted at least {LEAST_ROWS}: "
        f"undetermined are {lost}"
    )
