"""Experts' load on GPUs before and after EPLB, from a load that is given or drawn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ....hwmodels.errors import BadInput
from ....sim.ep.eplb import gpu_load, imbalance, slots_of
from ....sim.ep.shape import Shape
from ..calculator import Calculator, Figure

#: Samples over which an imbalance is averaged, and how many times as long the history is that the placement is made from.
_DRAWS, _HISTORY = 8, 8


class ExpertBalance(Calculator):
    """``load`` of every expert, or a power law of ``exponent`` in a random order; ``slots`` in all, on ``gpus`` of ``nodes``.

    With ``tokens`` the placement is made from a long history, and judged on that many other tokens (of ``top_k`` experts each),
    drawn several times.
    """

    kind: Literal["expert-balance"] = "expert-balance"
    load: tuple[float, ...] = ()
    experts: int = Field(default=0, ge=0)
    exponent: float = Field(default=0.0, ge=0)
    tokens: int = Field(default=0, ge=0, le=100_000)
    top_k: int = Field(default=8, ge=1)
    slots: int = Field(ge=1)
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
        load, samples = self._loads()
        held = slots_of(load, self.slots, self.groups, self.nodes, self.gpus)
        if len(load) % self.gpus == 0:
            before = _mean_imbalance([gpu_load(sample, np.arange(len(load)), self.gpus) for sample in samples])
            yield Figure("before", "imbalance (max - mean) / mean of the GPUs, experts in order", "", before)
        after = _mean_imbalance([gpu_load(sample, held, self.gpus) for sample in samples])
        yield Figure("after", "imbalance (max - mean) / mean of the GPUs, with replicas placed", "", after)
        yield Figure("by_expert", "imbalance of the experts themselves", "", imbalance(load))
        if self.mapping:
            same = float(np.sum(held == self.mapping))
            yield Figure("slots_as_given", "slots that hold the expert of the given mapping", "", same)

    def _loads(self) -> tuple[NDArray[np.float64], list[NDArray[np.float64]]]:
        """What the placement is made from, and what it is judged on."""
        if self.load:
            given = np.array(self.load)
            return given, [given]
        rng = np.random.default_rng(self.seed)
        share = rng.permutation(_power_law(self.experts, self.exponent))
        if not self.tokens:
            return share, [share]
        history = _counts(share, _HISTORY * self.tokens, self.top_k, rng)
        return history, [_counts(share, self.tokens, self.top_k, rng) for _ in range(_DRAWS)]


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
        rows = _counts(_power_law(self.experts, self.exponent), self.tokens * self.ranks, self.top_k, rng)
        ranks = rows.reshape(self.ranks, -1).sum(axis=1)
        yield Figure("ranks_reached", "distinct ranks of a token, uniform", "", reached)
        yield Figure("dispatch_bytes", "bytes a rank sends with FP8, one copy a rank", "B", self.tokens * reached * self.hidden)
        yield Figure("imbalance", "(max - mean) / mean of the ranks' expert rows", "", imbalance(ranks))
        yield Figure("rows", "expert rows of the mean rank", "", float(ranks.mean()))


def _counts(share: NDArray[np.float64], tokens: int, top_k: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """[expert] rows of ``tokens`` that each take ``top_k`` different experts, likely by ``share``."""
    # Gumbel's trick: the k largest of log share + noise are k draws without replacement.
    keys = np.log(share) + rng.gumbel(size=(tokens, len(share)))
    drawn = np.argpartition(-keys, top_k - 1, axis=1)[:, :top_k]
    return np.bincount(drawn.ravel(), minlength=len(share)).astype(float)


def _mean_imbalance(loads: list[NDArray[np.float64]]) -> float:
    return float(np.mean([imbalance(load) for load in loads]))


def _power_law(experts: int, exponent: float) -> NDArray[np.float64]:
    return np.asarray(np.arange(1, experts + 1, dtype=float) ** -exponent)


KINDS = (ExpertBalance, TopK)
