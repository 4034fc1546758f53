"""What was never measured is said and widens: an overridden GPU, another NIC across nodes, assumed numbers, another maker."""

from __future__ import annotations

import pytest

from epicycle.hwmodels.calibration import find_entry
from epicycle.hwmodels.catalog import load_cluster, names
from epicycle.hwmodels.interval import BORROWED_SD, interval_of
from epicycle.hwmodels.known.foreign import why_foreign


@pytest.mark.parametrize("name", ["h100-cx7", "b200-cx7", "gb200-nvl72", "h100-cx7-fat-tree"])
def test_the_measured_systems_are_not_foreign(name: str) -> None:
    cluster = load_cluster(name)
    assert why_foreign(cluster, True, cluster.calibration) == ()


@pytest.mark.parametrize(
    ("key", "value"),
    [("sms", "100"), ("clock", "1.5 GHz"), ("hbm_bandwidth", "4 TB/s"), ("nvlink_bandwidth", "400 GB/s"),
     ("tensor_flop_per_cycle_sm.bf16", "1024")],
)  # fmt: skip
def test_an_overridden_gpu_is_foreign(key: str, value: str) -> None:
    cluster = load_cluster("h100-cx7", None, {f"node.gpu.{key}": value})
    (why,) = why_foreign(cluster, False, "h100_sxm")
    assert why.startswith("GPU h100-sxm with ") and why.endswith("was never measured")


@pytest.mark.parametrize("key", ["hbm_capacity", "power", "l2_capacity"])
def test_what_no_time_depends_on_makes_nothing_foreign(key: str) -> None:
    value = {"hbm_capacity": "96 GiB", "power": "600 W", "l2_capacity": "60 MiB"}[key]
    assert why_foreign(load_cluster("h100-cx7", None, {f"node.gpu.{key}": value}), True, "h100_sxm") == ()


def test_another_nic_matters_across_nodes_only() -> None:
    efa = load_cluster("h100-efa")
    assert why_foreign(efa, False, "h100_sxm") == ()
    assert why_foreign(efa, True, "h100_sxm") == ("NIC aws-efa-v2 in place of the measured connectx7-400g",)
    fewer = load_cluster("h100-cx7", None, {"node.nics": "4"})
    assert why_foreign(fewer, True, "h100_sxm") == ("0.5 NICs a GPU, measured with 1",)
    narrow = load_cluster("h100-cx7", None, {"node.gpu.pcie_bandwidth": "20 GB/s"})
    assert why_foreign(narrow, False, "h100_sxm") == ()
    assert len(why_foreign(narrow, True, "h100_sxm")) == 1


def test_assumed_numbers_and_another_maker_are_said() -> None:
    why = why_foreign(load_cluster("mi308x-cx7"), False, "h100_sxm")
    assert why == ("mi308x: nvlink bandwidth assumed", "h100_sxm is another maker's hardware")
    assert why_foreign(load_cluster("h200-cx7"), False, "h100_sxm") == ()


def test_every_reason_widens_as_much_as_borrowing() -> None:
    entry, _ = find_entry("h100_sxm", "low-latency", "dispatch", "one-node")
    plain = entry.fit.interval(1e-4, 1, {})
    borrowed = entry.fit.interval(1e-4, 1, {}, "h100_sxm")
    foreign = entry.fit.interval(1e-4, 1, {}, "", ("GPU x was never measured",))
    both = entry.fit.interval(1e-4, 1, {}, "h100_sxm", ("GPU x was never measured",))
    assert (foreign.low90, foreign.high90) == (borrowed.low90, borrowed.high90)
    assert plain.high90 < foreign.high90 < both.high90
    assert both.why == ("GPU x was never measured", "constants of h100_sxm")
    assert both.shared_sd == pytest.approx(BORROWED_SD * 2**0.5)
    assert interval_of((), {}, 1.0, 1, {}, "", ("a", "b")).shared_sd == pytest.approx(BORROWED_SD * 2**0.5)


@pytest.mark.parametrize("name", names("clusters"))
def test_every_cluster_of_the_catalogue_can_be_asked(name: str) -> None:
    cluster = load_cluster(name)
    find_entry(cluster.calibration, "low-latency", "dispatch", "one-node")
    assert isinstance(why_foreign(cluster, True, "h100_sxm"), tuple)
