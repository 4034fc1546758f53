"""From a measurement table to a system's calibration file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from ..hwmodels.calibration import Calibration
from ..hwmodels.catalog import load_cluster
from ..hwmodels.errors import BadInput, UnknownName
from ..sim.ep.machine import machine_of
from .fit import fit
from .measurement import grouped, read_table, unfittable

#: Fewer rows than this cannot settle a kernel's constants.
LEAST_ROWS = 12


def calibrate(
    table: Path,
    system: str,
    cluster: str,
    *,
    relative: str | None = None,
    why: str = "",
    progress: Callable[[int, int], None] | None = None,
) -> Calibration:
    """Fit every kernel of ``system`` that ``table`` has rows of, relative to the datasheets of catalogue ``cluster``.

    Raises BadInput for a malformed table, a system without rows, or a kernel with fewer than ``LEAST_ROWS``.
    """
    machine = machine_of(load_cluster(cluster))
    rows = read_table(table)
    chosen = [r for r in rows if r.system == system and unfittable(r) is None]
    if not chosen:
        raise UnknownName("system", system, {r.system for r in rows}, f"cut -d, -f1 {table.name} | sort -u")
    groups = list(grouped(chosen))
    entries = []
    for done, group in enumerate(groups):
        if len(group.rows) < LEAST_ROWS:
            raise BadInput(f"{table}: {group.protocol} {group.op} ({group.scope}) has {len(group.rows)} rows, needs {LEAST_ROWS}")
        entries.append(fit(group, machine, table.name).entry)
        if progress:
            progress(done + 1, len(groups))
    return Calibration(system=system, cluster=cluster, relative=relative, why=why, entries=tuple(entries))


def to_yaml(calibration: Calibration) -> str:
    """A calibration as the YAML text of its file."""
    document: dict[str, Any] = calibration.model_dump(mode="json", exclude_none=True)
    return yaml.safe_dump(document, sort_keys=False, width=120)
