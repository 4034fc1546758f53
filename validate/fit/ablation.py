"""What each mechanism buys: the error of a kernel refitted with one of them taken away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...hwmodels.calibration import load_calibration
from ...hwmodels.catalog import load_cluster
from ...sim.ep.machine import machine_of
from ..tables.ep_rows import Group, grouped, read_table
from .bounds import Bound, fixed
from .fit import fit, rows_to_fit

_NO_CHUNKS = {"chunk": fixed(0.0), "drain_copy": fixed(1000.0)}
_NO_RECEIVER = {"receive_copy": fixed(1000.0), "receive_token": fixed(0.0)}
_NO_WALK = {"token": fixed(0.0)}


@dataclass(frozen=True, slots=True)
class Mechanism:
    """``without``: bounds that take it away, from the H100 kernels it belongs to."""

    name: str
    protocol: str
    op: str
    one_node: bool
    without: Mapping[str, Bound]


MECHANISMS = (
    Mechanism("steps of the row-copy loop", "deepep-normal", "dispatch", True, {"send_row": fixed(0.0)}),
    Mechanism("chunks: handshake and drain", "deepep-normal", "dispatch", True, _NO_CHUNKS),
    Mechanism("chunks: handshake and drain", "deepep-normal", "combine", True, _NO_CHUNKS),
    Mechanism("receivers that sum a token's rows", "deepep-normal", "combine", True, _NO_RECEIVER),
    Mechanism("address translation", "deepep-normal", "dispatch", True, {"translation": fixed(0.0)}),
    Mechanism("imperfect overlap", "deepep-normal", "dispatch", True, {"sharpness": fixed(15.0)}),
    Mechanism("imperfect overlap", "deepep-normal", "combine", True, {"sharpness": fixed(15.0)}),
    Mechanism("SM copy rate", "deepep-normal", "combine", False, {"send_copy": fixed(300.0)}),
    Mechanism("chunks: handshake and drain", "deepep-normal", "combine", False, _NO_CHUNKS),
    Mechanism("ranks arriving apart", "deepep-normal", "combine_notify", False, {"drift": fixed(0.0)}),
    Mechanism("walk over the heads", "deepep-normal", "combine_notify", False, _NO_WALK),
    Mechanism("counting loop, flags of experts", "deepep-low-latency", "dispatch", True, {"launch_per_expert": fixed(0.0)}),
    Mechanism("a CTA's time per token", "deepep-low-latency", "dispatch", True, {"token": fixed(0.0)}),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ablated:
    """MAPE over all rows of the kernel, with everything and without the mechanism, both fitted to the same rows."""

    mechanism: Mechanism
    with_pct: float
    without_pct: float


def ablate(table: Path) -> list[Ablated]:
    """Every mechanism on the H100 rows of ``table``."""
    rows = [r for r in read_table(table) if r.system == "h100_sxm"]
    groups = {(g.protocol, g.op, g.scope == "one-node"): g for g in grouped(rows)}
    full: dict[tuple[str, str, bool], float] = {}
    found = []
    for m in MECHANISMS:
        key = (m.protocol, m.op, m.one_node)
        if key not in full:
            full[key] = _mape(groups[key], {})
        found.append(Ablated(m, full[key], _mape(groups[key], m.without)))
    return found


def _mape(group: Group, changed: Mapping[str, Bound]) -> float:
    machine = machine_of(load_cluster(load_calibration(group.system).cluster))
    predicted = fit(group, machine, "", rows_to_fit(group), changed).predicted_s
    return float(np.abs(100.0 * (predicted / group.measured_s - 1.0)).mean())
