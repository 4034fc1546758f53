"""`epicycle init` writes a scenario that can be planned; scenarios come from standard input as well."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from epicycle.scenarios.ask.document import parse_document
from epicycle.scenarios.ask.scenario import load_scenario, read_scenario
from epicycle.scenarios.ask.starter import Starter, starter_text


def test_the_starter_is_a_scenario_with_the_values_asked_for() -> None:
    asked = Starter(name="a: b", model="qwen3-235b-a22b", cluster="b200-cx7", nodes=3, rate="7 /s", ttft="1 s", backend="vllm")
    scenario = read_scenario(parse_document(starter_text(asked), "x.yaml"))
    assert (scenario.name, scenario.model.preset, scenario.cluster.nodes) == ("a: b", "qwen3-235b-a22b", 3)
    assert (scenario.workload.rate, scenario.slo.ttft, scenario.search.backends) == (7.0, 1.0, ("vllm",))
    with pytest.raises(ValueError, match="needs a unit"):
        starter_text(Starter(tpot="50"))


def test_init_writes_once_and_says_what_comes_next(epicycle: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "first.yaml"
    done = epicycle("init", str(path), "--nodes", "2")
    assert (done.status, done.out) == (0, f"{path}: edit it, then epicycle plan {path}\n")
    assert load_scenario(path).cluster.nodes == 2
    assert load_scenario(path).name == "first"
    again = epicycle("init", str(path))
    assert again.status == 2
    assert "is there already" in again.err
    assert epicycle("init", str(tmp_path / "x.yaml"), "--cluster", "h300").status == 2
    assert not (tmp_path / "x.yaml").exists()


def test_a_scenario_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(starter_text(Starter())))
    assert load_scenario("-", ["cluster.nodes=5"]).cluster.nodes == 5
    monkeypatch.setattr("sys.stdin", io.StringIO("name: x\nmodle: y\nworkload: {}\n"))
    with pytest.raises(ValueError, match=r"standard input:2: no such key modle: did you mean 'model'"):
        load_scenario("-")


TRACE = "arrival_s,input_tokens,output_tokens\n0,100,10\n1,200,20\n4,600,60\n"


def test_a_starter_takes_lengths_and_rate_from_a_trace(epicycle: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(TRACE)
    done = epicycle("init", "a.yaml", "--trace", "t.csv")
    assert done.status == 0, done.err
    assert "epicycle serve a.yaml --trace-in t.csv" in done.out
    load = load_scenario(tmp_path / "a.yaml").workload
    assert (load.input_tokens, load.output_tokens, load.rate) == (300, 30, pytest.approx(2 / 4))
    assert "on average, of 3 requests of t.csv" in (tmp_path / "a.yaml").read_text()
    given = epicycle("init", "b.yaml", "--trace", "t.csv", "--rate", "9 /s", "--in", "128")
    assert given.status == 0, given.err
    load = load_scenario(tmp_path / "b.yaml").workload
    assert (load.input_tokens, load.output_tokens, load.rate) == (128, 30, 9.0)
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    for name, told in (("nope.csv", "No such file"), ("bad.csv", "no column arrival_s")):
        refused = epicycle("init", "c.yaml", "--trace", name)
        assert refused.status == 2 and told in refused.err
    assert not (tmp_path / "c.yaml").exists()


def test_a_trace_takes_the_place_of_the_load_that_its_deployment_was_found_for(
    epicycle: Callable[..., Any], tmp_path: Path
) -> None:
    """`plan` finds it for the rate, `serve --trace-in` plays the trace on it, and says both."""
    (tmp_path / "t.csv").write_text(TRACE)
    done = epicycle("init", "a.yaml", "--model", "qwen3-235b-a22b", "--nodes", "1", "--trace", "t.csv", "--tpot", "60 ms")
    assert done.status == 0, done.err
    found = epicycle("plan", "a.yaml", "--set", "search.confirm=0", "--json", "plan.json")
    assert found.status == 0, found.err
    best = json.loads((tmp_path / "plan.json").read_text())["best"]
    played = epicycle("serve", "a.yaml", "--set", "search.confirm=0", "--trace-in", "t.csv", "--json", "run.json")
    assert played.status in (0, 3), played.err
    run = json.loads((tmp_path / "run.json").read_text())
    for key in ("tp", "dp", "ep", "count"):
        assert run["evaluation"]["serving"]["decode"][key] == best["serving"]["decode"][key]
    assert run["distributions"]["ttft"]["count"] == 3
    assert "the trace has its own arrivals, in place of workload.rate (0.5)" in run["evaluation"]["notes"]
    # In a file, where nothing says which of the two is meant, both together are refused with the line.
    both = epicycle("plan", "a.yaml", "--set", "search.confirm=0", "--set", "requests.trace.file=t.csv")
    assert both.status == 2
    assert "requests.trace has its own arrivals: remove workload.rate" in both.err
