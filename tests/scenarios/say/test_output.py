"""Outputs are checked before the work and placed whole, all of them or none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from epicycle.hwmodels.errors import BadInput
from epicycle.scenarios.say.output import Outputs


def test_outputs_appear_together_at_the_end(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    with Outputs((one, None, two)) as outputs:
        outputs.put(one, lambda path: path.write_text("1") and None)
        outputs.put(None, lambda path: pytest.fail("nothing was asked for"))
        outputs.put(two, lambda path: path.write_text("2") and None)
        assert not one.exists()
        assert not two.exists()
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"one": "1", "two": "2"}


def test_a_failure_leaves_everything_as_it_was(tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.write_text("old")

    def work() -> None:
        with Outputs((old, tmp_path / "new")) as outputs:
            outputs.put(old, lambda path: path.write_text("new") and None)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        work()
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"old": "old"}


def test_a_file_keeps_its_mode_and_a_new_one_gets_the_usual(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.touch()
    old.chmod(0o640)
    with Outputs((old, new)) as outputs:
        outputs.put(old, lambda path: path.write_text("x") and None)
        outputs.put(new, lambda path: path.write_text("x") and None)
    mask = os.umask(0)
    os.umask(mask)
    assert old.stat().st_mode & 0o777 == 0o640
    assert new.stat().st_mode & 0o777 == 0o666 & ~mask


def test_a_link_is_followed_and_a_device_is_not_replaced(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    with Outputs((link, Path("/dev/null"))) as outputs:
        outputs.put(link, lambda path: path.write_text("new") and None)
        outputs.put(Path("/dev/null"), lambda path: path.write_text("gone") and None)
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert Path("/dev/null").is_char_device()


def test_what_cannot_be_written_is_said_first(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "no" / "folder", tmp_path / "file" / "under", Path("/proc/epicycle.json")):
        (tmp_path / "file").touch()
        with pytest.raises(BadInput, match="cannot be written"), Outputs((tmp_path / "fine", path)):
            pytest.fail("the work must not start")
        assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_two_outputs_cannot_share_a_path(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="same path"), Outputs((tmp_path / "a", tmp_path / "a")):
        pytest.fail("the work must not start")


def test_stdout_is_an_output(capsys: pytest.CaptureFixture[str]) -> None:
    with Outputs((Path("-"),)) as outputs:
        outputs.put(Path("-"), lambda path: path.write_text("{}\n") and None)
    assert outputs.uses_stdout
    assert capsys.readouterr().out == "{}\n"
