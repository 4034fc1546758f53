"""What things are called, once for terminal, pages and JSON: what bounds a part, and what heads a column."""

from __future__ import annotations

from collections.abc import Mapping

#: Bound or kind of link -> a few words for a table's cell. The first ten are a deployment's, the others a layer's.
BOUNDS: Mapping[str, str] = {
    "tensor": "the tensor cores",
    "hbm": "HBM",
    "nvlink": "NVLink",
    "nic": "the NIC",
    "pcie": "the PCIe behind the NIC",
    "fabric": "the fabric's uplinks",
    "sm": "copying on the SMs",
    "launch": "launches",
    "host": "the host",
    "latency": "latency",
    "nvlink_tx": "the sender's NVLink",
    "nvlink_rx": "the receiver's NVLink",
    "nvlink_mesh": "a link between neighbours",
    "nvswitch": "the NVSwitch",
    "nic_tx": "the sender's NIC",
    "nic_rx": "the receiver's NIC",
    "nic_msg": "the NIC's message engine",
    "queue_pair": "one queue pair",
    "fabric_up": "a leaf's uplinks",
    "fabric_down": "the links down to a leaf",
    "spine": "a spine uplink",
    "copy": "the SMs that copy rows",
    "sm_send": "the SMs that send",
    "sm_receive": "the SMs that receive",
    "sm_forward": "the SMs that forward",
    "sm_copy": "the SMs that pack rows",
    "sms": "the SMs",
    "l2": "the L2 cache",
    "ring": "a ring's depth",
    "flow_cap": "a flow's own limit",
    "cap": "a flow's own limit",
    "barrier": "a barrier",
    "wait": "another rank or stage",
    "skew": "ranks that start later",
    "idle": "nothing",
}


def bound_words(bound: str) -> str:
    """What a part is bound by, in few words; ``"nic_tx[3]"`` is a ``nic_tx``, and a protocol's own words stay."""
    kind = bound.split("[", 1)[0].strip()
    return BOUNDS.get(kind.lower(), bound)
