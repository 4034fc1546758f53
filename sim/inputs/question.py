"""One question to the simulator, whole: everything that has to be known, checked together, before an engine starts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ...hwmodels.specs import Cluster
from .deployment import Deployment
from .feasible import (
    Unanswerable,
    cluster_holds,
    exchange_asked,
    experts_go_around,
    library_can_run,
    protocol_can_run,
    routing_is_possible,
    sms_are_left,
    transport_can_run,
)
from .model import MoeModel
from .playable import can_be_played
from .traffic import Traffic

__all__ = ["Memory", "Question", "Unanswerable"]

if TYPE_CHECKING:
    from ..ep.limit import Asked

Memory = Literal["check", "ignore"]


@dataclass(frozen=True, slots=True)
class Question:
    """What one MoE layer costs: this model, on this cluster, under this traffic, deployed like this.

    ``memory``: whether the whole model has to fit ("check"), or the layer is asked alone, without its weights ("ignore").
    Raises Unanswerable if the parts do not go together.
    """

    name: str
    description: str
    model: MoeModel
    cluster: Cluster
    traffic: Traffic
    deployment: Deployment
    seed: int
    memory: Memory = "check"

    def __post_init__(self) -> None:
        deployment, ep = self.deployment, self.deployment.ep
        if self.model.experts == 0:
            named = self.model.name
            raise Unanswerable(("model",), f"{named} is a dense model: there are no experts to spread, choose a MoE model")
        experts_go_around(self.model, ep, deployment.redundant_experts, ("deployment", "ep"))
        cluster_holds(self.cluster, ep, f"ep ({ep})", "ep")
        asked = (("protocol", deployment.protocol), *(("compare", other) for other in deployment.compare))
        for key, protocol in asked:
            protocol_can_run(self.cluster, protocol, ep, ("deployment", key), ("deployment", "ep"))
            asked_for = deployment.transport if protocol == deployment.protocol else None
            transport_can_run(self.cluster, protocol, asked_for, ep, ("deployment", "transport"))
        sms_are_left(self.cluster, (name for _, name in asked), deployment.comm_sms, ("deployment", "comm_sms"))
        try:
            self.traffic.on_ranks(ep)
        except ValueError as error:
            raise Unanswerable(("traffic", "tokens_per_rank"), str(error)) from None
        for key, protocol in asked:
            library_can_run(self.cluster, protocol, self.asked(protocol), ("deployment", key))
        for key, protocol in asked:
            can_be_played(protocol, ep, max(self.traffic.on_ranks(ep)) * self.model.top_k, ("deployment", key))
        replicas = ((("deployment", "redundant_experts"), deployment.redundant_experts),)
        routing_is_possible(self.model, self.traffic.routing, self.nodes_used, replicas, "traffic")

    def asked(self, protocol: str) -> Asked:
        """The exchange under ``protocol`` as its library's limits look at it."""
        deployment = self.deployment
        return exchange_asked(
            self.cluster,
            self.model,
            protocol,
            ep=deployment.ep,
            redundant=deployment.redundant_experts,
            comm_sms=deployment.comm_sms,
            transport=deployment.transport if protocol == deployment.protocol else None,
            tokens=float(max(self.traffic.on_ranks(deployment.ep))),
        )

    @property
    def slots(self) -> int:
        """Expert slots over all ranks: the model's experts and their redundant replicas."""
        return self.model.experts + self.deployment.redundant_experts

    @property
    def nodes_used(self) -> int:
        """Nodes that the ranks fill, in order."""
        return -(-self.deployment.ep // self.cluster.node.gpus)
