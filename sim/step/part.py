"""One kind of kernel in a model step: how long one run of it takes on one GPU, how often it runs, and what bounds it.

Every number may be a float or a numpy array: parts of arrays are a whole table of operating points at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Num = float | NDArray[np.float64]
Group = Literal["attention", "feed-forward", "experts", "communication", "head", "host"]
#: Resources whose seconds a part's ``loads`` may name.
RESOURCES = ("tensor", "hbm", "nvlink", "nic", "launch", "host")


@dataclass(frozen=True, slots=True)
class Part:
    """``times`` runs in one step, each of ``seconds`` on the busiest GPU.

    ``loads``: seconds that each resource alone (one of `RESOURCES`) would need for one run; the largest is what bounds it.
    ``flops`` and ``hbm_bytes`` are of one run on one GPU, ``wire_bytes`` what one GPU sends. ``kernels``: launches of one run.
    ``host_s``: what the host takes for one run that no graph replays, where a table timed it; else 0, and its kernels count.
    ``wire_wait_s``: how much of one run only the NIC makes it last. ``source``: where its law's constants come from.
    """

    name: str
    group: Group
    seconds: Num
    times: float
    loads: Mapping[str, Num] = field(default_factory=dict)
    flops: Num = 0.0
    hbm_bytes: Num = 0.0
    wire_bytes: Num = 0.0
    kernels: Num = 1.0
    host_s: Num = 0.0
    wire_wait_s: Num = 0.0
    source: str = ""

    @property
    def step_seconds(self) -> Num:
        """Seconds of all its runs in a step."""
        return self.seconds * self.times
