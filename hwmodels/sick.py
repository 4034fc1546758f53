"""Fabrics that are not in order, as named what-ifs of a cluster (``cluster.sick``).

``slow-nic``: one NIC carries a third of its rate. An exchange ends with its slowest rank,
which every other sends to, so that all take as long as if every NIC were that slow. ``no-adaptive-routing``: every flow keeps
to the uplink that its hash chose; where as many flows choose among as many uplinks, a share of 1/e of these stays idle, and the
others carry the rest. Traffic below one leaf does not change. ``cpu-fallback``: GPUs may not post to the NIC (no GDRCopy, no
peer mapping), so that a CPU proxy does: see `sim.ep.transport`.
"""

from __future__ import annotations

from math import e

from .specs import Cluster

#: assumed: share of its rate that the slow NIC keeps, the case that is asked about most.
SLOW_NIC = 1.0 / 3.0
#: Share of uplinks that carry something when n flows choose among n at random: ``1 - (1 - 1/n)^n``, n large.
USED_UPLINKS = 1.0 - 1.0 / e


def ailing(cluster: Cluster) -> Cluster:
    """``cluster`` with the rates that what is wrong with it leaves; itself if nothing is."""
    if "slow-nic" in cluster.sick:
        nic = cluster.node.nic
        sources = nic.sources | {"bandwidth": "derived: a third of the NIC's, for cluster.sick slow-nic"}
        slow = nic.model_copy(update={"bandwidth": nic.bandwidth * SLOW_NIC, "sources": sources})
        cluster = cluster.model_copy(update={"node": cluster.node.model_copy(update={"nic": slow})})
    if "no-adaptive-routing" in cluster.sick:
        fewer = cluster.fabric.oversubscription / USED_UPLINKS
        sources = cluster.sources | {"fabric.oversubscription": "derived: for cluster.sick no-adaptive-routing"}
        fabric = cluster.fabric.model_copy(update={"oversubscription": fewer})
        cluster = cluster.model_copy(update={"fabric": fabric, "sources": sources})
    return cluster
