"""Modes node and cluster without a node: every clock reading and device is made up, what is done with them is not."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from epicycle.hwmodels.errors import BadInput
from epicycle.validate.bench import Asked, BenchFailed
from epicycle.validate.bench import torchrun as node
from epicycle.validate.bench.cases.case import Setup
from epicycle.validate.bench.cases.single_rank import Point
from epicycle.validate.bench.check import CheckError
from epicycle.validate.bench.failed import finished

FACTS = {"gpu": "NVIDIA H200", "driver": "1", "torch": "2.11", "triton": "3.6", "commit": "abc", "date": "2026-11-28"}
POINTS = [Point.parse("16x7168x2048x256x8"), Point.parse("512x7168x2048x256x8")]
US = node.Ranks(0, 8, 8, lambda value: value)


@pytest.fixture(autouse=True)
def made_up_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node.device, "provenance", lambda: FACTS)
    monkeypatch.setattr(node.clocks, "read", lambda at: {"sm_clock_mhz": 1980.0 + at, "power_w": 600.0, "throttled": ""})
    monkeypatch.setattr(node, "_build", lambda *_: (object(), None))
    monkeypatch.setattr(node, "_check", lambda *_: 0.003)
    monkeypatch.setattr(node, "_time", lambda layer, protocol: {op: [3.0, 1.0, 2.0] for op in node.ROWS[protocol]})


def _measure(asked: Asked, said: list[str], us: node.Ranks = US) -> tuple[list[dict[str, Any]], list[str]]:
    steps: list[str] = []
    return node.measure(asked, POINTS, us, Setup("cpu", 2), steps.append, said.append)


def test_a_run_says_how_long_it_takes_and_writes_as_it_goes(tmp_path: Path) -> None:
    said: list[str] = []
    out, html = tmp_path / "node.csv", tmp_path / "node.html"
    rows, failures = _measure(Asked("node", out=out, html=html), said)
    assert said[0].startswith("8 x NVIDIA H200 as h200_sxm: 6 cases, about ")
    assert "0 cases, 0 s left" in said[-1]
    # Two protocols at 16 tokens, one at 512, in two precisions: three ops of the one and two of the other.
    assert len(rows) == 2 * (3 + 2) + 2 * 3
    assert not failures
    assert {row["latency_us"] for row in rows} == {2.0}
    assert {(row["scope"], row["nodes"], row["gpus_per_node"], row["power_w"]) for row in rows} == {("one-node", 1, 8, 600.0)}
    with (tmp_path / "node.ep_comm.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(rows)
    assert "low-latency_fp8_combine" in html.read_text()


def test_the_limit_ends_it_and_resume_goes_on(tmp_path: Path) -> None:
    said: list[str] = []
    asked = Asked("node", ["high-*"], out=tmp_path / "node.csv", limit_s=0.0)
    rows, _ = _measure(asked, said)
    assert (len(rows), said[-1]) == (0, "0 s are over: 4 layers are left for --resume")
    rows, _ = _measure(replace(asked, limit_s=None, resume=True), said)
    assert len(rows) == 4 * 3
    said.clear()
    rows, _ = _measure(replace(asked, limit_s=None, resume=True), said)
    assert (len(rows), said) == (12, ["8 x NVIDIA H200 as h200_sxm: 0 cases, about 0 s"])


def test_a_wrong_layer_is_named_and_the_others_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(layer: object, expected: object, fp8: bool) -> float:
        if fp8:
            raise CheckError("relative error 0.3 of some rank, allowed 0.05")
        return 0.003

    monkeypatch.setattr(node, "_check", check)
    said: list[str] = []
    rows, failures = _measure(Asked("cluster"), said, node.Ranks(0, 16, 8, lambda value: value))
    assert {row["protocol"] for row in rows} == {"epicycle-two-hop"}
    assert {(row["nodes"], row["payload_dtype"], row["scope"]) for row in rows} == {(2, "bfloat16", "multi-node")}
    with pytest.raises(BenchFailed, match=r"2 cases failed their check: two-hop_fp8, 16 tokens: relative error 0.3"):
        finished(rows, failures)


def test_hosts_of_one_nvlink_domain_are_named_so() -> None:
    rows, _ = _measure(Asked("node"), [], node.Ranks(0, 16, 4, lambda value: value))
    assert {(row["nodes"], row["gpus_per_node"], row["scope"]) for row in rows} == {(4, 4, "nvlink-domain")}


def test_other_ranks_write_nothing(tmp_path: Path) -> None:
    out = tmp_path / "node.csv"
    _measure(Asked("node", out=out, html=tmp_path / "node.html"), [], replace(US, rank=3))
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_no_layer_has_is_refused() -> None:
    with pytest.raises(BadInput, match=r"no case matches \['ht_dispatch_\*'\]: mode node has high-throughput_bf16, high-throu"):
        _measure(Asked("node", ["ht_dispatch_*"]), [])


def test_outside_torchrun_the_command_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(BadInput, match="torchrun --nproc-per-node=8 -m epicycle bench --mode cluster"):
        node.run_under_torchrun(Asked("cluster"), POINTS, lambda _: None)
