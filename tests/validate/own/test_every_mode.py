"""Rows of every mode go all the way round: bench's own labels, made-up times, a file, calibrate, validate, simulate.

The times are those of a machine that is not there: every launch a fifth slower than the shipped constants say, every share of
HBM and tensor rate a tenth lower, links at shares of their own. Whoever walks round must find that machine again.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from epicycle.cli import app
from epicycle.hwmodels.calibration import Calibration, find_entry, load_shipped, standing_in
from epicycle.hwmodels.catalog import load_cluster
from epicycle.hwmodels.constant import read_constant, write_constant
from epicycle.validate.bench import Asked
from epicycle.validate.bench.cases.case import Setup
from epicycle.validate.bench.cases.exchange import exchange_cases
from epicycle.validate.bench.cases.single_rank import Point, single_rank_cases
from epicycle.validate.bench.rows import Rows
from epicycle.validate.bench.torchrun import work
from epicycle.validate.fit.calibrate import to_yaml
from epicycle.validate.fit.tables import calibrate_all
from epicycle.validate.predict.own_rows import own_constants
from epicycle.validate.tables.own.node import CROSSING, node_seconds
from epicycle.validate.tables.own.rows import keys_of, predicted_s, read_own
from epicycle.validate.tables.vocabulary import MODE_SCOPES

SYSTEM, CLUSTER = "h200_sxm", "h200-cx7"
FACTS = {"gpu": "NVIDIA H200", "driver": "1", "torch": "2.11.0", "triton": "3.6.0", "commit": "abc", "date": "2026-11-28"}
SHAPES = ("4096x7168x2048x64x8", "1024x7168x2048x64x8", "128x7168x2048x64x8", "16x7168x2048x64x8", "1x7168x2048x64x8")
LINKS = {"one-node": ("nvlink_efficiency", 0.6), "multi-node": ("nic_efficiency", 0.55)}
TABLES = ("ep_comm", "grouped_gemm")


def bench_rows(mode: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(table, labels) of every row that a bench of ``mode`` writes on H200s."""
    identified = {"system": SYSTEM, "mode": mode, "scope": MODE_SCOPES[mode]}
    if mode == "virtual":
        setup = Setup("cpu", 2, "tma")
        for point in map(Point.parse, SHAPES):
            for case in single_rank_cases(point, setup) + exchange_cases(point, setup):
                yield case.table, {**identified, **case.labels, "case": case.name}
        return
    ranks = 8 if mode == "node" else 32
    points = [Point.parse(f"{tokens}x7168x2048x256x8", ranks) for tokens in (4096, 512, 128, 16)]
    for one in work(Asked(mode), points, SYSTEM, ranks, 8, Rows(None)):
        for op, row in one.labels.items():
            yield "ep_comm", {**row, "case": f"{one.name}_{op}"}


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The calibration file of the machine that is not there."""
    entries = []
    for entry in load_shipped(SYSTEM).entries:
        if entry.scope != "kernel":
            continue
        entries.append(entry.model_copy(update={"constants": {n: slower(n, v) for n, v in entry.constants.items()}}))
    for protocol, ops in CROSSING.items():
        for op in ops.values():
            scope = "multi-node" if protocol.endswith("two-hop") else "one-node"
            owner = protocol if not protocol.endswith("two-hop") else "epicycle-high-throughput"
            (kernel,) = (e for e in entries if (e.protocol, e.op, e.scope) == (owner, op, "kernel"))
            # Rails end in NVLink: what the node's rows do not tell of it is lent, as it is to whoever fits them.
            nvlink = {} if scope == "one-node" else {"nvlink_efficiency": lent(scope, "nvlink_efficiency")}
            shares = {**nvlink, LINKS[scope][0]: LINKS[scope][1]}
            linked = {"protocol": protocol, "scope": scope, "constants": {**kernel.constants, **shares}}
            entries.append(kernel.model_copy(update=linked))
    path = tmp_path_factory.mktemp("truth") / "truth.yaml"
    path.write_text(to_yaml(Calibration(system=SYSTEM, cluster=CLUSTER, relative=SYSTEM, entries=tuple(entries))))
    return path


def slower(name: str, value: str | float) -> str | float:
    number = read_constant(name, value)
    if name in ("hbm_efficiency", "tensor_efficiency"):
        return write_constant(name, 0.9 * number)
    return value if name in ("sharpness", "nvlink_efficiency", "nic_efficiency") else write_constant(name, 1.2 * number)


def lent(scope: str, name: str) -> float:
    constants = find_entry(SYSTEM, "high-throughput", "dispatch", scope)[0].constants  # type: ignore[arg-type]
    return float(constants.get(name, 1.0))


@pytest.fixture(scope="module")
def measured(truth: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """mode -> the file of its rows, written by bench's writer."""
    folder, found = tmp_path_factory.mktemp("rows"), {}
    for mode in MODE_SCOPES:
        blank, files = Rows(folder / f"blank-{mode}.csv", facts=FACTS), Rows(folder / f"{mode}.csv", facts=FACTS)
        labelled = list(bench_rows(mode))
        for table, labels in labelled:
            blank.add(table, {**labels, "latency_us": 1.0, **FACTS})
        times = dict(zip(labelled_keys(labelled), seconds(folder, mode, truth), strict=True))
        for key, (table, labels) in zip(labelled_keys(labelled), labelled, strict=True):
            files.add(table, {**labels, "latency_us": 1e6 * times[key] if times[key] else 1.0, **FACTS})
        found[mode] = folder / f"{mode}.csv"
    return found


def labelled_keys(labelled: list[tuple[str, dict[str, Any]]]) -> list[tuple[str, int]]:
    """(table, place in it), in the order of writing."""
    count = dict.fromkeys(TABLES, 0)
    keys = []
    for table, _ in labelled:
        keys.append((table, count[table]))
        count[table] += 1
    return keys


def seconds(folder: Path, mode: str, truth: Path) -> list[float]:
    """Seconds of the blank rows of ``mode`` on the machine of ``truth``, in the order of writing; 0 where there is no law."""
    by_table: dict[tuple[str, int], float] = {}
    with standing_in(str(truth)):
        for table in TABLES:
            path, gpus = folder / f"blank-{mode}.{table}.csv", {}
            if not path.exists():
                continue
            for place, row in enumerate(read_own(path, gpus)):
                if mode != "virtual":
                    by_table[table, place] = node_seconds(row, load_cluster(CLUSTER))
                elif row.parts:
                    entries = {key: find_entry(SYSTEM, *key, "kernel") for key in keys_of([row])}
                    by_table[table, place] = float(predicted_s([row], gpus[SYSTEM], own_constants(entries))[0])
    return [by_table.get(key, 0.0) for key in labelled_keys(list(bench_rows(mode)))]


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, done.output
    return str(done.stdout)


@pytest.fixture(scope="module")
def mine(measured: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command ``calibrate`` makes of the rows of all modes together."""
    path = tmp_path_factory.mktemp("mine") / "mine.yaml"
    tables = [f"{out.with_suffix('')}.{table}.csv" for out in measured.values() for table in TABLES]
    there = [table for table in tables if Path(table).exists()]
    said = run("calibrate", *there, "--system", SYSTEM, "--out", str(path))
    assert "our own kernels" in said
    return path


@pytest.mark.parametrize("mode", list(MODE_SCOPES))
def test_rows_of_a_mode_are_predicted_by_what_was_fitted_to_them(mode: str, measured: dict[str, Path], mine: Path) -> None:
    """`validate` on the file that --out names: off by the made-up slowness before, right after, and nothing is passed over."""
    before, after = (
        json.loads(run("validate", str(measured[mode]), "--json", "-", *more)) for more in ((), ("--calibration", str(mine)))
    )
    with measured[mode].open() as file:
        rows = sum(1 for _ in csv.DictReader(file))
    assert sum(group["rows"] for group in after["groups"]) + sum(after["skipped"].values()) == rows
    assert all(reason.startswith("no law of gemm-") and reason.endswith(" in int4_block") for reason in after["skipped"])
    assert all(group["bias_pct"] < -5.0 or group["bias_pct"] > 5.0 for group in before["groups"])
    assert all(group["mape_pct"] < 1.5 for group in after["groups"]), after["groups"]


@pytest.mark.parametrize(
    ("protocol", "nodes"), [("epicycle-high-throughput", 1), ("epicycle-low-latency", 1), ("epicycle-two-hop", 4)]
)
def test_a_simulation_with_it_is_that_of_the_machine(protocol: str, nodes: int, truth: Path, mine: Path) -> None:
    asked = ("simulate", "deepseek-v3-decode-ep32", "--cluster", CLUSTER, "--set", f"cluster.nodes={nodes}",
             "--set", f"deployment.protocol={protocol}", "--set", f"deployment.ep={8 * nodes}", "--json", "-")  # fmt: skip
    shipped, own, real = (
        json.loads(run(*asked, *more))["layers"][0]
        for more in ((), *(("--set", f"cluster.calibration={file}") for file in (mine, truth)))
    )
    assert own["makespan_us"] == pytest.approx(real["makespan_us"], rel=0.01)
    assert abs(own["makespan_us"] / shipped["makespan_us"] - 1) > 0.05
    for one, other in zip(own["ops"], real["ops"], strict=True):
        assert one["duration_us"] == pytest.approx(other["duration_us"], rel=0.02), one["op"]


@pytest.mark.parametrize(
    ("mode", "ranks", "per_node", "scope", "name"),
    [("cluster", (16, 32), 8, "multi-node", "nic_efficiency"), ("node", (16,), 4, "one-node", "nvlink_efficiency")],
)
def test_one_efficiency_for_all_sizes_of_a_link(
    mode: str, ranks: tuple[int, ...], per_node: int, scope: str, name: str, tmp_path: Path
) -> None:
    """Rows over two and four nodes fix one share of the NIC; hosts of one NVLink domain fix NVLink's, not the NIC's."""
    out, cluster = tmp_path / "m.csv", load_cluster(CLUSTER)
    for file, seconds_of in ((tmp_path / "blank.csv", None), (out, {name: 0.5})):
        writer = Rows(file, facts=FACTS)
        known = iter(read_own(tmp_path / "blank.ep_comm.csv", {})) if seconds_of else None
        for n in ranks:
            points = [Point.parse(f"{tokens}x7168x2048x256x8", n) for tokens in (512, 4096)]
            for one in work(Asked(mode), points, SYSTEM, n, per_node, Rows(None)):
                for op, row in one.labels.items():
                    s = node_seconds(next(known), cluster, seconds_of) if known else 1.0
                    writer.add("ep_comm", {**row, "case": f"{one.name}_{op}", "latency_us": 1e6 * s, **FACTS})
    found = calibrate_all([tmp_path / "m.ep_comm.csv"], SYSTEM, CLUSTER, relative=SYSTEM)
    assert {entry.scope for entry in found.entries} == {scope}
    assert all(entry.constants[name] == pytest.approx(0.5, abs=0.01) for entry in found.entries)
    assert all(entry.fit.rows == 4 * len(ranks) for entry in found.entries)
