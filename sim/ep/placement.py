"""Where experts live: which logical expert each physical slot holds, and which replica serves a token."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Placement:
    """``expert_of``: [slot] logical expert; slot s lives on rank ``s // slots_per_rank``. Every expert has a slot."""

    expert_of: NDArray[np.int64]
    experts: int
    ranks: int

    @property
    def slots_per_rank(self) -> int:
        return len(self.expert_of) // self.ranks

    def slots(self, experts: NDArray[np.int64], tokens: NDArray[np.int64]) -> NDArray[np.int64]:
        """Slots that serve ``experts`` [token, k]; replicas take turns by ``tokens`` [token], any running number."""
        order = np.argsort(self.expert_of, kind="stable")
        replicas = np.bincount(self.expert_of, minlength=self.experts)
        first = np.concatenate(([0], np.cumsum(replicas)[:-1]))
        turn = tokens[:, None] % replicas[experts]
        return np.asarray(order[first[experts] + turn])


def place(kind: str, experts: int, redundant: int, ranks: int, load: NDArray[np.float64]) -> Placement:
    """Place ``experts + redundant`` slots on ``ranks`` ranks.

    Replicas go to the experts with most load per replica (``load`` [expert], any unit). ``contiguous``: slots in expert order;
    ``round-robin``: slot i on rank ``i % ranks``; ``balanced``: heaviest slot first, onto the least loaded rank with room.
    Raises ValueError for another kind or slots that do not divide over the ranks.
    """
    total = experts + redundant
    if total % ranks:
        raise ValueError(f"expert slots ({total}) do not divide over {ranks} ranks")
    replicas = np.ones(experts, np.int64)
    for _ in range(redundant):
        replicas[np.argmax(load / replicas)] += 1
    slots = np.repeat(np.arange(experts), replicas)
    per_rank = total // ranks
    if kind == "contiguous":
        return Placement(slots, experts, ranks)
    if kind == "round-robin":
        return Placement(slots.reshape(per_rank, ranks).T.reshape(-1), experts, ranks)
    if kind == "balanced":
        return Placement(_packed(slots, (load / replicas)[slots], ranks), experts, ranks)
    raise ValueError(f"unknown placement {kind!r}: use contiguous, round-robin or balanced")


def _packed(slots: NDArray[np.int64], load: NDArray[np.float64], ranks: int) -> NDArray[np.int64]:
    room = np.full(ranks, len(slots) // ranks)
    carried = np.zeros(ranks)
    held: list[list[int]] = [[] for _ in range(ranks)]
    for i in np.argsort(-load, kind="stable"):
        rank = int(np.argmin(np.where(room > 0, carried, np.inf)))
        held[rank].append(int(slots[i]))
        carried[rank] += load[i]
        room[rank] -= 1
    return np.array([expert for rank in held for expert in sorted(rank)])
