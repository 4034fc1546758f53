"""Failures at a constant rate: from a fleet's count to a group's hours between failures, the mean loss and the tail.

Every number may be a float or a numpy array; hours.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import expm1


@dataclass(frozen=True, slots=True)
class Hazard:
    """``gpu_hours``: of one GPU between two failures that stop the group it belongs to."""

    gpu_hours: float

    @classmethod
    def seen(cls, gpus: float, days: float, failures: float) -> Hazard:
        """From ``failures`` of ``gpus`` in ``days``."""
        return cls(gpus * days * 24.0 / failures)

    def announced(self, share: float) -> Hazard | None:
        """Of those that come without a warning, where ``share`` of all announce themselves; None where all do."""
        return Hazard(self.gpu_hours / (1.0 - share)) if share < 1.0 else None

    def hours_between(self, gpus: float) -> float:
        """Hours between failures of a group of ``gpus``, any of which stops it."""
        return self.gpu_hours / gpus

    def lost_share(self, gpus: float, outage_hours: float) -> float:
        """Share of all hours that such a group is down."""
        return outage_hours / (self.hours_between(gpus) + outage_hours)

    def chance(self, gpus: float, hours: float) -> float:
        """Chance of at least one failure of the group within ``hours``."""
        return -expm1(-hours / self.hours_between(gpus))
