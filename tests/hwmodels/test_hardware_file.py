"""Hardware from a file of the user's: read as the catalogue's, with its own name; errors name file, line and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from epicycle.hwmodels import catalog
from epicycle.hwmodels.calibration import load_calibration
from epicycle.hwmodels.errors import BadInput
from epicycle.hwmodels.known.foreign import why_foreign

GPU = """\
name: mine-1
sms: 100
clock: 2 GHz
tensor_rate: {bf16: 819.2 TFLOP/s, fp8: 1638.4 TFLOP/s}
hbm_capacity: 100 GiB
hbm_bandwidth: 4 TB/s
nvlink_bandwidth: 400 GB/s
pcie_bandwidth: 64 GB/s
power: 600 W
price: {gpu_hour: 1.50 USD/GPU-h}
"""
CLUSTER = """\
name: my-racks
node: {gpu: parts/gpu.yaml, gpus: 8, nic: connectx7-400g}
fabric: {kind: rail-optimised, switch: quantum-2}
calibration: h100_sxm
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "gpu.yaml").write_text(GPU)
    (tmp_path / "mine.yaml").write_text(CLUSTER)
    return tmp_path / "mine.yaml"


def test_a_cluster_by_file_names_a_gpu_by_file_beside_it(mine: Path) -> None:
    cluster = catalog.load_cluster(str(mine), 4)
    gpu = cluster.node.gpu
    assert (cluster.name, cluster.gpus, cluster.node.nics, gpu.name) == ("my-racks", 32, 8, "mine-1")
    assert gpu.tensor_flops("bf16") == pytest.approx(819.2e12)
    assert gpu.tensor_flop_per_cycle_sm == {"bf16": 4096.0, "fp8": 8192.0}
    assert gpu.price is not None and gpu.price.gpu_hour == 1.5
    assert (gpu.copy_engines, gpu.l2_capacity) == (None, None)
    assert gpu.grade("sms") == "user" and "parts/gpu.yaml" in gpu.source("sms")
    assert cluster.node.nic.grade("bandwidth") == "vendor", "a part of the catalogue keeps its own sources"
    assert gpu.label == "mine-1", "its own numbers are no changes"


def test_a_part_may_be_written_out_where_it_stands(tmp_path: Path) -> None:
    inline = "".join(f"    {line}\n" for line in GPU.splitlines())
    file = tmp_path / "whole.yaml"
    file.write_text(CLUSTER.replace("node: {gpu: parts/gpu.yaml, gpus: 8, nic: connectx7-400g}",
                                    f"node:\n  gpus: 4\n  nic: connectx7-400g\n  gpu:\n{inline}"))  # fmt: skip
    assert catalog.load_cluster(str(file)).node.gpu.name == "mine-1"


def test_a_part_by_file_swaps_into_a_cluster_of_the_catalogue(mine: Path) -> None:
    cluster = catalog.load_cluster("h100-cx7", None, {"node.gpu": str(mine.parent / "parts" / "gpu.yaml")})
    assert cluster.node.gpu.name == "mine-1"
    assert cluster.label == "h100-cx7 with mine-1"


def test_what_the_user_changes_is_in_the_label() -> None:
    cluster = catalog.load_cluster("h100-cx7", None, {"node.gpu.hbm_bandwidth": "4 TB/s", "node.gpu.sms": 78})
    assert cluster.node.gpu.label == "h100-sxm with sms 78 and hbm_bandwidth 4 TB/s"
    assert cluster.label == f"h100-cx7 with {cluster.node.gpu.label}"
    assert catalog.load_cluster("h100-cx7").label == "h100-cx7"
    many = {f"node.nic.{key}": value for key, value in
            {"bandwidth": "1 GB/s", "latency": "1 us", "message_cost": "1 us", "queue_pairs": 2}.items()}  # fmt: skip
    assert catalog.load_cluster("h100-cx7", None, many).node.nic.label == "connectx7-400g with 4 numbers changed"


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        ("parts/gpu.yaml", "sms: 100", "sms: many", "gpu.yaml:2: node.gpu.sms: "),
        ("parts/gpu.yaml", "hbm_bandwidth: 4 TB/s", "hbm_bandwidth: 4", "gpu.yaml:6: node.gpu.hbm_bandwidth: "),
        ("parts/gpu.yaml", "power: 600 W", "powr: 600 W", "gpu.yaml:9: node.gpu.powr: no such key"),
        ("parts/gpu.yaml", "sms: 100\n", "", "tensor_rate needs sms and clock"),
        ("parts/gpu.yaml", "819.2 TFLOP/s", "819.2 TOPS", "gpu.yaml:4: 'TOPS' is not a unit of a tensor rate"),
        ("parts/gpu.yaml", "{gpu_hour: 1.50 USD/GPU-h}", "{gpu_hour: 1.50}", "gpu.yaml:10: node.gpu.price.gpu_hour: "),
        ("parts/gpu.yaml", "name: mine-1\n", "name: mine-1\nsms: 3\n", "sms is given twice"),
        ("parts/gpu.yaml", "name: mine-1\n", "name: mine-1\nsources: {smz: web}\n", "unknown fields ['smz']"),
        ("parts/gpu.yaml", "name: mine-1\n", "name: mine-1\nsources: web\n", "gpu.yaml:2: sources: wanted the source of each"),
        ("mine.yaml", "parts/gpu.yaml", "parts/gqu.yaml", "gqu.yaml: no such file"),
        ("mine.yaml", "connectx7-400g", "connectx7", "mine.yaml:2: node.nic: unknown NIC 'connectx7': did you mean"),
        ("mine.yaml", "gpus: 8, ", "", "mine.yaml:2: node.gpus: Field required"),
        ("mine.yaml", "gpus: 8", "gpus: 0", "mine.yaml:2: node.gpus: "),
        ("mine.yaml", "calibration: h100_sxm\n", "", "mine.yaml:1: calibration: wanted the measured system nearest to it"),
        ("mine.yaml", "fabric: {kind: rail-optimised, switch: quantum-2}\n", "", "fabric: wanted the keys kind, switch"),
        ("mine.yaml", "rail-optimised", "torus", "mine.yaml:3: fabric.kind: "),
        ("mine.yaml", "name: my-racks\n", "name: my-racks\nprice: 3\n", "mine.yaml:2: price: no such key"),
    ],
)
def test_what_is_wrong_is_named_by_file_line_and_key(mine: Path, file: str, old: str, new: str, says: str) -> None:
    target = mine.parent / file
    assert old in target.read_text()
    target.write_text(target.read_text().replace(old, new, 1))
    with pytest.raises(BadInput) as refusal:
        catalog.load_cluster(str(mine))
    assert says in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("text", ["", "- 1", "3", "a: &x 1"])
def test_a_file_that_holds_no_record(tmp_path: Path, text: str) -> None:
    file = tmp_path / "odd.yaml"
    file.write_text(text)
    for load in (catalog.load_cluster, catalog.load_gpu, catalog.load_nic, catalog.load_switch, catalog.load_link):
        with pytest.raises(BadInput, match=r"odd\.yaml"):
            load(str(file))


def test_a_file_that_is_edited_is_read_again(mine: Path) -> None:
    gpu = mine.parent / "parts" / "gpu.yaml"
    assert catalog.load_gpu(str(gpu)).sms == 100
    gpu.write_text(gpu.read_text().replace("sms: 100", "sms: 50"))
    assert catalog.load_gpu(str(gpu)).sms == 50


def test_a_calibration_may_be_of_a_cluster_by_file(mine: Path) -> None:
    own = mine.parent / "fitted.yaml"
    own.write_text("system: my-racks\ncluster: mine.yaml\nrelative: h100_sxm\n")
    calibration = load_calibration(str(own))
    assert catalog.load_cluster(calibration.cluster).name == "my-racks"
    measured = catalog.load_cluster(str(mine), None, {"calibration": str(own)})
    assert why_foreign(measured, False, str(own)) == (), "measured on this very hardware"
    own.write_text("system: my-racks\ncluster: nowhere.yaml\n")
    with pytest.raises(BadInput, match=r"nowhere\.yaml: no such file"):
        load_calibration(str(own))
