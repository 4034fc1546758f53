"""The routed experts of a model step as a part."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
from numpy.typing import NDArray

from ....hwmodels.backends import Constants
from ....hwmodels.specs import Cluster, Gpu
from ...ep.compute.expert_time import ExpertTime, expert_constants, expert_time
from ...ep.compute.experts import ExpertShape, Kind
from ...ep.machine import machine_of
from ...ep.normal import largest_of
from ...ep.protocol import find_protocol
from ...inputs.model import MoeModel
from ...inputs.stored import Format
from ...precision import Dtype
from ..part import Num, Part
from ..tensor import Reach
from ..worker import Arrangement, Batch, Precision, Skew
from .fused_part import fused_part


def expert_part(
    model: MoeModel,
    cluster: Cluster,
    arrangement: Arrangement,
    batch: Batch,
    precision: Precision,
    skew: Skew,
    engine: Constants,
) -> tuple[Part, Num]:
    """The grouped GEMMs of the busiest rank, and its rows over the mean rank's.

    Where every GPU holds all tokens (``dp`` is 1), an engine may run one fused Triton kernel (``fused_experts``). Else it is
    DeepGEMM: prompts on the contiguous kernels, decoding batches on the masked ones.
    """
    fuses = find_protocol(arrangement.protocol).fused
    if fuses is not None and np.all(np.asarray(arrangement.dp) > 1.0):
        beyond = rank_imbalance(model, arrangement, skew)
        fused = fuses(cluster.calibration)
        return fused_part(fused, model, cluster, arrangement, batch, precision, skew, beyond), 1.0 + beyond
    # DeepGEMM has no 4-bit weights: what widens them is a Triton kernel in every engine.
    alone = (np.asarray(arrangement.dp) <= 1.0) & (engine.fused_experts or not _native(precision, cluster))
    if np.any(alone) and not np.all(alone):
        triton, own = _by_kind("triton", model, cluster, arrangement, batch, precision, skew, engine)
        sent, theirs = _in_deepgemm(model, cluster, arrangement, batch, precision, skew, engine)
        return _where(alone, triton, sent), np.where(alone, own, theirs)
    if np.all(alone):
        return _by_kind("triton", model, cluster, arrangement, batch, precision, skew, engine)
    return _in_deepgemm(model, cluster, arrangement, batch, precision, skew, engine)


def _in_deepgemm(
    model: MoeModel,
    cluster: Cluster,
    arrangement: Arrangement,
    batch: Batch,
    precision: Precision,
    skew: Skew,
    engine: Constants,
) -> tuple[Part, Num]:
    """Each point by the kernels that its own batch takes, whatever stands beside it in an array."""
    prompts = np.asarray(batch.decode) <= 0.0
    if np.all(prompts) or not np.any(prompts):
        kind: Kind = "contiguous" if np.all(prompts) else "masked"
        return _by_kind(kind, model, cluster, arrangement, batch, precision, skew, engine)
    first, own = _by_kind("contiguous", model, cluster, arrangement, batch, precision, skew, engine)
    rest, theirs = _by_kind("masked", model, cluster, arrangement, batch, precision, skew, engine)
    return _where(prompts, first, rest), np.where(prompts, own, theirs)


def _native(precision: Precision, cluster: Cluster) -> bool:
    """Whether tensor cores take the experts' 4-bit weights as stored. A GPU without such a rate multiplies in bf16, as the bf16
    kernels do; integers have one nowhere. True of wider weights, which no kernel widens."""
    if precision.experts != "fp4":
        return True
    return "fp4" in machine_of(cluster).tensor_flops and not precision.of("experts").name.startswith("int4")


def _where(first: NDArray[np.bool_], a: Part, b: Part) -> Part:
    """``a`` where ``first``, else ``b``."""
    loads = {name: np.where(first, a.loads[name], b.loads[name]) for name in a.loads}
    names = ("seconds", "flops", "hbm_bytes", "host_s")
    seconds, flops, moved, host = (np.where(first, getattr(a, name), getattr(b, name)) for name in names)
    source = f"{a.source}; {b.source}"
    return replace(a, seconds=seconds, loads=loads, flops=flops, hbm_bytes=moved, host_s=host, source=source)


def _by_kind(
    kind: Kind,
    model: MoeModel,
    cluster: Cluster,
    arrangement: Arrangement,
    batch: Batch,
    precision: Precision,
    skew: Skew,
    engine: Constants,
) -> tuple[Part, Num]:
    machine = machine_of(cluster)
    stored = precision.of("experts")
    native = _native(precision, cluster) and precision.experts in machine.tensor_flops
    activations: Dtype = precision.experts if native else "bf16"
    k, _, source = expert_constants(cluster.calibration, kind, activations)
    gpu = cluster.node.gpu
    reach = Reach.of(gpu, cluster.calibration).same_dtype(k.tensor_efficiency)
    reach = reach * fp8_rate(gpu, engine, stored)
    k = replace(k, tensor_efficiency=reach, launch=k.launch * engine.expert_launch)
    widened = 0.0 if _native(precision, cluster) else engine.widened * machine.clock_hz
    imbalance = rank_imbalance(model, arrangement, skew)
    width = model.moe_intermediate * model.mlp_matrices / 3.0 / arrangement.moe_tp
    shape = ExpertShape(float(model.expert_width), width, precision.experts, activations, widened_per_s=widened)
    tokens = np.asarray(batch.mean_tokens * arrangement.dp, float)
    found = expert_time(
        kind,
        np.maximum(tokens, 1e-9) * (1.0 + imbalance),
        shape,
        machine,
        k,
        experts=float(model.experts),
        top_k=float(model.top_k),
        ranks=arrangement.ep,
        redundant=arrangement.redundant,
        alpha=skew.alpha,
        sms=float(machine.sms),
        graphs=True,
        counted=skew.counted,
        placement=arrangement.placement,
        dealt=skew.routing == "balanced",
    )
    if skew.counted is not None:  # every layer waits for its own busiest rank; a step is as many layers in the mean
        found = ExpertTime(*(np.mean(getattr(found, f.name), axis=0) for f in fields(ExpertTime)))
    some = tokens > 0.0
    mean = np.maximum(tokens * model.top_k / arrangement.ep, 1e-9)
    part = Part(
        "experts",
        "experts",
        np.where(some, found.seconds, 0.0),
        float(model.moe_layers),
        {"tensor": np.where(some, found.tensor_s, 0.0), "hbm": np.where(some, found.hbm_s, 0.0)},
        np.where(some, found.flops, 0.0),
        np.where(some, found.hbm_bytes, 0.0),
        kernels=0.0,
        host_s=np.where(some, k.host, 0.0),
        source=f"expert-compute {kind}, fitted on {source}",
    )
    return part, np.maximum(found.rows / mean, 1.0) if skew.alpha > 0.0 or skew.counted else 1.0 + imbalance


def fp8_rate(gpu: Gpu, engine: Constants, stored: Format) -> float:
    """Tensor rate of the engine's fp8 kernels over the tabled ones': its own of block-scaled ones where the GPU has fp4 as
    well; with one scale a channel or tensor they are cuBLAS's."""
    blocks = stored.dtype == "fp8" and stored.name != "fp8 channel"
    return engine.fp8_blackwell if blocks and "fp4" in gpu.tensor_flop_per_cycle_sm else 1.0


def rank_imbalance(model: MoeModel, arrangement: Arrangement, skew: Skew) -> Num:
    """(max - mean) / mean rows of the ranks beyond chance: what ``skew`` says, else what random placement leaves.

    A rank of ``m`` experts whose popularity spreads by ``s`` of its mean spreads by ``s / sqrt(m)``, and all wait for the
    fullest of the ranks. Replicas come with a placement that evens ranks out.
    """
    if skew.alpha > 0.0 or skew.counted or skew.rank_imbalance > 0.0:
        return skew.rank_imbalance
    ranks = np.asarray(arrangement.ep, float)
    random = skew.spread * largest_of(ranks) / np.sqrt(np.maximum(model.experts / ranks, 1e-9))
    return np.where((ranks > 1.0) & (np.asarray(arrangement.redundant) <= 0.0), random, 0.0)
