"""Bench writes, calibrate reads, validate predicts, simulate uses: walked through with made-up times, and with the H200's."""

from __future__ import annotations

import csv
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch

from epicycle.hwmodels.calibration import find_entry, load_calibration, standing_in
from epicycle.hwmodels.catalog import load_cluster
from epicycle.hwmodels.errors import BadInput
from epicycle.hwmodels.specs import Gpu
from epicycle.validate.bench.rows import Rows
from epicycle.validate.fit.calibrate import to_yaml
from epicycle.validate.fit.own.constants import fit_own
from epicycle.validate.fit.tables import calibrate_all
from epicycle.validate.here.run import conclude, mode_here
from epicycle.validate.tables.own.node import LAUNCHES, node_seconds
from epicycle.validate.tables.own.rows import OwnRow, predicted_s, read_own
from epicycle.validate.validate import validate_table

MEASURED = Path(str(files("epicycle.validate").joinpath("measured")))
TABLES = [MEASURED / f"h200-2026-11-27.{table}.csv" for table in ("ep_comm", "grouped_gemm")]
FACTS = {"gpu": "NVIDIA H200", "driver": "1", "torch": "2.11.0", "triton": "3.6.0", "commit": "abc", "date": "2026-11-28"}


@pytest.fixture(scope="module")
def measured() -> tuple[list[OwnRow], Gpu]:
    gpus: dict[str, Gpu] = {}
    return [row for table in TABLES for row in read_own(table, gpus)], gpus["h200_sxm"]


def test_every_row_of_the_h200_files_is_predicted() -> None:
    for table in (*TABLES, MEASURED / "h200-2026-11-27.gemm.csv"):
        outcome = validate_table(table)
        with table.open() as file:
            assert len(outcome.rows) == len(list(csv.DictReader(file)))
        assert outcome.skipped == {}
        assert all(group.calibrated_on in ("h200_sxm", "h100_sxm") for group in outcome.groups)


#: (protocol, op) -> percent that its rows of 20 us and more, and its shorter ones, miss by on average. The bars are 4 and 8.
MISSES = {
    # At 4,096 tokens 171 us in this run and 144 to 153 in a trial of the same kernel and shape; predicted are 153.
    ("epicycle-kernels", "permute"): (6.0, 8.0),
}


def test_the_h200_rows_are_met_within_their_bars() -> None:
    for table in TABLES:
        errors: dict[tuple[str, str, bool], list[float]] = {}
        for row in validate_table(table).rows:
            far = abs(100 * (float(row["predicted_us"]) / float(row["latency_us"]) - 1))
            op = row.get("group_op") or row["op"]
            errors.setdefault((row["protocol"], op, float(row["latency_us"]) >= 20), []).append(far)
        for (protocol, op, long), far in errors.items():
            bar = MISSES.get((protocol, op), (4.0, 8.0))[0 if long else 1]
            assert np.mean(far) <= bar, (protocol, op, "long" if long else "short")


def test_fewer_constants_than_one_set_a_kernel(measured: tuple[list[OwnRow], Gpu]) -> None:
    """With 64 and 1,024 tokens left out they are met as the others are; four free constants a kernel would be 76."""
    rows, gpu = measured
    usable = [row for row in rows if row.parts]
    used = np.array([row.tokens not in (64, 1024) for row in usable])
    found = fit_own(usable, gpu, used)
    assert found.free <= 39
    error = np.abs(found.predicted_s / np.array([row.measured_s for row in usable]) - 1)[~used]
    assert np.mean(error) <= 0.034
    assert np.mean(error <= 0.08) >= 0.86
    assert np.max(error) <= 0.10


def test_a_layer_is_the_sum_of_its_launches(measured: tuple[list[OwnRow], Gpu]) -> None:
    rows, gpu = measured
    layers = [row for row in rows if row.op == "layer"]
    entries = {key: find_entry("h200_sxm", *key, "kernel") for row in layers for key in (p.key for p in row.parts)}
    from epicycle.validate.predict.own_rows import own_constants

    error = np.abs(predicted_s(layers, gpu, own_constants(entries)) / np.array([r.measured_s for r in layers]) - 1)
    assert len(layers) == 19
    assert np.mean(error) <= 0.034
    assert [(row.protocol[9:], row.tokens) for row, far in zip(layers, error, strict=True) if far > 0.08] == [
        ("low-latency", 16)
    ]
    assert np.max(error) <= 0.082


def test_a_node_fixes_link_efficiencies_and_nothing_else(tmp_path: Path) -> None:
    """Made-up rows of 8 GPUs over NVLink at half their rate: that is what comes back, and the launches stay as they were."""
    cluster = load_cluster("h200-cx7")
    base = {
        "mode": "node", "scope": "one-node", "system": "h200_sxm", "nodes": 1, "gpus_per_node": 8, "library": "epicycle-triton",
        "protocol": "epicycle-high-throughput", "payload_dtype": "bfloat16", "routing": "uniform", "hidden": 7168, "top_k": 8,
        "experts": 256,
    }  # fmt: skip
    out, before = tmp_path / "node.csv", {}
    rows = Rows(out, facts=FACTS)
    for tokens in (16, 512, 4096):
        for op in LAUNCHES["epicycle-high-throughput"]:
            rows.add("ep_comm", {**base, "tokens_per_rank": tokens, "op": op, "case": op, "latency_us": 1.0, **FACTS})
    read = read_own(tmp_path / "node.ep_comm.csv", {})
    graded = validate_table(tmp_path / "node.ep_comm.csv")
    assert all("no row of ours crossed" in row["reason"] for row in graded.rows)
    made = Rows(tmp_path / "half.csv", facts=FACTS)
    for row in read:
        seconds = node_seconds(row, cluster, {"nvlink_efficiency": 0.5})
        before[row.op, row.tokens] = seconds
        values = {k: v for k, v in row.values.items() if v and k not in FACTS}
        made.add("ep_comm", {**values, "latency_us": 1e6 * seconds, **FACTS})
    found = calibrate_all([tmp_path / "half.ep_comm.csv"], "h200_sxm", "h200-cx7", relative="h200_sxm")
    kept = {(e.op, e.scope): e for e in found.entries}
    assert set(kept) == {("dispatch", "one-node"), ("combine", "one-node")}
    shipped = find_entry("h200_sxm", "epicycle-high-throughput", "dispatch", "kernel")[0]
    for entry in kept.values():
        assert entry.constants["nvlink_efficiency"] == pytest.approx(0.5, abs=0.01)
        assert entry.fit.undetermined == ()
    same = {
        n: v
        for n, v in kept["dispatch", "one-node"].constants.items()
        if not n.endswith(("nvlink_efficiency", "nic_efficiency"))
    }
    assert same == {n: shipped.constants[n] for n in same}
    mine = tmp_path / "mine.yaml"
    mine.write_text(to_yaml(found.calibration))
    with standing_in(str(mine)):
        for row in read:
            assert node_seconds(row, cluster) == pytest.approx(before[row.op, row.tokens], rel=0.02)


def test_a_torchrun_ends_with_the_fit(tmp_path: Path) -> None:
    """Rank 0 fits the node's rows, with those of one GPU where they are there, and says what is still lacking where not."""
    cluster = load_cluster("h200-cx7")
    for name in ("blank.csv", "node.csv"):
        writer = Rows(tmp_path / name, facts=FACTS)
        for at, (tokens, op) in enumerate((t, o) for t in (512, 4096) for o in ("dispatch", "combine")):
            row = {
                "mode": "node", "scope": "one-node", "system": "h200_sxm", "nodes": 1, "gpus_per_node": 8, "top_k": 8,
                "library": "epicycle-triton", "protocol": "epicycle-high-throughput", "payload_dtype": "bfloat16",
                "routing": "uniform", "hidden": 7168, "experts": 256, "tokens_per_rank": tokens, "op": op, "case": op,
            }  # fmt: skip
            seconds = 1e-6
            if name == "node.csv":
                read = read_own(tmp_path / "blank.ep_comm.csv", {})[at]
                seconds = node_seconds(read, cluster, {"nvlink_efficiency": 0.6})
            writer.add("ep_comm", {**row, "latency_us": 1e6 * seconds, **FACTS})
    said: list[str] = []
    found = conclude(tmp_path, said.append)
    linked = {entry.op: entry.constants["nvlink_efficiency"] for entry in found.entries}
    assert linked == {"dispatch": pytest.approx(0.6, abs=0.01), "combine": pytest.approx(0.6, abs=0.01)}
    assert any("dispatch" in line and "nvlink_efficiency 0.60, 2 rows within 0." in line for line in said)
    assert any("calibrate-here --work" in line and "on one GPU" in line for line in said)
    assert (tmp_path / "mine.yaml").exists()


def test_what_a_torchrun_measures() -> None:
    assert mode_here({}) == "virtual"
    assert mode_here({"LOCAL_RANK": "3", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "8"}) == "node"
    assert mode_here({"LOCAL_RANK": "3", "WORLD_SIZE": "16", "LOCAL_WORLD_SIZE": "8"}) == "cluster"


def test_a_gpu_without_rows_uses_those_of_the_h200() -> None:
    """Constants are relative to datasheets: the H100's are the H200's until it has rows of its own."""
    from epicycle.sim.ep.protocols.epicycle import find_own

    entry, source = find_own("h100_sxm", "epicycle-high-throughput", "expand")
    assert source == "h200_sxm"
    assert entry == find_own("h200_sxm", "epicycle-high-throughput", "expand")[0]


def test_what_one_command_leaves_behind(tmp_path: Path) -> None:
    """calibrate-here after its measuring: fitted to all but what is aside, judged on both, written with a report."""
    for table in ("ep_comm", "grouped_gemm"):
        text = (MEASURED / f"h200-2026-11-27.{table}.csv").read_text()
        (tmp_path / f"rows.{table}.csv").write_text(text)
    said: list[str] = []
    found = conclude(tmp_path, said.append)
    assert load_calibration(str(tmp_path / "mine.yaml")).entries == found.calibration.entries
    aside = [e.fit.mape_rest_pct for e in found.entries if e.fit.mape_rest_pct is not None]
    assert aside and np.mean(aside) < 6.0
    assert "epicycle-kernels" in (tmp_path / "calibration.html").read_text()
    assert "simulate with --set cluster.calibration=" in said[-1]
    assert any(line.startswith("kept aside, 26 rows of 64 tokens: met within ") for line in said), said
    assert not any("stay those shipped" in line for line in said)


def test_rows_of_another_machine_are_fitted_where_there_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of a GPU machine, carried to a laptop: the same command fits it; an empty one is refused."""
    from epicycle.validate.here import run

    monkeypatch.setattr(run, "_has_gpu", lambda: False)
    said: list[str] = []
    if not torch.cuda.is_available():
        with pytest.raises(BadInput, match="needs a CUDA device"):
            run.calibrate_here(tmp_path / "empty", 8.0, None, said.append)
    (tmp_path / "rows.grouped_gemm.csv").write_text(TABLES[1].read_text())
    run.calibrate_here(tmp_path, 8.0, None, said.append)
    assert said[0] == f"no GPU here: fitting the rows in {tmp_path}"
    assert (tmp_path / "mine.yaml").exists() and (tmp_path / "calibration.html").exists()


def test_a_row_says_its_launches(measured: tuple[list[OwnRow], Gpu]) -> None:
    rows, _ = measured
    layer = next(row for row in rows if row.op == "layer" and row.protocol == "epicycle-low-latency")
    assert [part.key[1].split(".")[0] for part in layer.parts] == [
        "dispatch_send", "dispatch_receive", "product", "swiglu", "product", "combine_send", "combine_receive",
    ]  # fmt: skip
    assert replace(layer, parts=()).parts == ()
