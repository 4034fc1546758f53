"""One case's row: timed over rotating inputs, verified again, held against zeros, torch and the device's ceilings."""

from __future__ import annotations

from typing import Any

import torch

from . import clocks
from .cases.case import Case
from .check import check_zeros_cost_as_much, poison, refill, verify
from .device import Ceilings, l2_bytes
from .timing import alternating, captured, graphed, sets_beyond_l2, timed, while_busy


def row_of(case: Case, ceilings: Ceilings, error: float) -> dict[str, Any]:
    """The measured columns of ``case``. Raises CheckError if what the timed runs left is wrong, or zeros cost less."""
    first = case.make(100)
    inside = sum(t.numel() * t.element_size() for t in (*first.inputs.values(), *first.outputs.values()))
    problems = [first] + [case.make(101 + i) for i in range(sets_beyond_l2(inside, l2_bytes()) - 1)]
    for problem in problems:
        poison(problem.outputs)
    replay = captured([p.run for p in problems])
    timing = timed(replay, len(problems))
    for problem in problems:
        verify(case, problem, "after timing")
    seen = while_busy(replay, timing.median_us * len(problems), clocks.read)
    share = case.repeat
    median = timing.median_us / share
    row: dict[str, Any] = {
        "case": case.name,
        "latency_us": median,
        "latency_low_us": timing.low_us / share,
        "latency_high_us": timing.high_us / share,
        "runs": timing.runs,
        "bytes": case.bytes,
        "flops": case.flops,
        "error": error,
        **seen,
    }
    if case.tile is not None:
        t = case.tile
        row["tile"] = f"{t.m}x{t.n}x{t.k} {t.warps}w {t.stages}s {t.per_sm}/SM {t.loads}"
    if case.imbalance:
        row["imbalance"] = case.imbalance
    amount, ceiling = (case.bytes, ceilings.copy_bytes_per_s) if case.work == "copy" else (case.flops, ceilings.matmul_flops)
    if amount:
        row["share_of_ceiling"] = amount / (median * 1e-6) / ceiling
    plain = [p.torch_run for p in problems if p.torch_run is not None]
    if plain:
        ours, theirs = alternating(replay, lambda: [run() for run in plain], len(problems))
        row["torch_us"], row["speedup"] = theirs / share, theirs / ours
    if first.random:
        for problem in problems:
            refill(problem, 1, keep=0.0)
            if problem.prepare is not None:
                problem.prepare()
        check_zeros_cost_as_much(case, timing.median_us, graphed([p.run for p in problems], replays=10).median_us)
    torch.cuda.empty_cache()
    return row
