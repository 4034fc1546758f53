"""One calibration from tables of every kind: exchanges, experts, dense products, collectives, attention, our own kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ...hwmodels.calibration import Calibration, Entry, standing_before
from ...hwmodels.catalog import load_cluster
from ...hwmodels.errors import BadInput
from ...hwmodels.specs import Gpu
from ...sim.ep.machine import machine_of
from ..tables.columns import columns_of
from ..tables.expert_group import COLUMNS as EXPERTS
from ..tables.kernel_tables import kind_of, read_groups
from ..tables.own.faults import refuse_mixtures
from ..tables.own.rows import OwnRow, is_own, read_own
from .calibrate import Calibrated, calibrate
from .experts import fit_experts
from .laws import fit_kernel
from .own.constants import OwnFit, entries_of, errors_by_op, fit_own
from .own.links import link_entries


@dataclass(frozen=True, slots=True)
class Together:
    """What tables together gave: a calibration of all their kernels, the fit of exchanges by others if there was one, and
    that of our own kernels; ``entries``: those fitted one by one."""

    calibration: Calibration
    exchanges: Calibrated | None
    own: OwnFit | None
    entries: tuple[Entry, ...]

    @property
    def own_errors(self) -> list[tuple[str, str, int, float, int, float]]:
        return errors_by_op(self.own) if self.own else []


def calibrate_all(
    tables: Sequence[Path],
    system: str,
    cluster: str,
    *,
    relative: str | None = None,
    why: str = "",
    aside: Callable[[OwnRow], bool] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Together:
    """Fit every kernel of ``system`` that any of ``tables`` has rows of. ``aside``: rows of our own kernels not to fit to.

    Raises BadInput for a table of no kind, a malformed one, or one without rows of the system; for kernels that two tables
    both have.
    """
    place = load_cluster(cluster)
    own: list[OwnRow] = []
    read_from: list[str] = []
    exchanges: Calibrated | None = None
    entries: list[Entry] = []
    for done, table in enumerate(tables):
        header = columns_of(table)
        if is_own(header):
            own += _of(table, system, read_own(table, {}))
            read_from += [str(table)] * (len(own) - len(read_from))
        elif set(EXPERTS) <= header:
            entries += _some(table, system, fit_experts(table, system, machine_of(place)))
        elif kind := kind_of(header):
            groups = [g for g in read_groups(table, kind) if g.system == system]
            entries += _some(table, system, [fit_kernel(g, place.node.gpu, table.name) for g in groups])
        else:
            step = progress if len(tables) == 1 else None
            exchanges = calibrate(table, system, cluster, relative=relative, why=why, progress=step)
            entries += exchanges.calibration.entries
        if progress and len(tables) > 1:
            progress(done + 1, len(tables))
    refuse_mixtures([(table_name, row.values) for table_name, row in zip(read_from, own, strict=True)])
    found = _fit_own(own, place.node.gpu, aside) if any(row.parts for row in own) else None
    named = ", ".join(t.name for t in tables if is_own(columns_of(t)))
    if found is not None:
        entries += entries_of(found, named)
    # What is left of a node's rows once its launches take what one GPU's rows say, if those are here, is the links'.
    with standing_before(Calibration(system=system, cluster=cluster, entries=tuple(e for e in entries if e.scope == "kernel"))):
        entries += link_entries(own, place, named)
    try:
        calibration = Calibration(system=system, cluster=cluster, relative=relative, why=why, entries=tuple(entries))
    except ValueError as error:
        raise BadInput(
            f"{', '.join(str(t) for t in tables)}: {str(error).splitlines()[-2].split('Value error, ')[-1]}"
        ) from None
    if exchanges is not None:
        exchanges = replace(exchanges, calibration=calibration)
    return Together(calibration, exchanges, found, tuple(entries))


def _fit_own(rows: list[OwnRow], gpu: Gpu, aside: Callable[[OwnRow], bool] | None) -> OwnFit:
    import numpy as np

    usable = [row for row in rows if row.parts]
    return fit_own(usable, gpu, np.array([aside is None or not aside(row) for row in usable]))


def _of(table: Path, system: str, rows: list[OwnRow]) -> list[OwnRow]:
    others = sorted({row.system for row in rows} - {system})
    if others:
        raise BadInput(f"{table}: its rows are of {', '.join(others)}, not of {system}: give --system {others[0]}")
    return rows


def _some(table: Path, system: str, entries: list[Entry]) -> list[Entry]:
    if not entries:
        raise BadInput(f"{table}: no row of {system}: see the column system")
    return entries
