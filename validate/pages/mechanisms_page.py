"""What engines do that kernels do not, as a section of docs/validation.md: each mechanism switched off."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..serving.mechanisms import switched

TITLE = "What engines do that kernels do not"

CARRIED = """\
A kernel's efficiency is taken apart into a share of the tensor peak, which GEMMs on the same GPU reach, and issue cycles of
an SM (`sim/step/tensor.py`). H20 has a quarter of H100's tensor rate in the same SM, and no row of any table: eight published
decode times of DeepSeek-R1 on it were 68 % too slow in the median with efficiencies carried over whole, MLA in bf16 and
masked GEMMs of few rows in tiles of 128 (DeepGEMM takes 64). Taken apart, in fp8 and in those tiles, they are within 5 %.

Kernels of both sides of two-batch overlap slow each other down by 18.9 % (arXiv 2507.03114, other people's measurement).
SGLang's prefill gains 37 to 39 % by it here, 55 to 59 % without; LMSYS measured 27 to 35 %.
"""


def section(tables: Path) -> Iterator[str]:
    """Lines of Markdown."""
    yield f"## {TITLE}"
    yield ""
    yield "Each mechanism switched off by a setting or a constant that a user has; nothing is fitted again without it. Field"
    yield "reports are other people's clusters, of which no constant knows. A mechanism that makes its rows no better is"
    yield "shown too."
    yield ""
    yield "| mechanism | judged on | rows | median with, % | without, % | mean with, % | without, % |"
    yield "|---|---|--:|--:|--:|--:|--:|"
    for s in switched(tables):
        numbers = " | ".join(f"{x:.1f}" for x in (s.median_with, s.median_without, s.mean_with, s.mean_without))
        yield f"| {s.mechanism} | {s.judged} | {s.rows} | {numbers} |"
    yield ""
    yield from CARRIED.splitlines()
