"""One thing to measure: fresh inputs, the run, its reference, and the work it cannot avoid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from ....kernels.experts.tiles import Table, Tile, Tiles

Tensors = dict[str, torch.Tensor]

#: The most programs of a launch: several times what an SM holds, so that no SM waits for the last of another.
PROGRAMS_PER_SM = 16


@dataclass(frozen=True)
class Setup:
    """Where cases are built: ``device``, the most ``programs`` of a launch, how products load, which tiles they take.

    ``small``: for the interpreter (tiles of 16 rows, buffers for the worst case).
    """

    device: str
    programs: int
    loads: str = "pointer"
    small: bool = False
    table: Table = field(default_factory=Table.shipped)

    def tiles(self, element: str, rows: float, hidden: int, inter: int) -> Tiles:
        """The tiles of an expert's two products."""
        if self.small:
            return Tiles.same(Tile(16, 128, 128, 4, 2))
        return self.table.pair(element, rows, hidden, inter, "pointer" if element == "int4" else self.loads)


@dataclass(frozen=True)
class Problem:
    """Inputs at fixed addresses and outputs to be written. ``expected`` is called after the run, on the same inputs.

    ``random``: the inputs that carry values (redrawn for every check); ``written``: output name -> mask of the elements
    that must be written (absent: all); ``finish``: what the outputs mean, if not themselves (dequantise, gather).
    """

    inputs: Tensors
    outputs: Tensors
    run: Callable[[], None]
    expected: Callable[[], Tensors]
    random: tuple[str, ...]
    written: Callable[[], Tensors] = dict
    finish: Callable[[], Tensors] | None = None
    torch_run: Callable[[], object] | None = None
    prepare: Callable[[], None] | None = None  # whatever must precede every run of this problem, not timed


@dataclass(frozen=True)
class Case:
    """``make(seed)`` builds a problem. ``work``: "copy" (judged against the copy ceiling) or "matmul".

    ``bytes`` and ``flops`` of one run, the least it must move and do; ``labels``: the columns of its measurement row.
    """

    name: str
    table: str  # "ep_comm", "grouped_gemm" or "gemm": whose columns ``labels`` has
    labels: dict[str, Any]
    make: Callable[[int], Problem]
    tolerance: float
    bytes: int
    flops: int = 0
    work: str = "copy"
    shape: dict[str, int] = field(default_factory=dict)
    tile: Tile | None = None
    imbalance: str = ""  # of the experts' rows over the ranks, before and after balancing
    repeat: int = 1  # launches of the same step on different ranks inside one run: the time is divided by it
