"""The catalogue against facts collected from elsewhere: they agree, or the source of our number says what the other prints."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from epicycle.hwmodels.catalog import load_cluster, load_gpu
from epicycle.hwmodels.known.names import UnknownHardware, gpu_called
from epicycle.hwmodels.units import BYTES

FACTS = Path(__file__).parents[3] / "shared" / "facts" / "hardware.csv"
pytestmark = pytest.mark.skipif(not FACTS.is_file(), reason="the collected facts are not beside this checkout")

#: Facts' column -> our field, and the factor from the column's unit.
RATES = {"bf16_dense_tflops": "bf16", "fp8_dense_tflops": "fp8", "fp4_dense_tflops": "fp4"}
#: Where the vendor's own page says something else: what our source has to mention of the other number.
CONFLICTS = {
    ("b200-sxm", "memory_GBps"): "7.7",
    ("b300-sxm", "memory_GBps"): "7.75",
    ("b300-sxm", "fp4_dense_tflops"): "14",
    ("rubin", "memory_GBps"): "19.16",
    ("rubin", "scaleup_GBps_per_dir"): "1,476",
    ("rtx-pro-6000", "memory_GBps"): "1,792",
    ("mi355x", "scaleup_GBps_per_dir"): "576",
    ("mi308x", "scaleup_GBps_per_dir"): "300",
}
#: No part of the catalogue: cards that no cluster for MoE inference is built of.
LEFT_OUT = {"A30", "Intel Arc Pro B60"}


def _rows() -> list[dict[str, str]]:
    if not FACTS.is_file():
        return []
    with FACTS.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


@pytest.mark.parametrize("row", _rows(), ids=lambda row: row["device"])
def test_a_gpu_is_as_collected_or_says_why_not(row: dict[str, str]) -> None:
    try:
        gpu = load_gpu(gpu_called(row["device"].split(" (")[0]))
    except UnknownHardware:
        assert row["device"] in LEFT_OUT
        return
    ours: dict[str, tuple[float, str]] = {}
    for column, dtype in RATES.items():
        if dtype in gpu.tensor_flop_per_cycle_sm:
            ours[column] = gpu.tensor_flops(dtype) / 1e12, "tensor_flop_per_cycle_sm"  # type: ignore[arg-type]
    ours["memory_GBps"] = gpu.hbm_bandwidth / 1e9, "hbm_bandwidth"
    ours["scaleup_GBps_per_dir"] = gpu.nvlink_bandwidth / 1e9, "nvlink_bandwidth"
    for column, (value, field) in ours.items():
        theirs = _number(row[column])
        if theirs is None:
            continue
        if (gpu.name, column) in CONFLICTS:
            assert CONFLICTS[gpu.name, column] in gpu.source(field), (gpu.name, field)
        else:
            assert value == pytest.approx(theirs, rel=0.02), (gpu.name, column)
    memory = row["memory"]
    assert gpu.hbm_capacity == pytest.approx(BYTES.parse(memory), rel=0.08), "GB is printed where GiB is meant, and the reverse"
    power = _number(row["tdp_W"])
    if power is not None and gpu.grade("power") != "assumed":
        assert gpu.power == pytest.approx(power, rel=0.02), gpu.name


def test_every_conflict_is_one() -> None:
    rows = {}
    for row in _rows():
        try:
            rows[gpu_called(row["device"].split(" (")[0])] = row
        except UnknownHardware:
            continue
    for name, column in CONFLICTS:
        assert name in rows
        if column == "scaleup_GBps_per_dir" and not rows[name][column]:
            assert name == "mi308x"  # in its notes


NICS = FACTS.with_name("nics_fabrics.csv")
#: Facts' name -> our part, and the NICs a GPU of the cluster that has it.
PARTS = {
    "ConnectX-8": ("connectx8-800g", "b300-cx8", 1.0),
    "ConnectX-9": ("connectx9-800g", "vr-nvl72", None),  # how many a GPU: sources differ
    "EFA p6-b300": ("aws-efa-v4", "b300-efa", 2.0),
    "EFA p6-b200": ("aws-efa-v4", "b200-efa", 1.0),
    "EFA p5en (H200)": ("aws-efa-v3", "h200-efa", 2.0),
    "EFA p5 (H100)": ("aws-efa-v2", "h100-efa", 4.0),
    "Pollara 400 (AINIC)": ("pollara-400g", "mi355x-pollara", 1.0),
    "B200 at Google": ("connectx7-400g-roce", "b200-roce", 1.0),
}
#: Gb/s of one NIC, where the facts print a count of them instead: 3,200 Gb/s for eight GPUs, or 400 a device.
OF_ONE = {"EFA p6-b300": 400, "EFA p6-b200": 400, "EFA p5en (H200)": 200, "EFA p5 (H100)": 100}


def _nics() -> list[dict[str, str]]:
    if not NICS.is_file():
        return []
    with NICS.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("row", _nics(), ids=lambda row: row["nic"])
def test_a_nic_is_as_collected(row: dict[str, str]) -> None:
    name, cluster, each = PARTS[row["nic"]]
    node = load_cluster(cluster).node
    assert node.nic.name == name
    said = OF_ONE.get(row["nic"]) or float(row["Gbps"])
    assert node.nic.bandwidth * 8 / 1e9 == pytest.approx(said, rel=0.01)
    if each is not None:
        assert node.nics / node.gpus == each


def test_chips_joined_directly_are_no_switch() -> None:
    for name in ("tpu7x-cube", "trn2-ultra"):
        cluster = load_cluster(name)
        assert cluster.mesh is not None and cluster.mesh.wrap
        assert 6 * cluster.mesh.link_bandwidth == pytest.approx(cluster.node.gpu.nvlink_bandwidth, rel=0.01)
