"""Fits an engine's own times to a few measured deployments, robustly, and keeps the residuals of the rest.

Parameters of an engine: the gap between kernels, host work per step and per sequence, its small all-reduce, how much longer
kernels take in it than alone, the share of the prompts' time that decoding requests wait for, and how often a drafted token is
accepted; for each system one more factor on the kernels, for each version and family of models one on the whole step. Each has
a physical range and a prior (a log-normal around the value assumed before any row was seen), so that what the few rows do not
tell stays there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from ...hwmodels.backends import Backend, VersionPace, with_overrides
from .rows import ServingRow
from .steady import predict_serving
from .versions import RELEASED

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
    # Block-scaled fp8 on Blackwell: the tabled kernels are DeepGEMM's, the suite's scripts switch them off for others of
    # which no table tells.
    Parameter("fp8_blackwell", 1.0, 0.25, 1.3, 0.5),
)
#: A system's own factor on the engine's kernels.
SYSTEM = Parameter("busy", 1.0, 0.6, 1.8, 0.15)
#: What a request waits for beside its own prompt and queue, assumed before the fit: a server's and a tokenizer's path some
#: 40 ms, some steps of a scheduler that works ahead of the GPU, and, disaggregated, a router and two more queues, and a decode
#: worker that looks for requests and finished transfers between its steps only (the suite's SGLang recipes have it look for
#: requests every tenth: ``scheduler-recv-interval``) and returns a first token some steps later.
FIRST = (
    Parameter("first_token", 40e-3, 0.02, 12.0, 1.0),
    Parameter("first_steps", 4.0, 0.05, 6.0, 0.8),
    Parameter("handover", 60e-3, 0.02, 20.0, 1.0),
    Parameter("handover_steps", 20.0, 0.05, 10.0, 1.0),
)
#: Scale of the Cauchy loss and standard deviation of a row's log error in times to first token.
FIRST_SCALE, FIRST_SD = 0.2, 0.35
#: Scale of the Cauchy loss: log errors beyond it count less, as rows whose hidden settings differ must.
LOSS_SCALE = 0.08
#: Standard deviation of a row's log error that the priors are weighed against: what hidden settings do to rows whose constants
#: are right (rows left aside of the engine with the fewest of them, vLLM, err by that much).
ROW_SD = 0.15
#: The same of disaggregated rows, whose columns leave out workers, widths and drafts.
APART_SD = 0.3


@dataclass(frozen=True, slots=True)
class Fitted:
    """An engine with its constants, and the log residuals ``log(predicted / measured)`` of the fitted rows."""

    backend: Backend
    residuals: Floats
    values: Mapping[str, float]


def fit_backend(backend: Backend, rows: Sequence[ServingRow], progress: Callable[[int, int], None] | None = None) -> Fitted:
    """The engine's constants from ``rows``, all of them its own. Deterministic, whatever ``backend`` holds of them before.

    In turn: what a request waits for beside its steps, from times to first token; everything of a step from times per token
    (and to first token, which tell of prompts), and from what is left the pace of versions; the first again.
    """
    start = {p.name: p.start for p in (*PARAMETERS, *FIRST)}
    bare = with_first(with_values(backend.model_copy(update={"versions": ()}), start, ()), start)
    fitted = _fit_steps(_fit_first(bare, rows), rows, progress)
    return replace(fitted, backend=_fit_first(fitted.backend, rows))


def _fit_steps(backend: Backend, rows: Sequence[ServingRow], progress: Callable[[int, int], None] | None) -> Fitted:
    systems = sorted({row.system for row in rows})
    parameters = [*PARAMETERS, *(SYSTEM for _ in systems)]
    names = [*(p.name for p in PARAMETERS), *systems]
    measured, first = np.log([row.tpot_s for row in rows]), np.log([row.ttft_s for row in rows])

    def named(x: Floats) -> dict[str, float]:
        # The unknowns are 1 + log(value / start), so that a relative step is never one of nothing.
        return {n: float(p.start * np.exp(v - 1.0)) for n, p, v in zip(names, parameters, x, strict=True)}

    def engine(x: Floats) -> Backend:
        return with_values(backend, named(x), systems)

    calls, known = 0, {}

    def residuals(x: Floats) -> tuple[Floats, Floats]:
        nonlocal calls
        if (key := x.tobytes()) not in known:
            calls += 1
            if progress is not None:
                progress(calls, 120)
            found = predict_serving(rows, {backend.name: engine(x)})
            known[key] = np.log(found.tpot_s) - measured, np.log(found.ttft_s) - first
        return known[key]

    def cost(x: Floats) -> Floats:
        tpot, ttft = residuals(x)
        prior = [(v - 1.0) / p.spread for p, v in zip(parameters, x, strict=True)]
        return np.concatenate([_robust(tpot, LOSS_SCALE, ROW_SD), _robust(ttft, FIRST_SCALE, FIRST_SD), prior])

    low, high = (1.0 + np.log([getattr(p, side) for p in parameters]) for side in ("low", "high"))
    start = np.ones(len(parameters))
    wide = np.full(len(start), 0.02)
    found = least_squares(cost, start, bounds=(low, high), diff_step=wide, xtol=1e-3, ftol=1e-3, max_nfev=8)
    left = residuals(found.x)[0]
    fitted = engine(found.x).model_copy(update={"versions": tuple(_paces(rows, left))})
    return Fitted(fitted, left, named(found.x))


def _paces(rows: Sequence[ServingRow], residuals: Floats) -> Iterator[VersionPace]:
    """The pace of each version on each family: what the median of its rows' residuals (log predicted over measured) lacks,
    times ``w / (w + 1)``: the mean of a normal posterior where versions spread as much as aggregated rows do. Of the weight
    ``w`` a disaggregated row, whose workers and widths its columns mostly leave out, brings as much less as its errors are
    wider.
    """
    plain = [i for i, row in enumerate(rows) if row.certain and not row.drafts]  # how often drafts are taken is no pace
    for version, family in sorted({(rows[i].version, rows[i].family) for i in plain}):
        mine = [i for i in plain if (rows[i].version, rows[i].family) == (version, family)]
        weight = sum(1.0 if rows[i].prefill is None else (ROW_SD / APART_SD) ** 2 for i in mine)
        yield VersionPace(
            version=version,
            family=family,
            released=RELEASED.get(version, ""),
            pace=float(f"{np.exp(-weight / (weight + 1.0) * np.median(residuals[mine])):.4g}"),
            rows=len(mine),
            log_sd=float(f"{ROW_SD / np.sqrt(weight + 1.0):.3g}"),
        )


def _fit_first(backend: Backend, rows: Sequence[ServingRow]) -> Backend:
    """``backend`` with what a request waits for beside its own steps, from the times to first token of ``rows``."""
    measured = np.log([row.ttft_s for row in rows])

    def engine(x: Floats) -> Backend:
        return with_first(backend, {p.name: p.start * float(np.exp(v - 1.0)) for p, v in zip(FIRST, x, strict=True)})

    def cost(x: Floats) -> Floats:
        found = predict_serving(rows, {backend.name: engine(x)}).ttft_s
        prior = [(v - 1.0) / p.spread for p, v in zip(FIRST, x, strict=True)]
        return np.concatenate([_robust(np.log(found) - measured, FIRST_SCALE, FIRST_SD), prior])

    low, high = (1.0 + np.log([getattr(p, side) for p in FIRST]) for side in ("low", "high"))
    start, wide = np.ones(len(FIRST)), np.full(len(FIRST), 0.05)
    found = least_squares(cost, start, bounds=(low, high), diff_step=wide, xtol=1e-3, ftol=1e-3, max_nfev=6)
    return engine(found.x)


def _robust(r: Floats, scale: float, sd: float) -> Floats:
    """Cauchy by hand, so that the priors stay quadratic."""
    return np.asarray(np.sign(r) * np.sqrt(np.log1p((r / scale) ** 2)) * scale / sd)


def with_first(backend: Backend, values: Mapping[str, float]) -> Backend:
    """``backend`` with the constants of `FIRST`."""
    changes = {p.name: f"{values[p.name]:.4g}" if p.name in _STEPS else f"{values[p.name] * 1e6:.4g} us" for p in FIRST}
    return with_overrides(backend, {name: float(v) if name in _STEPS else v for name, v in changes.items()})


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
_SHARES = ("busy", "prompt_busy", "prompt_wait", "fp4_weights", "expert_launch", "fp8_blackwell")
_STEPS = ("first_steps", "handover_steps")
#: What is said of the measured traffic, not of the engine.
_TRAFFIC = ("acceptance", "expert_spread")


def _written(name: str, value: float) -> str | float:
    return float(f"{value:.4g}") if name in _SHARES else f"{value * 1e6:.4g} us"
