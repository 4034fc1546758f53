"""The deployments around a chosen one: its engine, protocol and prompts' workers kept; widths, batch and counts free."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ...hwmodels.errors import BadInput
from ...sim.inputs.serving import Serving
from ...sim.inputs.serving_question import ServingQuestion
from ..ask.held import holding
from ..ask.search import Search
from ..plan.pools import front
from ..plan.table import Table, table_of
from ..plan.tails import of_means

#: What of a decode worker is free.
_FREE = ("tp", "dp", "ep", "batch", "count")
#: What of a prefill worker is kept, set or not.
_HELD = ("tp", "dp", "pp", "ep", "protocol", "overlap", "redundant_experts", "chunk_tokens")


@dataclass(frozen=True, slots=True)
class Deployment:
    """One of them. ``on_front``: no other beats it in both numbers."""

    tokens_per_s_user: float
    tokens_per_s_gpu: float
    on_front: bool
    meets: bool
    words: str


@dataclass(frozen=True, slots=True)
class Around:
    """``deployments`` in the order of a user's speed; where there are none, ``why``."""

    deployments: tuple[Deployment, ...]
    why: str = ""


def around(question: ServingQuestion) -> Around:
    """Every deployment on as many GPUs as the cluster has. Raises BadInput for a deployment that no search can hold."""
    serving = question.serving
    if serving is None or serving.mode not in ("aggregated", "disaggregated"):
        return Around((), "a pool alone has no other deployments beside it")
    search = holding(Search(gpus=question.cluster.gpus, confirm=0), _kept(serving))
    table = table_of(replace(question, slo=of_means(question.slo), serving=None), search)
    if not len(table.rows):
        return Around((), table.nearest or "no other deployment fits")
    speed = 1.0 / table.rows.tpot_s
    each = table.rows.requests_per_s * question.workload.mean_output / table.rows.gpus
    edge = {int(row) for row in front(-speed, -each)}
    found = [
        Deployment(
            float(speed[i]), float(each[i]), i in edge, bool(table.share[i] <= 1.0), _words(table, i) if i in edge else ""
        )
        for i in np.argsort(speed)
    ]
    return Around(tuple(found))


def _kept(serving: Serving) -> Serving:
    """The deployment without what is free. Raises BadInput where it cannot be without."""
    data = serving.model_dump(exclude_unset=True) | {"mode": serving.mode, "backend": serving.backend}
    decode = {key: value for key, value in data.get("decode", {}).items() if key not in _FREE}
    alone = ("chunk_tokens",) if serving.mode == "aggregated" else ()
    data["decode"] = {**{key: getattr(serving.decode, key) for key in ("protocol", "overlap", *alone)}, **decode}
    if serving.prefill is not None:
        prefill = {key: value for key, value in data["prefill"].items() if key != "count"}
        data["prefill"] = {**{key: getattr(serving.prefill, key) for key in _HELD}, **prefill}
    try:
        return Serving.model_validate(data)
    except ValueError as error:
        raise BadInput(f"no deployments are shown around this one: {str(error).splitlines()[0]}") from None


def _words(table: Table, row: int) -> str:
    rows = table.rows
    decode, prefill = int(rows.decode[row]), int(rows.prefill[row])
    workers = table.decode
    said = (
        f"{rows.gpus[row]:.0f} GPUs: {rows.decode_count[row]:.0f} x (tp {workers.tp[decode]:.0f}, dp {workers.dp[decode]:.0f}, "
    )
    said += f"ep {workers.ep[decode]:.0f}), batch {rows.slots[row]:.0f}"
    return said if prefill < 0 else f"{said}, {rows.prefill_count[row]:.0f} prefill"
