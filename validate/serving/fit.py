"""Fits an engine's own times to a few measured deployments, robustly, and keeps the residuals of the rest.

Parameters of an engine: the gap between kernels, host work per step and per sequence, its small all-reduce, how much longer
kernels take in it than alone, the share of the prompts' time that decoding requests wait for, and how often a drafted token is
accepted; for each system one more factor on the kernels. Each has a physical range and a prior (a log-normal around the value
assumed before any row was seen), so that what the few rows do not tell stays there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from ...hwmodels.backends import Backend
from .rows import ServingRow
from .steady import predict_serving

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Parameter:
    """``start`` in SI units or as a share; ``low`` and ``high``: factors on it; ``spread``: standard deviation of its log."""

    name: str
    start: float
    low: float
    high: float
    spread: float


#: assumed before the fit: a graph's kernels follow each other within 1 to 3 us (CUDA graphs, NVIDIA developer blog, 2019 and
#: 2024), a scheduler step costs some hundred us (vLLM v0.6 release post, 2024-09-05), a one-shot all-reduce of two flags and a
#: read some us.
PARAMETERS = (
    Parameter("gap", 1.5e-6, 0.2, 5.0, 0.7),
    Parameter("step", 400e-6, 0.05, 12.0, 1.0),
    Parameter("sequence", 5e-6, 0.05, 12.0, 1.0),
    Parameter("all_reduce", 6e-6, 0.3, 4.0, 0.5),
    Parameter("busy", 1.0, 0.6, 1.8, 0.2),
    Parameter("prompt_busy", 1.0, 0.7, 2.5, 0.3),
    Parameter("prompt_wait", 1.0, 0.3, 1.2, 0.15),
    # TensorRT-LLM's (max - mean) / mean of 1.56 over 32 ranks of 8 unbalanced experts (Scaling Expert Parallelism, part 1) is
    # 2.1 of an expert's mean; random tokens spread less.
    Parameter("expert_spread", 0.8, 0.05, 3.0, 0.7),
    Parameter("expert_launch", 1.0, 0.2, 1.6, 0.3),
    Parameter("draft", 150e-6, 0.05, 10.0, 0.8),
    # NVFP4 carries a scale for 16 weights, read in a swizzled layout; no table tells how fast.
    Parameter("fp4_weights", 0.8, 0.3, 1.25, 0.3),
    # DeepSeek-V3's report (arXiv 2412.19437, section 5.4.3): 85 to 90 % for the first draft; later drafts fare worse.
    Parameter("acceptance", 0.7, 0.6, 1.35, 0.15),
)
#: A system's own factor on the engine's kernels.
SYSTEM = Parameter("busy", 1.0, 0.6, 1.8, 0.15)
#: Scale of the Cauchy loss: log errors beyond it count less, as rows whose hidden settings differ must.
LOSS_SCALE = 0.08
#: Standard deviation of a row's log error that the priors are weighed against: what hidden settings do to rows whose constants
#: are right (rows left aside of the engine with the fewest of them, vLLM, err by that much).
ROW_SD = 0.15


@dataclass(frozen=True, slots=True)
class Fitted:
    """An engine with its constants, and the log residuals ``log(predicted / measured)`` of the fitted rows."""

    backend: Backend
    residuals: Floats
    values: Mapping[str, float]


def fit_backend(backend: Backend, rows: Sequence[ServingRow], progress: Callable[[int, int], None] | None = None) -> Fitted:
    """The engine's constants from ``rows``, all of them its own. Deterministic."""
    systems = sorted({row.system for row in rows})
    parameters = [*PARAMETERS, *(SYSTEM for _ in systems)]
    names = [*(p.name for p in PARAMETERS), *systems]
    measured = np.log([row.tpot_s for row in rows])

    def named(x: Floats) -> dict[str, float]:
        # The unknowns are 1 + log(value / start), so that a relative step is never one of nothing.
        return {n: float(p.start * np.exp(v - 1.0)) for n, p, v in zip(names, parameters, x, strict=True)}

    def engine(x: Floats) -> Backend:
        return with_values(backend, named(x), systems)

    calls = 0

    def residual(x: Floats) -> Floats:
        nonlocal calls
        calls += 1
        if progress is not None:
            progress(calls, 120)
        found = predict_serving(rows, {backend.name: engine(x)})
        return np.log(found.tpot_s) - measured

    def cost(x: Floats) -> Floats:
        # Cauchy by hand, so that the priors stay quadratic.
        r = residual(x) / LOSS_SCALE
        robust = np.sign(r) * np.sqrt(np.log1p(r * r)) * LOSS_SCALE / ROW_SD
        prior = np.array([(v - 1.0) / p.spread for p, v in zip(parameters, x, strict=True)])
        return np.concatenate([robust, prior])

    low, high = (1.0 + np.log([getattr(p, side) for p in parameters]) for side in ("low", "high"))
    start = np.ones(len(parameters))
    wide = np.full(len(start), 0.02)
    found = least_squares(cost, start, bounds=(low, high), diff_step=wide, xtol=1e-3, ftol=1e-3, max_nfev=12)
    return Fitted(engine(found.x), residual(found.x), named(found.x))


def with_values(backend: Backend, values: Mapping[str, float], systems: Sequence[str]) -> Backend:
    """``backend`` with fitted values: the engine's constants, and each system's ``busy`` on top of the engine's."""
    constants = {p.name: _written(p.name, values[p.name]) for p in PARAMETERS if p.name not in _TRAFFIC}
    own = {system: {"busy": float(f"{values['busy'] * values[system]:.4g}")} for system in systems}
    data = backend.model_dump(mode="json")
    data["constants"] |= constants
    data["systems"] = own
    data |= {name: float(f"{values[name]:.4g}") for name in _TRAFFIC}
    return Backend.model_validate(data)


#: Constants that are plain numbers; the others are times.
_SHARES = ("busy", "prompt_busy", "prompt_wait", "fp4_weights", "expert_launch")
#: What is said of the measured traffic, not of the engine.
_TRAFFIC = ("acceptance", "expert_spread")


def _written(name: str, value: float) -> str | float:
    return float(f"{value:.4g}") if name in _SHARES else f"{value * 1e6:.4g} us"
