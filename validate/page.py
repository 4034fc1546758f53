"""docs/validation.md, made again by ``python -m epicycle.validate.page [TABLES] [PAGE]``; ``--check`` only compares."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .ablation import ablate
from .predict import Validation, validate_table
from .shipped import MEASUREMENTS

PAGE = Path("docs/validation.md")
TABLES = ("ep_comm.csv", "grouped_gemm.csv", "gemm.csv", "collectives.csv", "mla_attention.csv")
ABLATION = "## What each mechanism buys"

HEAD = """\
# Validation

Every number here is a prediction against a published measurement. The constants of a kernel come from at most 24 rows
of its table (`fit.rows` in `hwmodels/data/calibrated`); errors are over *all* rows of the group. MAPE: mean absolute
error; bias: mean signed error, positive where the prediction is too slow; "in 90 %": share of the rows that the fit did
not see inside their 90 % interval.
"""

RIGHT = """\
## Where the model is right

- DeepEP normal and low latency, H100, one node: every regime from one token to 131,072, 4 to 24 SMs.
- Zero-shot (`tests/validate/test_zero_shot.py`): hidden 2048 from 4096 and 7168, SM counts between those fitted, 4
  nodes from 2, EP16 from EP2 to EP8, all within 8 % (10 % across nodes), but for the waits below.
- H800, of which no row was ever fitted: DeepEP's own tables, NVLink-bound at EP8 and EP16, NIC-bound beyond, by
  datasheet alone.
- B200 and GB200 DeepEP from their 24 rows: with a third of them left out the mean error stays below 7 %.

## Where it is wrong

- Notify times across nodes contain waits of ranks for each other, which grow with the kernel before them; that is a
  property of the run. `combine_notify` at 2 nodes misses 15 % while one run with a degraded NIC counts, and meets it
  without.
- GB200 two-sided dispatch on one node: small groups run between two of its regimes; MAPE below 10 %, with a bias.
- Kernels of other libraries (DeepEP V2, pplx-kernels, UCCL's proxies on EFA) under constants fitted to DeepEP V1: each
  row beyond 40 % is listed with its reason above.
- 8 nodes and more of H100 congest at large batches; no such row is here and no law claims it.
- fp8 GEMM below a hundred microseconds is the framework's launch path, not the GPU's.
- Grouped GEMM: DeepGEMM's kernels under even routing only. The contiguous kernel with few tokens on EP8 is faster than its
  experts' weights could be read from HBM: fewer experts are active than even routing says, and the model is up to 84 %
  slow. Triton's fused MoE and skewed routing are not described yet.

## Reading these numbers honestly

- A group's MAPE hides its regimes: the HTML report (`epicycle validate FILE --html report.html`) shows them apart.
- Odd rows are counted in every error; beside it stands the error without them, and why they are odd.
- H100 one-node and multi-node rows come from different clusters and library versions, and are fitted apart.
- Whether Blackwell's DeepEP dispatched fp8 or bf16 is not stated in its table; the constants absorb it.
- An interval's coverage counts rows that the fit left aside; half of those made the interval.
- Systems without rows (H200, B300, GB300, H800, MI300X) borrow from a relative: their intervals are wider and say so.
"""

REPRODUCE = """\
## Reproducing

```
python -m epicycle.validate.shipped TABLES    # every shipped calibration, from the tables
epicycle validate TABLES/ep_comm.csv          # one table; --html, --csv, --json
epicycle calibrate TABLES/ep_comm.csv --system h100_sxm
python -m epicycle.validate.page TABLES       # this page
```
"""


def render(tables: Path, ablation: str) -> str:
    """The page's text; ``ablation`` is its section of that name (`ablation_section`), which takes a minute to make."""
    parts = [HEAD]
    for name in TABLES:
        outcome = validate_table(tables / name)
        parts.append(f"## {name}\n\n" + "\n".join(_groups(outcome)) + "\n")
        notes = [f"- {note}" for note in outcome.notes]
        notes += [f"- not predicted, {rows} rows: {why}" for why, rows in outcome.skipped.items()]
        if notes:
            parts.append("\n".join(notes) + "\n")
    blind = validate_table(tables / "published_ep.csv")
    parts += ["\n".join(_blind(blind)) + "\n", ablation, RIGHT, REPRODUCE]
    return "\n".join(parts)


def _groups(outcome: Validation) -> Iterator[str]:
    yield "| system | kernel | op | nodes | rows | MAPE, % | median, % | bias, % | without odd rows, % | in 90 % |"
    yield "|---|---|---|--:|--:|--:|--:|--:|--:|--:|"
    for g in outcome.groups:
        without = "" if g.mape_without_odd_pct is None else f"{g.mape_without_odd_pct:.1f}"
        covered = "" if g.covered_90_pct is None else f"{g.covered_90_pct:.0f}"
        errors = f"{g.mape_pct:.1f} | {g.median_ape_pct:.1f} | {g.bias_pct:+.1f}"
        yield f"| {g.system} | {g.protocol} | {g.op} | {g.nodes} | {g.rows:,} | {errors} | {without} | {covered} |"


def _blind(outcome: Validation) -> Iterator[str]:
    """The blind rows, whole: every figure with its prediction."""
    errors = np.array([100.0 * (float(r["predicted_us"]) / float(r["latency_us"]) - 1.0) for r in outcome.rows])
    yield "## published_ep.csv, blind"
    yield ""
    yield f"{len(errors)} figures that the libraries print themselves, none of them fitted: median absolute error"
    yield f"{np.median(np.abs(errors)):.1f} %, {int((np.abs(errors) > 40).sum())} beyond 40 %. Logical bandwidths become"
    yield "times as each benchmark counts its bytes (`validate/published.py`). Not predicted:"
    yield ""
    yield from (f"- {rows} rows: {why}" for why, rows in outcome.skipped.items())
    yield ""
    head = "library | fabric | described as | op | EP | tokens | dtype | measured, us | predicted, us | error, %"
    yield f"| {head} | reason |"
    yield "|---|---|---|---|--:|--:|---|--:|--:|--:|---|"
    for r, error in zip(outcome.rows, errors, strict=True):
        case = f"{r['protocol']} | {r['op']} | {r['ep']} | {r['tokens_per_rank']} | {r['dtype']}"
        times = f"{float(r['latency_us']):.1f} | {float(r['predicted_us']):.1f} | {error:+.0f}"
        yield f"| {r['system']} | {r['fabric']} | {case} | {times} | {r.get('reason', '')} |"


def ablation_section(tables: Path) -> str:
    """Errors of H100 kernels refitted without one mechanism."""
    lines = [ABLATION, "", "MAPE over all H100 rows of the kernel, refitted to the same 24 rows without the mechanism.", ""]
    lines += ["| mechanism | kernel | nodes | with, % | without, % |", "|---|---|---|--:|--:|"]
    for a in ablate(tables / "ep_comm.csv"):
        m = a.mechanism
        where = "1" if m.one_node else "2, 4"
        lines.append(f"| {m.name} | {m.protocol} {m.op} | {where} | {a.with_pct:.1f} | {a.without_pct:.1f} |")
    return "\n".join(lines) + "\n"


def ablation_of(text: str) -> str:
    """The ablation section of an existing page."""
    start = text.index(ABLATION)
    return text[start : text.index("\n## ", start) + 1].rstrip("\n") + "\n"


def main(arguments: list[str]) -> int:
    """Write the page, or with ``--check`` compare all but its ablation; 1 if it is out of date."""
    check = "--check" in arguments
    places = [Path(a) for a in arguments if a != "--check"]
    tables, page = (places + [MEASUREMENTS, PAGE][len(places) :])[:2]
    if check:
        old = page.read_text(encoding="utf-8")
        return int(render(tables, ablation_of(old)) != old)
    page.write_text(render(tables, ablation_section(tables)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
