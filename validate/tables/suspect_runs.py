"""Rows of the public tables that say something about the run they came from rather than about the kernel.

They stay in every group's error; beside it stands the error without them, and why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .ep_rows import Row


@dataclass(frozen=True, slots=True)
class SuspectRun:
    """Rows that ``holds`` picks, and what is odd about them."""

    name: str
    why: str
    holds: Callable[[Row], bool]


SUSPECT_RUNS = (
    SuspectRun(
        "H100, 2 nodes, 12 SMs",
        "looks like a run in which one rank's NIC gave 17-18 GB/s, as three kernels have it: dispatch moves 979 MB a rank in "
        "58.2 ms (16.8 GB/s) where 8 and 16 SMs give 16 and 32.5, combine 1.88 GB in 104.8 ms (17.9 GB/s), and both "
        "notify times grow with the batch far beyond other SM counts; the same 12 SMs on 4 nodes show none of it",
        lambda r: r.system == "h100_sxm" and r.protocol == "deepep-normal" and r.nodes == 2 and r.comm_sms == 12,
    ),
    SuspectRun(
        "GB200, two-sided combine, 16 GPUs, 1-2 tokens",
        "60-69 us where 4 tokens take 15: perhaps the first calls of that run",
        lambda r: (
            r.system == "gb200" and r.protocol == "nvlink-two-sided" and r.op == "combine" and r.nodes == 4 and r.tokens <= 2
        ),
    ),
)


def suspect_run_of(row: Row) -> SuspectRun | None:
    """The oddity a row belongs to, or None."""
    return next((o for o in SUSPECT_RUNS if o.holds(row)), None)
