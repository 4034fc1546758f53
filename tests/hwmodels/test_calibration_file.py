"""A calibration of one's own: loaded by its path, refused in one line that names the line and what would do."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
import yaml

from epicycle.hwmodels.calibration import (
    calibrated_systems,
    find_entry,
    is_calibration_path,
    load_calibration,
)
from epicycle.hwmodels.constant import read_constant, write_constant
from epicycle.hwmodels.errors import BadInput, Uncalibrated

KERNEL = ("low-latency", "dispatch", "one-node")


def written(path: Path, **changes: object) -> str:
    """A file of one kernel with the shipped H100's constants, but for ``changes`` of its top-level keys."""
    entry = find_entry("h100_sxm", *KERNEL)[0].model_dump(mode="json", exclude_none=True)
    entry["constants"]["launch"] = "7 us"
    data = {"system": "mine", "cluster": "h100-cx7", "relative": "h100_sxm", "entries": [entry]} | changes
    path.write_text(yaml.safe_dump({k: v for k, v in data.items() if v is not None}, sort_keys=False))
    return str(path)


def test_a_path_stands_for_a_system(tmp_path: Path) -> None:
    path = written(tmp_path / "mine.yaml")
    assert load_calibration(path).system == "mine"
    entry, source = find_entry(path, *KERNEL)
    assert (entry.constants["launch"], source) == ("7 us", path)
    assert find_entry(path, "low-latency", "combine", "one-node")[1] == "h100_sxm", "what it lacks is its relative's"


def test_names_stay_names() -> None:
    assert not any(map(is_calibration_path, calibrated_systems()))
    assert all(map(is_calibration_path, ("mine.yaml", "./mine", "a/b.yml")))


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    assert load_calibration(written(path)).why == ""
    written(path, why="measured again")
    os.utime(path, ns=(1, 1))
    assert load_calibration(str(path)).why == "measured again"


def test_without_a_relative_what_is_missing_is_missing(tmp_path: Path) -> None:
    path = written(tmp_path / "mine.yaml", relative=None)
    with pytest.raises(
        Uncalibrated, match=r"no calibration of low-latency combine \(one-node\) for .*, which names no relative"
    ):
        find_entry(path, "low-latency", "combine", "one-node")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"relative": "h100"}, ":3: relative: unknown calibrated system 'h100': did you mean 'h100_sxm'?"),
        ({"relative": "./mine.yaml"}, ":3: relative: unknown calibrated system"),
        ({"cluster": "h100-cx8"}, ":2: cluster: unknown cluster 'h100-cx8': did you mean 'h100-cx7'?"),
        ({"extra": 1}, "extra: no such key"),
        ({"entries": 5}, "entries: Input should be a valid tuple"),
    ],
)
def test_a_file_that_is_no_calibration_is_refused(tmp_path: Path, change: dict[str, object], said: str) -> None:
    path = written(tmp_path / "mine.yaml", **change)
    with pytest.raises(BadInput) as caught:
        load_calibration(path)
    assert str(caught.value).startswith(path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("launch: 7 us", "launch: 7", "constant launch: wanted a time such as '20.5 us', got 7.0"),
        ("launch: 7 us", "launch: 7 GB", "constant launch: 'GB' is not a unit of a latency"),
        ("sharpness: ", "sharpness: 0.5 #", "constant sharpness: wanted 1 or more"),
        ("nvlink_efficiency: ", "nvlink_efficiency: 3", "constant nvlink_efficiency: wanted a share above 0, at most 1"),
        ("send_copy: ", "send_copy: -", "constant send_copy: wanted a rate above 0"),
        ("B/cycle", "B/s", "wanted a copy rate such as '34 B/cycle'"),
        ("low90: ", "low90: 7", "wanted low90 <= low50 <= high50 <= high90"),
        ("seconds_from: 0 us", "seconds_from: soon", "wanted a latency such as"),
        ("- protocol: ", "- protocol: &x ", "anchor &x"),
    ],
)
def test_a_value_that_cannot_be_is_named(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = Path(written(tmp_path / "mine.yaml"))
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(BadInput) as caught:
        load_calibration(str(path))
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"{path}:")


def test_the_same_kernel_twice_is_refused(tmp_path: Path) -> None:
    one, two = (find_entry("h100_sxm", *KERNEL)[0].model_dump(mode="json", exclude_none=True) for _ in range(2))
    with pytest.raises(BadInput, match=r"low-latency dispatch \(one-node\) is there twice"):
        load_calibration(written(tmp_path / "mine.yaml", entries=[one, two]))


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none\.yaml: No such file"):
        load_calibration(str(tmp_path / "none.yaml"))
    (tmp_path / "x.yaml").write_bytes(b"a: \xff")
    with pytest.raises(BadInput, match="not UTF-8"):
        load_calibration(str(tmp_path / "x.yaml"))


@pytest.mark.parametrize("system", calibrated_systems())
def test_every_shipped_constant_reads_back_as_written(system: str) -> None:
    for entry in load_calibration(system).entries:
        for name, value in entry.constants.items():
            number = read_constant(name, value)
            assert math.isclose(read_constant(name, write_constant(name, number)), number, rel_tol=6e-4, abs_tol=1e-15)
