"""One MoE layer, asked and answered: every protocol of the question played event by event on one draw of the routing."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ... import __version__
from ...hwmodels.calibration import load_calibration, relatives
from ...hwmodels.interval import Interval, elsewhere
from ...hwmodels.known.foreign import why_foreign
from ...hwmodels.units import format_time
from ..engine import Simulator
from ..ep.bound import program_seconds
from ..ep.limit import cautioned
from ..ep.protocol import unmeasured_note
from ..ep.transport import transport_of
from ..fabric.topology import Topology
from ..inputs.question import Question
from ..precision import ELEMENT_BYTES
from .count_exchange import count_exchange
from .holdings import holdings
from .play import Player
from .program import EXPERTS, Program, Source, asked_transport, build, shape_of
from .result import Answer, InputRow, LayerResult, PathSegment
from .timeline import critical_path, links, op_times, spans, traffic

#: How a bound resource's kind begins -> what the sentence calls it.
_FAMILIES = {
    "nic_": "the NIC",
    "queue_pair": "the NIC",
    "fabric": "the fabric's uplinks",
    "nvlink": "NVLink",
    "sm_": "copying on the SMs",
    "hbm": "HBM bandwidth",
    "tensor": "tensor throughput",
    "host": "the host's kernel launches",
}
#: Ranks up to which the count exchange is kept as tables.
SHOWN_RANKS = 64


def simulate(question: Question) -> Answer:
    """Play the question's protocol and those it is compared with. Same question and seed, same answer.

    Raises BadInput (one line) if a protocol cannot run there, its memory does not fit, or nobody measured its kernels.
    """
    protocols = list(dict.fromkeys((question.deployment.protocol, *question.deployment.compare)))
    programs = [build(question, protocol, Simulator(question.seed)) for protocol in protocols]
    held = [holdings(question, program) for program in programs]
    layers = tuple(_layer(question, p, items) for p, items in zip(programs, held, strict=True))
    return Answer(
        name=question.name,
        description=question.description,
        sentence=_sentence(question, layers),
        layers=layers,
        ranks=question.deployment.ep,
        gpus_per_node=question.cluster.node.gpus,
        inputs=tuple(_inputs(question, programs)),
        seed=question.seed,
        version=__version__,
    )


def _layer(question: Question, program: Program, items: tuple) -> LayerResult:  # type: ignore[type-arg]
    topology = Topology(program.cluster, program.layout.ranks)
    topology.resources.add("pace", 1.0, program.layout.ranks)
    player = Player(Simulator(question.seed), topology, program.layout, program.machine)
    traces = player.play(list(program.steps))
    makespan = int(max(t.end().max() for t in traces))
    matrices = traffic(traces, program.layout)
    drawn = program.drawn
    path = critical_path(traces, topology)
    exchange = {}
    if program.protocol.counts and program.layout.ranks <= SHOWN_RANKS:
        exchange = count_exchange(drawn.rank_rows, program.layout)
    return LayerResult(
        protocol=program.protocol.name,
        makespan_ps=makespan,
        ops=op_times(traces),
        spans=spans(traces, topology),
        critical_path=path,
        links=links(matrices, topology, player.network, makespan),
        traffic=matrices,
        expert_load=np.sum([call.expert_load for call in program.calls], axis=0),
        rank_load=np.sum([call.expert_rows.sum(axis=0) for call in program.calls], axis=0),
        memory=items,
        hbm_bytes=int(question.cluster.node.gpu.hbm_capacity),
        closed_form_us=_closed_form(program),
        exchange=exchange,
        notes=tuple(_notes(question, program)),
        intervals=_intervals(question, program, path),
    )


def _intervals(question: Question, program: Program, path: tuple[PathSegment, ...]) -> dict[str, Interval]:
    """How sure every op is, from the residuals of the entry it used, at its time of one micro-batch and its operating point."""
    tokens, group = float(np.asarray(program.shape.tokens)), float(program.drawn.tokens.sum())
    found = {}
    for source in program.sources:
        seconds = sum(s.end_ps - s.start_ps for s in path if s.op == source.shown) / 1e12 / program.micro_batches
        found[source.shown] = sureness(question, source, seconds, tokens, group)
    return found


def sureness(question: Question, source: Source, seconds: float, tokens: float, group: float) -> Interval:
    """How sure ``seconds`` of an op are with ``tokens`` on the fullest rank and ``group`` on all."""
    shape, deployment = shape_of(question, tokens), question.deployment
    if source.op is None and not source.part:
        where = {
            "tokens": group,
            "hidden": float(question.model.hidden),
            "inter": float(question.model.moe_intermediate),
            "experts": (question.model.experts + deployment.redundant_experts) / deployment.ep,
            "weight_bytes": ELEMENT_BYTES[deployment.weights],
        }
    else:  # ours, and those inside an exchange's kernel: tokens of one rank
        where = {name: float(np.asarray(getattr(shape, name))) for name in ("tokens", "hidden", "top_k", "experts", "ranks")}
    same = load_calibration(source.system).cluster == load_calibration(question.cluster.calibration).cluster
    borrowed = "" if same else source.system
    if source.lender:
        borrowed = f"the {source.lender} kernels on {source.system}"
    across = source.op is not None and deployment.ep > question.cluster.nvlink_domain_gpus
    foreign = why_foreign(question.cluster, across, source.system)
    return elsewhere(source.entry.fit.interval(seconds, question.nodes_used, where, borrowed, foreign))


def _closed_form(program: Program) -> dict[str, float]:
    """Closed-form microseconds by op, on uniform routing, all micro-batches."""
    found: dict[str, float] = {}
    for stage, shape in program.closed:
        seconds = float(np.asarray(program_seconds((stage,), shape, program.machine)))
        found[stage.op] = found.get(stage.op, 0.0) + seconds * 1e6
    return {**found, EXPERTS: program.closed_experts_s * 1e6}


def _sentence(question: Question, layers: tuple[LayerResult, ...]) -> str:
    layer = layers[0]
    bound, share = _longest(layer)
    parts = [f"{op.op.replace('_', ' ')} {format_time(layer.op_us(op.op) / 1e6)}" for op in layer.ops]
    nodes = question.nodes_used
    tokens = question.traffic.on_ranks(question.deployment.ep)
    each = f"{tokens[0]}" if len(set(tokens)) == 1 else f"{min(tokens)} to {max(tokens)}"
    low, _, _, high = layer.interval.scaled(layer.makespan_ps / 1e12)
    text = (
        f"One {question.model.name} MoE layer takes {format_time(layer.makespan_ps / 1e12)} (90 % interval "
        f"{format_time(low)} to {format_time(high)}) on {question.deployment.ep} "
        f"{question.cluster.node.gpu.label} GPUs ({nodes} node{'s' if nodes > 1 else ''}, "
        f"{each} token{'s' if each != '1' else ''} a rank, "
        f"{layer.protocol}): {', '.join(parts)}; {share:.0%} of it is bound by {bound}."
    )
    for other in layers[1:]:
        ratio = other.makespan_ps / layer.makespan_ps
        text += f" The {other.protocol} protocol takes {format_time(other.makespan_ps / 1e12)}, {ratio:.2f}x as long."
    return text


def _longest(layer: LayerResult) -> tuple[str, float]:
    """What bounds most of the critical path, in words, and its share. A NIC's or a port's two sides count together."""
    total: dict[str, float] = {}
    for bound, us in layer.bound_us().items():
        name = next((words for start, words in _FAMILIES.items() if bound.startswith(start)), bound)
        total[name] = total.get(name, 0.0) + us
    name = max(total, key=lambda words: total[words])
    return name, total[name] / (layer.makespan_ps / 1e6)


def _notes(question: Question, program: Program) -> Iterator[str]:
    yield question.model.said
    if question.memory == "ignore":
        yield f"the layer is asked alone: the weights of {question.model.name} are left out of the memory"
    if program.micro_batches > 1:
        yield f"{program.micro_batches} micro-batches of at most {int(program.shape.tokens)} tokens a rank, one after another"
    systems = sorted({s.system for s in program.sources} - {question.cluster.calibration})
    if systems:
        why = load_calibration(question.cluster.calibration).why
        kernels = ", ".join(s.name for s in program.sources if s.system in systems)
        text = f"{question.cluster.calibration} has no measurements of {kernels}: constants of {' and '.join(systems)}"
        # The calibration says why it leans on its relatives; others lend a kernel that none of those has.
        yield f"{text} ({why})" if why and set(systems) <= set(relatives(question.cluster.calibration)) else text
    yield from _graphs_note(question, program)
    if unmeasured := sorted({source.lender for source in program.sources if source.lender}):
        yield unmeasured_note(program.protocol.name, unmeasured)
    yield from program.protocol.caveats
    yield from cautioned(program.protocol.cautions, question.asked(program.protocol.name))
    yield from _expert_note(program)
    if program.protocol.slot_rows is not None:
        slot = float(np.asarray(program.protocol.slot_rows(program.shape, question.deployment.capacity_factor)))
        lost = int(np.maximum(program.drawn.expert_rows - slot, 0).sum())
        if lost:
            pairs = int(program.drawn.expert_rows.sum())
            yield f"{lost} of {pairs} (token, expert) pairs do not fit slots of {slot:.0f} rows and are dropped"
    if program.layout.nodes > 1:
        yield from program.protocol.caveats_across
    if question.traffic.routing.kind in ("power-law", "file"):
        yield "the closed form beside it is for uniform routing, and so were the rows whose residuals made the intervals"


def _graphs_note(question: Question, program: Program) -> Iterator[str]:
    """What ``deployment.cuda_graphs`` means here, where it is given: launches run beside the kernels, and may hide."""
    asked, protocol = question.deployment.cuda_graphs, program.protocol
    if asked is None:
        return
    if asked and not protocol.replays:
        yield (
            f"deployment.cuda_graphs: the experts' kernels are taken as replayed; {protocol.name}'s own are launched one by "
            "one, since its host waits for counts"
        )
    elif asked:
        yield f"deployment.cuda_graphs: {protocol.name} is replayed, as it is by default"
    else:
        launched = "" if protocol.replays else ", as it is by default"
        yield f"deployment.cuda_graphs: kernels are launched one by one{launched}: the longer of kernels and launches counts"


def _expert_note(program: Program) -> Iterator[str]:
    """Whose expert kernels were timed, where a protocol brings its own."""
    if program.protocol.own_experts is None:
        return
    used = next(s for s in program.sources if s.op is None)
    if used.part:
        yield f"experts: our own product and SwiGLU, fitted to {used.entry.fit.table} of {used.system}"
    else:
        yield f"experts: DeepGEMM's times ({used.system}) stand in: ours were timed in bf16 and fp8, replayed by CUDA graphs"


def _inputs(question: Question, programs: list[Program]) -> Iterator[InputRow]:
    model, cluster, deployment = question.model, question.cluster, question.deployment
    for section, record in (
        ("model", model),
        ("gpu", cluster.node.gpu),
        ("nic", cluster.node.nic),
        ("switch", cluster.fabric.switch),
    ):
        values = record.model_dump(mode="json", exclude={"sources", "attention"})
        for name, value in values.items():
            if name == "name" or isinstance(value, str | int | float):
                yield InputRow(section, name, str(value), record.sources.get(name, record.sources.get("*", "")))
    source = cluster.sources.get("*", "")
    yield InputRow("cluster", "name", cluster.label, source)
    yield InputRow("cluster", "nodes", f"{question.nodes_used} of {cluster.nodes} used, {cluster.node.gpus} GPUs each", source)
    fabric = f"{cluster.fabric.kind}, oversubscription {cluster.fabric.oversubscription:g}"
    yield InputRow("cluster", "fabric", fabric, cluster.sources.get("fabric.oversubscription", source))
    for name, value in question.traffic.model_dump(mode="json", exclude_none=True).items():
        yield InputRow("traffic", name, str(value), "scenario")
    for name, value in deployment.model_dump(mode="json", exclude_none=True).items():
        yield InputRow("deployment", name, str(value), "scenario")
    for program in programs:
        name = program.protocol.name
        carried = transport_of(cluster, name, asked_transport(question, name)) if program.layout.nodes > 1 else None
        if carried is not None:
            yield InputRow("transport", name, f"{carried.name}: {carried.what}", carried.source("hand_over"))
        for s in program.sources:
            fit = s.entry.fit
            said = ", ".join(f"{name} {value}" for name, value in s.entry.constants.items())
            origin = f"{s.system}: fitted to {fit.rows} of {fit.rows_available} rows of {fit.table} ({fit.library}), "
            origin += f"MAPE {fit.mape_fit_pct}%"
            if fit.mape_rest_pct is not None:
                origin += f", {fit.mape_rest_pct}% on the rest"
            yield InputRow("calibration", f"{program.protocol.name} {s.name}", said, origin)


__all__ = ["simulate"]
