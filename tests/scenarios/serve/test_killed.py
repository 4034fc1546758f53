"""A run that is killed at any time leaves the files of the last one, whole, or none."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.parametrize("written", [0, 1, 200_000])
def test_a_killed_run_leaves_nothing_half_written(tmp_path: Path, written: int) -> None:
    """SIGKILL before anything is written, with the first bytes, and in the middle of its lines."""
    lines, answer = tmp_path / "requests.csv", tmp_path / "run.json"
    lines.write_text("the last run's\n", encoding="utf-8")
    command = [sys.executable, "-m", "epicycle", "serve", "serve-llama-lost-gpu", "--requests", "400000"]
    process = subprocess.Popen(
        [*command, "--csv", str(lines), "--json", str(answer)],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    parts: list[Path] = []
    for _ in range(3000):  # until it is so far; what it is asked takes much longer
        parts = list(tmp_path.glob(".requests.csv.*.part"))
        if parts and parts[0].stat().st_size >= written:
            break
        assert process.poll() is None, "it ended before it was killed"
        time.sleep(0.02)
    assert parts
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    assert lines.read_text(encoding="utf-8") == "the last run's\n"
    assert not answer.exists()
    # What it leaves is hidden, named after what it was to be, and in nobody's way: the next run succeeds.
    assert all(path.name.startswith(".") and path.suffix == ".part" for path in tmp_path.iterdir() if path != lines)
    again = [*command[:-1], "300", "--csv", str(lines)]
    done = subprocess.run(again, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    with lines.open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == 300
