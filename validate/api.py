"""`validate` and `calibrate` as functions: a table of measurements predicted, and a system's constants fitted to one."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Literal

from ..hwmodels.calibration import load_shipped
from ..hwmodels.catalog import load_cluster
from ..scenarios.api.told import Told
from .fit.calibrate import Calibrated
from .fit.calibrate import calibrate as fitted_to
from .predict.handover import rows_csv, validation_dict
from .predict.predicted import Validation
from .validate import validate_table


def validate(table: str | Path, *, engine: Literal["closed", "events"] = "closed") -> Told[Validation]:
    """Every row of a measurement table predicted, and the error of each group. Raises BadInput, OSError."""
    found = validate_table(Path(table), engine=engine)
    rows = sum(group.rows for group in found.groups)
    return Told(found, f"{rows:,} rows of {table} predicted", partial(validation_dict, found), partial(rows_csv, found))


def calibrate(table: str | Path, system: str, *, cluster: str | None = None, relative: str | None = None) -> Calibrated:
    """A system's constants fitted to at most 24 rows of each kernel of ``table``, as the command does. Raises BadInput."""
    where = cluster or load_shipped(system).cluster
    nearest = load_shipped(relative or load_cluster(where).calibration).system
    return fitted_to(Path(table), system, where, relative=nearest)
