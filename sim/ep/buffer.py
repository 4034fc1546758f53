"""What a protocol's buffers are told (`Demand`) and what they say (`Buffer`): of one rank, or of a table of candidates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .shape import Num, Shape


@dataclass(frozen=True, slots=True)
class MemoryItem:
    """One named part of a rank's HBM, and the formula or fact it came from."""

    name: str
    bytes: int
    source: str


@dataclass(frozen=True, slots=True)
class Demand:
    """What the buffers of an exchange must hold; any number may be an array.

    ``tokens``: the most that a rank brings to one call; ``slots``: expert slots of a rank; ``received``: rows of the busiest
    rank, one a token and source rank; ``max_tokens``: a capacity that was asked for (None: the protocol's own least).
    ``inter``: width of an expert's inner activations, where a kernel keeps those as well.
    """

    shape: Shape
    tokens: Num
    slots: Num
    received: Num
    replayed: bool
    max_tokens: int | None = None
    capacity_factor: Num = 1.0
    inter: Num = 0.0

    @property
    def domains(self) -> Num:
        """NVLink domains, the last of which may be half full."""
        return np.ceil(self.shape.ranks / self.shape.domain)


@dataclass(frozen=True, slots=True)
class Buffer:
    """``bytes`` of one named buffer. ``source``: its formula in words; ``counts``: (what, how many) behind it.

    ``lever``: what makes it smaller, said where memory does not fit ("": nothing does).
    """

    name: str
    bytes: Num
    source: str
    counts: tuple[tuple[str, Num], ...] = ()
    lever: str = "lower traffic.tokens_per_rank"

    @property
    def said(self) -> str:
        """The formula and its numbers, of one rank."""
        counted = ", ".join(f"{float(np.asarray(number)):.0f} {what}" for what, number in self.counts)
        return f"{self.source}: {counted}" if counted else self.source


def exact_rows(rows: Num, row_bytes: Num) -> Num:
    """The ragged receive buffer once the counts are known."""
    return np.ceil(rows * row_bytes)


def rectangle(tokens: Num, ranks: Num, local_experts: Num, row_bytes: Num) -> Num:
    """The same buffer when nothing is known: every local expert may get every token of every rank."""
    return np.ceil(local_experts * ranks * tokens * row_bytes)
