"""A long suite runs a share of its cases, always the same, unless it is asked for whole or a case is asked for by name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

SUITE = """
import pytest

@pytest.mark.long(share=0.2)
@pytest.mark.parametrize("case", range(30))
def test_many(case):
    pass

@pytest.mark.long
@pytest.mark.parametrize("case", range(3))
def test_few(case):
    pass

def test_drawn(long):
    assert isinstance(long, bool)
"""


def cases(folder: Path, *arguments: str, long: bool = False) -> list[str]:
    """The names of the cases that a run in ``folder`` would take."""
    command = [sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider", *arguments]
    environment = os.environ | {"EPICYCLE_LONG": "1" if long else ""}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True, env=environment)
    return [line.split("::")[1] for line in done.stdout.splitlines() if "::" in line]


def test_a_share_of_a_long_suite_and_the_whole(tmp_path: Path) -> None:
    shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path / "conftest.py")
    (tmp_path / "test_suite.py").write_text(SUITE, encoding="utf-8")
    short = cases(tmp_path)
    assert [sum(name.startswith(kind) for name in short) for kind in ("test_many", "test_few", "test_drawn")] == [6, 1, 1]
    assert short == cases(tmp_path)
    assert short[:6] != [f"test_many[{case}]" for case in range(6)], "a share is drawn over the whole suite"
    assert len(cases(tmp_path, long=True)) == 34
    left_out = next(f"test_many[{case}]" for case in range(30) if f"test_many[{case}]" not in short)
    assert cases(tmp_path, f"test_suite.py::{left_out}") == [left_out]
