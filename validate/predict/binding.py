"""What bounds a predicted row: the resource that is needed longest, or the latencies if they last longer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...sim.ep.bound import stage_loads
from ...sim.ep.shape import Shape
from ...sim.ep.stage import Machine, Stage

LATENCY = "latency"


def bound_resources(stages: tuple[Stage, ...], shape: Shape, machine: Machine) -> NDArray[np.str_]:
    """[row] the resource of the largest load in the longest of ``stages``, or `LATENCY`."""
    rows = np.zeros_like(np.asarray(shape.tokens, float))
    found: NDArray[np.str_] = np.full(rows.shape, LATENCY, "U32")
    most = rows.copy()
    for stage in stages:
        waits = rows + stage.latency_s + stage.tail_s + stage.floor_s
        found = np.where(waits > most, LATENCY, found)
        most = np.maximum(most, waits)
        for resource, load in stage_loads(stage, shape, machine).items():
            found = np.where(rows + load > most, resource, found)
            most = np.maximum(most, rows + load)
    return found
