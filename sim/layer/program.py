"""From a question to a program: the stages of one MoE layer under one protocol, and the draws they send."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ...hwmodels.calibration import Entry, constants_of, find_entry
from ...hwmodels.specs import Cluster
from ..engine import Simulator
from ..ep.compute import experts
from ..ep.compute.expert_time import dealt_counts, expected_counts, expert_time
from ..ep.compute.fused_experts import FusedExperts
from ..ep.compute.own_experts import OwnExperts
from ..ep.machine import machine_of
from ..ep.protocol import Context, Op, Protocol, describe, find_protocol
from ..ep.shape import Num, Shape
from ..ep.stage import Machine, Stage, Work
from ..ep.transport import over
from ..inputs.question import Question
from ..precision import PAYLOAD_BYTES
from .play import Step
from .routing import Drawn, Router, draw_calls
from .traffic import Layout

#: The op of expert compute.
EXPERTS = "compute"
ExpertKernels = experts.ExpertConstants | OwnExperts | FusedExperts


@dataclass(frozen=True, slots=True)
class Source:
    """Which fitted entry an op used, and the system it was measured on. ``lender``: the other protocol whose entry it is.

    ``op`` is None for the experts, ``part`` one of their kernels where several were fitted.
    """

    op: Op | None
    entry: Entry
    system: str
    lender: str = ""
    part: str = ""

    @property
    def name(self) -> str:
        """The op's name among fitted entries."""
        return self.op.name if self.op else f"{EXPERTS} {self.part}".rstrip()

    @property
    def shown(self) -> str:
        """The op's name among stages."""
        return (self.op.shown or self.op.name) if self.op else EXPERTS


@dataclass(frozen=True, slots=True)
class Program:
    """One protocol's layer. ``calls``: the tokens of each micro-batch; ``shape`` is the first and fullest one's.

    ``closed``: every call's stages of the exchange for uniform routing, each with the shape of its call; ``closed_experts_s``:
    seconds of all calls' experts for uniform routing. ``cluster``: as the protocol's messages see it, behind their transport.
    """

    protocol: Protocol
    steps: tuple[Step, ...]
    closed: tuple[tuple[Stage, Shape], ...]
    closed_experts_s: float
    shape: Shape
    context: Context
    layout: Layout
    machine: Machine
    cluster: Cluster
    calls: tuple[Drawn, ...]
    sources: tuple[Source, ...]

    @property
    def drawn(self) -> Drawn:
        return self.calls[0]

    @property
    def micro_batches(self) -> int:
        return len(self.calls)


def layout_of(question: Question) -> Layout:
    """Ranks and their NVLink domains (never larger than the deployment)."""
    ep = question.deployment.ep
    return Layout(ep, min(question.cluster.nvlink_domain_gpus, ep))


def shape_of(question: Question, tokens: Num) -> Shape:
    """The exchange of a call in which the fullest rank has ``tokens`` (one number, or [point])."""
    model, deployment, routing = question.model, question.deployment, question.traffic.routing
    layout, groups = layout_of(question), routing.groups or question.nodes_used
    return Shape(
        tokens=tokens,
        hidden=float(model.hidden),
        top_k=float(model.top_k),
        experts=float(model.experts + deployment.redundant_experts),
        ranks=float(layout.ranks),
        domain=float(layout.domain),
        payload_bytes=model.hidden * PAYLOAD_BYTES[deployment.payload],
        comm_sms=float(deployment.comm_sms),
        routing=routing.kind if routing.kind in ("balanced", "group-limited") else "uniform",
        groups=float(groups),
        groups_kept=float(routing.groups_kept or min(groups, 4)),
    )


def seen_cluster(question: Question, protocol: str) -> Cluster:
    """The question's cluster behind the transport of ``protocol``'s messages."""
    return over(question.cluster, protocol, asked_transport(question, protocol))


def asked_transport(question: Question, protocol: str) -> str:
    """The deployment's transport, if ``protocol`` is its own; those it is compared with choose theirs ("")."""
    return (question.deployment.transport or "") if protocol == question.deployment.protocol else ""


def context_of(question: Question) -> Context:
    """What a few protocols need beyond the shape."""
    deployment = question.deployment
    return Context(
        gpus_per_node=float(question.cluster.node.gpus),
        fields=2.0 if deployment.payload == "fp4" else 1.0,
        capacity_factor=deployment.capacity_factor,
    )


def draw_layer(question: Question, simulator: Simulator, tokens: NDArray[np.int64], most: int) -> list[Drawn]:
    """One draw of the layer's routing for ``tokens`` [rank], in calls of at most ``most`` a rank; protocols share it."""
    model, deployment, routing = question.model, question.deployment, question.traffic.routing
    groups = routing.groups or question.nodes_used
    router = Router(routing, model.experts, model.top_k, groups, routing.groups_kept or min(groups, 4))
    layout = layout_of(question)
    rng = simulator.stream("routing 0")
    return draw_calls(router, tokens, deployment.placement, deployment.redundant_experts, layout.domain, rng, most)


def build(question: Question, name: str, simulator: Simulator) -> Program:
    """The program of the protocol ``name`` for ``question``. Raises BadInput if nobody measured one of its kernels."""
    protocol = find_protocol(name)
    deployment, cluster = question.deployment, seen_cluster(question, name)
    layout, machine = layout_of(question), machine_of(cluster)
    tokens = np.array(question.traffic.on_ranks(deployment.ep), np.int64)
    drawn = draw_layer(question, simulator, tokens, _capacity(tokens, protocol, deployment.max_tokens))
    shape, context = shape_of(question, float(drawn[0].tokens.max())), context_of(question)
    k, used = expert_constants(question, protocol)
    sources: dict[str, Source] = {}

    def stages(ops: tuple[Op, ...], call: Shape) -> Iterator[Stage]:
        for op in ops:
            scope = protocol.scope(one_domain=layout.nodes == 1)
            described = describe(name, op.name, scope, cluster.calibration, call, machine, context)
            sources[op.name] = Source(op, described.entry, described.calibrated_on, described.lender)
            yield from described.stages

    steps: list[Step] = []
    closed: list[tuple[Stage, Shape]] = []
    closed_experts_s = 0.0
    for one in drawn:
        call = replace(shape, tokens=float(one.tokens.max()))
        before = tuple(stages(protocol.before, call))
        after = tuple(stages(protocol.after, call))
        work = _expert_block(question, protocol, one, call, k, machine)
        steps += [Step(stage, one) for part in (before, work, after) for stage in part]
        inside = (k.stage(call, 0.0),) if isinstance(k, FusedExperts) else ()  # its bytes; its time is the experts'
        closed += [(stage, call) for stage in (*before, *inside, *after)]
        closed_experts_s += float(np.asarray(closed_experts(question, protocol, float(one.tokens.sum()), k, machine)))
    sources |= {source.name: source for source in used}
    return Program(
        protocol,
        tuple(steps),
        tuple(closed),
        closed_experts_s,
        shape,
        context,
        layout,
        machine,
        cluster,
        tuple(drawn),
        tuple(sources.values()),
    )


def expert_constants(question: Question, protocol: Protocol) -> tuple[ExpertKernels, tuple[Source, ...]]:
    """The constants of the experts' kernels, and their entries.

    Those in the exchange's kernel; a protocol's own if it has any and graphs replay them, as timed; else DeepGEMM's.
    Raises BadInput if nobody measured them.
    """
    system, weights = question.cluster.calibration, question.deployment.weights
    if protocol.fused is not None:
        fused = protocol.fused(system)
        return fused, (Source(None, fused.entry, fused.system, part="fused"),)
    if protocol.own_experts is not None and replayed(question, protocol):
        own = protocol.own_experts(system, weights)
        if own is not None:
            return own, (Source(None, *own.swiglu_from, part="swiglu"), Source(None, *own.product_from, part="product"))
    entry, source = find_entry(system, "expert-compute", _kind(question, protocol), "one-node")
    return constants_of(entry, experts.ExpertConstants), (Source(None, entry, source),)


def _kind(question: Question, protocol: Protocol) -> experts.Kind:
    """The expert kernels behind the exchange."""
    return protocol.kind(replayed(question, protocol))


def replayed(question: Question, protocol: Protocol) -> bool:
    """Whether CUDA graphs replay the layer, so that nothing in it waits for the host."""
    asked = question.deployment.cuda_graphs
    return asked if asked is not None else protocol.replays


def _capacity(tokens: NDArray[np.int64], protocol: Protocol, most: int | None) -> int:
    """Tokens a rank brings to one call at most: all, but where calls have a capacity and ``most`` sets it."""
    there = int(tokens.max())
    return there if protocol.capacity is None else most or max(protocol.capacity, there)


def _expert_shape(question: Question) -> experts.ExpertShape:
    model, weights = question.model, question.deployment.weights
    return experts.ExpertShape(float(model.hidden), float(model.moe_intermediate), weights, weights)


def _free_sms(question: Question, machine: Machine) -> float:
    """SMs left to the experts."""
    return float(max(1, machine.sms - question.deployment.reserved_sms))


def _expert_block(
    question: Question, protocol: Protocol, call: Drawn, shape: Shape, k: ExpertKernels, machine: Machine
) -> Sequence[Work | Stage]:
    """The experts of every rank, of what one call drew."""
    rows = call.slot_load.reshape(question.deployment.ep, -1).astype(float)
    if isinstance(k, FusedExperts):
        each = float(call.tokens.sum()) * question.model.top_k / len(call.slot_load)
        return [k.stage(shape, k.gemm_seconds(experts.counted(rows, 0.0), each, _expert_shape(question), machine))]
    if isinstance(k, OwnExperts):
        return k.drawn(rows, _expert_shape(question), machine, _free_sms(question, machine))
    return experts.works(
        _kind(question, protocol),
        rows,
        call.rank_rows.sum(axis=0).astype(float),
        float(call.tokens.sum()),
        _expert_shape(question),
        machine,
        k,
        _free_sms(question, machine),
        graphs=replayed(question, protocol),
    )


def closed_experts(question: Question, protocol: Protocol, tokens: Num, k: ExpertKernels, machine: Machine) -> Num:
    """Seconds of the experts in closed form, one call of ``tokens`` on all ranks: uniform routing, or dealt experts."""
    model, deployment = question.model, question.deployment
    if isinstance(k, FusedExperts):
        each = np.asarray(tokens, float) * model.top_k / (model.experts + deployment.redundant_experts)
        gemm = k.gemm_seconds(_counts(question, tokens), each, _expert_shape(question), machine)
        return k.seconds(shape_of(question, np.asarray(tokens, float) / deployment.ep), gemm, machine)
    if isinstance(k, OwnExperts):
        each = np.asarray(tokens, float) * model.top_k / (model.experts + deployment.redundant_experts)
        counts = _counts(question, tokens)
        return k.seconds(counts, each, _expert_shape(question), machine, _free_sms(question, machine))
    kind = _kind(question, protocol)
    found = expert_time(
        kind,
        tokens,
        _expert_shape(question),
        machine,
        k,
        experts=float(model.experts),
        top_k=float(model.top_k),
        ranks=float(deployment.ep),
        redundant=float(deployment.redundant_experts),
        dealt=question.traffic.routing.kind == "balanced",
        sms=_free_sms(question, machine),
        graphs=replayed(question, protocol),
    )
    return found.seconds


def _counts(question: Question, tokens: Num) -> experts.Counts:
    """What the busiest rank is expected to compute of ``tokens`` on all ranks."""
    model, deployment = question.model, question.deployment
    sizes = (float(model.experts), float(model.top_k), float(deployment.ep))
    t, e, top_k, ranks = np.broadcast_arrays(np.asarray(tokens, float), *sizes)
    if question.traffic.routing.kind == "balanced":
        return dealt_counts(t, e, top_k, ranks)
    none = np.zeros(t.shape)
    return expected_counts(t, e, top_k, ranks, none + float(deployment.redundant_experts), none)
