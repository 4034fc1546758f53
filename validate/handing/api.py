"""`validate` and `calibrate` as functions: a table of measurements predicted, and a system's constants fitted to some."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Literal

from ... import __version__
from ...hwmodels.calibration import load_shipped, standing_in
from ...hwmodels.catalog import load_cluster
from ...scenarios.api.told import Told
from ..fit.tables import Together, calibrate_all
from ..predict.handover import group_records, rows_csv, validation_dict
from ..predict.predicted import Validation
from ..tables.shipped_rows import shipped_or_own
from ..validate import validate_table

Progress = Callable[[int, int], None]


def validate(
    table: str | Path,
    *,
    engine: Literal["closed", "events"] = "closed",
    calibration: str | Path | None = None,
    progress: Progress | None = None,
) -> Told[Validation]:
    """Every row of a measurement table predicted, and the error of each group. Raises BadInput, OSError.

    ``table``: a file, or the name of one that ships with the package. ``calibration``: a file of yours, before that of the
    system it names.
    """
    place = shipped_or_own(Path(table))
    with standing_in(str(calibration)) if calibration else nullcontext():
        found = validate_table(place, engine=engine, progress=progress)
    rows = sum(group.rows for group in found.groups)
    page = partial(_page, found, place.name)
    return Told(found, f"{rows:,} rows of {table} predicted", partial(validation_dict, found), partial(rows_csv, found), page)


def calibrate(
    tables: str | Path | Iterable[str | Path],
    system: str,
    *,
    cluster: str | None = None,
    relative: str | None = None,
    progress: Progress | None = None,
) -> Together:
    """A system's constants fitted to tables of every kind, as the command does: ``calibration`` of what comes back. Raises
    BadInput.

    ``cluster``: the catalogue cluster it ran on (default: that of the calibration of this name). ``relative``: whose constants
    fill in for kernels without rows (default: the cluster's own).
    """
    where = cluster or load_shipped(system).cluster
    nearest = load_shipped(relative or load_cluster(where).calibration).system
    several = [tables] if isinstance(tables, str | Path) else tables
    places = [shipped_or_own(Path(table)) for table in several]
    return calibrate_all(places, system, where, relative=nearest, progress=progress)


def _page(found: Validation, source: str, path: Path, command: str) -> None:
    from ..pages.report import write_validation_report

    facts = {
        "source": source,
        "version": __version__,
        "command": command or shlex.join(["epicycle", "validate", source]),
        "notes": found.notes,
    }
    write_validation_report(group_records(found), found.rows, found.skipped, path, **facts)
