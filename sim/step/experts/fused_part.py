"""The routed experts of a model step where one kernel exchanges tokens and multiplies: rows travel beside the products."""

from __future__ import annotations

import numpy as np

from ....hwmodels.specs import Cluster
from ...ep.bound import program_bytes
from ...ep.compute.expert_time import expected_counts
from ...ep.compute.experts import ExpertShape
from ...ep.compute.fused_experts import FusedExperts
from ...ep.machine import machine_of
from ...ep.shape import Shape
from ...inputs.model import MoeModel
from ...precision import PAYLOAD_BYTES
from ..part import Num, Part
from ..worker import Arrangement, Batch, Precision, Skew


def fused_part(
    fused: FusedExperts,
    model: MoeModel,
    cluster: Cluster,
    arrangement: Arrangement,
    batch: Batch,
    precision: Precision,
    skew: Skew,
    imbalance: Num,
) -> Part:
    """The experts of the busiest rank. ``imbalance``: its rows beyond the mean rank's, as a share."""
    machine = machine_of(cluster)
    tokens = np.asarray(batch.mean_tokens * arrangement.dp, float)
    some = tokens > 0.0
    width = model.moe_intermediate * model.mlp_matrices / 3.0 / arrangement.moe_tp
    activations = precision.experts if precision.experts == "bf16" else "fp8"
    shape = ExpertShape(float(model.expert_width), width, precision.experts, activations)
    group = np.maximum(tokens, 1e-9) * (1.0 + imbalance)
    wide, redundant = np.asarray(arrangement.ep, float), np.asarray(arrangement.redundant, float)
    fields = np.broadcast_arrays(group, float(model.experts), float(model.top_k), wide, redundant, float(skew.alpha))
    if skew.counted is not None:
        fields = tuple(np.broadcast_to(x, (skew.counted.layers, *x.shape)) for x in fields)
    t, e, top_k, ranks, extra, alpha = (np.asarray(x, float) for x in fields)
    counts = expected_counts(t, e, top_k, ranks, extra, alpha, counted=skew.counted, placement=arrangement.placement)
    gemm = fused.gemm_seconds(counts, t * top_k / (e + extra), shape, machine)
    exchange = Shape(
        tokens=t / ranks,
        hidden=float(model.expert_width),
        top_k=top_k,
        experts=e + extra,
        ranks=ranks,
        domain=ranks,
        payload_bytes=model.expert_width * PAYLOAD_BYTES[precision.payload],
    )
    seconds, flops = fused.seconds(exchange, gemm, machine), np.asarray(counts.rows * shape.flops_per_row, float)
    moved = np.asarray(counts.busy * shape.weight_bytes, float)
    wire = program_bytes((fused.stage(exchange, gemm),), exchange)["nvlink"] + 0.0 * seconds
    if skew.counted is not None:  # every layer waits for its own busiest rank; a step is as many layers in the mean
        seconds, gemm, flops, moved, wire = (np.mean(x, axis=0) for x in (seconds, gemm, flops, moved, wire))
    return Part(
        "experts",
        "experts",
        np.where(some, seconds, 0.0),
        float(model.moe_layers),
        {"tensor": np.where(some, gemm, 0.0), "nvlink": np.where(some, np.maximum(seconds - gemm, 0.0), 0.0)},
        np.where(some, flops, 0.0),
        np.where(some, moved, 0.0),
        wire_bytes=np.where(some, wire, 0.0),
        kernels=0.0,
        source=f"products and rows in one kernel, a block's fill fitted on {fused.system}",
    )
