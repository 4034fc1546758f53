"""Every arrangement of one worker's GPUs that a search allows and the model can be split into, as columns."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

from ...hwmodels.specs import Cluster
from ...sim.inputs.model import MoeModel
from ...sim.inputs.traffic import Routing
from ..ask.search import Search

Floats = NDArray[np.float64]
#: Pipeline stages and GPUs of one worker, unless the search says otherwise: nobody published a wider EP group than 320 GPUs
#: (DeepSeek-V3 Technical Report, arXiv 2412.19437, section 3.4.2).
STAGES, MOST_GPUS = (1, 2, 4), 320


def widths(model: MoeModel, cluster: Cluster, search: Search, most_gpus: int, routing: Routing) -> tuple[Floats, ...]:
    """Columns tp, dp, pp, ep, redundant of every arrangement that the model's heads, layers and experts allow.

    The rules of `sim.inputs.serving_question`, over arrays; tensor parallelism stays inside a NVLink domain unless asked for.
    """
    most = min(most_gpus, search.worker_gpus or MOST_GPUS)
    tps = search.tp or _powers(min(most, cluster.nvlink_domain_gpus))
    whole = _powers(most)
    dps = (search.dp or (*whole, *(3 * n for n in whole if 8 <= 3 * n <= most))) if model.experts else (1,)
    pps = search.pp or STAGES
    rows = []
    for tp, dp, pp in product(tps, dps, pps):
        if tp * dp * pp > most or pp > model.layers or not _heads_divide(model, tp):
            continue
        if pp > 1 and dp > 1 and search.pp is None:  # engines are run with one or the other
            continue
        if dp > 1 and not _groups_divide(model, routing, -(-tp * dp // cluster.node.gpus)):
            continue
        for ep in _expert_ranks(model, search, tp, dp):
            rows += [(tp, dp, pp, ep, redundant) for redundant in _replicas(model, search, ep, routing)]
    columns = np.array(sorted(set(rows)), float).reshape(-1, 5)
    return tuple(columns.T)


def _expert_ranks(model: MoeModel, search: Search, tp: int, dp: int) -> tuple[int, ...]:
    if not model.experts:
        return (1,)
    whole = tp * dp
    asked = search.ep or ((whole,) if dp > 1 else (1, whole))
    return tuple(ep for ep in dict.fromkeys(asked) if whole % ep == 0 and model.moe_intermediate % (whole // ep) == 0)


def _groups_divide(model: MoeModel, routing: Routing, nodes: int) -> bool:
    """Group-limited routing has a group a node unless it says how many."""
    return routing.kind != "group-limited" or routing.groups is not None or model.experts % nodes == 0


def _replicas(model: MoeModel, search: Search, ep: int, routing: Routing) -> tuple[int, ...]:
    if not model.experts:
        return (0,)
    fill = -model.experts % ep
    if routing.kind == "balanced":  # deals every expert once
        return (0,) if fill == 0 and 0 in (search.redundant_experts or (0,)) else ()
    skewed = routing.kind in ("power-law", "file")
    asked = search.redundant_experts or ((fill, fill + ep) if skewed and ep > 1 else (fill,))
    return tuple(r for r in dict.fromkeys(asked) if (model.experts + r) % ep == 0)


def _heads_divide(model: MoeModel, tp: int) -> bool:
    for kind in model.attention:
        shared = [getattr(kind, name) for name in ("kv_heads", "key_heads") if hasattr(kind, name)]
        if kind.heads % tp or any(heads % tp and tp % heads for heads in shared):
            return False
    return True


def _powers(most: int) -> tuple[int, ...]:
    return tuple(1 << n for n in range(most.bit_length()))
