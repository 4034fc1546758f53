"""``epicycle bench``: check every case, then time it, in one of four modes.

interpret   CPU, Triton's corrected interpreter: checks only, nothing is timed
virtual     one GPU, several virtual ranks: per-kernel times without a network
node        one process per GPU under torchrun, symmetric memory over NVLink
cluster     as node over several nodes, NVSHMEM between them
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

MODES = ("interpret", "virtual", "node", "cluster")
DEFAULT_SHAPES = {
    "interpret": ("3x128x128x4x2",),
    "virtual": ("4096x7168x2048x64x8", "128x7168x2048x64x8", "1x7168x2048x64x8"),
    "node": ("4096x7168x2048x256x8", "128x7168x2048x256x8", "1x7168x2048x256x8"),
    "cluster": ("4096x7168x2048x256x8", "128x7168x2048x256x8", "1x7168x2048x256x8"),
}
RANKS = {"interpret": 2, "virtual": 8}


class BenchFailed(RuntimeError):  # noqa: N818 - what the command prints, not a fault of the program
    """At least one case failed its check; the others were measured and kept."""


def run_bench(
    mode: str = "virtual",
    kernels: Sequence[str] | None = None,
    shapes: Sequence[str] | None = None,
    out: Path | None = None,
    html: Path | None = None,
    ranks: int | None = None,
    step_limit_s: float = 120.0,
    say: Callable[[str], None] = print,
) -> list[dict[str, Any]]:
    """Check, then time; returns the measurement rows.

    ``kernels``: patterns of case names ("gemm_*", "ht_dispatch_*"); ``shapes``: ``tokens x hidden x inter x experts x top_k``;
    ``out``: CSV file (rows are written as they are measured); ``html``: the page comparing with plain torch; ``ranks``: virtual
    ranks; ``step_limit_s``: under torchrun, how long a rank may stay silent. Raises ValueError for a bad argument or a missing
    device, BenchFailed after the last case if any failed its check.
    """
    if mode not in MODES:
        raise ValueError(f"mode {mode!r}: one of {', '.join(MODES)}")
    if mode == "interpret":
        from ...kernels import interpreter

        interpreter.use()
    import torch

    from .single_rank import Point

    texts = shapes or DEFAULT_SHAPES[mode]
    if mode != "interpret" and not torch.cuda.is_available():
        raise ValueError(f"mode {mode} needs a CUDA device, and torch sees none: use --mode interpret for the checks alone")
    if mode in ("node", "cluster"):
        from .torchrun import run_under_torchrun

        return run_under_torchrun(mode, [Point.parse(t) for t in texts], kernels, out, step_limit_s, say)
    points = [Point.parse(t, ranks or RANKS[mode]) for t in texts]
    return _one_process(mode, points, kernels, out, html, say)


def _one_process(
    mode: str,
    points: Sequence[Any],
    kernels: Sequence[str] | None,
    out: Path | None,
    html: Path | None,
    say: Callable[[str], None],
) -> list[dict[str, Any]]:
    from . import device
    from .check import CheckError, check
    from .rows import Rows

    timed = mode == "virtual"
    facts = device.provenance()
    rows = Rows(out)
    ceilings = device.measure_ceilings() if timed else None
    if ceilings is not None:
        copied, multiplied = ceilings.copy_bytes_per_s / 1e12, ceilings.matmul_flops / 1e12
        say(f"ceilings: copy {copied:.2f} TB/s, matmul {multiplied:.0f} TFLOP/s bf16")
        square = {"kernel": "torch.mm", "dtype": "bfloat16", "m": 8192, "n": 8192, "k": 8192}
        rows.add("gemm", {**square, "latency_us": 2e6 * 8192**3 / ceilings.matmul_flops, "mode": mode, **facts})
    failures, seen = [], 0
    for point in points:
        for case in cases(point, mode, kernels):
            seen += 1
            try:
                error = check(case, seeds=(1, 2) if timed else (1,))
            except CheckError as failure:
                failures.append(str(failure))
                say(f"FAILED {failure}")
                continue
            if not timed or ceilings is None:
                say(f"{case.name:28} checked, relative error {error:.2g}")
                continue
            row = _time(case, ceilings, mode, error) | facts
            rows.add(case.table, {"system": _system(facts["gpu"]), **case.labels, **row})
            say(_line(case, row))
    if not seen:
        raise ValueError(f"no case matches {list(kernels or [])}")
    if html is not None and rows.rows:
        from .page import write_page

        write_page(html, rows.rows)
    if failures:
        raise BenchFailed(f"{len(failures)} of {seen} cases failed their check: " + "; ".join(failures))
    return rows.rows


def cases(point: Any, mode: str, kernels: Sequence[str] | None) -> list[Any]:
    """The cases of one operating point whose names match."""
    from .exchange import exchange_cases
    from .single_rank import single_rank_cases

    if mode == "interpret":
        found = single_rank_cases(point, "cpu", 2, small_tiles=True) + exchange_cases(point, "cpu", 2, small_tiles=True)
    else:
        from .device import multiprocessors

        programs = 8 * multiprocessors()
        found = single_rank_cases(point, "cuda", programs) + exchange_cases(point, "cuda", programs)
    return [c for c in found if not kernels or any(fnmatch(c.name, pattern) for pattern in kernels)]


def _time(case: Any, ceilings: Any, mode: str, error: float) -> dict[str, Any]:
    """Time ``case`` over rotating problems, verify what the timed runs left, and compare with plain torch."""
    import torch

    from .check import check_zeros_cost_as_much, poison, refill, verify
    from .device import l2_bytes
    from .timing import graphed, launched, sets_beyond_l2

    first = case.make(100)
    inside = sum(t.numel() * t.element_size() for t in (*first.inputs.values(), *first.outputs.values()))
    problems = [first] + [case.make(101 + i) for i in range(sets_beyond_l2(inside, l2_bytes()) - 1)]
    for problem in problems:
        poison(problem.outputs)
    timing = graphed([p.run for p in problems])
    for problem in problems:
        verify(case, problem, "after timing")
    if first.random:
        for problem in problems:
            refill(problem, 1, keep=0.0)
            if problem.prepare is not None:
                problem.prepare()
        zeros = graphed([p.run for p in problems], replays=10)
        check_zeros_cost_as_much(case, timing.median_us, zeros.median_us)
        for i, problem in enumerate(problems):
            refill(problem, 7 + i)
            if problem.prepare is not None:
                problem.prepare()
    share = case.repeat
    ceiling = ceilings.copy_bytes_per_s if case.work == "copy" else ceilings.matmul_flops
    amount = case.bytes if case.work == "copy" else case.flops
    median = timing.median_us / share
    row: dict[str, Any] = {
        "mode": mode,
        "case": case.name,
        "latency_us": median,
        "latency_low_us": timing.low_us / share,
        "latency_high_us": timing.high_us / share,
        "runs": timing.runs,
        "bytes": case.bytes,
        "flops": case.flops,
        "error": error,
    }
    if amount:
        row["share_of_ceiling"] = amount / (median * 1e-6) / ceiling
    plain = [p.torch_run for p in problems if p.torch_run is not None]
    if plain:
        row["torch_us"] = launched(plain).median_us / share
        row["speedup"] = row["torch_us"] / median
    torch.cuda.empty_cache()
    return row


def _line(case: Any, row: dict[str, Any]) -> str:
    share = f"{row['share_of_ceiling']:6.1%} of ceiling" if "share_of_ceiling" in row else " " * 17
    torch_part = f"  {row['speedup']:5.1f}x torch" if "speedup" in row else ""
    spread = f"({row['latency_low_us']:.1f}-{row['latency_high_us']:.1f})"
    return f"{case.name:28} {row['latency_us']:10.1f} us {spread:20} {share}{torch_part}  error {row['error']:.2g}"


def _system(gpu: str) -> str:
    """The catalogue's way of writing a GPU's name: "NVIDIA H200" -> "h200"."""
    return gpu.replace("NVIDIA", "").strip().lower().replace(" ", "_").replace("-", "_")
