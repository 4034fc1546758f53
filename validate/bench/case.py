"""One thing to measure: fresh inputs, the run, its reference, and the work it cannot avoid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

Tensors = dict[str, torch.Tensor]


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
    repeat: int = 1  # launches of the same step on different ranks inside one run: the time is divided by it
