"""Fitting: the shipped constants come out again, made-up constants are found, and bad tables get one clear line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from epicycle.hwmodels.calibration import (
    Calibration,
    Entry,
    calibrated_systems,
    constants_of,
    find_entry,
    load_calibration,
    read_constant,
)
from epicycle.hwmodels.catalog import load_cluster
from epicycle.sim.ep.bound import program_seconds
from epicycle.sim.ep.machine import machine_of
from epicycle.sim.ep.protocol import find_protocol
from epicycle.validate.fit.calibrate import calibrate
from epicycle.validate.fit.fit import fit
from epicycle.validate.fit.shipped import OWN, SYSTEMS
from epicycle.validate.tables.ep_rows import COLUMNS, PROTOCOL_NAMES, Group, grouped, read_table

Command = Callable[..., Any]
POINTS = [(t, h, k) for t in (1, 8, 32, 64, 128, 256) for h in (2048, 4096, 7168) for k in (4, 8)]


def line(tokens: int = 128, hidden: int = 7168, top_k: int = 8, latency: object = "50.0", **other: object) -> str:
    values: dict[str, object] = {
        "system": "mine", "nodes": 1, "gpus_per_node": 8, "library": "deepep@1", "protocol": "deepep-low-latency",
        "op": "dispatch", "payload_dtype": "fp8", "routing": "uniform", "tokens_per_rank": tokens, "hidden": hidden,
        "top_k": top_k, "experts": 256, "comm_sms": "", "latency_us": latency,
    }  # fmt: skip
    return ",".join(str((values | other)[c]) for c in COLUMNS)


def write(path: Path, lines: list[str], header: str = ",".join(COLUMNS)) -> Path:
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A table whose times are the model's own, from H100's constants."""
    drafts = [line(t, h, k) for t, h, k in POINTS]
    group = next(grouped(read_table(write(tmp_path / "draft.csv", drafts))))
    times = 1e6 * own_times(group)
    return write(tmp_path / "good.csv", [line(*p, latency=f"{t:.3f}") for p, t in zip(POINTS, times, strict=True)])


def own_times(group: Group) -> np.ndarray:
    machine = machine_of(load_cluster("h100-cx7"))
    entry, _ = find_entry("h100_sxm", "low-latency", group.op, "one-node")
    kernel = find_protocol("low-latency").ops[group.op]
    shape = group.shape()
    stages = kernel.describe(shape, machine, constants_of(entry, kernel.constants), group.context())
    return np.asarray(program_seconds(stages, shape, machine))


def test_times_of_a_known_machine_are_found_again(good: Path) -> None:
    found = calibrate(good, "mine", "h100-cx7")
    (fitted,) = found.fits
    assert fitted.entry.fit.rows == 24
    assert fitted.entry.fit.rows_available == len(POINTS)
    error = fitted.predicted_s / fitted.group.measured_s - 1
    assert np.abs(error).max() < 0.01
    assert not found.outliers
    known = float(str(load_calibration("h100_sxm").entries[0].constants["launch_per_expert"]).split()[0])
    assert known > 0
    assert set(fitted.entry.fit.uncertainty) <= set(fitted.entry.constants)


def test_a_spoilt_row_is_an_outlier_and_moves_nothing(good: Path) -> None:
    lines = good.read_text(encoding="utf-8").splitlines()
    spoilt = lines[20].split(",")
    spoilt[-1] = str(3 * float(spoilt[-1]))
    lines[20] = ",".join(spoilt)
    found = calibrate(write(good.with_name("spoilt.csv"), lines[1:]), "mine", "h100-cx7")
    assert [o.row.line for o in found.outliers] == [21]
    fitted = found.fits[0]
    error = np.abs(fitted.predicted_s / fitted.group.measured_s - 1)
    assert np.delete(error, 19).max() < 0.03


def test_command_writes_a_calibration_that_can_be_read(epicycle: Command, good: Path) -> None:
    out = good.with_name("mine.yaml")
    done = epicycle("calibrate", good, "--system", "mine", "--cluster", "h100-cx7", "--relative", "h100_sxm", "--out", out)
    assert done.status == 0, done
    assert "24 of 36 rows" in done.out
    calibration = Calibration.model_validate(yaml.safe_load(out.read_text(encoding="utf-8")))
    assert (calibration.system, calibration.relative) == ("mine", "h100_sxm")


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([line(latency="0")], ("line 2", "latency_us", "above zero")),
        ([line(latency="-3")], ("line 2", "latency_us")),
        ([line(latency="nan")], ("line 2", "latency_us")),
        ([line(latency="fast")], ("line 2", "latency_us", "'fast'")),
        ([line(tokens=0)], ("line 2", "tokens_per_rank")),
        ([line(1024, latency="0.09")], ("line 2", "latency_us", "full rate", "microseconds")),
        ([line(latency="50"), line(64, latency="30"), line(latency="500")], ("line 4", "contradicts line 2")),
        ([line(t, latency=20 + t) for t in (1, 2, 4, 8)], ("4 rows", "at least 12", "undetermined", "nvlink_efficiency")),
        ([line(system="other")], ("unknown system 'mine'",)),
        ([line(protocol="carrier-pigeon")], ("unknown protocol carrier-pigeon",)),
        ([], ("no rows",)),
    ],
)
def test_bad_tables_get_one_line(epicycle: Command, tmp_path: Path, lines: list[str], words: tuple[str, ...]) -> None:
    table = write(tmp_path / "bad.csv", lines)
    done = epicycle("calibrate", table, "--system", "mine", "--cluster", "h100-cx7", "--out", tmp_path / "out.yaml")
    assert done.status == 2, done
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    for word in words:
        assert word in done.err
    assert not (tmp_path / "out.yaml").exists()


def test_a_missing_column_is_named(epicycle: Command, tmp_path: Path) -> None:
    header = ",".join(c for c in COLUMNS if c != "top_k")
    done = epicycle("calibrate", write(tmp_path / "bad.csv", [], header), "--system", "mine", "--cluster", "h100-cx7")
    assert done.status == 2
    assert "line 1: no column top_k" in done.err


def close(new: Entry, old: Entry) -> bool:
    """Constants that the rows determine agree to 1 %; the others may wander in a digit with the processor's rounding."""
    determined = set(new.constants) - set(new.fit.undetermined) - set(old.fit.undetermined)
    return all(
        read_constant(n, new.constants[n]) == pytest.approx(read_constant(n, old.constants[n]), rel=0.01, abs=1e-12)
        for n in determined
    )


@pytest.mark.parametrize("name", ["h100_sxm", "b200_sxm", "gb200"])
def test_a_refit_gives_the_shipped_constants(tables: Path, name: str) -> None:
    """The quick kernels of each system; `python -m epicycle.validate.fit.shipped --check` compares every file."""
    machine = machine_of(load_cluster(load_calibration(name).cluster))
    for group in grouped([r for r in read_table(tables / "ep_comm.csv") if r.system == name]):
        if group.protocol in ("deepep-low-latency", "nvlink-one-sided"):
            shipped, source = find_entry(name, PROTOCOL_NAMES[group.protocol], group.op, group.scope)
            again = fit(group, machine, "ep_comm.csv").entry
            assert source == name
            assert again.fit.rows == shipped.fit.rows
            assert close(again, shipped), (name, shipped.protocol, shipped.op)


def test_every_calibration_file_is_fitted_or_borrows() -> None:
    measured = {system.name: system for system in SYSTEMS}
    for name in calibrated_systems():
        calibration = load_calibration(name)
        assert calibration.system == name
        if name in measured:
            system = measured.pop(name)
            assert (calibration.cluster, calibration.relative, calibration.why) == (system.cluster, system.relative, system.why)
        else:
            # Our own kernels were timed on a GPU that nobody's tables speak of: their entries are all it has.
            assert {entry.scope for entry in calibration.entries} <= ({"kernel"} if name == OWN.name else set())
            assert calibration.why
            assert calibration.relative in calibrated_systems()
    assert not measured
