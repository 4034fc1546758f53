"""Where each fitted constant may lie, and where the search for it begins: bounds that keep it physical."""

from __future__ import annotations

from dataclasses import dataclass

from ...hwmodels.calibration import Scope
from ...sim.ep.protocols import high_throughput, low_latency, one_sided, two_sided

US = 1e-6


@dataclass(frozen=True, slots=True)
class Bound:
    """``start`` within ``[low, high]``; a constant with ``low == high`` is not fitted. ``scale``: its natural size."""

    start: float
    low: float
    high: float

    @property
    def scale(self) -> float:
        return max(abs(self.start), 0.1 * (self.high - self.low), 1e-12)


def fixed(value: float) -> Bound:
    return Bound(value, value, value)


_NONE = fixed(0.0)
_UNUSED_COPY = fixed(1000.0)
_UNUSED = fixed(1e9)
_NVLINK = Bound(0.78, 0.3, 0.95)
_NIC = Bound(0.93, 0.6, 0.99)

_ONE_NODE = {
    "launch": Bound(20 * US, 2 * US, 80 * US),
    "launch_per_doubling": _NONE,
    "launch_per_hidden": Bound(0.5e-9, 0.0, 5e-9),
    "send_token": Bound(0.1 * US, 0.0, 2 * US),
    "send_row": Bound(0.02 * US, 0.0, 0.5 * US),
    "send_copy": Bound(34.0, 5.0, 300.0),
    "receive_token": Bound(0.1 * US, 0.0, 2 * US),
    "receive_copy": Bound(20.0, 2.0, 300.0),
    "chunk": Bound(2 * US, 0.0, 20 * US),
    "drain_copy": Bound(2.5, 0.3, 100.0),
    "translation": Bound(0.1, 0.0, 0.5),
    "nvlink_efficiency": _NVLINK,
    "nic_efficiency": fixed(0.95),
    "sharpness": Bound(4.0, 2.0, 15.0),
    "lone_chunk": _NONE,
}
#: Dispatch: receivers copy by TMA, never in the way. Combine: senders do nothing per token; a row costs the same whatever its
#: bytes, and more for these (GB200's 4,096 elements take 0.87 of the time of 7,168).
_ONE_NODE_DISPATCH = _ONE_NODE | {"receive_token": _NONE, "receive_copy": _UNUSED_COPY}
_ONE_NODE_COMBINE = _ONE_NODE | {"send_token": _NONE, "send_row": Bound(0.05 * US, 0.0, 0.5 * US)}
#: A chunk of a ring that one warp serves: only rows of domains beyond eight ranks can tell.
LONE_CHUNK = {"lone_chunk": Bound(5 * US, 0.0, 50 * US)}
_TWO_HOP = _ONE_NODE | {
    "launch": Bound(12 * US, 1 * US, 80 * US),
    "launch_per_doubling": Bound(10 * US, 0.0, 40 * US),
    "launch_per_hidden": _NONE,
    "send_token": Bound(0.2 * US, 0.0, 3 * US),
    "send_row": _NONE,
    "send_copy": Bound(20.0, 1.0, 300.0),
    "receive_token": _NONE,
    "receive_copy": _UNUSED_COPY,
    "chunk": Bound(6 * US, 0.0, 40 * US),
    "translation": _NONE,
    "nvlink_efficiency": fixed(0.8),
    "nic_efficiency": _NIC,
    "sharpness": Bound(5.0, 2.0, 15.0),
}
#: A sync of the nodes or a put among them takes some 5 us, so that is where the searches begin: before dispatch there are four
#: one after another, before combine three (internode.cu). Ranks drift apart by at most a ninth of what the kernel before takes
#: for a token of a channel (combine on H100, 2 nodes: 4.4 us). Before dispatch, SMs of their own count tokens 32 at once,
#: hidden beside the exchange; only the walk before combine goes one by one.
_NOTIFY = {
    "launch": Bound(10 * US, 0.0, 100 * US),
    "launch_per_doubling": Bound(20 * US, 0.0, 60 * US),
    "drift": Bound(0.2 * US, 0.0, 0.5 * US),
    "drift_most": Bound(30 * US, 0.0, 200 * US),
    "token": _NONE,
    "sharpness": fixed(20.0),
}
#: assumed: sharpness 1.5, of the 1.4 to 2.4 that free fits find; some ranks wait for others, some do not.
_HEADS = _NOTIFY | {
    "launch": Bound(15 * US, 0.0, 100 * US),
    "launch_per_doubling": Bound(15 * US, 0.0, 60 * US),
    "token": Bound(0.08 * US, 0.0, 1 * US),
    "sharpness": fixed(1.5),
}
_LOW_LATENCY = {
    "launch": Bound(8 * US, 1 * US, 40 * US),
    "launch_per_expert": Bound(0.01 * US, 0.0, 0.1 * US),
    "launch_per_hidden": Bound(0.1e-9, 0.0, 3e-9),
    "internode": _NONE,
    "internode_per_doubling": _NONE,
    "token": Bound(1.0 * US, 0.0, 10 * US),
    "send_copy": Bound(50.0, 2.0, 500.0),
    "receive_row": Bound(0.05 * US, 0.0, 3 * US),
    "receive_copy": Bound(6.0, 0.5, 500.0),
    "nvlink_efficiency": _NVLINK,
    "nic_efficiency": fixed(0.95),
    "sharpness": Bound(2.0, 1.0, 15.0),
}
_LOW_LATENCY_NODES = _LOW_LATENCY | {
    "internode": Bound(8 * US, 0.0, 40 * US),
    "internode_per_doubling": Bound(3 * US, 0.0, 20 * US),
    "launch_per_hidden": _NONE,
    "nvlink_efficiency": fixed(0.8),
    "nic_efficiency": _NIC,
}
_DOMAIN = {
    "launch": Bound(10 * US, 1 * US, 40 * US),
    "launch_per_doubling": Bound(1 * US, 0.0, 10 * US),
    "launch_per_rank": _NONE,
    "cross_node": Bound(1 * US, 0.0, 10 * US),
    "flags": Bound(2 * US, 0.0, 15 * US),
    "token": Bound(2e-9, 0.0, 100e-9),
    "row": Bound(1e-9, 0.0, 100e-9),
    "field_row": _NONE,
    "copy": Bound(3000.0, 100.0, 20000.0),
    "peer_row": Bound(20e-9, 0.0, 100e-9),
    "peer_field": _NONE,
    "peer_copy": _UNUSED,
    "nvlink_efficiency": _NVLINK,
    "sharpness": Bound(5.0, 2.0, 20.0),
}
#: A ring's warps copy its rows themselves; an atomic on a counter moves nothing.
_RINGS = {"peer_copy": Bound(300.0, 20.0, 20000.0)}
_FIELDS = {"field_row": Bound(1e-9, 0.0, 20e-9)}
_RING_FIELDS = {"peer_field": Bound(5e-9, 0.0, 100e-9)}


def bounds_for(record: type, scope: Scope, op: str) -> dict[str, Bound]:
    """Bounds of every constant of ``record`` in ``scope``. Raises KeyError for a record nobody fits."""
    if record is high_throughput.Transfer:
        one_node = _ONE_NODE_COMBINE if op == high_throughput.COMBINE else _ONE_NODE_DISPATCH
        return one_node if scope == "one-node" else _TWO_HOP
    if record is high_throughput.Notify:
        return _HEADS if op.startswith(high_throughput.COMBINE) else _NOTIFY
    if record is low_latency.LowLatencyConstants:
        return _LOW_LATENCY if scope == "one-node" else _LOW_LATENCY_NODES
    if issubclass(record, one_sided.SlotConstants):
        if op == "prepare":
            return (
                _DOMAIN
                | dict.fromkeys(("launch_per_doubling", "cross_node", "row"), _NONE)
                | {"copy": _UNUSED_COPY, "nvlink_efficiency": fixed(0.8)}
                | {"launch_per_rank": Bound(0.2 * US, 0.0, 2 * US), "peer_row": Bound(1e-9, 0.0, 10e-9)}
            )
        rings = _RINGS if record is two_sided.RingConstants else {}
        fields = _FIELDS | (_RING_FIELDS if rings else {}) if op == "dispatch" else {}
        return _DOMAIN | rings | fields
    raise KeyError(record)
