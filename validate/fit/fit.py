"""Fit a kernel's constants to at most 24 measured rows, robustly, inside physical bounds.

The rows are spread over the table, or stand for it (`row_choice`), never chosen by how well they fit. The
loss is Cauchy on ``log(predicted / measured)``. A weak pull towards the starting point settles what the rows cannot tell;
those constants are reported as undetermined.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult, least_squares

from ...hwmodels.calibration import Entry, Fit
from ...hwmodels.constant import write_constant
from ...hwmodels.interval import Regime
from ...sim.ep.bound import program_seconds
from ...sim.ep.protocol import find_protocol
from ...sim.ep.stage import Machine
from ..tables.ep_rows import POINT, PROTOCOL_NAMES, Group, Row, point_of
from ..tables.published import LAWS_TABLE
from ..tables.row_choice import MOST_ROWS, stand_for, varied_rows
from .bounds import Bound, bounds_for
from .conformal import FOLDS, LEAST_ROWS, conformal_rows, regimes_of

_STARTS = 2  # searches: one from the bounds' own start, one from a seeded point near it
_ROBUST = 0.05  # log error at which the loss turns from square to logarithmic
_PULL = 0.03  # weight of the pull to the starting point, in units of log error per factor e


@dataclass(frozen=True, slots=True)
class Fitted:
    """Constants of one group with their fit record, the rows used, and what they predict for every row of the group."""

    group: Group
    entry: Entry
    used: NDArray[np.intp]
    predicted_s: NDArray[np.float64]


def rows_to_fit(group: Group, most: int = MOST_ROWS) -> NDArray[np.intp]:
    """Indices of at most ``most`` rows, over tokens, SMs, hidden, top-k, experts, ranks and payload.

    Across nodes a table mixes runs, clusters and waits for late ranks, and a count exchange waits and does little else: there
    they stand for the others.
    """
    shape = group.shape()
    ranks = np.asarray(shape.ranks, float)
    density = np.asarray(shape.payload_bytes) / shape.hidden
    columns = (shape.tokens, np.maximum(shape.comm_sms, 1.0), shape.hidden, shape.top_k, shape.experts, ranks, density)
    choose = stand_for if group.scope == "multi-node" or group.op == "prepare" else varied_rows
    return choose([np.asarray(c, float) for c in columns], (2.0, 1.5, 1.0, 0.7, 0.7, 1.5, 1.0), most)


def fit(
    group: Group,
    machine: Machine,
    table: str,
    rows: NDArray[np.intp] | None = None,
    changed: Mapping[str, Bound] | None = None,
    beside: tuple[Row, ...] = (),
) -> Fitted:
    """Fit one group. ``rows``: indices to fit to (default: `rows_to_fit`); ``changed``: other bounds; ``beside``: rows of
    another table, which the fit takes too. Deterministic.

    The intervals come from rows left aside; a group with too few of them is fitted ``FOLDS`` times more, each without a part.
    """
    left_out = None
    if rows is None and len(group.rows) - MOST_ROWS < LEAST_ROWS:
        left_out = np.empty(len(group.rows))
        for fold in range(FOLDS):
            out = np.arange(len(group.rows)) % FOLDS == fold
            left_out[out] = fit(group, machine, table, np.flatnonzero(~out), changed, beside).predicted_s[out]
    used = rows_to_fit(group) if rows is None else rows
    kernel = find_protocol(PROTOCOL_NAMES[group.protocol]).ops[group.op]
    names = [f.name for f in fields(kernel.constants)]
    bounds = bounds_for(kernel.constants, group.scope, group.op) | dict(changed or {})
    free = [n for n in names if bounds[n].low < bounds[n].high]
    subset = replace(group, rows=(*(group.rows[i] for i in used), *beside))

    def predictor(part: Group) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
        shape, context = part.shape(), part.context()

        def predict(values: NDArray[np.float64]) -> NDArray[np.float64]:
            constants = kernel.constants(**{n: bounds[n].start for n in names} | dict(zip(free, values, strict=True)))
            return np.asarray(program_seconds(kernel.describe(shape, machine, constants, context), shape, machine))

        return predict

    predict, measured = predictor(subset), subset.measured_s
    low, high = (np.array([getattr(bounds[n], side) for n in free]) for side in ("low", "high"))
    start = np.array([bounds[n].start for n in free])
    scale = np.array([bounds[n].scale for n in free])

    def residuals(scaled: NDArray[np.float64]) -> NDArray[np.float64]:
        values = scaled * scale
        return np.concatenate([np.log(predict(values) / measured), _PULL * (values - start) / scale])

    def search(first: NDArray[np.float64], robust: float) -> OptimizeResult:
        limits = (low / scale, high / scale)
        return least_squares(residuals, first, bounds=limits, loss="cauchy", f_scale=robust, max_nfev=300)

    solutions = [search(first / scale, _ROBUST) for first in _starts(start, low, high)]
    solution = min(solutions, key=lambda s: float(s.cost))
    # A noisy kernel (a barrier that waits for the slowest rank) needs a wider notion of an outlier: twice its own spread.
    spread = 2.0 * 1.4826 * float(np.median(np.abs(residuals(solution.x)[: len(subset.rows)])))
    if spread > _ROBUST:
        solution = search(solution.x, spread)
    values = solution.x * scale
    log_error = np.log(predict(values) / measured)
    everything = predictor(group)(values)
    rest = np.setdiff1d(np.arange(len(group.rows)), used)
    deviation = _deviations(np.asarray(solution.jac), log_error) * scale
    stuck = solution.active_mask != 0
    undetermined = tuple(
        n for n, value, sd, at in zip(free, values, deviation, stuck, strict=True) if at or sd > abs(value) / 2
    )
    constants: dict[str, Any] = {n: bounds[n].start for n in names} | dict(zip(free, values.tolist(), strict=True))
    seen, regimes = _intervals(group, used, everything, left_out)
    record = Fit(
        table=table,
        library=group.rows[0].values["library"],
        rows=len(used),
        beside={LAWS_TABLE: tuple(row.line for row in beside)} if beside else {},
        rows_available=len(group.rows),
        mape_fit_pct=round(float(np.abs(np.expm1(log_error)).mean() * 100), 2),
        mape_rest_pct=round(float(np.abs(everything / group.measured_s - 1)[rest].mean() * 100), 2) if len(rest) else None,
        residual_log_sd=round(float(log_error.std()), 4),
        undetermined=undetermined,
        uncertainty={n: write_constant(n, float(sd)) for n, sd, at in zip(free, deviation, stuck, strict=True) if not at},
        seen=seen,
        intervals=regimes,
        method="Cauchy loss on log error over rows spread over the table (validate/fit/fit.py)",
    )
    entry = Entry(
        protocol=PROTOCOL_NAMES[group.protocol],
        op=group.op,
        scope=group.scope,
        constants={n: write_constant(n, v) for n, v in constants.items()},
        fit=record,
    )
    return Fitted(group, entry, used, everything)


def _intervals(
    group: Group, used: NDArray[np.intp], predicted_s: NDArray[np.float64], left_out: NDArray[np.float64] | None
) -> tuple[dict[str, tuple[float, float]], tuple[Regime, ...]]:
    """The range of every quantity of the table, and the regimes of its residuals."""
    seen = {
        n: (min(v), max(v)) for n, v in zip(POINT, zip(*(point_of(r).values() for r in group.rows), strict=True), strict=True)
    }
    nodes = np.array([r.nodes for r in group.rows])
    if left_out is not None:
        return seen, regimes_of(left_out, group.measured_s, nodes)
    aside = conformal_rows(len(group.rows), used)
    return seen, regimes_of(predicted_s[aside], group.measured_s[aside], nodes[aside]) if len(aside) else ()


def _deviations(jacobian: NDArray[np.float64], log_error: NDArray[np.float64]) -> NDArray[np.float64]:
    """[constant] one standard deviation, scaled: linearised covariance ``s^2 (J'J)^-1``, s the robust spread of the errors."""
    spread = max(1.4826 * float(np.median(np.abs(log_error))), 1e-3)
    covariance = np.linalg.pinv(jacobian.T @ jacobian)
    return np.asarray(spread * np.sqrt(np.maximum(np.diag(covariance), 0.0)))


def _starts(start: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Where the searches begin: the physical guess, and points drawn by a factor e around it within the bounds."""
    draw = np.random.Generator(np.random.PCG64(7))
    spread = [np.clip(start * np.exp(draw.normal(size=start.size)), low, high) for _ in range(_STARTS - 1)]
    return [start, *spread]
