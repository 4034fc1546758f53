"""A whole pass of the model on one worker: all its parts, what overlap hides of them, and the engine's own time between them.

Kernels of one stream run one after another, each after a gap; the host's work for the next step is exposed unless the engine
hides it, and that is what its fitted ``step`` and ``sequence`` say. With two-batch overlap (`overlap`) the batch runs as two
halves, and one half's tokens travel while the other half computes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from ...hwmodels.backends import Constants
from ...hwmodels.specs import Cluster
from ..ep.machine import machine_of
from ..inputs.model import MoeModel
from .all_reduce import all_reduce_part
from .attention.parts import attention_parts
from .context_parallel import context_parts
from .exchange import exchange_parts
from .experts.expert_block import expert_part, fp8_rate
from .feed_forward import feed_forward_parts, head_parts
from .overlap import overlapped_seconds
from .part import RESOURCES, Num, Part
from .worker import EVEN, Arrangement, Batch, Precision, Skew

#: Rounds of an overlapped pass: the halves into which the batch is split.
HALVES = 2.0


@dataclass(frozen=True, slots=True)
class Step:
    """One pass. ``seconds`` [point] from its start to the next one's; ``parts`` add up to it but for ``hidden_s``.

    ``tokens``: rows of one GPU's share (attention rows over ``tp``). ``flops`` and ``hbm_bytes``: of one GPU (all stages of a
    pipeline together).
    """

    parts: tuple[Part, ...]
    seconds: Num
    hidden_s: Num
    tokens: Num
    flops: Num
    hbm_bytes: Num

    def loads(self) -> dict[str, Num]:
        """Seconds that each resource alone would need for the whole pass."""
        total: dict[str, Num] = dict.fromkeys(RESOURCES, 0.0)
        for part in self.parts:
            for name, seconds in part.loads.items():
                total[name] = total[name] + seconds * part.times
        return total


def model_step(
    model: MoeModel,
    cluster: Cluster,
    arrangement: Arrangement,
    batch: Batch,
    precision: Precision,
    engine: Constants,
    *,
    skew: Skew = EVEN,
    drafts: float = 0.0,
) -> Step:
    """One pass of ``model``: ``batch`` on every attention group. Arrays in ``arrangement`` and ``batch`` broadcast.

    ``drafts``: passes of the multi-token-prediction layer beside the main model.

    Raises BadInput if nobody measured a kernel that the arrangement needs.
    """
    rounds = HALVES if arrangement.overlap else 1.0
    share = replace(batch, decode=batch.decode / rounds, prefill=batch.prefill / rounds)
    parts = [
        _repeated(part, rounds, drafts, model) for part in _parts(model, cluster, arrangement, share, precision, engine, skew)
    ]
    prompts = share.prefill / np.maximum(share.tokens, 1e-9)
    parts = [_in_engine(part, engine, prompts) for part in parts]
    kernels: Num = sum((part.kernels * part.times for part in parts), 0.0)
    busy = {group: _total(p for p in parts if (p.group == "communication") == group) for group in (True, False)}
    gaps = engine.gap * kernels
    communication, compute = busy[True], busy[False] + gaps
    if arrangement.overlap:
        kept, sms = (arrangement.comm_sms, engine.overlap_sms), cluster.node.gpu.sms
        on_gpu: Num = overlapped_seconds(parts, gaps, arrangement.protocol, *kept, sms, engine.contention)
        hidden: Num = communication + compute - on_gpu
    else:
        on_gpu, hidden = communication + compute, 0.0 * compute
    # The host runs ahead of the GPU, so that only what it takes longer for the whole pass shows.
    launches = 0.0 * compute if arrangement.graphs else np.maximum(0.0, queued_seconds(parts, engine) - on_gpu)
    host = engine.step + engine.sequence * batch.decode + engine.draft * drafts + launches
    parts.append(Part("kernel gaps", "host", gaps, 1.0, {"launch": gaps}, source="the engine's gap between kernels"))
    parts.append(
        Part("host", "host", host + 0.0 * compute, 1.0, {"host": host}, source="the engine's work per step and sequence")
    )
    return Step(
        tuple(parts),
        on_gpu + host,
        hidden,
        batch.tokens / arrangement.tp,
        sum((p.flops * p.times for p in parts), 0.0),
        sum((p.hbm_bytes * p.times for p in parts), 0.0),
    )


def queued_seconds(parts: Iterable[Part], engine: Constants) -> Num:
    """What the host takes to launch the kernels of ``parts`` one by one."""
    kernels = (p for p in parts if p.group != "host")
    return sum((np.where(p.host_s > 0.0, p.host_s, engine.launch * p.kernels) * p.times for p in kernels), 0.0)


def _parts(
    model: MoeModel,
    cluster: Cluster,
    arrangement: Arrangement,
    batch: Batch,
    precision: Precision,
    engine: Constants,
    skew: Skew,
) -> Iterator[Part]:
    gpu, system, tp = cluster.node.gpu, cluster.calibration, arrangement.tp
    narrow = engine.fp4_weights, fp8_rate(gpu, engine, precision.of("attention"))
    yield from attention_parts(model, arrangement, batch, precision, gpu, system, narrow[0], engine.fp8_mla, narrow[1])
    yield from context_parts(model, arrangement, batch, precision, cluster)
    layers = float(model.layers)
    yield all_reduce_part("attention all-reduce", batch.tokens, model.hidden, tp, cluster, engine, layers)
    yield from feed_forward_parts(model, arrangement, batch, precision, gpu, system, *narrow)
    if model.dense_layers:
        yield all_reduce_part("MLP all-reduce", batch.tokens, model.hidden, tp, cluster, engine, float(model.dense_layers))
    if model.moe_layers:
        block, imbalance = expert_part(model, cluster, arrangement, batch, precision, skew, engine)
        yield block
        # Where all GPUs hold all tokens, one sum finishes routed and shared experts; else only the shared experts need one.
        alone = np.asarray(arrangement.dp) <= 1.0
        summed = np.where(alone, arrangement.tp, np.where(model.beside_width > 0, arrangement.tp, arrangement.moe_tp))
        yield all_reduce_part("expert all-reduce", batch.tokens, model.hidden, summed, cluster, engine, float(model.moe_layers))
        if np.any(np.asarray(arrangement.dp) > 1.0):
            sent = batch.mean_tokens / tp
            yield from exchange_parts(model, arrangement, sent, precision, cluster, skew, imbalance)
    yield from head_parts(model, arrangement, batch, precision, gpu, system)
    if np.any(np.asarray(arrangement.pp) > 1.0):
        yield _stage_hops(model, cluster, arrangement, batch)


def _stage_hops(model: MoeModel, cluster: Cluster, arrangement: Arrangement, batch: Batch) -> Part:
    """Activations from one pipeline stage to the next, over NVLink inside a domain, else over the NIC."""
    gpu, nic = cluster.node.gpu, cluster.node.nic
    hops = np.asarray(arrangement.pp, float) - 1.0
    size = 2.0 * batch.tokens * model.hidden / arrangement.tp
    near = np.asarray(arrangement.gpus, float) <= cluster.nvlink_domain_gpus
    nvlink = size / gpu.nvlink_bandwidth
    wire = nic.latency + nic.message_cost + size / (machine_of(cluster).nic_bytes_per_s * nic.efficiency)
    seconds = hops * np.where(near, nvlink, wire)
    loads = {"nvlink": hops * np.where(near, nvlink, 0.0), "nic": hops * np.where(near, 0.0, wire)}
    return Part("stage hops", "communication", seconds, 1.0, loads, wire_bytes=hops * size, source="datasheet rates")


def _repeated(part: Part, rounds: float, drafts: float, model: MoeModel) -> Part:
    """The part run once for each half of an overlapped batch, and once more for every draft layer."""
    layers = model.moe_layers if part.times == model.moe_layers else model.layers
    extra = drafts * part.times / max(1.0, layers) if part.group != "head" else drafts
    return replace(part, times=(part.times + extra) * rounds)


def _in_engine(part: Part, engine: Constants, prompts: Num) -> Part:
    """Kernels' own launch, as a table timed it, gives way to the gap of the engine's graph; kernels slow down by ``busy``, and
    by ``prompt_busy`` for the share of the rows that are of ``prompts``. Parts that count no kernels (the experts) hold their
    launches in their own law and are not slowed by ``busy``, which was fitted so."""
    if part.group in ("communication", "host"):
        return part
    slower = 1.0 + (engine.prompt_busy - 1.0) * prompts
    if np.all(np.asarray(part.kernels) == 0.0):
        return replace(part, seconds=part.seconds * slower)
    launch = part.loads.get("launch", 0.0)
    seconds = engine.busy * slower * np.maximum(part.seconds - launch, 0.0)
    return replace(part, seconds=seconds, loads={**part.loads, "launch": 0.0})


def _total(parts: Iterator[Part]) -> Num:
    total: Num = 0.0
    for part in parts:
        total = total + part.step_seconds
    return total
