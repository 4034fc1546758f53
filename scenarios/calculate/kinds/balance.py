"""Experts' load on GPUs before and after EPLB, from a load that is given or drawn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ....hwmodels.errors import BadInput
from ....sim.ep.eplb import gpu_load, imbalance, slots_of
from ....sim.ep.popularity import drawn, in_turn, power_law
from ....sim.ep.shape import Shape
from ..calculator import Calculator, Figure

#: Random orders of the experts over which an imbalance is averaged, and how many times as long as a sample the history is that
#: the placement is made from.
_ORDERS, _HISTORY = 16, 4


class ExpertBalance(Calculator):
    """``load`` of every expert, or a power law of ``exponent`` in random orders; ``slots`` in all, on ``gpus`` of ``nodes``.

    With ``tokens`` the placement is made from a long history and judged on that many other tokens (of ``top_k`` experts each,
    from ``routing_kept`` of ``routing_groups`` groups). Where nothing is balanced, experts lie in order, the first again in
    the slots that are left.
    """

    kind: Literal["expert-balance"] = "expert-balance"
    load: tuple[float, ...] = ()
    experts: int = Field(default=0, ge=0)
    exponent: float = Field(default=0.0, ge=0)
    tokens: int = Field(default=0, ge=0, le=100_000)
    top_k: int = Field(default=8, ge=1)
    routing_groups: int = Field(default=1, ge=1)
    routing_kept: int = Field(default=1, ge=1)
    slots: int = Field(ge=1)
    slots_before: int = Field(default=0, ge=0)
    groups: int = Field(default=1, ge=1)
    nodes: int = Field(default=1, ge=1)
    gpus: int = Field(ge=1)
    mapping: tuple[int, ...] = ()
    seed: int = 0

    def figures(self) -> Iterator[Figure]:
        if bool(self.load) == bool(self.experts):
            raise BadInput("give load, or experts and the exponent of their power law: one of the two")
        if self.tokens and self.load:
            raise BadInput("tokens are drawn from a power law: give experts and exponent instead of load")
        if not self.tokens and (self.routing_groups, self.routing_kept) != (1, 1):
            raise BadInput("routing_groups say how tokens are drawn: they go with tokens")
        rng = np.random.default_rng(self.seed)
        before, after, by_expert, by_slot, same = [], [], [], [], 0.0
        first = in_turn(len(self.load) or self.experts, self.slots_before or len(self.load) or self.experts)
        for history, sample in self._loads(rng):
            held = slots_of(history, self.slots, self.groups, self.nodes, self.gpus)
            after.append(imbalance(gpu_load(sample, held, self.gpus)))
            by_slot.append(imbalance(gpu_load(sample, held, self.slots)))
            by_expert.append(imbalance(history))
            if len(first) % self.gpus == 0:
                before.append(imbalance(gpu_load(sample, first, self.gpus)))
            same = float(np.sum(held == self.mapping)) if self.mapping else 0.0
        if before:
            words = "imbalance (max - mean) / mean of the GPUs, experts in order"
            yield Figure("before", words, "", float(np.mean(before)))
        yield Figure("after", "imbalance (max - mean) / mean of the GPUs, with replicas placed", "", float(np.mean(after)))
        yield Figure("by_expert", "imbalance of the experts themselves", "", float(np.mean(by_expert)))
        yield Figure("by_slot", "imbalance of the slots, with replicas", "", float(np.mean(by_slot)))
        if self.mapping:
            yield Figure("slots_as_given", "slots that hold the expert of the given mapping", "", same)

    def _loads(self, rng: np.random.Generator) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """What the placement is made from and what it is judged on, for every order of the experts."""
        if self.load:
            given = np.array(self.load)
            yield given, given
            return
        for _ in range(_ORDERS if self.exponent else 1):
            share = rng.permutation(power_law(self.experts, self.exponent))
            if not self.tokens:
                yield share, share
                continue
            routing = (self.top_k, rng, self.routing_groups, self.routing_kept)
            yield drawn(share, _HISTORY * self.tokens, *routing), drawn(share, self.tokens, *routing)


class TopK(Calculator):
    """What one more expert a token costs: rows to send, ranks reached, and how unequal uniform draws leave the ranks."""

    kind: Literal["top-k"] = "top-k"
    top_k: int = Field(ge=1)
    experts: int = Field(ge=1)
    ranks: int = Field(ge=1)
    tokens: int = Field(ge=1)
    hidden: int = Field(ge=1)
    exponent: float = Field(default=0.0, ge=0)
    seed: int = 0

    def figures(self) -> Iterator[Figure]:
        shape = Shape(self.tokens, self.hidden, self.top_k, self.experts, self.ranks, self.ranks, self.hidden)
        reached = float(shape.ranks_reached)
        rng = np.random.default_rng(self.seed)
        rows = drawn(power_law(self.experts, self.exponent), self.tokens * self.ranks, self.top_k, rng)
        ranks = rows.reshape(self.ranks, -1).sum(axis=1)
        yield Figure("ranks_reached", "distinct ranks of a token, uniform", "", reached)
        yield Figure("dispatch_bytes", "bytes a rank sends with FP8, one copy a rank", "B", self.tokens * reached * self.hidden)
        yield Figure("imbalance", "(max - mean) / mean of the ranks' expert rows", "", imbalance(ranks))
        yield Figure("rows", "expert rows of the mean rank", "", float(ranks.mean()))


KINDS = (ExpertBalance, TopK)
