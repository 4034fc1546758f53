"""The routed experts of a model step as a part."""

from __future__ import annotations

import numpy as np

from ...hwmodels.calibration import constants_of, find_entry
from ...hwmodels.specs import Cluster
from ..ep.expert_time import expert_time
from ..ep.experts import Constants, ExpertShape, Kind
from ..ep.machine import machine_of
from ..inputs.model import MoeModel
from .part import Num, Part
from .worker import Arrangement, Batch, Precision, Skew


def expert_part(
    model: MoeModel,
    cluster: Cluster,
    arrangement: Arrangement,
    batch: Batch,
    precision: Precision,
    skew: Skew,
) -> tuple[Part, Num]:
    """The grouped GEMMs of the busiest rank, and its rows over the mean rank's.

    Prompts run the contiguous kernels, decoding batches the masked ones.
    """
    machine = machine_of(cluster)
    kind: Kind = "contiguous" if np.all(np.asarray(batch.decode) <= 0.0) else "masked"
    entry, source = find_entry(cluster.calibration, "expert-compute", kind, "one-node")
    k = constants_of(entry, Constants)
    activations = precision.experts if precision.experts in machine.tensor_flops else "bf16"
    width = model.moe_intermediate * model.mlp_matrices / 3.0 / arrangement.moe_tp
    shape = ExpertShape(float(model.expert_width), width, precision.experts, activations)
    tokens = np.asarray(batch.tokens * arrangement.dp, float)
    found = expert_time(
        kind,
        np.maximum(tokens, 1e-9) * (1.0 + skew.rank_imbalance),
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
    )
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
        source=f"expert-compute {kind}, fitted on {source}",
    )
    return part, np.maximum(found.rows / mean, 1.0) if skew.alpha > 0.0 else 1.0 + skew.rank_imbalance
