"""The bill of a deployment at its load: of all its GPUs, or of each pool's where they are not the same hardware."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...hwmodels.prices import load_prices, overrides_for
from ...sim.inputs.serving import Serving
from ...sim.inputs.serving_question import ServingQuestion
from ...sim.serving.deployment import Served
from .cost import Cost, cost_of
from .flow import Flow


def deployment_cost(question: ServingQuestion, serving: Serving, served: Served, flow: Flow) -> Cost:
    """What the deployment costs. Of two kinds of hardware each pool's nodes are paid for, and prompts pay for theirs."""
    per_s, capacity = flow.requests_per_s, flow.capacity_per_s
    used = min(1.0, per_s / capacity)
    if serving.prefill is not None:
        share = serving.prefill.gpus * serving.prefill.count / serving.gpus
    else:
        prompts = _one(served.decode.prompt_s) / max(serving.decode.dp, 1) * per_s / serving.decode.count
        share = min(1.0, prompts)
    if question.prefill_cluster is None or serving.prefill is None:
        return _of(question, "decode", serving.gpus, capacity, used, share, fixed=True)
    there = serving.prefill.gpus * serving.prefill.count
    decode = _of(question, "decode", serving.gpus - there, capacity, used, 0.0, fixed=True)
    prefill = _of(question, "prefill", there, capacity, used, 1.0, fixed=False)
    together = replace(
        decode,
        gpu_usd_per_hour=decode.gpu_usd_per_hour + prefill.gpu_usd_per_hour,
        power_usd_per_hour=decode.power_usd_per_hour + prefill.power_usd_per_hour,
        network_usd_per_hour=decode.network_usd_per_hour + prefill.network_usd_per_hour,
        load_usd_per_hour=decode.load_usd_per_hour + prefill.load_usd_per_hour,
        power_kw=decode.power_kw + prefill.power_kw,
        unpriced=decode.unpriced or prefill.unpriced,
    )
    return replace(together, input_share=prefill.usd_per_hour / together.usd_per_hour)


def _of(
    question: ServingQuestion, role: str, gpus: int, capacity_per_s: float, used: float, input_share: float, *, fixed: bool
) -> Cost:
    """``gpus`` of the hardware of ``role``; all tokens of the deployment are counted."""
    node, load = question.cluster_of(role).node, question.workload
    return cost_of(
        gpus,
        node.gpu,
        node.gpus,
        capacity_per_s * load.mean_input,
        capacity_per_s * load.mean_output,
        load_prices(overrides_for(question.prices_overrides, node.gpu), node.gpu),
        basis=question.bill.basis,
        utilisation=used,
        input_share=input_share,
        fixed_usd_per_hour=question.bill.fixed_per_hour if fixed else 0.0,
    )


def _one(value: object) -> float:
    return float(np.asarray(value, float).ravel()[0])
