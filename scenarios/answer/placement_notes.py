"""What a routing file's counts mean for where experts lie: as they do, rearranged without copies, and with copies.

It answers whether a load balancer (EPLB) is worth it for the user's own counts: the busiest rank's rows over the mean rank's,
layer by layer where the file has layers, what a decode step then takes, and whose links have less to carry.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ...hwmodels.units import format_bytes, format_time
from ...sim.ep.compute.expert_share import Counted, counted_share, rank_shares
from ...sim.inputs.serving import Serving, Worker
from ...sim.inputs.serving_question import ServingQuestion
from ...sim.serving.steady import Setting, decode_step
from ...sim.step.worker import arrangement_of


def placement_notes(
    question: ServingQuestion, serving: Serving, setting: Setting, batch: float, routed_bytes: float
) -> Iterator[str]:
    """One line for the decode workers where their experts are counted; and what of the placement changes nothing.

    ``routed_bytes``: all routed experts on one GPU, copies included.
    """
    worker, recorded = serving.decode, setting.skew.counted
    if worker.placement is not None and recorded is None and setting.skew.alpha == 0.0:
        yield f"deployment.decode.placement={worker.placement} changes nothing: under this routing all experts are alike"
    if recorded is None or worker.ep == 1:
        return
    model, top_k = question.model, float(question.model.top_k)
    fill = -model.experts % worker.ep
    copies = worker.redundant_experts if worker.redundant_experts > fill else fill + worker.ep
    ways = [("contiguous", fill, "in their order"), ("balanced", fill, "rearranged without copies")]
    ways.append(("balanced", copies, f"rearranged with {copies} copies (redundant_experts={copies})"))
    told = []
    for placement, redundant, words in ways:
        lifts = [counted_share(recorded, at, top_k, worker.ep, redundant, placement).lift for at in range(recorded.layers)]
        there = replace(arrangement_of(worker), placement=placement, redundant=float(redundant))
        step = decode_step(setting, there, batch)
        worst = f" (layer {int(np.argmax(lifts))}: {max(lifts):.2f})" if recorded.layers > 1 else ""
        told.append(f"{np.mean(lifts):.2f}{worst} {words}, a decode step of {format_time(float(np.ravel(step.seconds)[0]))}")
    size = format_bytes(routed_bytes * (copies - fill) / (model.experts + worker.redundant_experts), binary=True)
    yield (
        f"experts as counted, rows of the busiest of {worker.ep} ranks over the mean: {'; '.join(told)}. "
        f"Balance relieves {_busiest(recorded, worker, top_k, fill, question.cluster.node.gpus)}; the copies take {size} a GPU"
    )


def _busiest(recorded: Counted, worker: Worker, top_k: float, fill: int, node_gpus: int) -> str:
    """Whose links carry most while experts lie in their order."""
    rows = sum(rank_shares(recorded, at, top_k, worker.ep, fill, "contiguous") for at in range(recorded.layers))
    split = worker.tp * worker.dp // worker.ep
    rank = int(np.argmax(rows))
    gpu = rank * split
    across = worker.tp * worker.dp > node_gpus
    links = "NIC and NVLink port" if across else "NVLink port"
    return f"the {links} of GPU {gpu % node_gpus} of node {gpu // node_gpus} (rank {rank}), which are sent most"
