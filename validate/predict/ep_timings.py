"""EP timings predicted, in closed form or event by event."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...hwmodels.calibration import Scope, find_entry, load_calibration
from ...hwmodels.catalog import load_cluster
from ...hwmodels.errors import Uncalibrated
from ...hwmodels.known.foreign import why_foreign
from ...sim.ep.bound import program_seconds
from ...sim.ep.machine import machine_of
from ...sim.ep.protocol import describe
from ..fit.conformal import judged
from ..fit.fit import rows_to_fit
from ..tables.ep_rows import PROTOCOL_NAMES, Group, grouped, point_of, read_table, unpredictable
from ..tables.plausible import check_duplicates, check_speed, link_floor_s
from ..tables.suspect_runs import SUSPECT_RUNS, suspect_run_of
from .binding import bound_resources
from .predicted import Found, Predicted

Progress = Callable[[int, int], None]


def ep_rows(path: Path, engine: str, progress: Progress | None) -> Found:
    """The predicted rows, skips and notes of a table of EP timings. ``progress(done, of)`` counts rows. Raises BadInput."""
    rows = read_table(path)
    check_duplicates(path, rows)
    skipped: Counter[str] = Counter()
    usable = []
    for row in rows:
        reason = unpredictable(row)
        if reason is None:
            usable.append(row)
        else:
            skipped[reason] += 1
    predicted: list[Predicted] = []
    done = 0
    for group in grouped(usable):
        try:
            seconds, source, bounds = _predict(
                path, group, engine, progress and (lambda n, base=done: progress(base + n, len(usable)))
            )
        except Uncalibrated as error:
            skipped[str(error)] += len(group.rows)
            continue
        done += len(group.rows)
        entry, _ = find_entry(group.system, PROTOCOL_NAMES[group.protocol], group.op, _measured_scope(group))
        own = entry.fit.table == path.name and entry.fit.rows_available == len(group.rows) and source == group.system
        used = rows_to_fit(group) if own else None
        borrowed = "" if source == group.system else source
        points = [point_of(row) for row in group.rows]
        nodes = np.array([row.nodes for row in group.rows])
        foreign = why_foreign(load_cluster(load_calibration(group.system).cluster), group.scope == "multi-node", source)
        sure = judged(entry.fit, seconds, group.measured_s, nodes, points, used, borrowed, foreign)
        for i, row in enumerate(group.rows):
            key = (row.system, row.protocol, row.op, row.nodes)
            odd = suspect_run_of(row) is not None
            times = (row.latency_us, 1e6 * float(seconds[i]))
            seen = used is not None and i in used
            bound = str(bounds[i])
            predicted.append(Predicted(row.line, dict(row.values), key, *times, source, odd, "", sure[i], seen, bound))
        if progress:
            progress(done, len(usable))
    notes = tuple(f"{o.name} ({n} rows): {o.why}" for o in SUSPECT_RUNS if (n := sum(o.holds(r) for r in usable)))
    return predicted, skipped, notes


def _predict(
    path: Path, group: Group, engine: str, step: Callable[[int], None] | None
) -> tuple[NDArray[np.float64], str, NDArray[np.str_]]:
    """Seconds of every row of a group, the system its constants were fitted on, and what bounds each row."""
    cluster = load_cluster(load_calibration(group.system).cluster)
    machine = machine_of(cluster)
    shape = group.shape()
    described = describe(PROTOCOL_NAMES[group.protocol], group.op, group.scope, group.system, shape, machine, group.context())
    check_speed(path, group, link_floor_s(described.stages, shape, machine))
    if engine == "events":
        from .replay import replay

        seconds, source = replay(group, cluster, step)
    else:
        seconds, source = np.asarray(program_seconds(described.stages, shape, machine)), described.calibrated_on
    return seconds, source, bound_resources(described.stages, shape, machine)


def _measured_scope(group: Group) -> Scope:
    """Where `describe` finds the constants: the count exchange was timed across nodes only."""
    return "multi-node" if group.op.endswith("_notify") else group.scope
