"""Every kind of calculator, by the name that a file's ``calculate.kind`` gives."""

from __future__ import annotations

from ..calculator import Calculator
from . import balance, devices, exchange, fleet, memory, network, partition, prices, roofline, serving, throughput

_ROOMS = (balance, devices, exchange, fleet, memory, network, partition, prices, roofline, serving, throughput)

KINDS: dict[str, type[Calculator]] = {kind.model_fields["kind"].default: kind for room in _ROOMS for kind in room.KINDS}

__all__ = ["KINDS"]
