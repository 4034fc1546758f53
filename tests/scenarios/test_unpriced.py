"""A GPU that nobody prices: every time is answered, the dollar rows say "no price" and why, a plan ranks by GPUs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]
ON_GB300 = ("--set", "cluster=gb300-nvl72", "--set", "cluster.nodes=18")
WHY = "no rental price of gb300: set prices.gpu_hour.gb300"


def _answer(epicycle: Command, *words: str) -> Any:
    done = epicycle(*words, "--json", "-")
    assert done.status == 0, done.err
    return json.loads(done.out)


def test_a_deployment_is_answered_in_times(epicycle: Command, tmp_path: Path) -> None:
    asked = ("sweep", "serve-deepseek-v3-h200", *ON_GB300, "--over", "workload.concurrency=256,512")
    sweep = _answer(epicycle, *asked)
    for point in sweep["points"]:
        answer = point["evaluation"]
        assert answer["unpriced"].startswith(WHY)
        assert answer["cost"] == {}
        assert answer["metrics"]["tpot"]["value"] > 0
        assert {key: answer["metrics"][key]["value"] for key in answer["metrics"] if "usd" in key} == {
            "usd_per_mtok_output": None, "usd_per_mtok": None, "usd_per_hour": None
        }  # fmt: skip
        assert "no price per million output tokens" in answer["sentence"]
        assert "times_api" not in answer["metrics"]
    table = list(csv.DictReader(io.StringIO(epicycle(*asked, "--csv", "-").out)))
    assert [row["usd_per_hour"] for row in table] == ["", ""]
    page = tmp_path / "sweep.html"
    assert epicycle(*asked, "--html", str(page)).status == 0
    assert "nan" not in page.read_text(encoding="utf-8").split("<script")[0].lower().replace("nanosecond", "")


def test_a_plan_ranks_by_gpus(epicycle: Command, tmp_path: Path) -> None:
    page = tmp_path / "plan.html"
    more = ("--set", "search.confirm=1", "--set", "workload.rate=15 /s", "--set", "search.modes=[aggregated]")
    plan = _answer(epicycle, "plan", "plan-deepseek-v3-h200", *ON_GB300, *more, "--html", str(page))
    assert "the smallest takes" in plan["sentence"] and "no price" in plan["sentence"]
    assert any(note.startswith(f"ranked by GPUs: {WHY}") for note in plan["notes"])
    meeting = [c for c in plan["candidates"] if c["meets"]]
    assert plan["best"]["gpus"] == min(c["gpus"] for c in meeting)
    assert all(c["values"]["usd_per_hour"] is None for c in plan["candidates"])
    text = page.read_text(encoding="utf-8")
    assert f"No price: {WHY}" in text and "front-throughput" in text and "front-cost" not in text


def test_a_price_that_is_set_brings_the_dollars_back(epicycle: Command) -> None:
    priced = _answer(epicycle, "explain", "serve-deepseek-v3-h200", *ON_GB300, "--set", "prices.gpu_hour.gb300=4 USD/GPU-h")
    answer = priced["evaluation"]
    assert answer["unpriced"] == ""
    assert answer["metrics"]["usd_per_hour"]["value"] == pytest.approx(4.0 * answer["gpus"])
    by_contract = _answer(epicycle, "explain", "serve-deepseek-v3-h200", *ON_GB300, "--set", "bill.basis=three-years")
    assert by_contract["evaluation"]["metrics"]["usd_per_hour"]["value"] == pytest.approx(3.96 * answer["gpus"])


def test_compare_and_explain_say_it_where_the_dollars_stand(epicycle: Command, tmp_path: Path) -> None:
    explained = epicycle("explain", "serve-deepseek-v3-h200", *ON_GB300)
    assert explained.status == 0 and f"cost: {WHY}" in explained.out and "no price" in explained.out
    asked = ("compare", "serve-deepseek-v3-h200", "--set-b", "cluster=gb300-nvl72", "--set-b", "cluster.nodes=18")
    compared = epicycle(*asked, "--html", str(tmp_path / "c.html"))
    assert compared.status == 0, compared.err
    assert "no price" in compared.out
    assert "No price: no rental price of gb300" in (tmp_path / "c.html").read_text(encoding="utf-8")


def test_owned_power_follows_utilisation(epicycle: Command) -> None:
    """A waiting H200 server draws its host and a tenth of its GPUs' power: about half of all."""
    owned = ("explain", "serve-deepseek-v3-h200", "--set", "bill.basis=owned")
    whole = _answer(epicycle, *owned, "--set", "workload={input_tokens: 1600, output_tokens: 600}")["evaluation"]
    idle_load = "workload={input_tokens: 1600, output_tokens: 600, rate: 0.01 /s}"
    idle = _answer(epicycle, *owned, "--set", idle_load)["evaluation"]
    host, gpu, pue, usd_per_kwh = 10_200 / 8 - 700, 700.0, 1.56, 0.0806
    for answer in (whole, idle):
        used = answer["metrics"]["utilisation"]["value"]
        watts = answer["gpus"] * (host + 0.1 * gpu + used * 0.9 * gpu)
        assert answer["cost"]["power"] == pytest.approx(watts / 1e3 * pue * usd_per_kwh)
    assert idle["metrics"]["utilisation"]["value"] < 0.01
    assert idle["cost"]["power"] == pytest.approx(0.51 * whole["cost"]["power"], rel=0.02)
    assert idle["cost"]["GPU time"] == pytest.approx(whole["cost"]["GPU time"])
