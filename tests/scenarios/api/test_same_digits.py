"""The same question has the same digits on the terminal, on the page, in JSON, in CSV and in Python, whatever the command."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import epicycle
from epicycle.scenarios.answer.words.number_text import number_text

SERVE, PLAN = "serve-deepseek-v3-h200", "plan-deepseek-v3-h200"
SMALL = {"search.gpus": "16", "search.confirm": "0"}
FEW = {"deployment.decode.batch": ["64", "128"]}
NIC = {"cluster.node.nic": "connectx8-800g"}
QUESTIONS: dict[str, tuple[list[str], Callable[[], Any]]] = {
    "plan": ([PLAN, *(w for k, v in SMALL.items() for w in ("--set", f"{k}={v}"))], lambda: epicycle.plan(PLAN, sets=SMALL)),
    "sweep": ([SERVE, "--no-keep", "--over", "deployment.decode.batch=64,128"], lambda: epicycle.sweep(SERVE, FEW)),
    "compare": ([SERVE, "--set", "cluster.node.nic=connectx8-800g"], lambda: epicycle.compare(SERVE, sets=NIC)),
    "explain": ([SERVE], lambda: epicycle.explain(SERVE)),
    "simulate": (["ep-anatomy"], lambda: epicycle.simulate("ep-anatomy")),
}


def _evaluations(told: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for key in ("best", "evaluation", "a", "b"):
        if told.get(key):
            yield told[key]
    for point in told.get("points", ()):
        yield point["evaluation"]


def _numbers(text: str) -> set[float]:
    return {float(n.replace(",", "")) for n in re.findall(r"(?<![\w.])\d[\d,]*(?:\.\d+)?", text)}


@pytest.mark.parametrize("command", QUESTIONS)
def test_one_question_one_set_of_digits(command: str, epicycle: Callable[..., Any], tmp_path: Path) -> None:
    words, asked = QUESTIONS[command]
    files = ["--json", "a.json", "--html", "a.html", *(["--csv", "a.csv"] if command != "simulate" else [])]
    done = epicycle(command, *words, *files)
    assert done.status == 0, done.err
    python = asked()
    written = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert python.to_json() == written
    if command != "simulate":
        assert python.to_csv() == (tmp_path / "a.csv").read_bytes().decode()
    page = re.sub(r"<script.*?</script>|<style.*?</style>|<[^>]+>", " ", (tmp_path / "a.html").read_text("utf-8"), flags=re.S)
    told = json.loads(written)
    if command == "simulate":
        for op in told["layers"][0]["ops"]:
            assert f"{op['critical_us']:,.1f}" in done.out
            assert any(abs(n - op["critical_us"]) <= 0.06 for n in _numbers(page))
        return
    cells = {cell for row in csv.reader(io.StringIO(python.to_csv())) for cell in row}
    for evaluation in _evaluations(told):
        for key in ("tpot", "output_tokens_per_s_gpu"):
            metric = evaluation["metrics"][key]
            shown = number_text(metric["value"], metric["unit"], key).split()[0]
            if command != "explain":  # whose table is of changes, and whose terminal leads with the step
                assert shown in done.out, (key, shown)
                assert f"{metric['value']:.12g}" in cells or command == "plan"
            assert any(n == pytest.approx(float(shown.replace(",", "")), rel=6e-3) for n in _numbers(page)), (key, shown)
