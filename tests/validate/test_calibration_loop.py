"""From one's own timings to one's own answer: calibrate a table, simulate with the file it wrote."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]
SMALL = (
    "--set",
    "cluster.nodes=1",
    "--set",
    "model=qwen3-235b-a22b",
    "--set",
    "deployment.ep=8",
    "--set",
    "deployment.compare=[]",
)


@pytest.fixture
def slower(tables: Path, tmp_path: Path) -> Path:
    """H100's low-latency rows inside a node, each 30 % slower than it was."""
    with (tables / "ep_comm.csv").open(newline="") as file:
        rows = [
            r
            for r in csv.DictReader(file)
            if (r["system"], r["protocol"], r["nodes"]) == ("h100_sxm", "deepep-low-latency", "1")
        ]
    path = tmp_path / "slower.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(r | {"latency_us": f"{1.3 * float(r['latency_us']):.3f}"} for r in rows)
    return path


def layer(epicycle: Command, *sets: str) -> dict[str, Any]:
    done = epicycle("simulate", "deepseek-v3-decode-ep32", *SMALL, *sets, "--json", "-")
    assert done.status == 0, done.err
    (found,) = json.loads(done.out)["layers"]
    return found


def times(found: dict[str, Any]) -> dict[str, float]:
    return {op["op"]: op["critical_us"] for op in found["ops"]}


def test_calibrate_then_simulate(epicycle: Command, slower: Path, tmp_path: Path) -> None:
    done = epicycle("calibrate", slower, "--system", "h100_sxm", "--out", "mine.yaml")
    assert done.status == 0, done.err
    shipped, mine = (layer(epicycle, *sets) for sets in ((), ("--set", "cluster.calibration=./mine.yaml")))
    before, after = times(shipped), times(mine)
    for op in ("dispatch", "combine"):
        assert 1.2 < after[op] / before[op] < 1.4
    assert after["compute"] == pytest.approx(before["compute"], rel=0.02), "the cluster's own calibration fills in"
    compute = next(op for op in mine["ops"] if op["op"] == "compute")
    assert not any("constants of" in reason for reason in compute["critical_interval"]["why"]), (
        "it was fitted on the same hardware"
    )
    assert "./mine.yaml has no measurements of compute: constants of h100_sxm" in mine["notes"]


def test_a_scenario_names_a_file_beside_itself(epicycle: Command, slower: Path, tmp_path: Path) -> None:
    assert epicycle("calibrate", slower, "--system", "h100_sxm", "--out", "mine.yaml").status == 0
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (tmp_path / "mine.yaml").rename(folder / "mine.yaml")
    text = """name: mine
model: qwen3-235b-a22b
cluster: {name: h100-cx7, nodes: 1, overrides: {calibration: ./mine.yaml}}
traffic: {tokens_per_rank: 128}
deployment: {ep: 8}
"""
    (folder / "s.yaml").write_text(text)
    assert epicycle("simulate", "elsewhere/s.yaml").status == 0
    (folder / "s.yaml").write_text(text.replace("./mine.yaml", "./other.yaml"))
    done = epicycle("simulate", "elsewhere/s.yaml")
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("error: elsewhere/s.yaml:3: calibration elsewhere/other.yaml: No such file")


def test_what_is_wrong_with_the_file_is_one_line(epicycle: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("system: mine\ncluster: h100-cx7\nentries: []\nrelativ: h100_sxm\n")
    done = epicycle("simulate", "ep-anatomy", "--set", "cluster.calibration=./mine.yaml")
    assert (done.status, done.out) == (2, "")
    assert done.err == "error: --set cluster.calibration=./mine.yaml: ./mine.yaml:4: relativ: no such key\n"
