"""One rank's share of a cluster, as the rates that protocol descriptions ask for."""

from __future__ import annotations

from ...hwmodels.specs import Cluster
from ..fabric.tiers import domain_bytes_per_s, port_of
from .stage import Machine


def machine_of(cluster: Cluster) -> Machine:
    """The `Machine` of one rank: its even share of its node's ports, its way into its NVLink domain."""
    gpu, nic, port = cluster.node.gpu, cluster.node.nic, port_of(cluster.node)
    return Machine(
        sms=gpu.sms,
        clock_hz=gpu.clock,
        nvlink_bytes_per_s=domain_bytes_per_s(cluster),
        nic_bytes_per_s=port.bytes_per_s / port.gpus,
        nic_messages_per_s=port.messages_per_s / port.gpus,
        nic_message_s=nic.message_cost,
        nic_queue_pairs=float(nic.queue_pairs * port.nics),
        hbm_bytes_per_s=gpu.hbm_bandwidth,
        tensor_flops={dtype: gpu.tensor_flops(dtype) for dtype in gpu.tensor_flop_per_cycle_sm},
        wire_latency_s=nic.latency,
    )
