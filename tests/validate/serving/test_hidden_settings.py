"""What rows leave out: the suite's first scripts, settings listed twice, versions, and how each widens or names an answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from epicycle.hwmodels.backends import backend_names, load_backend
from epicycle.validate.serving.fit import APART_SD, ROW_SD, _paces
from epicycle.validate.serving.recipes import UNSTATED, recipes_for
from epicycle.validate.serving.rows import ServingRow, Widths, family_of, read_serving
from epicycle.validate.serving.shipped import certain_rows
from epicycle.validate.serving.table import serving_table
from epicycle.validate.serving.versions import RELEASED


@pytest.fixture(scope="module")
def measured(tables: Path) -> list[ServingRow]:
    if not (tables / "serving.csv").is_file():
        pytest.skip("no serving.csv")
    return read_serving(tables / "serving.csv")


def test_rows_without_a_version_have_the_first_scripts_arrangements() -> None:
    """72 GPUs of GB200 at 8,192 tokens in: six prefill workers of 8 GPUs and one decoder of 24."""
    (found,) = recipes_for("sglang", "", "gb200", "fp8", 8192, 1024, 576)
    assert found.prefill is not None
    assert (found.prefill.count, found.prefill.gpus, found.decode.gpus, found.gpus) == (6, 8, 24, 72)
    assert recipes_for("sglang", "", "gb200", "fp8", 8192, 1024, 577) == []
    # A tensor-parallel decoder's clients are listed for one of them: 18 of three.
    (one,) = recipes_for("trtllm", "", "gb200", "fp4", 8192, 1024, 54)
    assert (one.decode.count, one.drafts, one.version) == (3, 3, UNSTATED)


def test_a_list_of_clients_of_one_decode_worker_is_counted_for_all(measured: list[ServingRow]) -> None:
    """Rows that state their workers agree with the list once its clients are counted for all of them."""
    mine = [r for r in measured if r.backend == "trtllm" and r.system == "h200_sxm" and r.version == "0.8.1.post1"]
    stated = [r for r in mine if not any("workers by" in name for name in r.assumed)]
    listed = [r for r in mine if any("workers by" in name for name in r.assumed)]
    assert stated and listed
    for row in stated:
        found = recipes_for("trtllm", row.version, row.system, "fp8", row.isl, row.osl, row.concurrency)
        if not any("from the concurrency" in name for name in row.assumed):
            assert row.decode.count in {r.decode.count for r in found}, row.line


def test_settings_listed_twice_get_one_interval_around_both(tables: Path, measured: list[ServingRow]) -> None:
    twice = {row.line for row in measured if row.otherwise}
    assert 40 < len(twice) < 120
    rows, _, _ = serving_table(tables / "serving.csv")
    widths = {r.line: np.log(r.interval.high90 / r.interval.low90) for r in rows if r.interval is not None}
    both, one = ([w for line, w in widths.items() if (line in twice) == mixed] for mixed in (True, False))
    assert np.median(both) > 1.3 * np.median(one)
    aside = np.arange(len(measured))
    assert len(certain_rows(measured, aside)) == len(measured) - len(twice)


def test_paces_shrink_with_few_rows_and_more_where_columns_say_less() -> None:
    plain = ServingRow(
        1, "deepseek-r1", "h200_sxm", "sglang", "fp8", "fp8", "fp8", 1024, 1024, 0.2, 8, Widths(8, 1, 1, 1, 1), None,
        1.0, 0.01, (), version="0.5.9",
    )  # fmt: skip
    apart = replace(plain, prefill=Widths(8, 1, 1, 1, 1), version="0.5.8")
    doubtful = replace(plain, otherwise=3, version="0.5.7")
    off = np.log(1.2)
    found = {p.version: p for p in _paces([plain, plain, plain, apart, doubtful], np.full(5, off))}
    assert set(found) == {"0.5.9", "0.5.8"}, "a mixture of two settings tells no pace"
    assert np.log(found["0.5.9"].pace) == pytest.approx(-0.75 * off, rel=1e-3)
    weight = (ROW_SD / APART_SD) ** 2
    assert np.log(found["0.5.8"].pace) == pytest.approx(-weight / (1.0 + weight) * off, rel=1e-2)
    assert found["0.5.9"].log_sd < found["0.5.8"].log_sd < ROW_SD


def test_every_shipped_pace_is_dated_and_of_few_rows() -> None:
    for name in backend_names():
        backend = load_backend(name)
        assert backend.fit is not None
        for version in backend.versions:
            assert version.released == RELEASED[version.version]
            assert version.rows <= backend.fit.rows
            assert backend.pace(version.version, version.family) == version.pace
        assert backend.pace("a version nobody ran", "deepseek") == 1.0
    assert family_of("qwen3-32b") == "qwen3 dense" != family_of("qwen3-235b-a22b") == "qwen3"
