"""Every row of a grouped-GEMM table by the expert block's law, with its interval."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...hwmodels.calibration import constants_of, find_entry, load_calibration
from ...hwmodels.catalog import load_cluster
from ...hwmodels.errors import Uncalibrated, UnknownName
from ...hwmodels.known.foreign import why_foreign
from ...hwmodels.known.names import why_unknown
from ...sim.ep.compute.experts import ExpertConstants
from ...sim.ep.machine import machine_of
from ..fit.conformal import judged
from ..tables.expert_group import ExpertGroup, expert_groups
from .predicted import Predicted

#: Why a row is odd that took less time than HBM at its full rate needs for the weights its routing says were read.
TOO_FAST = "faster than HBM can read the weights of the experts that the routing column says were hit: fewer were, or others"


def expert_rows(path: Path) -> tuple[list[Predicted], dict[str, int], tuple[str, ...]]:
    """Predicted rows, reason -> rows skipped, notes. Raises BadInput for what cannot be read."""
    predicted: list[Predicted] = []
    groups, skipped = expert_groups(path)
    for group in groups:
        try:
            predicted += _predicted(group, path.name)
        except (Uncalibrated, UnknownName) as error:
            reason = why_unknown(group.system) if isinstance(error, UnknownName) else str(error)
            skipped[reason] = skipped.get(reason, 0) + len(group.records)
    odd = sum(p.odd for p in predicted)
    return predicted, skipped, (f"{odd} rows: {TOO_FAST}",) if odd else ()


def _predicted(group: ExpertGroup, table: str) -> list[Predicted]:
    entry, source = find_entry(group.system, "expert-compute", group.op, "one-node")
    cluster = load_cluster(load_calibration(group.system).cluster)
    machine = machine_of(cluster)
    seconds = group.seconds(machine, constants_of(entry, ExpertConstants))
    total = len(seconds)
    own = entry.fit.table == table and entry.fit.rows_available == total and source == group.system
    used = group.used() if own else None
    borrowed = "" if source == group.system else source
    foreign, one_node = why_foreign(cluster, False, source), np.ones(total, np.int64)
    sure = judged(entry.fit, seconds, group.measured_s, one_node, group.points(), used, borrowed, foreign)
    seen = set() if used is None else set(used.tolist())
    odd = group.measured_s < group.least_seconds(machine)
    found = []
    for i, (line, record) in enumerate(group.records):
        key = (group.system, "expert-compute", _name(group.op, record), 1)
        times = (1e6 * float(group.measured_s[i]), 1e6 * float(seconds[i]))
        found.append(Predicted(line, dict(record), key, *times, source, bool(odd[i]), "", sure[i], i in seen))
    return found


def _name(op: str, record: dict[str, str]) -> str:
    """The group a row is reported in: kernel (with precision) and whether its routing is even."""
    return f"{op}, {'power law' if record['routing'].startswith('power_law_') else record['routing']}"
