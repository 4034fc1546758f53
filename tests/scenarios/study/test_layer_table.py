"""Layers in closed form as a table of any size: the numbers of the layers themselves, refusals as rows, no loop over points."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from epicycle.hwmodels.errors import BadInput
from epicycle.scenarios.ask.scenario import load_layer
from epicycle.scenarios.study import layer_table as module
from epicycle.scenarios.study.layer_table import layer_table
from epicycle.sim.layer.closed_form import layer_seconds

NAME = "deepseek-v3-decode-ep32"


def test_every_row_is_its_layer(epicycle: Any, tmp_path: Path) -> None:
    over = ("traffic.tokens_per_rank=1,32,100", "cluster.node.nic=connectx7-400g,connectx8-800g,nonsense")
    done = epicycle("sweep", NAME, "--engine", "closed", *(w for o in over for w in ("--over", o)), "--csv", "t.csv")
    assert done.status == 0, done.err
    assert "9 layers in closed form, 3 refused" in " ".join(done.out.split())
    rows = list(csv.DictReader((tmp_path / "t.csv").open()))
    assert len(rows) == 9
    for row in rows:
        if row["cluster.node.nic"] == "nonsense":
            assert "nonsense" in row["refusal"] and row["layer_s"] == ""
            continue
        question = load_layer(NAME, [f"cluster.node.nic={row['cluster.node.nic']}"]).resolve()
        alone = layer_seconds(question, np.array([float(row["traffic.tokens_per_rank"])]))
        assert float(row["layer_s"]) == pytest.approx(float(sum(s[0] for s in alone.values())), rel=1e-8)


def test_the_tokens_are_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counting(question: Any, tokens: Any) -> Any:
        calls.append(len(tokens))
        return layer_seconds(question, tokens)

    monkeypatch.setattr(module, "layer_seconds", counting)
    table = layer_table(NAME, ["traffic.tokens_per_rank=1..3000", "deployment.comm_sms=20,24"])
    assert sum(len(block.tokens) for block in table.walk()) == table.points == 6000
    assert calls == [3000, 3000]


def test_what_it_is_not_for_is_refused(epicycle: Any) -> None:
    over = ["--over", "traffic.tokens_per_rank=1,2"]
    assert (
        "--html, --workers is not for it"
        in epicycle("sweep", NAME, "--engine", "closed", *over, "--html", "x", "--workers", "2").err
    )
    with pytest.raises(BadInput, match="asks about serving"):
        layer_table("serve-deepseek-v3-h200", over[1:])
    with pytest.raises(BadInput, match="wanted whole numbers"):
        layer_table(NAME, ["traffic.tokens_per_rank=few,many"])
    with pytest.raises(BadInput, match="power-law"):
        layer_table("deepseek-v3-power-law-replicas", over[1:])
