"""One question to the simulator, whole: everything that has to be known, checked together, before an engine starts."""

from __future__ import annotations

from dataclasses import dataclass

from ...hwmodels.errors import BadInput
from ...hwmodels.specs import Cluster
from .deployment import Deployment
from .model import MoeModel
from .traffic import Traffic


class Unanswerable(BadInput):
    """Inputs that are each in order but do not go together. ``key`` is the scenario key whose change would help."""

    def __init__(self, key: tuple[str, ...], message: str) -> None:
        self.key = key
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Question:
    """What one MoE layer costs: this model, on this cluster, under this traffic, deployed like this.

    Raises Unanswerable if the parts do not go together.
    """

    name: str
    description: str
    model: MoeModel
    cluster: Cluster
    traffic: Traffic
    deployment: Deployment
    seed: int

    def __post_init__(self) -> None:
        _experts_go_around(self.model, self.deployment)
        _cluster_holds(self.cluster, self.deployment.ep)
        _protocols_can_run(self.cluster, self.deployment)
        _routing_is_possible(self)

    @property
    def slots(self) -> int:
        """Expert slots over all ranks: the model's experts and their redundant replicas."""
        return self.model.experts + self.deployment.redundant_experts

    @property
    def nodes_used(self) -> int:
        """Nodes that the ranks fill, in order."""
        return -(-self.deployment.ep // self.cluster.node.gpus)


def _experts_go_around(model: MoeModel, deployment: Deployment) -> None:
    experts, ep, redundant = model.experts, deployment.ep, deployment.redundant_experts
    if experts == 0:
        raise Unanswerable(("model",), f"{model.name} is a dense model: there are no experts to spread, choose a MoE model")
    if model.top_k > experts:
        raise Unanswerable(("model", "top_k"), f"top_k ({model.top_k}) is more than experts ({experts}): use {experts} or less")
    slots = experts + redundant
    if slots % ep == 0:
        return
    fitting = redundant + -slots % ep
    whole = [n for n in range(2, slots + 1) if slots % n == 0]
    near = [str(n) for n in (max((n for n in whole if n < ep), default=0), min((n for n in whole if n > ep), default=0)) if n]
    counted = f"experts ({experts})" if redundant == 0 else f"experts ({experts}) and redundant_experts ({redundant})"
    choices = [*(["ep " + " or ".join(near)] if redundant else near and [" or ".join(near)]), f"redundant_experts={fitting}"]
    raise Unanswerable(("deployment", "ep"), f"{counted} do not divide over ep ({ep}): use {', or '.join(choices)}")


def _cluster_holds(cluster: Cluster, ep: int) -> None:
    if ep <= cluster.gpus:
        return
    needed = -(-ep // cluster.node.gpus)
    have = f"{cluster.nodes} node{'s' if cluster.nodes > 1 else ''} of {cluster.name} are {cluster.gpus} GPUs"
    lever = (
        f"cluster.nodes={needed}" if needed <= cluster.max_nodes else f"ep of at most {cluster.max_nodes * cluster.node.gpus}"
    )
    limit = "" if needed <= cluster.max_nodes else f" and {cluster.name} has at most {cluster.max_nodes}"
    raise Unanswerable(("cluster", "nodes"), f"ep ({ep}) needs {needed} nodes{limit}: {have}: use {lever}")


def _protocols_can_run(cluster: Cluster, deployment: Deployment) -> None:
    ep, domain = deployment.ep, cluster.nvlink_domain_gpus
    asked = (("protocol", deployment.protocol), *(("compare", other) for other in deployment.compare))
    for key, protocol in asked:
        if protocol in ("one-sided", "two-sided") and ep > domain:
            raise Unanswerable(
                ("deployment", key),
                f"{protocol} needs all ranks in one NVLink domain, {cluster.name} has domains of {domain} GPUs, ep is {ep}: "
                f"use ep of {domain} or less, another protocol, or a cluster such as gb200-nvl72",
            )
        if protocol in ("high-throughput", "all-gather") and ep > domain and ep % domain:
            raise Unanswerable(
                ("deployment", "ep"),
                f"{protocol} across nodes needs whole NVLink domains ({domain} GPUs of {cluster.name}), ep is {ep}: "
                f"use {ep // domain * domain} or {-(-ep // domain) * domain}",
            )
    sms = cluster.node.gpu.sms
    if deployment.comm_sms >= sms and "high-throughput" in (protocol for _, protocol in asked):
        name = cluster.node.gpu.name
        raise Unanswerable(
            ("deployment", "comm_sms"),
            f"comm_sms ({deployment.comm_sms}) leaves none of the {sms} SMs of {name} for the experts: use {sms - 1} or less",
        )


def _routing_is_possible(question: Question) -> None:
    model, deployment, routing = question.model, question.deployment, question.traffic.routing
    try:
        question.traffic.on_ranks(deployment.ep)
    except ValueError as error:
        raise Unanswerable(("traffic", "tokens_per_rank"), str(error)) from None
    if routing.kind == "balanced" and deployment.redundant_experts:
        raise Unanswerable(
            ("deployment", "redundant_experts"),
            f"balanced routing deals every expert once, got {deployment.redundant_experts} redundant_experts: use 0, "
            "or uniform routing",
        )
    if routing.kind != "group-limited":
        return
    groups = routing.groups or question.nodes_used
    kept = routing.groups_kept or min(groups, 4)
    if model.experts % groups:
        whole = [str(n) for n in range(2, model.experts + 1) if model.experts % n == 0][:8]
        raise Unanswerable(
            ("traffic", "routing", "groups"),
            f"experts ({model.experts}) do not divide over {groups} routing groups: use groups of {', '.join(whole)}",
        )
    if kept > groups:
        raise Unanswerable(("traffic", "routing", "groups_kept"), f"groups_kept ({kept}) is more than groups ({groups})")
    if kept * (model.experts // groups) < model.top_k:
        least = -(-model.top_k // (model.experts // groups))
        raise Unanswerable(
            ("traffic", "routing", "groups_kept"),
            f"{kept} of {groups} groups hold {kept * (model.experts // groups)} experts, top_k is {model.top_k}: "
            f"use groups_kept={least}",
        )
