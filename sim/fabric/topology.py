"""Which links join the ranks of a cluster: resources, paths and latencies, as arrays over (source, destination) ranks.

Rank r is GPU ``r % gpus`` of node ``r // gpus``. Every GPU has a port on its NVLink domain's switch. A node's NICs go to

- ``rail-optimised``: leaf switch (pod, i) for NIC i, a pod being ``nodes_per_leaf`` nodes; one leaf hop inside a rail of
  a pod, otherwise over the spine;
- ``fat-tree``: one leaf for all NICs of ``nodes_per_leaf`` nodes; other leaves over the spine.

A leaf's uplinks carry its hosts' bandwidth / oversubscription each way. Without oversubscription they can carry all that
the hosts' NICs can, so they bound nothing and are no resource. The spine itself does not block.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...hwmodels.specs import Cluster
from ..engine import seconds_to_ps
from .mesh import NO_LINK, Grid
from .resources import Resources
from .tiers import port_of, ports_per_node, tiers_of

if TYPE_CHECKING:
    import networkx as nx

Node = tuple[str, int]  # ("gpu", rank), ("nvswitch", domain), ("nic", n), ("leaf", n), ("spine", 0)


class Topology:
    """The first ``ranks`` GPUs of ``cluster`` and the links between them.

    ``resources`` holds nvlink_tx/nvlink_rx [rank] (nvlink_mesh [link] where GPUs are joined directly), nic_tx/nic_rx (bytes/s)
    and nic_msg (messages/s) [nic port], and, with oversubscription, fabric_up/fabric_down [leaf]. A *NIC port* (`tiers.Port`)
    is what one rank sends through; ``port_of`` [rank] numbers them.
    ``efficiency`` (kind -> 0..1] scales capacities; the default is the line rate.

    Raises ValueError if the cluster has too few GPUs, or for a bad efficiency.
    """

    def __init__(self, cluster: Cluster, ranks: int, efficiency: Mapping[str, float] | None = None) -> None:
        node = cluster.node
        if not 1 <= ranks <= cluster.gpus:
            raise ValueError(f"{ranks} ranks on {cluster.name} with {cluster.gpus} GPUs: use 1..{cluster.gpus} or more nodes")
        self.cluster, self.ranks = cluster, ranks
        rank = np.arange(ranks)
        self.node_of: NDArray[np.int64] = rank // node.gpus
        self.local_of: NDArray[np.int64] = rank % node.gpus
        self.domain_of: NDArray[np.int64] = self.node_of // cluster.nodes_per_nvlink_domain
        self.domain, self.leaf, self.spine = tiers_of(cluster)
        self.ports_per_node, rank_port = ports_per_node(node), port_of(node)
        self.port_of: NDArray[np.int64] = self.node_of * self.ports_per_node + self.local_of // rank_port.gpus
        self.grid = None if cluster.mesh is None else Grid.of(cluster.mesh)
        self.ports = int(self.port_of[-1]) + 1
        port = np.arange(self.ports)
        self.leaf_of_port = self._leaf(port // self.ports_per_node, port % self.ports_per_node)
        self.leaves = int(self.leaf_of_port.max()) + 1

        scale = dict(efficiency or {})
        self.resources = Resources()

        def add(kind: str, capacity: NDArray[np.float64] | float, count: int) -> None:
            share = scale.pop(kind, 1.0)
            if not 0 < share <= 1:
                raise ValueError(f"efficiency of {kind} must lie in (0, 1], got {share}")
            self.resources.add(kind, np.asarray(capacity) * share, count)

        if self.grid is None or cluster.mesh is None:
            add("nvlink_tx", self.domain.gpu_bytes_per_s, ranks)
            add("nvlink_rx", self.domain.gpu_bytes_per_s, ranks)
        else:
            add("nvlink_mesh", cluster.mesh.link_bandwidth, self.grid.links * (int(self.domain_of[-1]) + 1))
        add("nic_tx", rank_port.bytes_per_s, self.ports)
        add("nic_rx", rank_port.bytes_per_s, self.ports)
        add("nic_msg", rank_port.messages_per_s, self.ports)
        self.oversubscribed = cluster.fabric.oversubscription > 1 and self.leaves > 1
        if self.oversubscribed:
            uplink = self._leaf_hosts() * rank_port.line_bytes_per_s / cluster.fabric.oversubscription
            add("fabric_up", uplink, self.leaves)
            add("fabric_down", uplink, self.leaves)
        scale.pop("fabric_up", None), scale.pop("fabric_down", None)
        if scale:
            raise ValueError(f"efficiency names unknown kinds {sorted(scale)}: known are {list(self.resources.kinds)}")

    def _leaf(self, node: NDArray[np.int64], rail: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.asarray(node // self.leaf.nodes * self.leaf.rails + rail % self.leaf.rails)

    def _leaf_hosts(self) -> NDArray[np.float64]:
        """Host ports on each leaf [leaf], of all the cluster's nodes: uplinks are built for them, used here or not."""
        every = np.arange(self.cluster.nodes * self.ports_per_node)
        leaf = self._leaf(every // self.ports_per_node, every % self.ports_per_node)
        return np.asarray(np.bincount(leaf, minlength=self.leaves)[: self.leaves], np.float64)

    def nvlink_reaches(self, src: ArrayLike, dst: ArrayLike) -> NDArray[np.bool_]:
        """[pair] whether ``src`` and ``dst`` share an NVLink domain."""
        return np.asarray(self.domain_of[np.asarray(src)] == self.domain_of[np.asarray(dst)])

    def nvlink_path(self, src: ArrayLike, dst: ArrayLike) -> NDArray[np.int32]:
        """[pair, hop] resources nvlink_tx and nvlink_rx, or the links of a mesh in order, -1 where the way is over.

        Raises ValueError for a pair that NVLink does not join.
        """
        s, d = np.broadcast_arrays(np.atleast_1d(src), np.atleast_1d(dst))
        far = np.flatnonzero(~self.nvlink_reaches(s, d) | (s == d))
        if far.size:
            raise ValueError(f"no NVLink from rank {s[far[0]]} to rank {d[far[0]]}: use rdma_path")
        if self.grid is not None:
            links = self.grid.routes(s % self.grid.gpus, d % self.grid.gpus)
            first = self.resources.ids("nvlink_mesh")[self.domain_of[s] * self.grid.links]
            return np.where(links >= 0, first[:, None] + links, NO_LINK).astype(np.int32)
        return np.stack([self.resources.ids("nvlink_tx")[s], self.resources.ids("nvlink_rx")[d]], axis=1)

    def nvlink_extra_ps(self, src: ArrayLike, dst: ArrayLike) -> NDArray[np.int64]:
        """[pair] latency of the links of a mesh beyond the first; 0 through a switch, whose latency is in fitted launches."""
        path = self.nvlink_path(src, dst)
        hop = 0 if self.cluster.mesh is None else seconds_to_ps(self.cluster.mesh.link_latency)
        return np.asarray(np.maximum((path >= 0).sum(axis=1) - 1, 0) * hop, np.int64)

    def rdma_path(self, src: ArrayLike, dst: ArrayLike) -> NDArray[np.int32]:
        """[pair, 4] resources nic_tx, fabric_up, fabric_down, nic_rx; -1 where a pair crosses no bounded uplink.

        Raises ValueError for a pair of one rank.
        """
        s, d = np.broadcast_arrays(np.atleast_1d(src), np.atleast_1d(dst))
        if (s == d).any():
            raise ValueError(f"rank {s[s == d][0]} needs no network to reach itself")
        sp, dp = self.port_of[s], self.port_of[d]
        path = np.full((s.size, 4), NO_LINK, np.int32)
        path[:, 0] = self.resources.ids("nic_tx")[sp]
        path[:, 3] = self.resources.ids("nic_rx")[dp]
        if self.oversubscribed:
            up, down = self.leaf_of_port[sp], self.leaf_of_port[dp]
            spine = up != down
            path[spine, 1] = self.resources.ids("fabric_up")[up[spine]]
            path[spine, 2] = self.resources.ids("fabric_down")[down[spine]]
        return path

    def nic_msg(self, rank: ArrayLike) -> NDArray[np.int32]:
        """[rank] message engine of the NIC port that ``rank`` posts to."""
        return np.asarray(self.resources.ids("nic_msg")[self.port_of[np.asarray(rank)]])

    def switch_hops(self, src: ArrayLike, dst: ArrayLike) -> NDArray[np.int64]:
        """[pair] network switches on the RDMA path: 1 inside a leaf, 3 over the spine, 0 back into the same NIC port."""
        s, d = self.port_of[np.asarray(src)], self.port_of[np.asarray(dst)]
        return np.where(s == d, 0, np.where(self.leaf_of_port[s] == self.leaf_of_port[d], 1, 3)).astype(np.int64)

    def rdma_latency_ps(self, src: ArrayLike, dst: ArrayLike) -> NDArray[np.int64]:
        """[pair] one way: the NIC's latency (which holds one switch) and that of every further switch."""
        nic = seconds_to_ps(self.leaf.latency_s)
        spine = self.switch_hops(src, dst) > 1
        return np.asarray(nic + np.where(spine, seconds_to_ps(self.spine.latency_s), 0), np.int64)

    def graph(self, medium: Literal["all", "nvlink", "rdma"] = "all") -> nx.DiGraph[Node]:
        """The machine as a directed graph; edge attribute ``resource`` is its number, -1 for a link that bounds nothing."""
        import networkx as nx  # only for reports and checks: the simulation lives on the arrays

        graph: nx.DiGraph[Node] = nx.DiGraph()
        ids = self.resources.ids
        for r in range(self.ranks):
            gpu, domain, nic = ("gpu", r), ("nvswitch", int(self.domain_of[r])), ("nic", int(self.port_of[r]))
            if medium != "rdma" and self.grid is None:
                graph.add_edge(gpu, domain, resource=int(ids("nvlink_tx")[r]))
                graph.add_edge(domain, gpu, resource=int(ids("nvlink_rx")[r]))
            if medium != "nvlink":
                graph.add_edge(gpu, nic, resource=NO_LINK)
                graph.add_edge(nic, gpu, resource=NO_LINK)
        if medium == "nvlink":
            return graph
        for p in range(self.ports):
            leaf = ("leaf", int(self.leaf_of_port[p]))
            graph.add_edge(("nic", p), leaf, resource=int(ids("nic_tx")[p]))
            graph.add_edge(leaf, ("nic", p), resource=int(ids("nic_rx")[p]))
        if self.leaves > 1:
            for n in {int(leaf) for leaf in self.leaf_of_port}:
                up, down = (int(ids(k)[n]) if self.oversubscribed else NO_LINK for k in ("fabric_up", "fabric_down"))
                graph.add_edge(("leaf", n), ("spine", 0), resource=up)
                graph.add_edge(("spine", 0), ("leaf", n), resource=down)
        return graph
