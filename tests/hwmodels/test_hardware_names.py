"""Hardware by the names that tables use: read whole, and what the catalogue does not have is nobody else's."""

from __future__ import annotations

import pytest

from epicycle.hwmodels.catalog import names
from epicycle.hwmodels.known.names import UnknownHardware, cluster_called, gpu_called, system_called, why_unknown


@pytest.mark.parametrize(
    ("name", "gpu"),
    [
        ("H100", "h100-sxm"), ("H100 SXM5", "h100-sxm"), ("h100_sxm", "h100-sxm"), ("NVIDIA H100 PCIe", "h100-pcie"),
        ("H20", "h20-sxm"), ("H20-3e", "h20-3e"), ("H200 p5en (16 EFA/node)", "h200-sxm"), ("B200 p6-b200", "b200-sxm"),
        ("GB200 NVL72", "gb200"), ("GB300", "gb300"), ("B300 p6-b300 (16 EFA/node)", "b300-sxm"), ("p5", "h100-sxm"),
        ("MI300X+CX7", "mi300x"), ("AMD Instinct MI355X", "mi355x"), ("MI308X", "mi308x"), ("Ascend 910C", "ascend-910c"),
        ("L40S", "l40s"), ("L4", "l4"), ("RTX PRO 6000 Server", "rtx-pro-6000"), ("Vera Rubin NVL72", "rubin"),
        ("Trainium2", "trainium2"), ("trn3", "trainium3"), ("TPU7x Ironwood", "tpu7x"), ("SM100 (B200 class)", "b200-sxm"),
    ],
)  # fmt: skip
def test_a_name_in_use_is_known(name: str, gpu: str) -> None:
    assert gpu_called(name) == gpu


@pytest.mark.parametrize("name", names("gpus"))
def test_the_catalogue_knows_its_own_names(name: str) -> None:
    assert gpu_called(name) == name


@pytest.mark.parametrize(
    "name",
    ["Ascend 910D", "Gaudi 3", "H100 NVL", "A100 PCIe 40GB", "B100", "MI250X", "H2000", "XB200", "TPU v5p", "", "AMD", "H20x"],
)
def test_an_unknown_gpu_is_nobody_elses(name: str) -> None:
    with pytest.raises(UnknownHardware, match=r"hardware of your own is a file") as refusal:
        gpu_called(name)
    assert "nearest is" in str(refusal.value) or "epicycle catalog gpus" in str(refusal.value)
    assert name in why_unknown(name)


def test_a_system_is_called_by_its_calibration() -> None:
    assert system_called("h100_sxm") == "h100_sxm"
    assert system_called("H100") == "h100_sxm"
    assert system_called("Ascend 910C") == "ascend_910c"
    assert why_unknown("H100").startswith("unknown system H100: write h100_sxm")
    with pytest.raises(UnknownHardware, match="no calibration speaks of rtx-3090"):
        system_called("RTX 3090")


@pytest.mark.parametrize(
    ("gpu", "fabric", "cluster", "nic"),
    [
        ("H100", "CX7 IB", "h100-cx7", "connectx7-400g"),
        ("p5", "EFA", "h100-efa", "aws-efa-v2"),
        ("H200 p5en", "2x200Gb EFA/GPU", "h200-efa", "aws-efa-v3"),
        ("B300 p6-b300", "EFA NVSHMEM host proxy", "b300-efa", "aws-efa-v4"),
        ("B200 p6", "400Gb EFA", "b200-efa", "aws-efa-v4"),
        ("MI300X", "Broadcom Thor2", "mi300x-cx7", "thor2-400g"),
        ("MI355X", "Pollara AINIC", "mi355x-pollara", "pollara-400g"),
        ("B300", "", "b300-cx8", "connectx8-800g"),
        ("B300", "CX7", "b300-cx8", "connectx7-400g"),
        ("Ascend 910C", "", "cloudmatrix-384", "ascend-rdma-400g"),
    ],
)
def test_a_cluster_has_the_nic_that_a_table_names(gpu: str, fabric: str, cluster: str, nic: str) -> None:
    found = cluster_called(gpu, fabric, True)
    assert (found.name, found.node.nic.name) == (cluster, nic)


def test_an_unknown_nic_matters_across_nodes_only() -> None:
    with pytest.raises(UnknownHardware, match="no NIC of the catalogue is called 'Slingshot 11'"):
        cluster_called("H100", "Slingshot 11", True)
    assert cluster_called("H100", "Slingshot 11", False).name == "h100-cx7"
    with pytest.raises(UnknownHardware, match="no instance of the catalogue has mi300x with EFA"):
        cluster_called("MI300X", "EFA", True)
