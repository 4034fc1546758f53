"""What goes together and what does not: checks that a layer and a whole deployment share.

Each takes the scenario key whose change would help, and raises Unanswerable with one line: what is wanted, what came, the
lever.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ...hwmodels.calibration import load_calibration
from ...hwmodels.errors import BadInput
from ...hwmodels.specs import Cluster
from .model import MoeModel
from .traffic import Routing

if TYPE_CHECKING:
    from ..ep.limit import Asked

KeyPath = tuple[str, ...]


class Unanswerable(BadInput):
    """Inputs that are each in order but do not go together. ``key`` is the scenario key whose change would help."""

    def __init__(self, key: KeyPath, message: str) -> None:
        self.key = key
        super().__init__(message)


def experts_go_around(model: MoeModel, ep: int, redundant: int, key: KeyPath) -> None:
    """The model's experts and their replicas divide over ``ep`` ranks, and a token finds ``top_k`` of them."""
    experts = model.experts
    if model.top_k > experts:
        raise Unanswerable(("model", "top_k"), f"top_k ({model.top_k}) is more than experts ({experts}): use {experts} or less")
    slots = experts + redundant
    if slots % ep == 0:
        return
    fitting = redundant + -slots % ep
    near = [str(n) for n in neighbours(ep, slots) if n > 1]
    counted = f"experts ({experts})" if redundant == 0 else f"experts ({experts}) and redundant_experts ({redundant})"
    choices = [*(["ep " + " or ".join(near)] if redundant else near and [" or ".join(near)]), f"redundant_experts={fitting}"]
    raise Unanswerable(key, f"{counted} do not divide over ep ({ep}): use {', or '.join(choices)}")


def cluster_holds(cluster: Cluster, gpus: int, what: str, smaller: str) -> None:
    """``gpus`` GPUs fit into the cluster. ``what`` needs them; ``smaller`` is what could be lowered."""
    if gpus <= cluster.gpus:
        return
    needed = -(-gpus // cluster.node.gpus)
    have = f"{cluster.nodes} node{'s' if cluster.nodes > 1 else ''} of {cluster.name} are {cluster.gpus} GPUs"
    possible = needed <= cluster.max_nodes
    lever = f"cluster.nodes={needed}" if possible else f"{smaller} of at most {cluster.max_nodes * cluster.node.gpus}"
    limit = "" if possible else f" and {cluster.name} has at most {cluster.max_nodes}"
    raise Unanswerable(("cluster", "nodes"), f"{what} needs {needed} nodes{limit}: {have}: use {lever}")


def exchange_asked(
    cluster: Cluster,
    model: MoeModel,
    protocol: str,
    *,
    ep: int,
    redundant: int,
    comm_sms: int,
    transport: str | None,
    tokens: float | None,
) -> Asked:
    """The exchange as limits and cautions look at it."""
    from ..ep.limit import Asked
    from ..ep.transport import transport_of

    domain = min(cluster.nvlink_domain_gpus, ep)
    carries = transport_of(cluster, protocol, transport or "") if ep > domain else None
    return Asked(
        system=load_calibration(cluster.calibration).system,
        ranks=float(ep),
        domain=float(domain),
        top_k=float(model.top_k),
        experts=float(model.experts + redundant),
        hidden=float(model.hidden),
        comm_sms=float(comm_sms),
        tokens=tokens,
        transport=carries.name if carries else "",
    )


def library_can_run(cluster: Cluster, protocol: str, asked: Asked, key: KeyPath) -> None:
    """The protocol's library does not refuse or abort: its caps on ranks, top-k, sizes and hardware (`ep.limit`)."""
    from ..ep.limit import why_not
    from ..ep.protocol import find_protocol

    if limit := why_not(find_protocol(protocol).limits, asked):
        ep = round(float(asked.ranks))
        raise Unanswerable(key, f"{protocol} cannot run so: {limit.why}; ep is {ep} on {cluster.name}: {limit.lever}")


def protocol_can_run(cluster: Cluster, protocol: str, ep: int, key: KeyPath, ep_key: KeyPath) -> None:
    """The protocol can join ``ep`` ranks of this cluster: in one NVLink domain if it must, in whole ones on rails."""
    from ..ep.protocol import find_protocol  # numpy comes with it, which reading a file does without

    domain, record = cluster.nvlink_domain_gpus, find_protocol(protocol)
    if record.one_domain and ep > domain:
        raise Unanswerable(
            key,
            f"{protocol} needs all ranks in one NVLink domain, {cluster.name} has domains of {domain} GPUs, ep is {ep}: "
            f"use ep of {domain} or less, another protocol, or a cluster such as gb200-nvl72",
        )
    if record.rails and ep > domain and ep % domain:
        raise Unanswerable(
            ep_key,
            f"{protocol} across nodes needs whole NVLink domains ({domain} GPUs of {cluster.name}), ep is {ep}: "
            f"use {ep // domain * domain} or {-(-ep // domain) * domain}",
        )


def transport_can_run(cluster: Cluster, protocol: str, transport: str | None, ep: int, key: KeyPath) -> None:
    """The messages that leave an NVLink domain have something to carry them, and ``transport``, if asked for, has something to
    carry."""
    from ..ep.transport import transport_of

    if ep <= cluster.nvlink_domain_gpus:
        if transport:
            raise Unanswerable(
                key,
                f"transport {transport} carries nothing: all {ep} ranks share an NVLink domain of {cluster.name}: leave it out",
            )
        return
    try:
        transport_of(cluster, protocol, transport or "")
    except BadInput as error:
        raise Unanswerable(key, str(error)) from None


def sms_are_left(cluster: Cluster, protocols: Iterable[str], comm_sms: int, key: KeyPath) -> None:
    """``comm_sms``, if one of ``protocols`` runs on them, leave SMs for the experts."""
    from ..ep.protocol import find_protocol

    if not any(find_protocol(name).on_comm_sms for name in protocols):
        return
    sms, name = cluster.node.gpu.sms, cluster.node.gpu.name
    if comm_sms >= sms:
        raise Unanswerable(
            key, f"comm_sms ({comm_sms}) leaves none of the {sms} SMs of {name} for the experts: use {sms - 1} or less"
        )


def routing_is_possible(
    model: MoeModel, routing: Routing, nodes: int, redundant: Iterable[tuple[KeyPath, int]], at: str
) -> None:
    """The router can do what is asked. ``nodes``: nodes of one exchange; ``redundant``: replicas by their keys; ``at``: the
    section that ``routing`` stands in."""
    if routing.kind == "balanced":
        for key, replicas in redundant:
            if replicas:
                raise Unanswerable(
                    key,
                    f"balanced routing deals every expert once, got {replicas} redundant_experts: use 0, or uniform routing",
                )
    if routing.kind != "group-limited":
        return
    groups = routing.groups or nodes
    kept = routing.groups_kept or min(groups, 4)
    if model.experts % groups:
        whole = [str(n) for n in range(2, model.experts + 1) if model.experts % n == 0][:8]
        raise Unanswerable(
            (at, "routing", "groups"),
            f"experts ({model.experts}) do not divide over {groups} routing groups: use groups of {', '.join(whole)}",
        )
    key = (at, "routing", "groups_kept")
    if kept > groups:
        raise Unanswerable(key, f"groups_kept ({kept}) is more than groups ({groups})")
    if kept * (model.experts // groups) < model.top_k:
        least = -(-model.top_k // (model.experts // groups))
        raise Unanswerable(
            key,
            f"{kept} of {groups} groups hold {kept * (model.experts // groups)} experts, top_k is {model.top_k}: "
            f"use groups_kept={least}",
        )


def neighbours(number: int, whole: int) -> list[int]:
    """The divisors of ``whole`` next to ``number``: the one below and the one above, as far as there are any."""
    divisors = [n for n in range(1, whole + 1) if whole % n == 0]
    below, above = [n for n in divisors if n < number], [n for n in divisors if n > number]
    return below[-1:] + above[:1]
