"""Networks: an all-reduce on two of them, pods of directly joined chips, and the choice of GPUs on a node."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from pydantic import Field

from ....hwmodels.catalog import load_cluster
from ....hwmodels.errors import BadInput
from ....hwmodels.units import Bytes, BytesPerSecond, Seconds, UsdPerGpuHour
from ....sim.fabric.collectives import ring_all_reduce_seconds, tree_all_reduce_seconds
from ....sim.fabric.nearest_gpus import Rates, Site, nearest, slowest_pair
from ....sim.fabric.pods import all_to_all_load, boardfly, hops, hops_by_level, torus
from ....sim.fabric.switched import Fabric, clos, full_boards, rail_only
from ..calculator import Calculator, ClusterName, Figure


class AllReduce(Calculator):
    """An all-reduce in every step, at two networks' rates of a node: what the slower one costs over a run."""

    kind: Literal["all-reduce"] = "all-reduce"
    size: Bytes
    nodes: int = Field(ge=2)
    gpus: int = Field(ge=1)
    steps: int = Field(default=1, ge=1)
    fast: BytesPerSecond
    slow: BytesPerSecond
    hop: Seconds = 0.0
    gpu_hour: UsdPerGpuHour

    def figures(self) -> Iterator[Figure]:
        quick, late = (float(ring_all_reduce_seconds(self.size, self.nodes, rate, self.hop)) for rate in (self.fast, self.slow))
        hours = (late - quick) * self.steps / 3600
        yield Figure("dollars", "what the slower network costs over the run", "USD", self.gpus * hours * self.gpu_hour)
        yield Figure("lost", "longer by, each step", "s", late - quick)
        yield Figure("fast", "ring all-reduce, faster network", "s", quick)
        yield Figure("slow", "ring all-reduce, slower network", "s", late)
        yield Figure(
            "tree",
            "double-tree all-reduce, slower network",
            "s",
            float(tree_all_reduce_seconds(self.size, self.nodes, self.slow, self.hop)),
        )


class NodeBandwidth(Calculator):
    """What all NICs of a cluster's node carry together, and one NIC's messages."""

    kind: Literal["node-bandwidth"] = "node-bandwidth"
    cluster: ClusterName

    def figures(self) -> Iterator[Figure]:
        node = load_cluster(self.cluster).node
        yield Figure("bandwidth", "NIC bandwidth of a node, one direction", "B/s", node.nics * node.nic.bandwidth)
        yield Figure("message_rate", "messages a second of one NIC", "1/s", node.nic.message_rate)


class Pod(Calculator):
    """Hops and all-to-all load of chips joined directly: a torus of ``sides``, or Boardfly."""

    kind: Literal["pod"] = "pod"
    shape: Literal["torus", "boardfly"]
    sides: tuple[int, ...] = ()
    groups: int = Field(default=36, ge=2)
    boards: int = Field(default=8, ge=2)
    chips: int = Field(default=4, ge=2)
    board: Literal["full", "ring"] = "full"
    routes: Literal["shortest", "by level"] = "shortest"

    def figures(self) -> Iterator[Figure]:
        if self.shape == "torus":
            if not self.sides or self.routes == "by level":
                raise BadInput("a torus needs sides, and routes=shortest: it has no levels")
            links = torus(*self.sides)
        else:
            if self.sides:
                raise BadInput("sides are a torus': boardfly has groups, boards and chips")
            links = boardfly(self.groups, self.boards, self.chips, self.board == "ring")
        seen = hops_by_level(links, self.chips, self.boards * self.chips) if self.routes == "by level" else hops(links)
        load = all_to_all_load(links)
        yield Figure("diameter", "hops between the two chips farthest apart", "", seen.diameter)
        yield Figure("mean", "mean hops between two chips", "", seen.mean)
        yield Figure("chips", "chips", "", len(links))
        yield Figure("load", "messages on the fullest link when each chip sends one to every other", "", float(load.max()))
        yield Figure("load_mean", "messages on the mean link", "", float(load[links].mean()))
        yield Figure("links", "links of the pod, both directions counted once", "", float(np.count_nonzero(links) / 2))


class NearestGpus(Calculator):
    """``free`` GPUs as [node, island] pairs; ``scattered``: places of those that were taken; the search finds the best."""

    kind: Literal["nearest-gpus"] = "nearest-gpus"
    free: tuple[tuple[str, str], ...] = Field(min_length=2)
    scattered: tuple[int, ...] = Field(min_length=2)
    count: int = Field(ge=2)
    nvlink: BytesPerSecond
    node: BytesPerSecond
    network: BytesPerSecond
    size: Bytes

    def figures(self) -> Iterator[Figure]:
        sites = [Site(*pair) for pair in self.free]
        rates = Rates(self.nvlink, self.node, self.network)
        best = [sites[place] for place in nearest(sites, self.count, rates)]
        taken = [sites[place] for place in self.scattered]
        good, bad = slowest_pair(best, rates), slowest_pair(taken, rates)
        yield Figure("slower", "slowest pair of the best set over that of the scattered set", "", good / bad)
        yield Figure("best", "slowest pair of the set that the search finds", "B/s", good)
        yield Figure("nodes", "nodes of the set that the search finds", "", float(len({site.node for site in best})))
        yield Figure("taken", "slowest pair of the scattered set", "B/s", bad)
        for key, rate in (("all_reduce_best", good), ("all_reduce_taken", bad)):
            yield Figure(key, "ring all-reduce at that rate", "s", float(ring_all_reduce_seconds(self.size, self.count, rate)))


class SwitchedNetwork(Calculator):
    """Hops and an all-to-all's rate on a network of nodes: rail-only, a Clos of leaves and spines, or boards joined directly.

    ``nodes_per_leaf``, ``spines`` and ``oversubscription`` are a Clos'. Boards have no NVLink beside their links of ``nic``.
    """

    kind: Literal["switched-network"] = "switched-network"
    shape: Literal["rail-only", "clos", "full-boards"]
    nodes: int = Field(ge=2, le=256)
    gpus: int = Field(ge=2, le=64)
    nic: BytesPerSecond
    nvlink: BytesPerSecond | None = None
    nodes_per_leaf: int = Field(default=1, ge=1)
    spines: int = Field(default=1, ge=1)
    oversubscription: float = Field(default=1.0, ge=1)

    def figures(self) -> Iterator[Figure]:
        fabric = self._fabric()
        seen, load = fabric.hops(), fabric.all_to_all_load()
        links = fabric.rates > 0.0
        yield Figure(
            "rate", "all-to-all, one direction of a GPU while the fullest link is full", "B/s", fabric.all_to_all_rate()
        )
        yield Figure("diameter", "links between the two GPUs farthest apart", "", seen.diameter)
        yield Figure("mean", "mean links between two GPUs", "", seen.mean)
        full = load[links] / fabric.rates[links]
        yield Figure("spread", "use of the fullest link over the mean link's", "", float(full.max() / full.mean()))

    def _fabric(self) -> Fabric:
        plain = (self.nodes_per_leaf, self.spines, self.oversubscription) == (1, 1, 1.0)
        if self.shape != "clos" and not plain:
            raise BadInput(f"nodes_per_leaf, spines and oversubscription are a Clos', shape is {self.shape}")
        if (self.nvlink is None) != (self.shape == "full-boards"):
            raise BadInput("nvlink goes with rail-only and clos, whose nodes have a switch inside, and only with them")
        if self.nvlink is None:
            return full_boards(self.nodes, self.gpus, self.nic)
        if self.shape == "rail-only":
            return rail_only(self.nodes, self.gpus, self.nic, self.nvlink)
        return clos(self.nodes, self.gpus, self.nic, self.nvlink, self.nodes_per_leaf, self.spines, self.oversubscription)


KINDS = (AllReduce, NodeBandwidth, Pod, NearestGpus, SwitchedNetwork)
