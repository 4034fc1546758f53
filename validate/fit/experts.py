"""Fit the expert block's constants to rows of a grouped-GEMM table: DeepGEMM's two layouts and vLLM's fused Triton kernel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from ...hwmodels.calibration import Entry, Fit
from ...hwmodels.constant import read_constant, write_constant
from ...sim.ep.compute.experts import ExpertConstants
from ...sim.ep.stage import Machine
from ..tables.expert_group import POINT, ExpertGroup, expert_groups
from .bounds import US, Bound, fixed
from .conformal import FOLDS, LEAST_ROWS, conformal_rows, regimes_of

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Relative = Callable[[str], Entry]

_ROBUST = 0.05  # log error at which the loss turns from square to logarithmic
_PULL = 0.03  # weight of the pull to the starting point, in units of log error per factor e

_SIDE = Bound(0.8, 0.2, 0.98)
_COMMON = {
    "launch": Bound(30 * US, 1 * US, 400 * US),
    "tensor_efficiency": Bound(0.65, 0.2, 0.98),
    "hbm_efficiency": Bound(0.8, 0.3, 0.98),
    "side_hbm_efficiency": _SIDE,
    "host": fixed(0.0),
    "sharpness": Bound(4.0, 1.0, 20.0),
    "idle_tile": fixed(0.0),
}
#: The tables ran the contiguous kernels eagerly, the masked and the fused ones from CUDA graphs. The masked kernel's side is
#: 1 % of its bytes: its efficiency is assumed to be as the other kernels', 0.8.
BOUNDS = {
    "contiguous": _COMMON | {"host": Bound(300 * US, 50 * US, 1000 * US)},
    "masked": _COMMON | {"side_hbm_efficiency": fixed(0.8)},
    "triton.bf16": _COMMON | {"idle_tile": Bound(0.2 * US, 0.0, 2 * US)},
}
BOUNDS["triton.fp8"] = BOUNDS["triton.bf16"]


@dataclass(frozen=True, slots=True)
class Searched:
    """A search's result: the constants, which of them were free, their deviations, and which lie at a bound."""

    k: ExpertConstants
    free: tuple[str, ...]
    deviation: Floats
    stuck: NDArray[np.bool_]


def fit_experts(path: Path, system: str, machine: Machine, relative: Relative | None = None) -> list[Entry]:
    """Entries ``expert-compute`` for every kernel the table times on ``system``, fitted to at most 24 rows of each.

    ``relative``: op -> the entry of the nearest relative, where the search begins and to which a weak pull ties it, for a
    system with a few rows only. Intervals come from rows left aside, or from fits without each third of the rows.
    """
    entries: dict[str, Entry] = {}
    for group in expert_groups(path)[0]:
        if group.system != system:
            continue
        bounds = dict(BOUNDS[group.op])
        if group.op == "triton.fp8" and "triton.bf16" in entries and not np.any(group.columns["ep"] > 1.0):
            # No row has another rank, whose tiles the constant is about.
            bounds["idle_tile"] = fixed(read_constant("idle_tile", entries["triton.bf16"].constants["idle_tile"]))
        if relative is not None:
            bounds = around(bounds, relative(group.op))
        entries[group.op] = _entry(group, machine, bounds, path.name)
    return list(entries.values())


def left_out_seconds(group: ExpertGroup, machine: Machine, bounds: Mapping[str, Bound]) -> Floats:
    """[row] seconds that a fit to rows of the other two thirds predicts for each third."""
    seconds = np.empty(len(group.measured_s))
    for fold in range(FOLDS):
        out = np.arange(len(seconds)) % FOLDS == fold
        k = search(group, machine, bounds, group.used(np.flatnonzero(~out))).k
        seconds[out] = group.seconds(machine, k)[out]
    return seconds


def _entry(group: ExpertGroup, machine: Machine, bounds: Mapping[str, Bound], table: str) -> Entry:
    total = len(group.measured_s)
    used = group.used()
    found = search(group, machine, bounds, used)
    predicted = group.seconds(machine, found.k)
    aside = conformal_rows(total, used)
    if len(aside) < LEAST_ROWS:
        judged, aside = left_out_seconds(group, machine, bounds), np.arange(total)
    else:
        judged = predicted
    rest = np.setdiff1d(np.arange(total), used)
    points = group.points()
    error = predicted / group.measured_s - 1.0
    values = {n: float(getattr(found.k, n)) for n in (f.name for f in fields(ExpertConstants))}
    sure = zip(found.free, found.deviation.tolist(), found.stuck.tolist(), strict=True)
    record = Fit(
        table=table,
        library=f"{group.records[0][1]['kernel']}@{group.records[0][1]['library']}",
        rows=len(used),
        rows_available=total,
        mape_fit_pct=round(float(np.abs(error[used]).mean() * 100), 2),
        mape_rest_pct=round(float(np.abs(error[rest]).mean() * 100), 2) if len(rest) else None,
        residual_log_sd=round(float(np.log1p(error[used]).std()), 4),
        undetermined=tuple(
            n for n, sd, at in zip(found.free, found.deviation, found.stuck, strict=True) if at or sd > values[n] / 2
        ),
        uncertainty={n: write_constant(n, sd) for n, sd, at in sure if not at},
        seen={n: (min(p[n] for p in points), max(p[n] for p in points)) for n in POINT},
        intervals=regimes_of(judged[aside], group.measured_s[aside], np.ones(len(aside), np.int64)),
        method="Cauchy loss on log error over rows spread by greedy maximin (validate/fit/experts.py)",
    )
    kept = {n: write_constant(n, v) for n, v in values.items() if n != "idle_tile" or group.kind == "triton"}
    return Entry(protocol="expert-compute", op=group.op, scope="one-node", constants=kept, fit=record)


def search(group: ExpertGroup, machine: Machine, bounds: Mapping[str, Bound], used: Ints) -> Searched:
    """The constants within ``bounds`` that fit the rows ``used`` of a group best."""
    free = [n for n, b in bounds.items() if b.low < b.high]
    start, low, high, scale = (np.array([getattr(bounds[n], side) for n in free]) for side in ("start", "low", "high", "scale"))
    held = {n: b.start for n, b in bounds.items()}
    measured = group.measured_s[used]

    def constants(scaled: Floats) -> ExpertConstants:
        return ExpertConstants(**(held | dict(zip(free, (scaled * scale).tolist(), strict=True))))

    def residuals(scaled: Floats) -> Floats:
        log_error = np.log(group.seconds(machine, constants(scaled), used) / measured)
        return np.concatenate([log_error, _PULL * (scaled - start / scale)])

    limits = (low / scale, high / scale)
    solution = least_squares(residuals, start / scale, bounds=limits, loss="cauchy", f_scale=_ROBUST, max_nfev=200)
    # Power-law rows time one draw of many: twice their own spread is where an outlier begins.
    spread = 2.0 * 1.4826 * float(np.median(np.abs(residuals(solution.x)[: len(used)])))
    if spread > _ROBUST:
        solution = least_squares(residuals, solution.x, bounds=limits, loss="cauchy", f_scale=spread, max_nfev=200)
    errors = residuals(solution.x)[: len(used)]
    noise = max(1.4826 * float(np.median(np.abs(errors))), 1e-3)
    jacobian = np.asarray(solution.jac)
    covariance = np.linalg.pinv(jacobian.T @ jacobian)
    deviation = noise * np.sqrt(np.maximum(np.diag(covariance), 0.0)) * scale
    return Searched(constants(solution.x), tuple(free), deviation, solution.active_mask != 0)


def around(bounds: Mapping[str, Bound], relative: Entry) -> dict[str, Bound]:
    """``bounds`` with the search beginning at the relative's constants."""
    moved = {}
    for name, bound in bounds.items():
        known = relative.constants.get(name)
        value = bound.start if known is None else read_constant(name, known)
        moved[name] = bound if bound.low == bound.high else Bound(min(max(value, bound.low), bound.high), bound.low, bound.high)
    return moved
