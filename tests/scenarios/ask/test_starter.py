"""`epicycle init` writes a scenario that can be planned; scenarios come from standard input as well."""

from __future__ import annotations

import io
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
