"""Sums over tensor-parallel GPUs: an engine's own one-shot or two-shot kernel for small messages, NCCL's ring for large ones.

One-shot: every GPU reads all others' buffers, ``(n - 1) S`` bytes, after one flag exchange. Two-shot: a reduce-scatter and an
all-gather, ``2 (n - 1) / n S`` bytes, with one more exchange (vLLM, csrc/custom_all_reduce.cuh; TensorRT-LLM,
customAllReduceKernels). Beyond one NVLink domain the nodes' sums go over the NICs, a share of the message by each.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...hwmodels.backends import Constants
from ...hwmodels.calibration import constants_of, find_entry
from ...hwmodels.laws.kernels import Collective, collective_seconds
from ...hwmodels.specs import Cluster
from ..ep.machine import machine_of
from .part import Num, Part


def all_reduce_part(name: str, rows: Num, width: float, ranks: Num, cluster: Cluster, engine: Constants, times: float) -> Part:
    """bf16 rows [rows, width] summed over ``ranks`` GPUs; no time where ``ranks`` is 1."""
    gpu, nic = cluster.node.gpu, cluster.node.nic
    entry, source = find_entry(cluster.calibration, "nccl", "all_reduce", "one-node")
    k = constants_of(entry, Collective)
    size = 2.0 * np.asarray(rows, float) * width
    n = np.asarray(ranks, float)
    near = np.minimum(n, float(cluster.nvlink_domain_gpus))
    rate = gpu.nvlink_bandwidth * k.nvlink_efficiency
    one_shot = engine.all_reduce + (near - 1.0) * size / rate
    two_shot = 1.5 * engine.all_reduce + 2.0 * (near - 1.0) / near * size / rate
    ring = collective_seconds("all_reduce", near, size, gpu, replace(k, launch=k.launch))
    inside = np.where(near > 1.0, np.minimum(np.minimum(one_shot, two_shot), ring), 0.0)
    domains = np.ceil(n / near)
    wire = 2.0 * (domains - 1.0) / domains * size / (near * machine_of(cluster).nic_bytes_per_s * nic.efficiency)
    outside = np.where(domains > 1.0, wire + 2.0 * np.log2(np.maximum(domains, 1.0)) * (nic.latency + nic.message_cost), 0.0)
    seconds = np.where((n > 1.0) & (size > 0.0), inside + outside, 0.0)
    sent = np.where(n > 1.0, 2.0 * (near - 1.0) / near * size, 0.0)
    launch = np.where(n > 1.0, np.minimum(engine.all_reduce, inside), 0.0)
    return Part(
        name,
        "communication",
        seconds,
        times,
        {"nvlink": np.where(n > 1.0, sent / rate, 0.0), "nic": np.where(domains > 1.0, wire, 0.0), "launch": launch},
        wire_bytes=sent,
        kernels=0.0,
        source=f"one-shot or two-shot by the engine's base time; NCCL ring law fitted on {source}",
    )
