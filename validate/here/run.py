"""``calibrate-here``: measure this machine, fit its constants, judge them on rows that no fit has seen."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from ...hwmodels.calibration import Calibration, Entry, load_shipped, standing_in
from ...hwmodels.errors import BadInput
from ...hwmodels.specs import Gpu
from ..fit.calibrate import to_yaml
from ..fit.own.constants import OwnFit
from ..fit.own.wanted import rows_that_tell
from ..fit.tables import Together, calibrate_all
from ..pages.report import write_validation_report
from ..predict.handover import group_records
from ..predict.predicted import Validation
from ..tables.own.rows import OwnRow, read_own
from ..tables.vocabulary import TABLES
from ..validate import validate_table

#: Tokens a rank: from launch-bound to bandwidth-bound, and between them two that are kept aside to judge by.
SHAPES = ("1024x7168x2048x64x8", "128x7168x2048x64x8", "1x7168x2048x64x8", "16x7168x2048x64x8", "256x7168x2048x64x8",
          "64x7168x2048x64x8", "4096x7168x2048x64x8")  # fmt: skip
ASIDE = frozenset((64, 256))
NODE_SHAPES = ("1024x7168x2048x256x8", "128x7168x2048x256x8", "16x7168x2048x256x8")
#: Of the rows that bench can time, those that the laws need; products with int4 weights have none.
KERNELS = ("quantise", "permute", "unpermute", "swiglu_*", "gemm_*_bf16*", "gemm_*_fp8*", "ht_*", "ll_*")


#: Files of rows of a calibration, by mode: one GPU's fix launches, chains and shares of HBM, the others' the links' shares.
ROWS = {"virtual": "rows.csv", "node": "node.csv", "cluster": "cluster.csv"}


def calibrate_here(work: Path, minutes: float, system: str | None, say: Callable[[str], None] = print) -> None:
    """Leave rows, ``mine.yaml`` and ``calibration.html`` in ``work``; under torchrun rank 0 writes them, from rows of one GPU
    found there and the node's. Without a GPU, rows that another machine left in ``work`` are fitted.

    Raises BadInput without a CUDA device and without rows, or for rows that cannot be fitted.
    """
    mode, limit = mode_here(os.environ), 60.0 * minutes
    if mode == "virtual" and _measured(work) and not _has_gpu():
        say(f"no GPU here: fitting the rows in {work}")
        conclude(work, say)
        return
    from ..bench import Asked, run_bench

    work.mkdir(parents=True, exist_ok=True)
    rows = work / ROWS[mode]
    one = mode == "virtual"
    asked = Asked(
        mode, KERNELS if one else None, SHAPES if one else NODE_SHAPES, rows,
        work / ("bench.html" if one else f"{mode}.html"), system=system, resume=rows.exists(), limit_s=limit,
    )  # fmt: skip
    run_bench(asked, say)
    if os.environ.get("RANK", "0") == "0":
        conclude(work, say)


def _has_gpu() -> bool:
    """Whether torch is here and sees a CUDA device."""
    try:
        from ..bench.device import present
    except ModuleNotFoundError:
        return False
    return present()


def mode_here(environment: Mapping[str, str]) -> str:
    """One GPU, or under torchrun its node, or several nodes."""
    if "LOCAL_RANK" not in environment:
        return "virtual"
    return "cluster" if int(environment["WORLD_SIZE"]) > int(environment["LOCAL_WORLD_SIZE"]) else "node"


def conclude(work: Path, say: Callable[[str], None] = print) -> Together:
    """Fit to all rows in ``work`` but those aside, judge on all, and write calibration and report.

    Raises BadInput for rows that cannot be fitted.
    """
    measured = _measured(work)
    if not measured:
        raise BadInput(
            f"{work}: no rows of our own kernels in {', '.join(ROWS.values())}: epicycle calibrate-here measures some"
        )
    tables = [table for rows in measured for table in _tables(rows)]
    gpus: dict[str, Gpu] = {}
    system = read_own(tables[0], gpus)[0].system
    shipped = load_shipped(system)
    named = ", ".join(rows.name for rows in measured)
    found = calibrate_all(tables, system, shipped.cluster, relative=system, why=f"measured here: {named}", aside=is_aside)
    mine = work / "mine.yaml"
    mine.write_text(to_yaml(found.calibration), encoding="utf-8")
    with standing_in(str(mine)):
        judged = [validate_table(table) for table in tables]
    report(judged, found.calibration, work / "calibration.html", named)
    for protocol, op, n_long, long, n_short, short in found.own_errors:
        said = [f"{n} rows {side} 20 us: {e:.1f} %" for n, side, e in ((n_long, "from", long), (n_short, "below", short)) if n]
        say(f"{protocol + ' ' + op:45} {'; '.join(said)}")
    if found.own is not None:
        say(_aside(found.own))
        for wanted in rows_that_tell(found.own):
            say(f"these rows do not tell {wanted}")
    for entry in found.entries:
        if entry.scope != "kernel":
            say(f"{entry.protocol + ' ' + entry.op:45} {entry.scope}: {_links(entry)}")
    if not _tables(work / ROWS["virtual"]):
        say(f"launches and shares of HBM stay those shipped: epicycle calibrate-here --work {work} on one GPU fits them too")
    say(f"wrote {mine} and {work / 'calibration.html'}; simulate with --set cluster.calibration={mine}")
    return found


def _aside(own: OwnFit) -> str:
    """How well rows are met that no fit has seen."""
    far = np.abs(own.predicted_s / np.array([row.measured_s for row in own.rows]) - 1.0)[~own.used]
    tokens = " and ".join(f"{n:,}" for n in sorted({row.tokens for row in own.rows if is_aside(row)}))
    if not len(far):
        return "no row was kept aside: those of 64 and 256 tokens would be"
    return (
        f"kept aside, {len(far)} rows of {tokens} tokens: met within {100 * far.mean():.1f} % on average,"
        f" {int((far <= 0.08).sum())} of them within 8 %, {100 * far.max():.0f} % at worst"
    )


def _links(entry: Entry) -> str:
    """What a node's rows fixed, and how well."""
    name = "nvlink_efficiency" if entry.scope == "one-node" else "nic_efficiency"
    lost = "; not determined by these rows" if name in entry.fit.undetermined else ""
    return f"{name} {entry.constants[name]:.2f}, {entry.fit.rows} rows within {entry.fit.mape_fit_pct:.1f} %{lost}"


def is_aside(row: OwnRow) -> bool:
    return row.tokens in ASIDE


def report(judged: list[Validation], calibration: Calibration, path: Path, source: str) -> None:
    """One page on all tables."""
    groups = [record for one in judged for record in group_records(one)]
    predicted = tuple(row for one in judged for row in one.rows)
    skipped = {reason: n for one in judged for reason, n in one.skipped.items()}
    notes = tuple(dict.fromkeys(note for one in judged for note in one.notes))
    write_validation_report(
        groups, predicted, skipped, path, source=source, version=_version(), command="epicycle calibrate-here", notes=notes
    )


def _measured(work: Path) -> list[Path]:
    """The files of rows in ``work``, by what ``--out`` named them."""
    return [work / name for name in ROWS.values() if _tables(work / name)]


def _tables(rows: Path) -> list[Path]:
    """The tables of our own kernels beside ``rows`` that have been written."""
    found = (rows.with_name(f"{rows.stem}.{table}.csv") for table in TABLES if table in ("ep_comm", "grouped_gemm"))
    return [path for path in found if path.exists()]


def _version() -> str:
    from ... import __version__

    return __version__
