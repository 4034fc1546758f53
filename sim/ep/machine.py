"""One rank's share of a cluster, as the rates that protocol descriptions ask for."""

from __future__ import annotations

from ...hwmodels.specs import Cluster
from .stage import Machine


def machine_of(cluster: Cluster) -> Machine:
    """The `Machine` of one rank. NICs are shared evenly when a node has fewer NICs than GPUs, and never
    faster than the PCIe link behind them."""
    gpu, nic, node = cluster.node.gpu, cluster.node.nic, cluster.node
    share = node.nics / node.gpus
    return Machine(
        sms=gpu.sms,
        clock_hz=gpu.clock,
        nvlink_bytes_per_s=gpu.nvlink_bandwidth,
        nic_bytes_per_s=min(nic.bandwidth * share, gpu.pcie_bandwidth),
        nic_messages_per_s=nic.message_rate * share,
        nic_message_s=nic.message_cost,
        nic_queue_pairs=nic.queue_pairs * max(share, 1.0),
        hbm_bytes_per_s=gpu.hbm_bandwidth,
        tensor_flops={dtype: gpu.tensor_flops(dtype) for dtype in gpu.tensor_flop_per_cycle_sm},
        wire_latency_s=nic.latency,
    )
