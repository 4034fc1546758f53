"""Compiled loops are kept where they can be: beside the package, in the user's cache, or among the temporary files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

#: No folder but one that is named can be written: a read-only install of a user without a home.
ALONE = """
from numba.core import caching
caching.CacheImpl._locator_classes = caching.CacheImpl._locator_classes[:1]
from epicycle.cli import main
import sys
sys.argv = ["epicycle", "simulate", "ep-anatomy"]
main()
"""


def _loops(folder: Path) -> int:
    return len(list(folder.rglob("*.nbi")))


def _simulated(folder: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if k not in ("NUMBA_CACHE_DIR", "HOME")} | {"TMPDIR": str(folder)}
    done = subprocess.run([sys.executable, "-c", ALONE], env=environment, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="users have no number here")
def test_a_read_only_install_keeps_its_loops_among_the_temporary_files(tmp_path: Path) -> None:
    first = _simulated(tmp_path)
    folder = tmp_path / f"epicycle-{os.getuid()}"
    assert folder.stat().st_mode & 0o777 == 0o700
    kept = _loops(folder)
    assert kept > 0
    written = max(path.stat().st_mtime_ns for path in folder.rglob("*.nb*"))
    assert _simulated(tmp_path) == first
    assert max(path.stat().st_mtime_ns for path in folder.rglob("*.nb*")) == written, "compiled again"


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="users have no number here")
def test_a_folder_that_others_can_write_is_not_used(tmp_path: Path) -> None:
    (tmp_path / f"epicycle-{os.getuid()}").mkdir(mode=0o777)
    (tmp_path / f"epicycle-{os.getuid()}").chmod(0o777)
    assert _simulated(tmp_path)
    assert _loops(tmp_path) == 0
