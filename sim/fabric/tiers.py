"""A cluster's network said once, as tiers: who meets below one switch, how fast a GPU gets there, how late it is.

`topology` makes resources of it for the event engine; `machine_of` and `slowdown` read it for the closed form.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...hwmodels.specs import Cluster, Node

Num = float | NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Port:
    """What one rank sends through to other nodes: its share-in-common of a NIC that several GPUs share, or the sum of several
    NICs that serve one GPU. Rates are one way and of the whole port."""

    gpus: int
    nics: int
    line_bytes_per_s: float  # of the NICs
    bytes_per_s: float  # and of the PCIe links behind them, which no NIC outruns
    messages_per_s: float


@dataclass(frozen=True, slots=True)
class Tier:
    """One level of the network. ``nodes``: below one of its switches; ``rails``: switches that a node's ports are dealt over;
    ``gpu_bytes_per_s``: a GPU's way to it, one direction, when all send; ``latency_s``: what it adds to a message's way."""

    name: str
    nodes: int
    rails: int
    gpu_bytes_per_s: float
    latency_s: float


def ports_per_node(node: Node) -> int:
    return min(node.gpus, node.nics)


def port_of(node: Node) -> Port:
    """Any port of ``node``: they are alike."""
    ports = ports_per_node(node)
    gpus, nics = node.gpus // ports, node.nics // ports
    line = node.nic.bandwidth * nics
    return Port(gpus, nics, line, min(line, node.gpu.pcie_bandwidth * gpus), node.nic.message_rate * nics)


def tiers_of(cluster: Cluster) -> tuple[Tier, Tier, Tier]:
    """NVLink domain, leaf and spine. A message over the spine passes the leaf's switch and two more."""
    node, fabric, port = cluster.node, cluster.fabric, port_of(cluster.node)
    hop = fabric.switch.latency
    rails = ports_per_node(node) if fabric.kind == "rail-optimised" else 1
    uplink = port.line_bytes_per_s / port.gpus / fabric.oversubscription
    return (
        Tier("nvlink", cluster.nodes_per_nvlink_domain, 1, domain_bytes_per_s(cluster), 0.0),
        Tier("leaf", fabric.nodes_per_leaf, rails, port.bytes_per_s / port.gpus, node.nic.latency),
        Tier("spine", cluster.nodes, 1, min(uplink, port.bytes_per_s / port.gpus), 2.0 * hop),
    )


def domain_bytes_per_s(cluster: Cluster) -> float:
    """What a GPU sends inside its NVLink domain when all send everywhere: its ports' rate, or what a mesh lets through."""
    if cluster.mesh is None:
        return cluster.node.gpu.nvlink_bandwidth
    from .mesh import Grid

    return Grid.of(cluster.mesh).uniform_bytes_per_s(cluster.mesh.link_bandwidth)


def slowdown(cluster: Cluster, ranks: Num, *, on_rails: bool) -> Num:
    """How much slower than its NICs a group of ``ranks`` ranks exchanges for the fabric's uplinks, when all nodes send.

    A group of ``n`` nodes fills leaves of ``l`` in order. Of a node's uniform traffic to others what goes to the ``h`` nodes
    under its own leaf stays below, the share ``(h - 1) / (n - 1)``; with a leaf for each rail only if it keeps to the rail
    (``on_rails``): one message of as many as a node has ports otherwise. A leaf's uplinks carry 1/oversubscription of the
    bandwidth of its hosts, of the group or not; the first leaf and the last, which may be half full, are the ones to ask.
    """
    fabric = cluster.fabric
    if fabric.oversubscription <= 1.0:
        return 1.0
    _, tier, _ = tiers_of(cluster)
    nodes = np.maximum(np.asarray(ranks, float) / cluster.node.gpus, 1.0)
    leaf = float(tier.nodes)
    ports = 1.0 if on_rails else float(tier.rails)

    def load(here: Num, hosts: Num) -> Num:
        """Of the bandwidth of a leaf's ``hosts``, the share that its ``here`` nodes of the group send up."""
        stays = (here - 1.0) / np.maximum((nodes - 1.0) * ports, 1e-9)
        return np.where(nodes > 1.0, here * (1.0 - stays) / np.maximum(hosts, here), 0.0)

    before = leaf * np.floor((np.ceil(nodes) - 1.0) / leaf)  # nodes under the leaves before the last
    first = load(np.minimum(nodes, leaf), min(leaf, cluster.nodes))
    most = np.maximum(first, load(nodes - before, np.minimum(leaf, cluster.nodes - before)))
    found: Num = np.maximum(1.0, most * fabric.oversubscription)
    return found
