"""One question about serving, whole: model, cluster, workload, limits and deployment, checked together before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ...hwmodels.specs import Cluster
from .attention import Mla
from .feasible import (
    KeyPath,
    Unanswerable,
    cluster_holds,
    exchange_asked,
    experts_go_around,
    library_can_run,
    neighbours,
    protocol_can_run,
    routing_is_possible,
    sms_are_left,
    transport_can_run,
)
from .model import MoeModel
from .requests import Faults, Requests
from .serving import Bill, Serving, Slo, Worker, Workload

Role = str  # "decode" or "prefill": the key of a worker in the deployment


@dataclass(frozen=True, slots=True)
class ServingQuestion:
    """What this model costs to serve, on this cluster, under this workload, within these limits.

    ``serving`` is None where the deployment is what is looked for. ``prices_overrides``: dotted key of the price file -> value.
    ``prefill_cluster``: other hardware of the prefill workers, on a fabric that reaches the cluster's.
    ``unused``: what was given and changes no number, a line each, for the notes of the answer.
    ``requests`` and ``faults``: how its requests are played one by one, None where means in closed form are asked for.
    Raises Unanswerable if the parts do not go together.
    """

    name: str
    description: str
    model: MoeModel
    cluster: Cluster
    workload: Workload
    slo: Slo = field(default_factory=Slo)
    serving: Serving | None = None
    prices_overrides: Mapping[str, object] = field(default_factory=dict)
    seed: int = 0
    bill: Bill = field(default_factory=Bill)
    requests: Requests | None = None
    faults: Faults | None = None
    prefill_cluster: Cluster | None = None
    unused: tuple[str, ...] = ()

    @property
    def plays(self) -> bool:
        """Whether its requests are played one by one: it says how, something fails, or a limit is of no mean."""
        return self.requests is not None or self.faults is not None or bool(self.slo.tails)

    def __post_init__(self) -> None:
        _context_is_known(self.model, self.workload)
        roles = self.serving.workers if self.serving else {}
        for role, worker in roles.items():
            _worker_is_whole(self.model, self.cluster_of(role), role, worker)
        if self.serving:
            _drafts_have_layers(self.model, self.serving)
            for cluster in {id(c): c for c in map(self.cluster_of, roles)}.values():
                here = {role: worker for role, worker in roles.items() if self.cluster_of(role) is cluster}
                words = " and ".join(_in_words(role, worker) for role, worker in here.items())
                gpus = sum(worker.gpus * worker.count for worker in here.values())
                cluster_holds(cluster, gpus, f"a deployment of {words} ({gpus} GPUs)", "one")
        if self.model.experts:
            exchange = max((worker.tp * worker.dp for worker in roles.values()), default=self.cluster.gpus)
            replicas = [(_key(role, "redundant_experts"), worker.redundant_experts) for role, worker in roles.items()]
            nodes = -(-exchange // self.cluster.node.gpus)
            routing_is_possible(self.model, self.workload.routing, nodes, replicas, "workload")

    def cluster_of(self, role: Role) -> Cluster:
        """The hardware that the workers of ``role`` run on."""
        return self.prefill_cluster if role == "prefill" and self.prefill_cluster is not None else self.cluster


def _key(role: Role, name: str) -> KeyPath:
    return ("deployment", role, name)


def _in_words(role: Role, worker: Worker) -> str:
    widths = " x ".join(
        f"{name} {width}" for name, width in (("tp", worker.tp), ("dp", worker.dp), ("pp", worker.pp)) if width > 1
    )
    return f"{worker.count} {role} worker{'s' if worker.count > 1 else ''} of {widths or 'one GPU'}"


def _context_is_known(model: MoeModel, workload: Workload) -> None:
    longest = workload.input_tokens + workload.output_tokens
    if model.max_context is not None and longest > model.max_context:
        raise Unanswerable(
            ("workload", "input_tokens"),
            f"input_tokens ({workload.input_tokens}) and output_tokens ({workload.output_tokens}) are {longest} tokens of "
            f"context, {model.name} has {model.max_context}: use fewer, or model.max_context={longest}",
        )


def _drafts_have_layers(model: MoeModel, serving: Serving) -> None:
    if serving.mtp and not model.mtp_layers:
        raise Unanswerable(("deployment", "mtp"), f"mtp ({serving.mtp}) needs MTP layers, {model.name} has none: use mtp=0")


def _worker_is_whole(model: MoeModel, cluster: Cluster, role: Role, worker: Worker) -> None:
    """One kind of worker can hold the model: heads over tp, layers over pp, experts over ep, and its protocol runs here."""
    if worker.pp > model.layers:
        raise Unanswerable(
            _key(role, "pp"),
            f"pp ({worker.pp}) is more than the {model.layers} layers of {model.name}: use {model.layers} or less",
        )
    _heads_go_around(model, role, worker)
    _cache_is_latent(model, cluster, role, worker)
    if model.experts == 0:
        for name, given, plain in (("ep", worker.ep, 1), ("redundant_experts", worker.redundant_experts, 0)):
            if given != plain:
                raise Unanswerable(
                    _key(role, name), f"{model.name} is a dense model, it has no experts: use {name}={plain}, got {given}"
                )
        return
    experts_go_around(model, worker.ep, worker.redundant_experts, _key(role, "ep"))
    split = worker.tp * worker.dp // worker.ep
    if model.moe_intermediate % split:
        raise Unanswerable(
            _key(role, "ep"),
            f"an expert's width ({model.moe_intermediate}) does not divide over tp x dp / ep ({split}) GPUs: "
            f"use ep={worker.tp * worker.dp}",
        )
    if worker.dp > 1:
        protocol_can_run(cluster, worker.protocol, worker.ep, _key(role, "protocol"), _key(role, "ep"))
        transport_can_run(cluster, worker.protocol, worker.transport, worker.tp * worker.dp, _key(role, "transport"))
        asked = exchange_asked(
            cluster,
            model,
            worker.protocol,
            ep=worker.tp * worker.dp,
            redundant=worker.redundant_experts,
            comm_sms=worker.comm_sms,
            transport=worker.transport,
            tokens=None,
        )
        library_can_run(cluster, worker.protocol, asked, _key(role, "protocol"))
        sms_are_left(cluster, (worker.protocol,), worker.comm_sms, _key(role, "comm_sms"))


def _cache_is_latent(model: MoeModel, cluster: Cluster, role: Role, worker: Worker) -> None:
    """Decode context parallelism splits a latent cache that every query reads whole, over GPUs of one NVLink domain."""
    if worker.dcp == 1:
        return
    kinds = model.attention
    if not kinds or any(not isinstance(kind, Mla) or kind.indexer is not None for kind in kinds):
        raise Unanswerable(
            _key(role, "dcp"),
            f"dcp ({worker.dcp}) is known of MLA without a sparse indexer, {model.name} has other attention: use dcp=1",
        )
    if worker.dcp > cluster.nvlink_domain_gpus:
        raise Unanswerable(
            _key(role, "dcp"),
            f"dcp ({worker.dcp}) exchanges in every layer, an NVLink domain has {cluster.nvlink_domain_gpus} GPUs: use no more",
        )


def _heads_go_around(model: MoeModel, role: Role, worker: Worker) -> None:
    """Every kind of attention splits its heads over tp; key-value heads that are fewer are held several times."""
    for kind in model.attention:
        shared = {name: getattr(kind, name, None) for name in ("kv_heads", "key_heads")}
        for name, heads in {"heads": kind.heads, **shared}.items():
            if heads is None or heads % worker.tp == 0 or (name != "heads" and worker.tp % heads == 0):
                continue
            near = " or ".join(str(n) for n in neighbours(worker.tp, heads))
            raise Unanswerable(
                _key(role, "tp"), f"{name} ({heads}) of {model.name} do not divide over tp ({worker.tp}): use tp={near}"
            )
