"""``epicycle bench``: check every case, then time it, in one of four modes.

interpret   CPU, Triton's corrected interpreter: checks only, nothing is timed
virtual     one GPU, several virtual ranks: per-kernel times without a network
node        one process per GPU under torchrun, symmetric memory over NVLink
cluster     as node over several nodes, NVSHMEM between them
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from ...hwmodels.errors import BadInput
from ..tables.vocabulary import MODE_SCOPES
from .failed import finished
from .plan import minutes

MODES = ("interpret", "virtual", "node", "cluster")
DEFAULT_SHAPES = {
    "interpret": ("3x128x128x4x2",),
    "virtual": ("4096x7168x2048x64x8", "128x7168x2048x64x8", "1x7168x2048x64x8"),
    "node": ("4096x7168x2048x256x8", "128x7168x2048x256x8", "1x7168x2048x256x8"),
    "cluster": ("4096x7168x2048x256x8", "128x7168x2048x256x8", "1x7168x2048x256x8"),
}
RANKS = {"interpret": 2, "virtual": 8}


@dataclass(frozen=True)
class Asked:
    """What a run is asked for. ``out``, ``html``: files that rows reach as they are measured; ``json``: the caller writes it.

    ``kernels``: patterns of case names ("gemm_*", "ht_dispatch_*"); ``shapes``: ``tokens x hidden x inter x experts x top_k``;
    ``ranks``: virtual ranks; ``step_limit_s``: under torchrun, how long a rank may stay silent; ``system``: the catalogue's
    name of this machine; ``resume``: go on with the rows of ``out``; ``tiles``: a table asked before the shipped one;
    ``tune``: where to write the fastest tile of each shape, before all else.
    """

    mode: str = "virtual"
    kernels: Sequence[str] | None = None
    shapes: Sequence[str] | None = None
    out: Path | None = None
    html: Path | None = None
    json: Path | None = None
    ranks: int | None = None
    step_limit_s: float = 120.0
    system: str | None = None
    resume: bool = False
    tiles: Path | None = None
    tune: Path | None = None
    limit_s: float | None = None

    def check(self) -> None:
        """Raise BadInput for a mode there is not, or an output that this mode would never write."""
        if self.mode not in MODES:
            raise BadInput(f"mode {self.mode!r}: one of {', '.join(MODES)}")
        if self.mode == "interpret":
            outputs = (("--out", self.out), ("--html", self.html), ("--json", self.json), ("--tune", self.tune))
            for name, path in outputs:
                if path is not None:
                    raise BadInput(f"mode interpret times nothing, so there are no rows for {name} {path}: leave it out")
        if self.tune is not None and self.mode != "virtual":
            raise BadInput(f"--tune times tiles on one GPU: mode virtual, not {self.mode}")
        if self.resume and self.out is None:
            raise BadInput("--resume goes on with the rows of a file: say which with --out")


def run_bench(asked: Asked, say: Callable[[str], None] = print) -> list[dict[str, Any]]:
    """Check, then time; returns the measurement rows.

    Raises BadInput for a bad argument or a missing device, BenchFailed after the last case if any failed its check.
    """
    asked.check()
    if asked.mode == "interpret":
        from ...kernels import interpreter

        interpreter.use()
    import torch

    from .cases.single_rank import Point

    texts = asked.shapes or DEFAULT_SHAPES[asked.mode]
    points = [Point.parse(t, asked.ranks or RANKS.get(asked.mode, 8)) for t in texts]
    if asked.mode != "interpret" and not torch.cuda.is_available():
        raise BadInput(f"mode {asked.mode} needs a CUDA device, and torch sees none: use --mode interpret for the checks alone")
    if asked.mode in ("node", "cluster"):
        from .torchrun import run_under_torchrun

        return run_under_torchrun(asked, points, say)
    return _one_process(asked, points, say)


def _one_process(asked: Asked, points: Sequence[Any], say: Callable[[str], None]) -> list[dict[str, Any]]:
    from .bench_page import Page
    from .check import CheckError, check
    from .plan import Progress

    if asked.tune is not None:
        _tune(asked, points, say)
    found = [case for point in points for case in cases(point, asked.mode, asked.kernels, asked.tune or asked.tiles)]
    if not found:
        raise BadInput(f"no case matches {list(asked.kernels or [])}")
    if asked.mode == "interpret":
        failures = []
        for case in found:
            try:
                say(f"{case.name:28} checked, relative error {check(case, seeds=(1,)):.2g}")
            except CheckError as failure:
                failures.append(str(failure))
                say(f"FAILED {failure}")
        return finished([], failures, len(found))

    import torch

    from . import device
    from .measure import row_of
    from .rows import Rows

    facts = device.provenance()
    system = device.system_of(facts["gpu"], asked.system)
    rows = Rows(asked.out, asked.resume, facts)
    page = Page(asked.html, rows)
    if rows.dropped:
        say(f"{asked.out}: its last line was only half written and is measured again")
    identified = {"system": system, "mode": asked.mode, "scope": MODE_SCOPES[asked.mode]}
    left = [case for case in found if not rows.has({**identified, "case": case.name, **case.labels})]
    if len(left) < len(found):
        say(f"{len(found) - len(left)} of {len(found)} cases are in {asked.out} already")
    progress = Progress(left)
    say(f"{facts['gpu']} as {system}: {progress.first()}")
    ceilings = device.measure_ceilings()
    say(f"ceilings: copy {ceilings.copy_bytes_per_s / 1e12:.2f} TB/s, matmul {ceilings.matmul_flops / 1e12:.0f} TFLOP/s bf16")
    for table, row in _ceiling_rows(ceilings):
        if not rows.has({**identified, **row}):
            rows.add(table, {**identified, **row, **facts})
    failures, start = [], time.monotonic()
    for number, case in enumerate(left):
        if asked.limit_s is not None and time.monotonic() - start > asked.limit_s:
            say(f"{minutes(asked.limit_s)} are over: {len(left) - number} cases are left for --resume")
            break
        try:
            error = check(case, seeds=(1, 2))
            row = row_of(case, ceilings, error)
        except CheckError as failure:
            failures.append(str(failure))
            say(f"FAILED {failure}")
            progress.next()
            continue
        except torch.OutOfMemoryError:
            say(f"{case.name:28} left out: takes more memory than this GPU has left; fewer tokens fit")
            torch.cuda.empty_cache()
            progress.next()
            continue
        rows.add(case.table, {**identified, **case.labels, **row, **facts})
        page.grow()
        say(f"{_line(case, row)}  [{progress.next()}]")
    page.write()
    return finished(rows.rows, failures, len(left))


def _tune(asked: Asked, points: Sequence[Any], say: Callable[[str], None]) -> None:
    from . import device
    from .check import check
    from .timing import captured, timed
    from .tune import tune

    def time_case(case: Any) -> float:
        check(case, seeds=(1,))
        return timed(captured([case.make(100).run]), 1, replays=15).median_us

    facts = device.provenance()
    assert asked.tune is not None
    tune(
        points, setup_of("virtual", asked.tiles), asked.tune, f"{facts['gpu']} {facts['date']}, fastest of all", time_case, say
    )


def _ceiling_rows(ceilings: Any) -> list[tuple[str, dict[str, Any]]]:
    side = ceilings.side
    square = {"kernel": "torch.mm", "dtype": "bfloat16", "m": side, "n": side, "k": side, "case": "ceiling_matmul"}
    copied = {"kernel": "torch.mul", "dtype": "float32", "elements": ceilings.copy_elements, "case": "ceiling_copy"}
    return [
        ("gemm", {**square, "latency_us": ceilings.matmul_us, "flops": 2 * side**3}),
        ("copy", {**copied, "latency_us": ceilings.copy_us, "bytes": 8 * ceilings.copy_elements}),
    ]


def cases(point: Any, mode: str, kernels: Sequence[str] | None, tiles: Path | None = None) -> list[Any]:
    """The cases of one operating point whose names match."""
    from .cases.exchange import exchange_cases
    from .cases.single_rank import single_rank_cases

    setup = setup_of(mode, tiles)
    try:
        found = single_rank_cases(point, setup) + exchange_cases(point, setup)
    except ValueError as error:  # what kernels say of a shape that they cannot take
        raise BadInput(f"shape {point} on {point.ranks} ranks: {error}") from None
    return [c for c in found if not kernels or any(fnmatch(c.name, pattern) for pattern in kernels)]


def setup_of(mode: str, tiles: Path | None) -> Any:
    """Where the cases of a mode are built. Raises BadInput for a file of tiles that is none."""
    from ...kernels.experts.tiles import Table
    from .cases.case import PROGRAMS_PER_SM, Setup

    try:
        table = Table.shipped() if tiles is None else Table.shipped().with_file(tiles)
    except ValueError as error:
        raise BadInput(str(error)) from None
    if mode == "interpret":
        return Setup("cpu", 2, small=True)
    import torch

    from ...kernels.experts.tma_gemm import has_tma
    from .device import multiprocessors

    loads = "tma" if has_tma(torch.device("cuda", torch.cuda.current_device())) else "pointer"
    return Setup("cuda", PROGRAMS_PER_SM * multiprocessors(), loads, table=table)


def _line(case: Any, row: dict[str, Any]) -> str:
    share = f"{row['share_of_ceiling']:6.1%} of ceiling" if "share_of_ceiling" in row else " " * 17
    torch_part = f"  {row['speedup']:5.1f}x torch" if "speedup" in row else ""
    spread = f"({row['latency_low_us']:.1f}-{row['latency_high_us']:.1f})"
    held = f"  clock held back: {row['throttled']}" if row.get("throttled") else ""
    return f"{case.name:28} {row['latency_us']:10.1f} us {spread:20} {share}{torch_part}  error {row['error']:.2g}{held}"
