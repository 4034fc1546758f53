"""The blind figures: predicted without fitting, every one shown or counted, every large error with its reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from epicycle.validate.tables.published import COLUMNS, FAR_PCT, Figure, read_figures

Command = Callable[..., Any]


@pytest.fixture(scope="module")
def figures(tables: Path) -> list[Figure]:
    return read_figures(tables / "published_ep.csv")[0]


def test_median_error_of_the_blind_rows(figures: list[Figure]) -> None:
    assert len(figures) > 280
    assert np.median([abs(f.error_pct) for f in figures]) <= 20.0


def test_deepep_on_h800_is_predicted_from_h100(figures: list[Figure]) -> None:
    """NVLink-bound EP8 and EP16, NIC-bound EP32 and EP64, and the low-latency table: nothing of H800 was ever fitted."""
    own = [f for f in figures if f.values["lib"] == "DeepEP-V1"]
    assert len(own) == 20
    assert {f.calibrated_on for f in own} == {"h100_sxm"}
    assert max(abs(f.error_pct) for f in own) <= 25.0
    assert np.median([abs(f.error_pct) for f in own]) <= 8.0


def test_deepep_v2_is_predicted_from_its_sources(figures: list[Figure]) -> None:
    """Slots for rings, TMA at the library's own rates, one-sided NVLink, the first generation's rails: nothing fitted."""
    second = [f for f in figures if f.values["lib"] == "DeepEP-V2"]
    assert len(second) == 10
    assert {f.protocol for f in second} == {"elastic"}
    assert max(abs(f.error_pct) for f in second) <= 15.0


def test_every_large_error_has_a_reason(figures: list[Figure]) -> None:
    far = [f for f in figures if abs(f.error_pct) > FAR_PCT]
    assert far
    assert all(f.reason and f.reason != "unexplained" for f in far)
    assert all(not f.reason for f in figures if abs(f.error_pct) <= FAR_PCT)


def test_nothing_is_dropped_silently(tables: Path) -> None:
    figures, skipped = read_figures(tables / "published_ep.csv")
    lines = (tables / "published_ep.csv").read_text(encoding="utf-8").count("\n") - 1
    assert len(figures) + sum(skipped.values()) == lines


def test_the_command_takes_the_table(epicycle: Command, tables: Path, tmp_path: Path) -> None:
    done = epicycle("validate", tables / "published_ep.csv", "--html", tmp_path / "blind.html", "--csv", tmp_path / "rows.csv")
    assert done.status == 0, done
    assert "beyond 40 %" in done.out
    assert "reason" in (tmp_path / "rows.csv").read_text(encoding="utf-8").splitlines()[0]
    refused = epicycle("validate", tables / "published_ep.csv", "--engine", "events")
    assert refused.status == 2


def test_a_broken_figure_gets_one_line(epicycle: Command, tmp_path: Path) -> None:
    row = dict.fromkeys(COLUMNS, "") | {
        "lib": "DeepEP-V1", "gpu": "H800", "mode": "HT", "op": "dispatch", "ep": "8", "tokens_per_rank": "4096",
        "hidden": "7168", "topk": "8", "dtype": "fp8",
    }  # fmt: skip
    table = tmp_path / "bad.csv"
    table.write_text(",".join(COLUMNS) + "\n" + ",".join(row.values()) + "\n", encoding="utf-8")
    done = epicycle("validate", table)
    assert done.status == 2
    assert "line 2: neither latency_us nor bw_GBps" in done.err


def test_intervals_of_a_relatives_constants_hold_on_hardware_never_fitted(tables: Path) -> None:
    """DeepEP on H800, MORI on MI300X: predicted with H100's constants, with what that adds to the interval."""
    figures = [f for f in read_figures(tables / "published_ep.csv")[0] if f.system.startswith(("DeepEP-V1", "MORI"))]
    assert len(figures) > 30
    inside = [f.interval.low90 * f.predicted_us <= f.measured_us <= f.interval.high90 * f.predicted_us for f in figures]
    assert sum(inside) >= 0.86 * len(inside)
    assert all(f.interval.why for f in figures)
