"""Newer architectures that no measured deployment here speaks for: what is predicted of them, with each mechanism and without.

MiniMax-M2.5 and GLM-5 as their published configs have them, on the suite's lengths. Nothing here is judged: the rows that would
are kept aside by others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .mechanisms import ENGINE_SWITCHES, changed
from .rows import SUITE_SPREAD, ServingRow, Widths
from .steady import predict_serving

_TP4, _TP8, _DP8 = Widths(4, 1, 1, 1, 1), Widths(8, 1, 1, 1, 1), Widths(1, 8, 1, 8, 1)
#: (model, engine, system, widths): eight GPUs and four, as the suite starts such models.
PLACES = (
    ("minimax-m2.5", "vllm", "h200_sxm", _TP4),
    ("minimax-m2.5", "vllm", "b200_sxm", _TP4),
    ("glm-5", "sglang", "h200_sxm", _TP8),
    ("glm-5", "sglang", "b200_sxm", _TP8),
    ("glm-5", "sglang", "h200_sxm", _DP8),
)
LENGTHS = ((1024, 1024), (8192, 1024))
CLIENTS = (4, 64)


@dataclass(frozen=True, slots=True)
class Newer:
    """One deployment: seconds, and by mechanism how much less its times are without it, as a share of the judged time."""

    row: ServingRow
    tpot_s: float
    ttft_s: float
    without: dict[str, float]


def newer() -> Iterator[Newer]:
    """Every place under both lengths and numbers of clients."""
    rows = [
        ServingRow(
            0, model, system, engine, "fp8", "fp8", "bf16", isl, osl, SUITE_SPREAD, clients, widths, None, 1.0, 1.0, (),
        )
        for model, engine, system, widths in PLACES
        for isl, osl in LENGTHS
        for clients in CLIENTS
    ]  # fmt: skip
    whole = predict_serving(rows)
    shares: list[dict[str, float]] = [{} for _ in rows]
    for switch in ENGINE_SWITCHES:
        mine = [i for i, row in enumerate(rows) if switch.holds(row)]
        if not mine:
            continue
        off = predict_serving([rows[i] for i in mine], changed(switch.off))
        on, without = (whole.tpot_s, off.tpot_s) if switch.judged == "TPOT" else (whole.ttft_s, off.ttft_s)
        for i, one in zip(mine, without, strict=True):
            shares[i][f"{switch.mechanism} ({switch.judged})"] = float(one / on[i] - 1.0)
    for i, row in enumerate(rows):
        yield Newer(row, float(whole.tpot_s[i]), float(whole.ttft_s[i]), shares[i])


def widest(found: list[Newer]) -> dict[str, tuple[float, float]]:
    """Mechanism -> least and most that it changes any of the deployments that it concerns."""
    names = dict.fromkeys(name for one in found for name in one.without)
    values = {name: [one.without[name] for one in found if name in one.without] for name in names}
    return {name: (float(np.min(v)), float(np.max(v))) for name, v in values.items()}
