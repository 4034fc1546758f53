"""Hardware of the user's own, by file: one new file goes through simulate, plan, sweep, explain and the catalogue."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

GPU = """\
name: mine-1
sms: 100
clock: 2 GHz
tensor_rate: {bf16: 819.2 TFLOP/s, fp8: 1638.4 TFLOP/s}
hbm_capacity: 140 GiB
hbm_bandwidth: 4 TB/s
nvlink_bandwidth: 400 GB/s
pcie_bandwidth: 64 GB/s
power: 600 W
price: {gpu_hour: 1.50 USD/GPU-h}
"""
CLUSTER = """\
name: my-racks
node: {gpu: gpu.yaml, gpus: 8, nic: connectx7-400g}
fabric: {kind: rail-optimised, switch: quantum-2}
calibration: h100_sxm
"""
LAYER = """\
name: mine
model: qwen3-30b-a3b
cluster: {name: hardware/mine.yaml, nodes: 2}
traffic: {tokens_per_rank: 32}
deployment: {ep: 16}
"""
SERVING = """\
name: mine
model: qwen3-30b-a3b
cluster: {name: hardware/mine.yaml, nodes: 1}
workload: {input_tokens: 500, output_tokens: 200, concurrency: 64}
search: {modes: [aggregated], batches: [8, 16], confirm: 1}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "hardware").mkdir()
    for name, text in {
        "hardware/gpu.yaml": GPU,
        "hardware/mine.yaml": CLUSTER,
        "layer.yaml": LAYER,
        "plan.yaml": SERVING,
    }.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def _run(folder: Path, line: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "epicycle", *shlex.split(line)], cwd=folder, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == status, done.stderr
    return done


def _json(folder: Path, line: str) -> Any:
    return json.loads(_run(folder, f"{line} --json -").stdout)


def test_a_made_up_gpu_goes_through_simulate(folder: Path) -> None:
    answer = _json(folder, "simulate layer.yaml")
    assert "16 mine-1 GPUs" in answer["answer"]
    why = json.dumps(answer)
    assert "GPU mine-1 in place of the measured h100-sxm" in why
    inputs = {(row["section"], row["name"]): row for row in answer["inputs"]}
    assert inputs["gpu", "sms"]["value"] == "100"
    assert inputs["gpu", "sms"]["source"].startswith("yours: ") and "gpu.yaml" in inputs["gpu", "sms"]["source"]


def test_it_goes_through_plan_at_its_own_price(folder: Path) -> None:
    plan = _json(folder, "plan plan.yaml")
    assert plan["best"]["cluster"] == "my-racks"
    assert plan["best"]["metrics"]["usd_per_hour"]["value"] == pytest.approx(1.5 * plan["best"]["gpus"])
    dearer = _json(folder, "plan plan.yaml --set prices.gpu_hour.mine-1='3 USD/GPU-h'")
    assert dearer["best"]["metrics"]["usd_per_hour"]["value"] == pytest.approx(3.0 * dearer["best"]["gpus"])


def test_a_file_stands_wherever_a_name_does(folder: Path) -> None:
    layer = _json(folder, "simulate layer.yaml --set cluster=h100-cx7 --set cluster.node.gpu=hardware/gpu.yaml")
    assert "16 mine-1 GPUs" in layer["answer"]
    assert "16 mine-1 GPUs" in _json(folder, "simulate layer.yaml --cluster ./hardware/mine.yaml")["answer"]
    assert "16 h200-sxm GPUs" in _json(folder, "simulate layer.yaml --cluster h200-cx7")["answer"]
    sweep = _run(folder, "sweep layer.yaml --over cluster=h100-cx7,hardware/mine.yaml")
    assert "hardware/mine.yaml" in sweep.stdout
    beside = _json(folder, "plan plan.yaml --cluster h100-cx7 --set search.clusters='[./hardware/mine.yaml]'")
    assert "my-racks" in {c["cluster"] for c in beside["candidates"]}
    assert "mine-1" in _run(folder, "catalog gpus hardware/gpu.yaml").stdout
    assert "node.gpu.sms" in _run(folder, "catalog clusters hardware/mine.yaml").stdout


def test_a_plan_that_settles_on_a_file_of_the_search_is_explained_there(folder: Path) -> None:
    cheap = "--cluster h100-cx7 --set search.clusters='[./hardware/mine.yaml]' --set prices.gpu_hour.h100-sxm='9 USD/GPU-h'"
    assert "mine-1" in _run(folder, f"explain plan.yaml {cheap}").stdout


def test_what_is_wrong_in_it_names_both_files(folder: Path) -> None:
    (folder / "hardware" / "gpu.yaml").write_text(GPU.replace("sms: 100", "sms: 0"))
    said = _run(folder, "simulate layer.yaml", 2).stderr
    assert said.startswith("error: layer.yaml:3: hardware/gpu.yaml:2: node.gpu.sms: ")
    assert _run(folder, "simulate layer.yaml --cluster ./nowhere.yaml", 2).stderr.count("nowhere.yaml: no such file") == 1


def test_changed_hardware_is_not_called_by_the_old_name_and_widens(folder: Path) -> None:
    plain = _json(folder, "simulate layer.yaml --cluster h100-cx7")
    slower = _json(folder, "simulate layer.yaml --cluster h100-cx7 --set cluster.node.gpu.hbm_bandwidth='4 TB/s'")
    assert "16 h100-sxm with hbm_bandwidth 4 TB/s GPUs" in slower["answer"]

    def width(answer: Any) -> float:
        interval = answer["layers"][0]["interval"]
        return float(interval["high90_us"] / interval["low90_us"])

    assert width(slower) > 1.2 * width(plain)
    served = "--set deployment='{decode: {tp: 8}}' --cluster h100-cx7 --over cluster.node.gpu.hbm_bandwidth='3.352 TB/s,4 TB/s'"
    points = _json(folder, f"sweep plan.yaml {served}")["points"]
    for point in points:
        assert point["evaluation"]["cluster"].startswith("h100-cx7 with h100-sxm with hbm_bandwidth")
        assert any("was never measured" in why for why in point["evaluation"]["why_wide"])
