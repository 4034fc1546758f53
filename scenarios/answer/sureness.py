"""How sure a deployment's times are: what its engine's measured deployments say of predictions like these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ...hwmodels.backends import Backend
from ...hwmodels.calibration import library_rows, relatives
from ...hwmodels.certainty.residuals import Residuals, carried, residuals_of, uncertainty
from ...hwmodels.known.foreign import why_foreign
from ...hwmodels.specs import Cluster
from ...sim.ep.protocol import find_protocol
from ...sim.inputs.serving_question import ServingQuestion

Num = float | NDArray[np.float64]
Time = Literal["tpot", "ttft"]


@dataclass(frozen=True, slots=True)
class Sure:
    """One time of one deployment, or of many: ``predicted_s`` as the closed form has it, and how measured times lie about it.

    ``shown_s`` is what an answer shows: the median of what would be measured, as often too long as too short.
    """

    predicted_s: Num
    residuals: Residuals
    why: tuple[str, ...] = ()

    @property
    def shown_s(self) -> Num:
        return self.predicted_s * self.residuals.median

    def within(self, confidence: float) -> Num:
        """The time that is kept with this chance."""
        return self.predicted_s * self.residuals.quantile(confidence)

    def chance(self, limit_s: float) -> float:
        """The chance of at most ``limit_s`` (of one deployment)."""
        return self.residuals.chance(limit_s / float(np.asarray(self.predicted_s).ravel()[0]))


@dataclass(frozen=True, slots=True)
class Workers:
    """What of its workers a prediction's certainty hangs on: ``gpus`` of the decoding one, ``widest`` exchange or all-reduce,
    and the ``protocol`` of its exchange ("" without one)."""

    gpus: Num
    widest: Num
    protocol: str = ""


def sure_times(
    question: ServingQuestion,
    backend: Backend,
    workers: Workers,
    batch: Num,
    predicted_s: Mapping[Time, Num],
    cluster: Cluster | None = None,
) -> dict[Time, Sure]:
    """Every time of ``predicted_s`` with its certainty; arrays of deployments share an engine and a protocol. ``cluster``: the
    hardware they are of, if not the question's.
    """
    cluster = cluster or question.cluster
    load, fit, system = question.workload, backend.fit, cluster.calibration
    point = {"mean_input": load.mean_input, "mean_output": load.mean_output, "batch": batch, "gpus": workers.gpus}
    lengths = {name: point[name] for name in ("mean_input", "mean_output")}  # load is not far: one request is like a few
    lender = lender_of(backend, system)
    known = not fit or system in backend.systems
    borrowed = [] if known else [f"constants of {backend.name} on {', '.join(sorted(backend.systems))}"]
    protocol = workers.protocol
    if protocol and find_protocol(protocol).lend is not None:
        own = library_rows(protocol)
        few = f"only {own} published rows speak of {protocol}" if own else f"nobody measured {protocol}"
        borrowed.append(f"measured exchanges of another library: {few}")
    near = why_foreign(cluster, False, lender)
    far = why_foreign(cluster, True, lender)
    across = np.asarray(workers.widest) > cluster.nvlink_domain_gpus
    here = far if np.ravel(across)[0] else near
    seen = fit.seen if fit else {}
    sd, why = uncertainty(seen, point, (*here, *borrowed))
    if len(near) != len(far) and np.ndim(across):
        apart = [uncertainty(seen, point, (*reasons, *borrowed))[0] for reasons in (far, near)]
        sd = np.where(across, *apart)
    found: dict[Time, Sure] = {}
    for key, seconds in predicted_s.items():
        regimes = () if fit is None else fit.intervals if key == "tpot" else fit.ttft_intervals
        unknown = () if regimes else ("no residuals were kept with these constants",)
        residuals = residuals_of(regimes, seconds).faded(carried(seen, lengths)).widened(sd)
        found[key] = Sure(seconds, residuals, (*unknown, *why))
    return found


def lender_of(backend: Backend, system: str) -> str:
    """The system whose measured deployments made the engine's times for ``system``: itself, or the nearest of its relatives."""
    return next((name for name in relatives(system) if name in backend.systems), relatives(system)[-1])
