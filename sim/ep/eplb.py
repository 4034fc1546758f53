"""EPLB: replicas for the busiest experts, packed onto nodes and GPUs so that every GPU carries about as much.

Hierarchical where groups of experts divide over nodes: groups are packed onto nodes, each node's experts get replicas, and the
replicas are packed onto the node's GPUs, so that a group's traffic stays on one node. Else global: one node, all GPUs.
Source: the algorithm that DeepSeek describes (github.com/deepseek-ai/EPLB); ties are broken as there, by the lower index.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...hwmodels.errors import BadInput

Ints = NDArray[np.int64]


def packed(weights: NDArray[np.float64], packs: int) -> tuple[Ints, Ints]:
    """[item] pack and place in it: the heaviest item first, onto the lightest pack that has room; packs hold equally many."""
    if len(weights) % packs:
        raise BadInput(f"{len(weights)} items do not divide over {packs} packs")
    room = len(weights) // packs
    pack, place = np.zeros(len(weights), np.int64), np.zeros(len(weights), np.int64)
    if room == 1:
        return np.arange(len(weights)), place
    carried, held = np.zeros(packs), np.zeros(packs, np.int64)
    for item in np.argsort(-weights, kind="stable"):
        least = int(np.argmin(np.where(held < room, carried, np.inf)))
        pack[item], place[item] = least, held[least]
        carried[least] += weights[item]
        held[least] += 1
    return pack, place


def replicated(weights: NDArray[np.float64], slots: int) -> Ints:
    """[slot] expert: every expert once in order, then again and again the one with most load a replica."""
    count = np.ones(len(weights), np.int64)
    chosen = list(range(len(weights)))
    for _ in range(slots - len(weights)):
        busiest = int(np.argmax(weights / count))
        chosen.append(busiest)
        count[busiest] += 1
    return np.array(chosen)


def slots_of(load: ArrayLike, slots: int, groups: int, nodes: int, gpus: int) -> Ints:
    """[slot] expert for one layer; slot s lies on GPU ``s // (slots / gpus)``.

    ``load``: [expert], any unit. ``groups`` of consecutive experts; ``gpus`` in all, on ``nodes``. Raises BadInput where
    they do not divide.
    """
    weights = np.asarray(load, dtype=float)
    if groups % nodes:
        groups, nodes = 1, 1
    for name, what, of in (("experts", len(weights), groups), ("slots", slots, gpus), ("GPUs", gpus, nodes)):
        if what % of:
            raise BadInput(f"{what} {name} do not divide by {of}")
    if slots < len(weights):
        raise BadInput(f"{slots} slots do not hold {len(weights)} experts")
    size = len(weights) // groups
    node, place = packed(weights.reshape(groups, size).sum(axis=1), nodes)
    order = np.lexsort((place, node))  # groups in the order of the nodes they went to
    experts = (order[:, None] * size + np.arange(size)).reshape(nodes, -1)
    found: list[Ints] = []
    for mine in experts:
        held = replicated(weights[mine], slots // nodes)
        count = np.bincount(held, minlength=len(mine))
        gpu, at = packed((weights[mine] / count)[held], gpus // nodes)
        found.append(mine[held[np.lexsort((at, gpu))]])
    return np.concatenate(found)


def gpu_load(load: ArrayLike, slots: ArrayLike, gpus: int) -> NDArray[np.float64]:
    """[gpu] load, an expert's shared evenly by its replicas."""
    weights, held = np.asarray(load, dtype=float), np.asarray(slots, dtype=np.int64)
    count = np.bincount(held, minlength=len(weights))
    return np.asarray((weights / np.maximum(count, 1))[held].reshape(gpus, -1).sum(axis=1))


def imbalance(load: NDArray[np.float64]) -> float:
    """(largest - mean) / mean, the ratio that TensorRT-LLM prints."""
    return float(load.max() / load.mean() - 1.0)
