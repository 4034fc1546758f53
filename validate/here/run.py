"""``calibrate-here``: measure this machine, fit its constants, judge them on rows that no fit has seen."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ...hwmodels.calibration import Calibration, load_shipped, standing_in
from ..fit.calibrate import to_yaml
from ..fit.tables import Together, calibrate_all
from ..pages.report import write_validation_report
from ..predict.handover import group_records
from ..predict.predicted import Validation
from ..tables.own_rows import OwnRow, read_own
from ..tables.vocabulary import TABLES
from ..validate import validate_table

#: Tokens a rank: from launch-bound to bandwidth-bound, and between them two that are kept aside to judge by.
SHAPES = ("1024x7168x2048x64x8", "128x7168x2048x64x8", "1x7168x2048x64x8", "16x7168x2048x64x8", "256x7168x2048x64x8",
          "64x7168x2048x64x8", "4096x7168x2048x64x8")  # fmt: skip
ASIDE = frozenset((64, 256))
NODE_SHAPES = ("1024x7168x2048x256x8", "128x7168x2048x256x8", "16x7168x2048x256x8")
#: Of the rows that bench can time, those that the laws need; products with int4 weights have none.
KERNELS = ("quantise", "permute", "unpermute", "swiglu_*", "gemm_*_bf16*", "gemm_*_fp8*", "ht_*", "ll_*")


def calibrate_here(work: Path, minutes: float, system: str | None, say: Callable[[str], None] = print) -> None:
    """Leave ``rows.csv``, ``mine.yaml`` and ``calibration.html`` in ``work``. Raises ValueError without a CUDA device."""
    from ..bench import Asked, run_bench

    work.mkdir(parents=True, exist_ok=True)
    node = "LOCAL_RANK" in os.environ
    rows, limit = work / ("node.csv" if node else "rows.csv"), 60.0 * minutes
    asked = Asked(
        "node" if node else "virtual", None if node else KERNELS, NODE_SHAPES if node else SHAPES, rows,
        work / "bench.html", system=system, resume=rows.exists(), limit_s=limit,
    )  # fmt: skip
    run_bench(asked, say)
    if os.environ.get("RANK", "0") != "0":
        return
    if node:
        say(f"rows of the node are in {rows}; they fix link efficiencies, which the fit of {work / 'rows.csv'} leaves open")
        return
    conclude(rows, work, say)


def conclude(rows: Path, work: Path, say: Callable[[str], None] = print) -> Together:
    """Fit to the rows in ``rows`` but those aside, judge on all, and write calibration and report.

    Raises BadInput for rows that cannot be fitted.
    """
    tables = [beside for table in TABLES if table in ("ep_comm", "grouped_gemm") and (beside := _beside(rows, table)).exists()]
    gpus: dict[str, object] = {}
    system = read_own(tables[0], gpus)[0].system  # type: ignore[arg-type]
    shipped = load_shipped(system)
    found = calibrate_all(tables, system, shipped.cluster, relative=system, why=f"measured here: {rows.name}", aside=is_aside)
    mine = work / "mine.yaml"
    mine.write_text(to_yaml(found.calibration), encoding="utf-8")
    with standing_in(str(mine)):
        judged = [validate_table(table) for table in tables]
    report(judged, found.calibration, work / "calibration.html", rows)
    for protocol, op, n_long, long, n_short, short in found.own_errors:
        said = [f"{n} rows {side} 20 us: {e:.1f} %" for n, side, e in ((n_long, "from", long), (n_short, "below", short)) if n]
        say(f"{protocol + ' ' + op:45} {'; '.join(said)}")
    say(f"wrote {mine} and {work / 'calibration.html'}; simulate with --set cluster.calibration={mine}")
    return found


def is_aside(row: OwnRow) -> bool:
    return row.tokens in ASIDE


def report(judged: list[Validation], calibration: Calibration, path: Path, rows: Path) -> None:
    """One page on all tables."""
    groups = [record for one in judged for record in group_records(one)]
    predicted = tuple(row for one in judged for row in one.rows)
    skipped = {reason: n for one in judged for reason, n in one.skipped.items()}
    notes = tuple(dict.fromkeys(note for one in judged for note in one.notes))
    write_validation_report(
        groups, predicted, skipped, path, source=rows.name, version=_version(), command="epicycle calibrate-here", notes=notes
    )


def _beside(rows: Path, table: str) -> Path:
    return rows.with_name(f"{rows.stem}.{table}.csv")


def _version() -> str:
    from ... import __version__

    return __version__
