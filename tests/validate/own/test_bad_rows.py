"""Bad rows are one clear line each, whoever reads them: `validate` and `calibrate` refuse the same, before a row is used."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest
from typer.testing import CliRunner

from epicycle.cli import app
from epicycle.hwmodels.errors import BadInput
from epicycle.validate.fit.tables import calibrate_all
from epicycle.validate.validate import validate_table

MEASURED = Path(str(files("epicycle.validate").joinpath("measured")))
TABLES = [MEASURED / f"h200-2026-11-27.{table}.csv" for table in ("ep_comm", "grouped_gemm")]
COMMIT, GPU = "1fc0ff6dae4e", "NVIDIA H200"


def _again(text: str, old: str, new: str) -> str:
    """``text`` and its first row once more, with ``new`` for ``old``."""
    return text + text.splitlines()[1].replace(old, new, 1) + "\n"


#: What is done to a file that bench wrote, and what is said of it.
FAULTS: list[tuple[Callable[[str], str], str]] = [
    (
        lambda t: t.replace(GPU, "NVIDIA GT 710").replace("\nh200,", "\n,"),
        "line 2: no GPU of the catalogue is called 'NVIDIA GT 710'",
    ),
    (lambda t: t.replace("\nh200,", "\ngt710,"), "line 2: no GPU of the catalogue is called 'gt710'"),
    (lambda t: t.replace("\nh200,", "\nh100_sxm,"), f"line 2: its system is h100_sxm, and its GPU, {GPU}, is h200_sxm"),
    (lambda t: t[:-40], "line 55: its last line is only half written: leave it out (epicycle bench --resume does)"),
    (lambda t: t[:-1], "line 55: its last line is only half written"),
    (
        lambda t: "\n".join([*t.splitlines()[:5], "h200,epicycle", *t.splitlines()[6:]]) + "\n",
        "line 6: too few or too many columns",
    ),
    (lambda t: _again(t, COMMIT, "0000"), f"rows of several commits (0000, {COMMIT}): one file, one machine, one commit"),
    (lambda t: _again(t, GPU, "NVIDIA H100 80GB HBM3"), "rows of several gpus (NVIDIA H100 80GB HBM3, NVIDIA H200)"),
    (lambda t: _again(t.replace(GPU, "a card"), "h200,", "h100,"), "rows of several systems (h100_sxm, h200_sxm)"),
    (
        lambda t: _again(t, ",2.994,", ",4.5,"),
        "line 56 contradicts line 2: 4.5 us and 2.994 us of the same quantise, 1024 tokens: leave one out",
    ),
    (lambda t: t.replace(",2.994,", ",soon,"), "line 2: latency_us: wanted a time above zero, got 'soon'"),
    (lambda t: t.replace(",2.994,", ",nan,"), "line 2: latency_us: wanted a time above zero, got 'nan'"),
    (lambda t: t.replace(",2.994,", ",0,"), "line 2: latency_us: wanted a time above zero, got '0'"),
    (lambda t: t.replace(",1024,7168,", ",lots,7168,", 1), "line 2: tokens: wanted a whole number, got 'lots'"),
    (lambda t: t.replace(",8,64,8,", ",8,0,8,", 1), "line 2: experts: wanted 1 or more, got 0"),
    (lambda t: t.replace(",8,64,8,", ",8,60,8,", 1), "line 2: experts (60) do not divide over 8 ranks"),
    (lambda t: t.replace(",8,64,8,", ",80,64,8,", 1), "line 2: top_k (80) is more than there are experts (64)"),
    (
        lambda t: t.replace("fp8_block", "fp3", 1),
        "line 2: dtype: wanted one of bfloat16, fp8, fp8_block, int4_block, float32, got 'fp3'",
    ),
    (lambda t: t.replace("virtual", "sideways", 1), "line 2: mode: wanted one of virtual, node, cluster, got 'sideways'"),
    (lambda t: t.splitlines()[0] + "\n", "has a header and no rows"),
]


@pytest.mark.parametrize(("change", "said"), FAULTS)
def test_bad_rows_are_one_clear_line(change: Callable[[str], str], said: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(change(TABLES[1].read_text()))
    for read in (validate_table, lambda table: calibrate_all([table], "h200_sxm", "h200-cx7")):
        with pytest.raises(BadInput) as refused:
            read(path)
        assert said in str(refused.value)
        assert "\n" not in str(refused.value)


def test_a_command_ends_with_that_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(TABLES[1].read_text()[:-40])
    for command in (["validate", str(path)], ["calibrate", str(path), "--system", "h200_sxm"]):
        done = CliRunner().invoke(app, command)
        assert done.exit_code != 0
        assert isinstance(done.exception, BadInput)


def test_files_of_several_commits_are_no_calibration(tmp_path: Path) -> None:
    other = tmp_path / "other.grouped_gemm.csv"
    other.write_text(TABLES[1].read_text().replace(COMMIT, "abcdef123456"))
    with pytest.raises(BadInput, match=rf"several commits \({COMMIT} in .*, abcdef123456 in .*\): one calibration"):
        calibrate_all([TABLES[0], other], "h200_sxm", "h200-cx7")


def test_rows_of_another_commit_than_the_constants_are_judged_and_say_so(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(TABLES[1].read_text().replace(COMMIT, "abcdef123456"))
    (note,) = (n for n in validate_table(path).notes if "commit" in n)
    assert note.startswith(f"rows of commit abcdef123456, constants of commit {COMMIT}: where kernels changed")
    assert not any("commit" in n for n in validate_table(TABLES[1]).notes)


def test_rows_of_another_system_name_it() -> None:
    with pytest.raises(BadInput, match="its rows are of h200_sxm, not of h100_sxm: give --system h200_sxm"):
        calibrate_all([TABLES[1]], "h100_sxm", "h100-cx7")


def test_too_few_rows_tell_nothing_and_the_ones_that_would_are_named(tmp_path: Path) -> None:
    """One row is met by five constants, and determines none of them."""
    from epicycle.validate.fit.own.constants import undetermined_of
    from epicycle.validate.fit.own.wanted import rows_that_tell

    path = tmp_path / "rows.csv"
    path.write_text("".join(TABLES[0].read_text().splitlines(keepends=True)[:2]))
    found = calibrate_all([path], "h200_sxm", "h200-cx7").own
    assert found is not None
    assert set(undetermined_of(found, ("epicycle-high-throughput", "dispatch"))) >= {"launch", "chain", "hbm_efficiency"}
    assert list(rows_that_tell(found)) == [
        "chain, launch: epicycle bench --kernels 'ht_dispatch_*', 1 and 16 tokens a rank",
        "hbm_efficiency: epicycle bench --kernels 'ht_dispatch_*', 1,024 and 4,096 tokens a rank",
    ]


def test_one_table_alone_is_fitted() -> None:
    """The cast is the quantise kernel: without a row of that, layers tell its residuals."""
    found = calibrate_all([TABLES[0]], "h200_sxm", "h200-cx7")
    assert {entry.op for entry in found.entries} >= {"cast", "quantise", "dispatch", "combine_send"}
    assert all(entry.fit.rows for entry in found.entries)
