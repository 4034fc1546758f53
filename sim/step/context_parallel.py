"""Decode context parallelism: a sequence's latent cache lies on ``dcp`` of the GPUs of one attention group, a share on each.

Every decoding layer then gathers the queries of all their heads, attends to the own share of the cache, gathers the
log-sum-exps, and sums the rescaled partial outputs so that each GPU keeps those of its own heads (vLLM's and SGLang's decode
context parallelism). Prompts attend to whole latents, so that those cached before a chunk are gathered for it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ...hwmodels.calibration import constants_of, find_entry
from ...hwmodels.laws.kernels import Collective, collective_seconds
from ...hwmodels.specs import Cluster
from ..inputs.attention import Mla
from ..inputs.model import MoeModel
from ..precision import ELEMENT_BYTES
from .attention.cores import heads_on, prompts_of
from .part import Num, Part
from .worker import Arrangement, Batch, Precision

_BF16, _FP32 = 2.0, 4.0


def context_parts(model: MoeModel, a: Arrangement, batch: Batch, precision: Precision, cluster: Cluster) -> Iterator[Part]:
    """Collectives over ``a.dcp`` GPUs in every MLA layer, none where it is 1. Arrays broadcast. Raises Uncalibrated."""
    if np.all(np.asarray(a.dcp) == 1.0):
        return
    decoding, ranks = np.asarray(batch.decode * batch.speculated, float), np.asarray(a.dcp, float)
    cached = np.asarray(prompts_of(batch) * batch.cached, float)
    for kind in model.attention:
        if not isinstance(kind, Mla):
            continue
        heads, entry = heads_on(kind.heads, a.tp) * ranks, float(kind.kv_lora_rank + kind.rope_head_dim)
        for name, op, message in (
            ("query gather", "all_gather", _BF16 * decoding * heads * entry),
            ("log-sum-exp gather", "all_gather", _FP32 * decoding * heads * ranks),
            ("partial output sum", "reduce_scatter", _BF16 * decoding * heads * kind.kv_lora_rank),
            ("cached latent gather", "all_gather", cached * entry * ELEMENT_BYTES[precision.kv]),
        ):
            yield _collective(name, op, message, ranks, cluster, float(kind.layers))


def _collective(name: str, op: str, message: Num, ranks: Num, cluster: Cluster, times: float) -> Part:
    """``op`` over ``ranks`` GPUs of one NVLink domain; ``message``: bytes of the whole gathered buffer."""
    gpu = cluster.node.gpu
    entry, source = find_entry(cluster.calibration, "nccl", op, "one-node")
    k = constants_of(entry, Collective)
    runs = (np.asarray(ranks) > 1.0) & (np.asarray(message) > 0.0)
    many, size = np.maximum(ranks, 2.0), np.maximum(message, 1.0)
    sent = np.where(runs, (many - 1.0) / many * size, 0.0)
    seconds = np.where(runs, collective_seconds(op, many, size, gpu, k), 0.0)
    loads = {
        "nvlink": sent / (gpu.nvlink_bandwidth * k.nvlink_efficiency),
        "launch": np.where(runs, k.launch + k.step * (many - 1.0), 0.0),
    }
    said = f"NCCL {op.replace('_', '-')} law fitted on {source}"
    return Part(name, "communication", seconds, times, loads, wire_bytes=sent, kernels=0.0, source=said)
