"""One layer's answer in the records of a deployment's, so that sweeps, comparisons and explanations read both alike."""

from __future__ import annotations

from collections.abc import Mapping

from ...hwmodels.interval import UNKNOWN, Interval
from ...sim.inputs.question import Question
from ...sim.layer.result import Answer, LayerResult
from .evaluation import Evaluation, Metric, PartTime, Pool, StepTime

# The engine's names of what holds a flow or a rank -> the resources of a step's parts; the rest are fixed times.
_RESOURCES: Mapping[str, str] = {
    "nic": "nic",
    "nvlink": "nvlink",
    "fabric": "fabric",
    "hbm": "hbm",
    "tensor": "tensor",
    "sm": "sm",
}
_GROUPS: Mapping[str, str] = {"compute": "experts"}
_WIRES = ("nvlink", "rdma")


def layer_evaluation(question: Question, answer: Answer) -> Evaluation:
    """``answer`` as an evaluation: the scenario's own protocol, its ops as the parts of one step."""
    layer = answer.layers[0]
    tokens = sum(question.traffic.on_ranks(answer.ranks))
    seconds = layer.makespan_ps / 1e12
    parts = tuple(_part(layer, op.op, answer.ranks) for op in layer.ops)
    through = tokens / answer.ranks / seconds
    low90, low50, high50, high90 = (through / factor for factor in reversed(layer.interval.scaled(1.0)))
    metrics = [
        _timed("layer", "time of one MoE layer", seconds, layer.interval),
        Metric(
            "tokens_per_s_gpu",
            "tokens through the layer per second and GPU",
            "tokens/s",
            through,
            "high",
            low90,
            low50,
            high50,
            high90,
        ),
        *(
            _timed(part.name, f"{part.name} on the critical path", part.exposed_s, layer.intervals.get(part.name, UNKNOWN))
            for part in parts
        ),
        Metric("imbalance", "expert rows of the fullest rank over the mean", "", _imbalance(layer), "low"),
    ]
    bounds: dict[str, float] = {}
    for bound, us in layer.bound_us().items():
        bounds[_resource(bound)] = bounds.get(_resource(bound), 0.0) + us
    step = StepTime(
        phase="layer",
        seconds=seconds,
        tokens_per_gpu=tokens / answer.ranks,
        batch=0.0,
        mfu=0.0,
        mbu=0.0,
        bound=max(bounds, key=lambda bound: bounds[bound]) if bounds else "",
        parts=parts,
    )
    arrangement = f"ep {answer.ranks}, {layer.protocol}"
    pool = Pool("layer", arrangement, 1, answer.ranks, layer.memory, layer.hbm_bytes, (step,))
    return Evaluation(
        name=answer.name,
        description=answer.description,
        sentence=answer.sentence,
        model=question.model.name,
        cluster=question.cluster.label,
        gpus=answer.ranks,
        serving=None,
        metrics=tuple(metrics),
        pools=(pool,),
        cost={},
        limits=(),
        notes=layer.notes,
        why_wide=layer.interval.why,
        inputs=answer.inputs,
        seed=answer.seed,
        version=answer.version,
    )


def _timed(key: str, words: str, seconds: float, interval: Interval) -> Metric:
    return Metric(key, words, "s", seconds, "low", *interval.scaled(seconds))


def _part(layer: LayerResult, op: str, ranks: int) -> PartTime:
    held: dict[str, int] = {}
    for segment in layer.critical_path:
        if segment.op == op:
            bound = _resource(segment.bound)
            held[bound] = held.get(bound, 0) + segment.end_ps - segment.start_ps
    wire = sum(int(m.bytes.sum()) for m in layer.traffic if m.op == op and m.medium in _WIRES)
    return PartTime(
        name=op,
        group=_GROUPS.get(op, "communication"),
        seconds=next(o.duration_ps for o in layer.ops if o.op == op) / 1e12,
        exposed_s=layer.op_us(op) / 1e6,
        bound=max(held, key=lambda bound: held[bound]) if held else "",
        flops=0.0,
        hbm_bytes=0.0,
        wire_bytes=wire / ranks,
        source="played event by event",
    )


def _resource(bound: str) -> str:
    return next((name for prefix, name in _RESOURCES.items() if bound == prefix or bound.startswith(f"{prefix}_")), "latency")


def _imbalance(layer: LayerResult) -> float:
    mean = float(layer.rank_load.mean())
    return float(layer.rank_load.max()) / mean if mean else 1.0
