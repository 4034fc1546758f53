"""One MoE layer in closed form at many numbers of tokens at once: what `layer` shows beside the events, without a draw.

Routing is uniform, balanced or group-limited: what a router that has favourites sends has no closed form here.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ...hwmodels.errors import BadInput
from ..ep.bound import program_seconds
from ..ep.machine import machine_of
from ..ep.protocol import describe, find_protocol
from ..inputs.question import Question
from .program import EXPERTS, Source, closed_experts, context_of, expert_constants, layout_of, seen_cluster, shape_of

#: Ways of routing that have a closed form.
ROUTED = ("uniform", "balanced", "group-limited")

Floats = NDArray[np.float64]


def layer_seconds(question: Question, tokens: Floats) -> Mapping[str, Floats]:
    """Op -> seconds [point] of the question's protocol with ``tokens`` [point] on every rank, in the order of the layer.

    Calls of at most the deployment's ``max_tokens`` follow each other, as when the layer is played. Raises BadInput where
    routing has no closed form, or nobody measured a kernel.
    """
    kind, deployment = question.traffic.routing.kind, question.deployment
    if kind not in ROUTED:
        raise BadInput(f"traffic.routing.kind {kind}: in closed form there is {', '.join(ROUTED)}: take --engine events")
    protocol = find_protocol(deployment.protocol)
    most = deployment.max_tokens if protocol.capacity is not None else None
    if most is None:
        return _call(question, tokens)
    full, rest = np.divmod(tokens, float(most))
    whole, last = _call(question, np.full_like(tokens, float(most))), _call(question, np.maximum(rest, 1.0))
    return {op: full * whole[op] + np.where(rest > 0, last[op], 0.0) for op in whole}


def _call(question: Question, tokens: Floats) -> dict[str, Floats]:
    """Op -> seconds [point] of one call."""
    deployment, protocol = question.deployment, find_protocol(question.deployment.protocol)
    cluster = seen_cluster(question, protocol.name)
    machine, shape, context = machine_of(cluster), shape_of(question, tokens), context_of(question)
    scope = protocol.scope(one_domain=layout_of(question).nodes == 1)
    k, _ = expert_constants(question, protocol)
    experts = closed_experts(question, protocol, tokens * deployment.ep, k, machine)
    found: dict[str, Floats] = {}
    for ops, then in ((protocol.before, EXPERTS), (protocol.after, "")):
        for op in ops:
            for stage in describe(protocol.name, op.name, scope, cluster.calibration, shape, machine, context).stages:
                seconds = np.broadcast_to(np.asarray(program_seconds((stage,), shape, machine), np.float64), tokens.shape)
                found[stage.op] = found.get(stage.op, np.zeros(tokens.shape)) + seconds
        if then:
            found[then] = np.broadcast_to(np.asarray(experts, np.float64), tokens.shape)
    return found


def layer_sources(question: Question, tokens: Floats) -> tuple[Source, ...]:
    """The fitted entries behind `layer_seconds`, an op each. Raises BadInput if nobody measured a kernel."""
    protocol = find_protocol(question.deployment.protocol)
    cluster = seen_cluster(question, protocol.name)
    machine, shape, context = machine_of(cluster), shape_of(question, tokens), context_of(question)
    scope = protocol.scope(one_domain=layout_of(question).nodes == 1)
    found = []
    for op in protocol.ops.values():
        described = describe(protocol.name, op.name, scope, cluster.calibration, shape, machine, context)
        found.append(Source(op, described.entry, described.calibrated_on, described.lender))
    return (*found, *expert_constants(question, protocol)[1])
