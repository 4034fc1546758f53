"""The engines' shipped constants, in ``hwmodels/data/backends``: ``python -m epicycle.validate.serving.shipped [TABLES]`` fits
them again and rewrites the files; ``--check`` only compares.

A tenth of each engine's rows is fitted, spread over systems, models, widths and concurrencies; the rest make the intervals.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from ...hwmodels.backends import Backend, BackendFit, backend_names, load_backend
from ...hwmodels.interval import Regime
from ..fit.conformal import LEAST_ROWS, regimes_of
from ..fit.shipped import MEASUREMENTS
from .fit import Fitted, fit_backend
from .rows import ServingRow, read_serving
from .steady import Predicted, predict_serving

TABLE = "serving.csv"
#: One row in so many is fitted.
EVERY = 10
_LONG_S = 0.99
METHOD = (
    "scipy least squares on log TPOT, and more loosely log TTFT, with a Cauchy loss, a log-normal prior on every constant, one "
    "factor a system and one a version and family; every tenth row in the order of system, model, precision, arrangement and "
    "concurrency; before and after it first_token, first_steps, handover and handover_steps to times to first token"
)


def fitted_rows(rows: Sequence[ServingRow]) -> NDArray[np.intp]:
    """Indices of an engine's rows to fit: every tenth in an order that no measured time enters."""

    def place(i: int) -> tuple[str, str, str, bool, int, int, int]:
        row = rows[i]
        return row.system, row.model, row.weights, row.prefill is None, row.decode.tp * row.decode.dp, row.concurrency, i

    order = sorted(range(len(rows)), key=place)
    return np.sort(np.array(order[EVERY // 2 :: EVERY], np.intp))


def shipped_backend(name: str, rows: Sequence[ServingRow]) -> Backend:
    """The engine ``name`` with constants fitted to a tenth of its ``rows``, and the errors of the others."""
    used = fitted_rows(rows)
    bare = load_backend(name)
    return with_fit(fit_backend(bare, [rows[i] for i in used]), rows, used)


def certain_rows(rows: Sequence[ServingRow], at: NDArray[np.intp]) -> NDArray[np.intp]:
    """Those of the rows ``at`` whose settings the suite lists but once: the others' intervals are mixtures of two settings."""
    return np.array([i for i in at if not rows[i].otherwise], np.intp)


def with_fit(fitted: Fitted, rows: Sequence[ServingRow], used: NDArray[np.intp]) -> Backend:
    """The fitted engine with its errors and its intervals from the rows left aside."""
    backend = fitted.backend
    found = predict_serving(rows, {backend.name: backend})
    measured = np.array([row.tpot_s for row in rows])
    error = 100.0 * np.abs(found.tpot_s / measured - 1.0)
    aside = np.setdiff1d(np.arange(len(rows)), used)
    plain = certain_rows(rows, aside)
    fit = BackendFit(
        table=TABLE,
        rows=len(used),
        rows_available=len(rows),
        median_pct=_rounded(np.median(error[used])),
        mean_pct=_rounded(error[used].mean()),
        median_rest_pct=_rounded(np.median(error[aside])),
        mean_rest_pct=_rounded(error[aside].mean()),
        method=METHOD,
        intervals=_regimes(found.tpot_s[plain], measured[plain]),
        ttft_intervals=_slow_regimes(found.ttft_s[aside], np.array([rows[i].ttft_s for i in aside])),
        seen=seen_of(rows, found),
    )
    sources = {
        **{name: said for name, said in backend.sources.items() if name != "*"},
        "*": "fitted on measured deployments (fit)",
        "constants.launch": "assumed: a kernel's launch from the host takes some 5 us",
    }
    return backend.model_copy(update={"fit": fit, "sources": sources})


def seen_of(rows: Sequence[ServingRow], found: Predicted) -> dict[str, tuple[float, float]]:
    """Range of what describes a deployment in the table."""
    columns: dict[str, list[float]] = {
        "mean_input": [row.isl for row in rows],
        "mean_output": [row.osl for row in rows],
        "batch": [float(f"{b:.4g}") for b in found.batch],
        "gpus": [row.decode.tp * row.decode.dp * row.decode.pp for row in rows],
    }
    return {name: (float(min(values)), float(max(values))) for name, values in columns.items()}


def _regimes(predicted: NDArray[np.float64], measured: NDArray[np.float64]) -> tuple[Regime, ...]:
    return regimes_of(predicted, measured, np.ones(len(predicted), np.int64))


def _slow_regimes(predicted: NDArray[np.float64], measured: NDArray[np.float64]) -> tuple[Regime, ...]:
    """The same, and one regime for all beyond a second, the longest that a regime may begin at."""
    fast, slow = np.flatnonzero(predicted < _LONG_S), np.flatnonzero(predicted >= _LONG_S)
    regimes = _regimes(predicted[fast], measured[fast]) if len(fast) else ()
    if len(slow) < LEAST_ROWS:
        return regimes
    limits = np.quantile(measured[slow] / predicted[slow], (0.05, 0.25, 0.75, 0.95), method="weibull")
    names = ("low90", "low50", "high50", "high90")
    quantiles = {name: float(f"{q:.4g}") for name, q in zip(names, limits, strict=True)}
    return (*regimes, Regime(nodes=1, seconds_from=f"{1e3 * _LONG_S:g} ms", rows=len(slow), **quantiles))


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")


def to_yaml(backend: Backend) -> str:
    """The engine's file."""
    data = backend.model_dump(mode="json", exclude_none=True)
    return yaml.safe_dump(data, sort_keys=False, width=120, default_flow_style=None)


def main(arguments: list[str]) -> int:
    """Rewrite (or, with ``--check``, compare) every engine's file; the number of files that differ."""
    check = "--check" in arguments
    places = [Path(a) for a in arguments if not a.startswith("--")] or [MEASUREMENTS]
    folder = Path(str(files("epicycle.hwmodels").joinpath("data", "backends")))
    rows = read_serving(places[0] / TABLE)
    differing = 0
    for name in backend_names():
        path = folder / f"{name}.yaml"
        backend = shipped_backend(name, [row for row in rows if row.backend == name])
        text = to_yaml(backend)
        same = path.read_text(encoding="utf-8") == text
        differing += not same
        fit = backend.fit
        assert fit is not None
        state = "as it was" if same else "differs" if check else "written"
        aside = fit.rows_available - fit.rows
        errors = f"error of the other {aside}: median {fit.median_rest_pct} %, mean {fit.mean_rest_pct} %"
        print(f"{path.name}: {state}; {fit.rows} rows fitted, {errors}")
        if not same and not check:
            path.write_text(text, encoding="utf-8")
    return differing if check else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
