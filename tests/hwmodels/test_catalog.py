"""The catalogue: every entry loads, is sourced and multiplies out to its datasheet; overrides and their refusals."""

from __future__ import annotations

import pytest

from epicycle.hwmodels import catalog, strict_yaml
from epicycle.hwmodels.errors import BadInput, UnknownKey, UnknownName
from epicycle.hwmodels.specs import Gpu

LOADERS = {
    "gpus": catalog.load_gpu,
    "nics": catalog.load_nic,
    "links": catalog.load_link,
    "transports": catalog.load_transport,
    "switches": catalog.load_switch,
    "clusters": catalog.load_cluster,
}
ENTRIES = [(kind, name) for kind in catalog.KINDS for name in catalog.names(kind)]

# Dense peak in PFLOP/s, as the vendors print it (sparse figures halved).
PEAKS = {
    "rtx-3090": {"bf16": 0.07116},  # printed as 71: twice its 35.58 TFLOP/s of fp32
    "a100-sxm": {"bf16": 0.312},
    "h100-sxm": {"bf16": 0.9894, "fp8": 1.9789},
    "h800-sxm": {"bf16": 0.9894, "fp8": 1.9789},
    "h200-sxm": {"bf16": 0.9895, "fp8": 1.979},
    "b200-sxm": {"bf16": 2.25, "fp8": 4.5, "fp4": 9.0},
    "b300-sxm": {"bf16": 2.25, "fp8": 4.5, "fp4": 13.5},  # 108 PFLOP/s dense for the 8 GPUs of an HGX B300
    "gb200": {"bf16": 2.5, "fp8": 5.0, "fp4": 10.0},
    "gb300": {"bf16": 2.5, "fp8": 5.0, "fp4": 15.0},  # 1080 PFLOP/s dense for the 72 GPUs of a rack
    "mi300x": {"bf16": 1.3074, "fp8": 2.6149},
    "mi308x": {"bf16": 0.115, "fp8": 0.230},
    "mi325x": {"bf16": 1.3074, "fp8": 2.6149},
    "mi355x": {"bf16": 2.5166, "fp8": 5.0332, "fp4": 10.0663},
    "mi455x": {"bf16": 10.0, "fp8": 20.0, "fp4": 40.0},
    "h20-sxm": {"bf16": 0.148, "fp8": 0.296},
    "h20-3e": {"bf16": 0.148, "fp8": 0.296},
    "h100-pcie": {"bf16": 0.7565, "fp8": 1.513},
    "l40s": {"bf16": 0.36205, "fp8": 0.733},
    "l4": {"bf16": 0.121, "fp8": 0.242},
    "rtx-pro-6000": {"bf16": 0.4678, "fp8": 0.9356, "fp4": 1.8712},
    "rubin": {"bf16": 4.0, "fp8": 17.5, "fp4": 35.0},
    "trainium2": {"bf16": 0.667, "fp8": 1.299},
    "trainium3": {"bf16": 0.671, "fp8": 2.517, "fp4": 2.517},
    "tpu7x": {"bf16": 2.307, "fp8": 4.614},
    "ascend-910c": {"bf16": 0.752},
}


@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_every_entry_loads_under_its_own_name(kind: str, name: str) -> None:
    assert LOADERS[kind](name).name == name


@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_every_source_says_something(kind: str, name: str) -> None:
    sources = LOADERS[kind](name).sources
    assert sources
    assert all(len(source) > 5 for source in sources.values())


def test_every_gpu_multiplies_out_to_its_datasheet() -> None:
    assert set(PEAKS) == set(catalog.names("gpus"))
    for name, peaks in PEAKS.items():
        gpu = catalog.load_gpu(name)
        assert set(gpu.tensor_flop_per_cycle_sm) == set(peaks)
        for dtype, petaflops in peaks.items():
            assert gpu.tensor_flops(dtype) == pytest.approx(petaflops * 1e15, rel=5e-4)


@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_a_guess_says_that_it_is_one(kind: str, name: str) -> None:
    """ "assumed" stands first where it stands: what the grade is read from."""
    sheet = LOADERS[kind](name)
    for field, source in sheet.sources.items():
        if source.startswith(("assumed", "press", "measured", "derived")):
            assert source.split(":")[0] in ("assumed", "press", "measured", "derived"), (field, source)


def test_a_number_has_the_grade_of_its_source() -> None:
    gpu = catalog.load_gpu("mi308x")
    assert [gpu.grade(f) for f in ("sms", "clock", "hbm_bandwidth")] == ["measured", "assumed", "press"]
    assert catalog.load_gpu("h100-sxm").graded("assumed", "press") == ()
    assert set(catalog.load_gpu("rubin").graded("assumed")) == {"pcie_bandwidth"}


@pytest.mark.parametrize(("cluster", "nics", "each"), [("h100-efa", 32, 50e9), ("h200-efa", 16, 50e9),
                                                       ("b200-efa", 8, 50e9), ("b300-efa", 16, 100e9)])  # fmt: skip
def test_an_instance_has_the_efa_devices_that_aws_sells(cluster: str, nics: int, each: float) -> None:
    node = catalog.load_cluster(cluster).node
    assert (node.gpus, node.nics) == (8, nics)
    assert node.nics * node.nic.bandwidth / node.gpus == each


@pytest.mark.parametrize("name", catalog.names("clusters"))
def test_no_nic_outruns_the_slot_of_its_gpu_unless_it_says_so(name: str) -> None:
    cluster = catalog.load_cluster(name)
    if cluster.node.nic.bandwidth * cluster.node.nics / cluster.node.gpus > cluster.node.gpu.pcie_bandwidth:
        assert "less than the NIC" in cluster.sources["*"], name


@pytest.mark.parametrize("name", catalog.names("clusters"))
def test_a_leaf_has_the_ports_it_needs(name: str) -> None:
    fabric, node = catalog.load_cluster(name).fabric, catalog.load_cluster(name).node
    hosts = fabric.nodes_per_leaf * (node.nics if fabric.kind == "fat-tree" else 1)
    assert hosts + hosts / fabric.oversubscription <= fabric.switch.ports


def test_cluster_arithmetic() -> None:
    assert catalog.load_cluster("h100-cx7", 4).gpus == 32
    rack = catalog.load_cluster("gb200-nvl72")
    assert (rack.gpus, rack.nvlink_domain_gpus) == (72, 72)
    p5 = catalog.load_cluster("h100-efa").node
    assert p5.nics * p5.nic.bandwidth == 3200e9 / 8
    assert not p5.nic.ordered


@pytest.mark.parametrize(
    ("load", "wrong", "right"),
    [
        (catalog.load_gpu, "h100", "h100-sxm"),
        (catalog.load_gpu, "H100_SXM", "h100-sxm"),
        (catalog.load_nic, "connectx7", "connectx7-400g"),
        (catalog.load_switch, "quantum2", "quantum-2"),
        (catalog.load_link, "pcie5", "pcie5-x16"),
        (catalog.load_cluster, "gb200", "gb200-nvl72"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(load: object, wrong: str, right: str) -> None:
    with pytest.raises(UnknownName, match=f"did you mean '{right}'.*epicycle catalog") as refusal:
        load(wrong)  # type: ignore[operator]
    assert refusal.value.nearest == right


@pytest.mark.parametrize("name", ["", "zzz", "h100-sxm\n", ".."])
def test_an_odd_name_is_unknown(name: str) -> None:
    with pytest.raises(UnknownName):
        catalog.load_cluster(name)


@pytest.mark.parametrize("path", ["../gpus/h100-sxm", "h100-sxm.yaml", "/dev/zero", "./"])
def test_a_path_never_reaches_into_the_catalogue(path: str) -> None:
    with pytest.raises(BadInput, match=r"no such file|not a file"):
        catalog.load_cluster(path)


def test_an_unknown_kind_lists_the_kinds() -> None:
    with pytest.raises(UnknownName, match="gpus"):
        catalog.names("gpu")


def test_overrides_change_parts_and_fields_and_say_so() -> None:
    cluster = catalog.load_cluster(
        "h100-cx7",
        3,
        {"node.nic.message_rate": "100 M/s", "node.nic": "connectx8-800g", "fabric.oversubscription": "2", "node.gpus": "4"},
    )
    assert (cluster.nodes, cluster.node.gpus, cluster.node.nics) == (3, 4, 4)
    assert cluster.node.nic.bandwidth == 100e9
    assert cluster.node.nic.message_rate == 100e6
    assert cluster.node.nic.sources["message_rate"] == "set by the user"
    assert cluster.node.nic.sources["latency"] != "set by the user"
    assert cluster.fabric.oversubscription == 2
    assert {key for key, source in cluster.sources.items() if source == "set by the user"} == {
        "node.nic",
        "node.gpus",
        "fabric.oversubscription",
    }


def test_overrides_leave_the_catalogue_as_it_was() -> None:
    before = catalog.load_cluster("h100-cx7")
    catalog.load_cluster("h100-cx7", 3, {"node.nic.bandwidth": "800 Gb/s", "node.gpu.tensor_flop_per_cycle_sm.fp8": "1"})
    assert catalog.load_cluster("h100-cx7") == before
    assert catalog.load_nic("connectx7-400g").bandwidth == 50e9


def test_every_override_key_but_the_wholes_is_known_to_a_cluster() -> None:
    keys = catalog.override_keys()
    assert {"nodes", "node.nic", "node.nic.bandwidth", "fabric.switch.latency", "node.gpu.hbm_bandwidth"} <= set(keys)
    assert set(Gpu.model_fields) - {"name", "sources", "price"} <= {k.removeprefix("node.gpu.") for k in keys}


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"node.nic.bandwith": "800 Gb/s"}, "did you mean 'node.nic.bandwidth'"),
        ({"node.nic.bandwidth": "800"}, 'write "800 GB/s" or "800 Gb/s"'),
        ({"node.nic.bandwidth": 800}, "bare number 800"),
        ({"node.nic": "connectx9"}, "did you mean 'connectx"),
        ({"node.nic": 7}, "wanted the name of a NIC"),
        ({"node.nics": "3"}, "share evenly"),
        ({"node.gpus": "many"}, "node.gpus"),
        ({"node": "x"}, "set one of node.gpu"),
        ({"fabric.kind": "torus"}, "'rail-optimised' or 'fat-tree'"),
        ({"fabric.oversubscription": "0.5"}, "greater than or equal to 1"),
        ({"nodes": "2000"}, "at most 1024 nodes"),
        ({"nodes": "0"}, "nodes"),
        ({"node.gpu.tensor_flop_per_cycle_sm.fp8": "-1"}, "greater than 0"),
    ],
)
def test_a_wrong_override_is_one_line(overrides: dict[str, object], says: str) -> None:
    with pytest.raises(BadInput) as refusal:
        catalog.load_cluster("h100-cx7", overrides=overrides)
    assert says in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert "pydantic" not in str(refusal.value)


def test_an_unknown_key_is_a_bad_input() -> None:
    assert issubclass(UnknownKey, BadInput)
    assert issubclass(UnknownName, ValueError)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: 1\nb: 2\na: 3\n", "file.yaml:3: a is given twice, first at file.yaml:1"),
        ("? [1]\n: a\n", "a key has to be a plain word"),
        ("a: [1\n", "malformed YAML"),
        ("a: !!python/object/apply:os.system ['true']\n", "only plain values"),
        ("- 1\n", "got list"),
        ("", "got nothing"),
        ("a: \x00\n", "malformed YAML"),
    ],
)
def test_yaml_is_read_strictly(text: str, says: str) -> None:
    with pytest.raises(BadInput) as refusal:
        strict_yaml.load(text, "file.yaml")
    assert str(refusal.value).startswith("file.yaml:")
    assert says in str(refusal.value)
