"""Link efficiencies of our own kernels from a node's rows: the one thing that rows of one GPU cannot tell.

Everything else stays as one GPU fixed it, so that a handful of rows is enough, and a node that behaves differently shows in the
residuals instead of in the launch times.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from ....hwmodels.calibration import Entry, Fit, Scope
from ....hwmodels.constant import write_constant
from ....hwmodels.specs import Cluster
from ....sim.ep.compute.own_kernels import OwnMove
from ....sim.ep.protocol import find_protocol
from ...tables.own.node import CROSSING, is_of_node, links_of, node_seconds
from ...tables.own.rows import OwnRow
from .constants import library_of

#: A link's share below which rows do not say how fast it was: something else was the bottleneck.
_LEAST_CHANGE = 0.01


def link_entries(rows: Sequence[OwnRow], cluster: Cluster, table: str) -> Iterator[Entry]:
    """One entry per crossing launch and scope, with the efficiency that fits its rows best."""
    usable = sorted((r for r in rows if is_of_node(r) and r.op in CROSSING[r.protocol]), key=_group)
    for (protocol, op, scope), group in groupby(usable, key=_group):
        yield _entry(protocol, op, scope, list(group), cluster, table)


def _group(row: OwnRow) -> tuple[str, str, Scope]:
    return row.protocol, row.op, links_of(row)


def _entry(protocol: str, op: str, scope: Scope, rows: list[OwnRow], cluster: Cluster, table: str) -> Entry:
    launch = CROSSING[protocol][op]
    name = "nic_efficiency" if scope == "multi-node" else "nvlink_efficiency"
    measured = np.array([row.measured_s for row in rows])

    def errors(efficiency: float) -> NDArray[np.float64]:
        return np.asarray(np.log(np.array([node_seconds(row, cluster, {name: efficiency}) for row in rows]) / measured))

    best = float(minimize_scalar(lambda e: float(np.abs(errors(e)).sum()), bounds=(0.05, 1.0), method="bounded").x)
    shown = float(np.abs(errors(best) - errors(min(1.0, best * 1.1))).max()) > _LEAST_CHANGE
    lend = find_protocol(protocol).lend
    assert lend is not None
    constants: OwnMove = replace(lend(rows[0].system, launch, scope).constants, **{name: best})
    error = errors(best)
    tokens = [float(row.tokens) for row in rows]
    record = Fit(
        table=table,
        library=library_of(rows),
        rows=len(rows),
        rows_available=len(rows),
        mape_fit_pct=round(float(np.abs(np.expm1(error)).mean() * 100), 2),
        residual_log_sd=round(float(error.std()), 4),
        undetermined=() if shown else (name,),
        seen={"tokens": (min(tokens), max(tokens))},
        method="least absolute log error over one link efficiency (validate/fit/own/links.py)",
    )
    names = ("launch", "chain", "chain_cold", "hbm_efficiency", "sharpness", "chain_row", "nvlink_efficiency", "nic_efficiency")
    values = {n: write_constant(n, float(getattr(constants, n))) for n in names}
    return Entry(protocol=protocol, op=launch, scope=scope, constants=values, fit=record)
