"""Rows of single kernels predicted by the laws of the system or its nearest relative."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...hwmodels.calibration import constants_of, find_entry, load_calibration
from ...hwmodels.catalog import load_cluster
from ...hwmodels.errors import Uncalibrated, UnknownName
from ...hwmodels.known.foreign import why_foreign
from ...hwmodels.known.names import why_unknown
from ..fit.conformal import judged
from ..tables.kernel_tables import Kind, read_groups
from .predicted import Found, Predicted


def kernel_rows(path: Path, kind: Kind) -> Found:
    """Rows of single kernels, by the laws of the system or its nearest relative."""
    predicted: list[Predicted] = []
    skipped: dict[str, int] = {}
    for group in read_groups(path, kind):
        try:
            entry, source = find_entry(group.system, kind.protocol, group.op, "one-node")
        except UnknownName:
            reason = why_unknown(group.system)
            skipped[reason] = skipped.get(reason, 0) + len(group.rows)
            continue
        except Uncalibrated as error:
            skipped[str(error)] = skipped.get(str(error), 0) + len(group.rows)
            continue
        cluster = load_cluster(load_calibration(group.system).cluster)
        gpu = cluster.node.gpu
        seconds = group.seconds(gpu, constants_of(entry, kind.law))
        own = entry.fit.table == path.name and entry.fit.rows_available == len(group.rows) and source == group.system
        used = group.used() if own else None
        points = [{n: float(column[i]) for n, column in group.columns.items()} for i in range(len(group.rows))]
        borrowed = "" if source == group.system else source
        one_node = np.ones(len(group.rows), np.int64)
        foreign = why_foreign(cluster, False, source)
        sure = judged(entry.fit, np.asarray(seconds), group.measured_s, one_node, points, used, borrowed, foreign)
        for i, (line, record) in enumerate(group.rows):
            key = (group.system, kind.protocol, group.op, 1)
            times = (1e6 * float(group.measured_s[i]), 1e6 * float(seconds[i]))
            seen = used is not None and i in used
            predicted.append(Predicted(line, dict(record), key, *times, source, False, "", sure[i], seen))
    return predicted, skipped, ()
