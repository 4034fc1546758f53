"""The cluster as a protocol's messages see it: its NICs behind the transport that posts to them."""

from __future__ import annotations

from ...hwmodels.catalog import load_transport
from ...hwmodels.errors import BadInput
from ...hwmodels.specs import SET_BY_USER, Cluster
from ...hwmodels.transport import Transport
from .protocol import find_protocol

CPU_FALLBACK = "cpu-fallback"


def transport_of(cluster: Cluster, protocol: str, asked: str = "") -> Transport | None:
    """What carries ``protocol``'s messages between domains of ``cluster``: the one ``asked`` for, else its first that can.

    None for a protocol that names no transports: its messages meet the NIC as its datasheet says. Raises BadInput for one that
    the protocol does not run over or the NIC does not take, and where it takes none of the protocol's.
    """
    record, nic = find_protocol(protocol), cluster.node.nic
    able = [name for name in record.transports if load_transport(name).runs_on(nic)]
    if asked:
        if not record.transports:
            raise BadInput(f"transport {asked}: {protocol} has no choice of transports: leave it out")
        if asked not in record.transports:
            raise BadInput(f"transport {asked}: {protocol} runs over {', '.join(record.transports)}: use one of them")
        if asked not in able:
            lever = f"use {' or '.join(able)}" if able else "use another NIC"
            raise BadInput(f"transport {asked} does not post to {nic.name}: {lever}")
        return load_transport(asked)
    if record.transports and not able:
        raise BadInput(
            f"{protocol} runs over {', '.join(record.transports)}: none posts to {nic.name}, use another protocol or NIC"
        )
    found = [load_transport(name) for name in able]
    if CPU_FALLBACK in cluster.sick:
        found = [transport for transport in found if transport.posts == "CPU"]
        if able and not found:
            raise BadInput(f"cluster.sick {CPU_FALLBACK}: {protocol} has no transport by which a CPU posts to {nic.name}")
    return found[0] if found else None


def can_cross(cluster: Cluster, protocol: str) -> bool:
    """Whether the NIC takes one of the protocol's transports, if it names any: else it stays inside a domain."""
    names = find_protocol(protocol).transports
    return not names or any(load_transport(name).runs_on(cluster.node.nic) for name in names)


def over(cluster: Cluster, protocol: str, asked: str = "") -> Cluster:
    """``cluster`` with the NIC that ``protocol`` meets: slower by a hand-over, and with as many messages as are posted.

    The cluster itself where that changes nothing, or nothing can cross (which is refused where something has to). Raises as
    `transport_of`.
    """
    transport = transport_of(cluster, protocol, asked) if asked or can_cross(cluster, protocol) else None
    if transport is None:
        return cluster
    node, nic = cluster.node, cluster.node.nic
    # A cap that the user set; the datasheets say how many a NIC has, and EFA one queue that all share.
    cap = nic.queue_pairs if nic.sources.get("queue_pairs") == SET_BY_USER else None
    posted = transport.messages_per_s(nic.latency, cap) * node.gpus / node.nics
    changed: dict[str, float] = {}
    if transport.hand_over:
        changed["latency"] = nic.latency + transport.hand_over
    if posted < nic.message_rate:
        changed["message_rate"] = posted
    if nic.name in transport.reaches:
        changed["bandwidth"] = nic.bandwidth * transport.reaches[nic.name]
    if not changed:
        return cluster
    sources = nic.sources | dict.fromkeys(changed, f"derived: {nic.name} behind the transport {transport.name}")
    behind = nic.model_copy(update={**changed, "sources": sources})
    return cluster.model_copy(update={"node": node.model_copy(update={"nic": behind})})
