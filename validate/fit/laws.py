"""Fit the time laws of single kernels (`hwmodels.laws`): at most 24 rows each, the same robust loss as `fit`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult, least_squares

from ...hwmodels.calibration import Entry, Fit
from ...hwmodels.constant import read_constant, write_constant
from ...hwmodels.specs import Gpu
from ..tables.kernel_tables import KernelGroup
from .bounds import US, Bound, fixed
from .conformal import FOLDS, LEAST_ROWS, conformal_rows, regimes_of

Floats = NDArray[np.float64]
_ROBUST = 0.05
_PULL = 0.01

GEMM = {
    "launch": Bound(3 * US, 0.5 * US, 20 * US),
    "host": Bound(50 * US, 1 * US, 200 * US),
    "fill": Bound(0.5 * US, 0.0, 10 * US),
    "tensor_efficiency": Bound(0.7, 0.3, 1.0),
    "hbm_efficiency": Bound(0.8, 0.3, 1.0),
    "sharpness": Bound(4.0, 1.0, 20.0),
}
GEMM_GRAPH = GEMM | {"host": fixed(0.0)}
COLLECTIVE = {
    "launch": Bound(5 * US, 0.0, 30 * US),
    "step": Bound(1 * US, 0.0, 6 * US),
    "fill": Bound(20 * US, 0.0, 100 * US),
    "fill_bytes": Bound(4e6, 1e5, 1e8),
    "nvlink_efficiency": Bound(0.7, 0.3, 1.0),
    "sharpness": Bound(3.0, 1.0, 20.0),
}


def _around(bound: Bound, value: float) -> Bound:
    return bound if bound.low == bound.high else Bound(min(max(value, bound.low), bound.high), bound.low, bound.high)


MLA_DECODE = {
    "launch": Bound(20 * US, 1 * US, 80 * US),
    "host": fixed(0.0),
    "sequence": fixed(0.0),
    "token": Bound(1e-9, 0.0, 20e-9),
    "weights_hbm_efficiency": Bound(0.6, 0.2, 1.0),
    "tensor_efficiency": Bound(0.5, 0.1, 1.0),
    "kv_hbm_efficiency": Bound(0.5, 0.1, 1.0),
    "attention_efficiency": Bound(0.5, 0.1, 1.0),
    "sharpness": fixed(4.0),
}
MLA_PREFILL = MLA_DECODE | {
    "launch": fixed(0.0),
    "host": Bound(600 * US, 50 * US, 900 * US),
    "sequence": Bound(0.3 * US, 0.0, 5 * US),
    "kv_hbm_efficiency": fixed(0.5),
    "sharpness": Bound(4.0, 1.5, 20.0),
}


def bounds_of(protocol: str, op: str) -> dict[str, Bound]:
    """Bounds of a law's constants, by kernel."""
    if protocol == "nccl":
        return COLLECTIVE
    if protocol == "mla":
        return MLA_DECODE if op.startswith("mla_decode") else MLA_PREFILL
    return GEMM if op == "fp8" else GEMM_GRAPH


def fit_law(
    law: type,
    bounds: Mapping[str, Bound],
    predict: Callable[[Any, NDArray[np.intp]], Floats],
    measured_s: Floats,
    used: NDArray[np.intp],
    key: tuple[str, str],
    table: str,
    library: str,
    relative: Entry | None = None,
    seen: Mapping[str, tuple[float, float]] | None = None,
) -> Entry:
    """The entry (protocol, op) = ``key``. ``predict(constants, rows)``: seconds of those rows.

    ``relative``: the same kernel on the nearest relative, where the search begins and to which a weak pull ties it.
    """
    names = [f.name for f in fields(law)]
    if relative is not None:
        bounds = {n: _around(bounds[n], read_constant(n, relative.constants[n])) for n in names}
    free = [n for n in names if bounds[n].low < bounds[n].high]
    scale = np.array([bounds[n].scale for n in free])
    start, low, high = (np.array([getattr(bounds[n], side) for n in free]) for side in ("start", "low", "high"))

    def constants(scaled: Floats) -> Any:
        return law(**{n: bounds[n].start for n in names} | dict(zip(free, (scaled * scale).tolist(), strict=True)))

    limits = (low / scale, high / scale)

    def search(rows: NDArray[np.intp]) -> OptimizeResult:
        def residuals(scaled: Floats) -> Floats:
            pull = (_PULL if relative else 0.0) * (scaled - start / scale)
            return np.concatenate([np.log(predict(constants(scaled), rows) / measured_s[rows]), pull])

        return least_squares(residuals, start / scale, bounds=limits, loss="cauchy", f_scale=_ROBUST)

    solution = search(used)
    k = constants(solution.x)
    everything = predict(k, np.arange(len(measured_s)))
    error = everything / measured_s - 1.0
    judged, aside = everything.copy(), conformal_rows(len(measured_s), used)
    if len(aside) < LEAST_ROWS:  # a fit without each third of the rows judges that third
        aside = np.arange(len(measured_s))
        for fold in range(FOLDS):
            out = aside[fold::FOLDS]
            judged[out] = predict(constants(search(np.setdiff1d(used, out)).x), out)
    rest = np.setdiff1d(np.arange(len(measured_s)), used)
    record = Fit(
        table=table,
        library=library,
        rows=len(used),
        rows_available=len(measured_s),
        mape_fit_pct=round(float(np.abs(error[used]).mean() * 100), 2),
        mape_rest_pct=round(float(np.abs(error[rest]).mean() * 100), 2) if len(rest) else None,
        residual_log_sd=round(float(np.log1p(error[used]).std()), 4),
        undetermined=tuple(n for n, at in zip(free, solution.active_mask, strict=True) if at),
        seen=dict(seen or {}),
        intervals=regimes_of(judged[aside], measured_s[aside], np.ones(len(aside), np.int64)),
        method="Cauchy loss on log error over rows spread by greedy maximin (validate/fit/laws.py)",
    )
    values = {n: write_constant(n, float(getattr(k, n))) for n in names}
    return Entry(protocol=key[0], op=key[1], scope="one-node", constants=values, fit=record)


def fit_kernel(group: KernelGroup, gpu: Gpu, table: str, relative: Entry | None = None) -> Entry:
    """The entry of this kernel, from rows spread over its columns; ``relative`` as in `fit_law`."""
    used = group.used()
    bounds = bounds_of(group.kind.protocol, group.op)
    first = group.rows[0][1]
    library = first.get("library") or first["kernel"]
    predict = lambda k, rows: group.seconds(gpu, k, rows)  # noqa: E731
    key = (group.kind.protocol, group.op)
    seen = {n: (float(group.columns[n].min()), float(group.columns[n].max())) for n in group.kind.numbers}
    return fit_law(group.kind.law, bounds, predict, group.measured_s, used, key, table, library, relative, seen)
