"""The command itself: what it prints, what it writes, and that both are the same every time."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from epicycle import __version__
from epicycle.scenarios.say.answer_json import answer_json
from epicycle.sim.inputs.question import Question
from epicycle.sim.layer.result import (
    Answer,
    InputRow,
    LayerResult,
    LinkUse,
    MemoryItem,
    OpTime,
    PathSegment,
    Span,
    TrafficMatrix,
)

Command = Callable[..., Any]


def made_up(question: Question) -> Answer:
    """A tiny answer, so that the command can be looked at without the engine."""
    ranks = question.deployment.ep
    ones = np.ones((ranks, ranks), dtype=np.int64)
    layer = LayerResult(
        protocol="high-throughput",
        makespan_ps=30_000_000,
        ops=(
            OpTime("dispatch", 0, 10_000_000, np.full(ranks, 10_000_000)),
            OpTime("combine", 10_000_000, 30_000_000, np.full(ranks, 20_000_000)),
        ),
        spans=(Span(0, "communication", "dispatch.send", "dispatch", 0, 10_000_000, "nvlink_tx"),),
        critical_path=(
            PathSegment(0, 4_000_000, 0, "dispatch.send", "dispatch", "latency"),
            PathSegment(4_000_000, 10_000_000, 0, "dispatch.send", "dispatch", "nvlink_tx"),
            PathSegment(10_000_000, 30_000_000, 1, "combine.send", "combine", "nic_tx"),
        ),
        links=(LinkUse("nic_tx[0]", "nic_tx", 0, 1e6, 5e10, 1 / 3, 1.0),),
        traffic=(TrafficMatrix("dispatch.send", "dispatch", "nvlink", 1000 * ones, ones),),
        expert_load=np.arange(16),
        rank_load=np.arange(ranks),
        memory=(MemoryItem("weights", 2 << 30, "formula"), MemoryItem("buffers", 4 << 20, "formula")),
        hbm_bytes=80 << 30,
        closed_form_us={"dispatch": 9.5},
        exchange={"counts": ones},
        notes=("a note",),
    )
    sentence = f"{question.name} takes 30 us, [bold]bound by[/bold] the NIC."
    inputs = (InputRow("gpu", "sms", "132", "datasheet"),)
    return Answer(question.name, "", sentence, (layer, layer), ranks, 4, inputs, question.seed, __version__)


@pytest.fixture
def fake(epicycle: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command with ``made_up`` in the place of the engine."""
    layer = ModuleType("epicycle.sim.layer.layer")
    layer.simulate = made_up
    monkeypatch.setitem(sys.modules, "epicycle.sim.layer.layer", layer)
    return epicycle


def test_the_version_and_the_help(epicycle: Command) -> None:
    assert epicycle("--version").out == f"epicycle {__version__}\n"
    done = epicycle("--help")
    assert done.status == 0
    for command in ("simulate", "catalog", "validate"):
        assert command in done.out


def test_the_module_is_the_command(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "epicycle", "--version"], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == f"epicycle {__version__}\n"


def test_the_catalogue_lists_every_kind(epicycle: Command) -> None:
    from epicycle.scenarios.say.listing import KINDS

    done = epicycle("catalog")
    assert [line.split(":")[0] for line in done.out.splitlines()[:-1]] == list(KINDS)
    for kind in KINDS:
        listed = epicycle("catalog", kind)
        assert listed.status == 0, listed.err
        assert len(listed.out.splitlines()) > 1


def test_every_record_shows_its_sources(epicycle: Command) -> None:
    assert "whitepaper" in epicycle("catalog", "gpus", "h100-sxm").out
    cluster = epicycle("catalog", "clusters", "h100-cx7").out
    assert "node.nic.bandwidth" in cluster
    assert "ConnectX-7 datasheet" in cluster
    assert "kv_lora_rank" in epicycle("catalog", "models", "deepseek-v3").out
    assert "tokens_per_rank: 1" in epicycle("catalog", "scenarios", "ep-anatomy").out


def test_the_answer_comes_first_then_where_the_time_goes(fake: Command) -> None:
    lines = fake("simulate", "ep-anatomy").out.splitlines()
    assert lines[0] == "ep-anatomy takes 30 us, [bold]bound by[/bold] the NIC.", "text from a file is never markup"
    text = "\n".join(lines)
    assert "high-throughput: 30.0 us" in text
    dispatch = next(line.split() for line in lines if line.startswith("dispatch"))
    assert dispatch[:5] == ["dispatch", "10.0", "5.0", "to", "20.0"], "a factor of two where no residual is known"
    assert dispatch[5:8] == ["the", "sender's", "NVLink"], "bound by what takes most of its critical path"
    assert "weights 2 GiB, buffers 4 MiB; 78 GiB of 80 GiB left" in text
    assert "side by side" in text


def test_json_on_stdout_is_only_json(fake: Command) -> None:
    done = fake("simulate", "ep-anatomy", "--json", "-")
    assert json.loads(done.out)["name"] == "ep-anatomy"
    assert done.err.startswith("ep-anatomy takes 30 us")


def test_what_is_written_is_said(fake: Command, tmp_path: Path) -> None:
    done = fake("simulate", "ep-anatomy", "--json", "a.json")
    assert done.out.splitlines()[-1] == "JSON written to a.json"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_the_report_and_the_trace_are_written(fake: Command, tmp_path: Path) -> None:
    sets = ("--set", "name='<b>x</b>'", "--set", "seed=5")
    done = fake("simulate", "ep-anatomy", *sets, "--html", "a.html", "--trace", "a.trace")
    assert done.status == 0, done.err
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "<b>x</b>" not in page
    assert "epicycle simulate ep-anatomy --set" in page, "the report says what reproduces it"
    assert json.loads((tmp_path / "a.trace").read_text(encoding="utf-8"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.html", "a.trace"]


def test_seed_and_set_reach_the_question(fake: Command, tmp_path: Path) -> None:
    assert fake("simulate", "ep-anatomy", "--set", "seed=3", "--seed", "4", "--set", "name=x", "--json", "a.json").status == 0
    written = json.loads((tmp_path / "a.json").read_text())
    assert (written["seed"], written["name"]) == (4, "x")


def test_json_holds_the_whole_answer() -> None:
    from epicycle.scenarios.ask.scenario import load_scenario

    question = load_scenario("ep-anatomy").resolve()
    layer = json.loads(answer_json(made_up(question)))["layers"][0]
    assert layer["makespan_us"] == 30.0
    assert [(op["op"], op["duration_us"]) for op in layer["ops"]] == [("dispatch", 10.0), ("combine", 20.0)]
    assert layer["bound_us"] == {"nic_tx": 20.0, "nvlink_tx": 6.0, "latency": 4.0}
    assert layer["traffic"][0]["total_bytes"] == 64_000
    assert layer["traffic"][0]["bytes"] == [[1000] * 8] * 8
    assert layer["exchange"]["counts"] == [[1] * 8] * 8
    assert layer["expert_load"] == list(range(16))
    assert layer["memory"]["free_bytes"] == (80 << 30) - (2 << 30) - (4 << 20)


def test_json_of_many_ranks_gives_sums() -> None:
    from epicycle.scenarios.ask.scenario import load_scenario

    question = load_scenario("deepseek-v3-decode-ep256").resolve()
    traffic = json.loads(answer_json(made_up(question)))["layers"][0]["traffic"][0]
    assert traffic["bytes_sent"] == [256_000] * 256
    assert "bytes" not in traffic


def test_same_seed_same_bytes_in_any_process(tmp_path: Path) -> None:
    """Other hash seeds and other numbers of threads must not change a byte; another seed must."""
    written = []
    for i, (hashes, threads, seed) in enumerate((("0", "1", "7"), ("12345", "2", "7"), ("0", "1", "8"))):
        path = tmp_path / f"{i}.json"
        command = [sys.executable, "-m", "epicycle", "simulate", "ep-anatomy", "--seed", seed, "--json", str(path)]
        env = {**os.environ, "PYTHONHASHSEED": hashes, "NUMBA_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
        subprocess.run(command, check=True, capture_output=True, env=env)
        written.append(path.read_bytes())
    assert written[0] == written[1]
    assert written[0] != written[2]


TABLE = """system,nodes,gpus_per_node,library,protocol,op,payload_dtype,routing,tokens_per_rank,hidden,top_k,experts,comm_sms,latency_us
h100_sxm,1,8,deepep@1,deepep-normal,dispatch,fp8,uniform,4096,7168,8,256,24,1000
h100_sxm,1,8,deepep@1,deepep-normal,dispatch,fp8,uniform,1024,7168,8,256,24,400
abacus,1,8,deepep@1,deepep-normal,dispatch,fp8,uniform,4096,7168,8,256,24,1000
h100_sxm,1,8,deepep@1,carrier-pigeon,dispatch,fp8,uniform,4096,7168,8,256,24,1000
"""  # noqa: E501


def test_validate_predicts_every_row_and_counts_what_it_skips(epicycle: Command, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(TABLE, encoding="utf-8")
    done = epicycle("validate", "t.csv", "--json", "v.json", "--csv", "v.csv", "--html", "v.html")
    assert done.status == 0, done.err
    assert "2 rows predicted, 2 skipped" in done.out
    outcome = json.loads((tmp_path / "v.json").read_text(encoding="utf-8"))
    (group,) = outcome["groups"]
    names = {"system": "h100_sxm", "protocol": "deepep-normal", "op": "dispatch", "nodes": 1, "rows": 2}
    assert {key: group[key] for key in names} == names
    for error in ("mape_pct", "median_ape_pct", "p90_ape_pct", "bias_pct"):
        assert isinstance(group[error], float)
    assert sorted(outcome["skipped"].values()) == [1, 1]
    assert any("abacus" in reason for reason in outcome["skipped"])
    assert any("carrier-pigeon" in reason for reason in outcome["skipped"])
    with (tmp_path / "v.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["latency_us"] for row in rows] == ["1000", "400"]
    assert all(float(row["predicted_us"]) > 0 for row in rows)
    assert json.loads(epicycle("validate", "t.csv", "--json", "-").out) == outcome


def test_an_interrupt_is_no_traceback(fake: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["epicycle.sim.layer.layer"], "simulate", interrupted)
    done = fake("simulate", "ep-anatomy", "--json", "a.json")
    assert (done.status, done.out, done.err) == (130, "", "")
    assert not list(tmp_path.iterdir())


def test_a_pipe_that_closes_early_is_no_error() -> None:
    code = "import sys; sys.argv = ['epicycle', 'catalog', 'clusters', 'h100-cx7']; from epicycle.cli import main; main()"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
