"""The flow of requests through a deployment as it is shown: median times, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...sim.inputs.serving import Serving
from ...sim.inputs.serving_question import ServingQuestion
from .operating_point import Running


@dataclass(frozen=True, slots=True)
class Flow:
    """``requests_per_s`` as the load gives them, or falling as the median time per token rises; ``concurrency`` as the load
    gives it, or by Little's law; ``batch``: sequences that decode together in an attention group;
    ``capacity_per_s``: requests a second at most, in the same proportion."""

    tpot_s: float
    ttft_s: float
    requests_per_s: float
    concurrency: float
    batch: float
    capacity_per_s: float


def flow_of(question: ServingQuestion, serving: Serving, found: Running) -> Flow:
    """The flow at the deployment's load."""
    load, groups = question.workload, serving.decode.dp * serving.decode.count
    tpot, ttft = (float(np.ravel(found.times[key].shown_s)[0]) for key in ("tpot", "ttft"))
    capacity = float(np.ravel(found.served.capacity_per_s)[0])
    if load.rate is not None:
        decoding = load.rate * load.mean_output * tpot
        return Flow(tpot, ttft, load.rate, load.rate * ttft + decoding, decoding / groups, capacity)
    slower = float(np.ravel(found.times["tpot"].residuals.median)[0])
    per_s, flying = (float(np.ravel(x)[0]) for x in (found.served.requests_per_s, found.served.concurrency))
    flying = flying if load.concurrency is None else float(load.concurrency)
    return Flow(tpot, ttft, per_s / slower, flying, float(np.ravel(found.served.batch)[0]), capacity / slower)
