"""What engines do that kernels do not, as a section of docs/validation.md: each mechanism switched off."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ...hwmodels.backends import load_backend, with_overrides
from ..serving.mechanisms import switched
from ..serving.newer import newer, widest
from ..serving.production import RUNS, predict_run
from ..serving.table import arrangement_words

TITLE = "What engines do that kernels do not"

H20 = """\
A kernel's efficiency is taken apart into a share of the tensor peak, which GEMMs on the same GPU reach, and issue cycles of
an SM (`sim/step/tensor.py`). H20 has a quarter of H100's tensor rate in the same SM, and no row of any table.
"""


def section(tables: Path) -> Iterator[str]:
    """Lines of Markdown."""
    yield f"## {TITLE}"
    yield ""
    yield "Each mechanism switched off by a setting or a constant that a user has; nothing is fitted again without it. Field"
    yield "reports are other people's clusters, of which no constant knows. A mechanism that makes its rows no better is"
    yield "shown too."
    yield ""
    yield "| mechanism | judged on | rows | median with, % | without, % | mean with, % | without, % | evidence |"
    yield "|---|---|--:|--:|--:|--:|--:|---|"
    for s in switched(tables):
        numbers = " | ".join(f"{x:.1f}" for x in (s.median_with, s.median_without, s.mean_with, s.mean_without))
        yield f"| {s.mechanism} | {s.judged} | {s.rows} | {numbers} | {s.evidence} |"
    yield ""
    yield from H20.splitlines()
    yield ""
    yield from _overlap()
    yield ""
    yield from _newer()


def _overlap() -> Iterator[str]:
    """What two halves of a batch gain a prefill pool, with their kernels' slowdown and without."""
    runs = [run for run in RUNS if run.name.startswith("SGLang H100 prefill")]
    gains = []
    for share in (load_backend("sglang").constants.contention, 1.0):
        engine = with_overrides(load_backend("sglang"), {"contention": share})
        alone = [predict_run(replace(run, overlap=False), engine=engine).predicted for run in runs]
        both = [predict_run(run, engine=engine).predicted for run in runs]
        gains.append(sorted(100.0 * (b / a - 1.0) for a, b in zip(alone, both, strict=True)))
    (low, *_, high), (free_low, *_, free_high) = gains
    yield "Kernels of both sides of two-batch overlap slow each other down by 18.9 % (other people's measurement). SGLang's"
    yield f"prefill gains {low:.0f} to {high:.0f} % by it here, {free_low:.0f} to {free_high:.0f} % were they free; LMSYS"
    yield "measured 27 to 35 %."


def _newer() -> Iterator[str]:
    found = list(newer())
    yield "Newer architectures, of which no row here was measured: what is predicted, and how much each mechanism is of it (the"
    yield "least and the most over these deployments, without it). An architecture that was never measured counts as foreign."
    yield ""
    yield "| model | engine, system | arrangement | in/out, clients | TPOT, ms | TTFT, ms |"
    yield "|---|---|---|---|--:|--:|"
    for one in found:
        row = one.row
        case = f"{arrangement_words(row)} | {row.isl}/{row.osl}, {row.concurrency}"
        yield f"| {row.model} | {row.backend}, {row.system} | {case} | {1e3 * one.tpot_s:.2f} | {1e3 * one.ttft_s:.0f} |"
    yield ""
    yield "| mechanism | least, % | most, % |"
    yield "|---|--:|--:|"
    for name, (low, high) in widest(found).items():
        yield f"| without: {name} | {100 * low:+.1f} | {100 * high:+.1f} |"
