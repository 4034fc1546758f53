"""docs/validation.md and the README's summary, by ``python -m epicycle.validate.pages.docs_page [TABLES] [PAGE]``.

``--check`` only compares.

What each mechanism buys takes a minute of refits: it is kept in ``prose.md`` (``--quick`` leaves it as it is), like the words.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..fit.ablation import ablate
from ..fit.shipped import MEASUREMENTS
from ..predict.predicted import Validation
from ..validate import validate_table
from .mechanisms_page import section as mechanisms
from .own_page import section as own
from .production_page import section as production
from .prose import ABLATION, HONESTLY, RIGHT, WRONG, as_markdown, sections
from .readme_summary import summed
from .serving_page import section as serving

PAGE, README = Path("docs/validation.md"), Path("README.md")
TABLES = ("ep_comm.csv", "grouped_gemm.csv", "gemm.csv", "collectives.csv", "mla_attention.csv")
PROSE = Path(__file__).with_name("prose.md")

HEAD = """\
# Validation

Every number here is a prediction against a published measurement. The constants of a kernel come from at most 24 rows
of its table (`fit.rows` in `hwmodels/data/calibrated`); errors are over *all* rows of the group. MAPE: mean absolute
error; bias: mean signed error, positive where the prediction is too slow; "in 90 %": share of the rows that the fit did
not see inside their 90 % interval.
"""

REPRODUCE = """\
## Reproducing

<!-- needs: TABLES, the folder of measurement tables -->
```
python -m epicycle.validate.fit.shipped TABLES    # every shipped calibration, from the tables
python -m epicycle.validate.fit.libraries TABLES/published_ep_2.csv   # laws of libraries that publish a few rows
python -m epicycle.validate.serving.shipped TABLES   # the engines' constants, from measured deployments
epicycle validate TABLES/ep_comm.csv          # one table; --html, --csv, --json
epicycle calibrate TABLES/ep_comm.csv --system h100_sxm
python -m epicycle.validate.fit.widening TABLES   # what a relative's constants and points outside a table add to an interval
python -m epicycle.validate.pages.docs_page TABLES       # this page (--quick: without refitting for what each mechanism buys)
```
"""


def render(tables: Path) -> str:
    """The page's text."""
    parts = [HEAD]
    for name in TABLES:
        outcome = validate_table(tables / name)
        parts.append(f"## {name}\n\n" + "\n".join(_groups(outcome)) + "\n")
        notes = [f"- {note}" for note in outcome.notes]
        notes += [f"- not predicted, {rows} rows: {why}" for why, rows in outcome.skipped.items()]
        if notes:
            parts.append("\n".join(notes) + "\n")
    blind = validate_table(tables / "published_ep.csv")
    parts += ["\n".join(own()), "\n".join(_blind(blind)) + "\n", "\n".join(production()) + "\n"]
    parts.append("\n".join(serving(tables)) + "\n")
    parts.append("\n".join(mechanisms(tables)) + "\n")
    parts += [*(as_markdown(title) for title in (ABLATION, RIGHT, WRONG, HONESTLY)), REPRODUCE]
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
    inside = [float(r["predicted_low90_us"]) <= float(r["latency_us"]) <= float(r["predicted_high90_us"]) for r in outcome.rows]
    yield "times as each benchmark counts its bytes (`validate/tables/published.py`)."
    yield f"{100 * sum(inside) / len(inside):.0f} % lie inside their 90 % intervals, which know of other hardware and shapes"
    yield "than the fitted tables', not of other libraries, versions and sites. Not predicted:"
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


def ablation_body(tables: Path) -> str:
    """Errors of H100 kernels refitted without one mechanism, as the section of `prose` that says so."""
    lines = ["MAPE over all H100 rows of the kernel, refitted to the same 24 rows without the mechanism.", ""]
    lines += ["| mechanism | kernel | nodes | with, % | without, % |", "|---|---|---|--:|--:|"]
    for a in ablate(tables / "ep_comm.csv"):
        m = a.mechanism
        where = "1" if m.one_node else "2, 4"
        lines.append(f"| {m.name} | {m.protocol} {m.op} | {where} | {a.with_pct:.1f} | {a.without_pct:.1f} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    """Write the page, or with ``--check`` compare it; 1 if it is out of date."""
    places = [Path(a) for a in arguments if not a.startswith("--")]
    tables, page = (places + [MEASUREMENTS, PAGE][len(places) :])[:2]
    if "--check" in arguments:
        return int(render(tables) != page.read_text(encoding="utf-8"))
    if "--quick" not in arguments:
        bodies = sections() | {ABLATION: ablation_body(tables)}
        PROSE.write_text("\n".join(f"## {title}\n\n{body}" for title, body in bodies.items()), encoding="utf-8")
        sections.cache_clear()
    text = render(tables)
    page.write_text(text, encoding="utf-8")
    if page == PAGE:
        README.write_text(summed(README.read_text(encoding="utf-8"), text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
