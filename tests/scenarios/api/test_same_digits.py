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
import epicycle as epicycle_python
from epicycle.hwmodels.units import format_time
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
    page = _page(tmp_path)
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


def test_requests_have_one_set_of_digits(epicycle: Callable[..., Any], tmp_path: Path) -> None:
    done = epicycle("serve", SERVE, "--requests", "300", "--json", "a.json", "--html", "a.html", "--csv", "a.csv")
    assert done.status == 0, done.err
    python = epicycle_python.serve(SERVE, requests=300, csv=tmp_path / "b.csv")
    assert python.to_json() == (tmp_path / "a.json").read_text(encoding="utf-8")
    assert (tmp_path / "b.csv").read_bytes() == (tmp_path / "a.csv").read_bytes()
    told = json.loads(python.to_json())
    page = _page(tmp_path)
    rows = list(csv.DictReader((tmp_path / "a.csv").open(encoding="utf-8")))
    table = {row["distribution"]: row for row in csv.DictReader(io.StringIO(python.to_csv()))}
    for key in ("ttft", "tpot"):
        found = told["distributions"][key]
        assert sum(float(row[f"{key}_s"]) for row in rows) / len(rows) == pytest.approx(found["mean"], rel=1e-6)
        assert table[key]["mean_s"] == f"{found['mean']:.12g}"
        for value in (found["mean"], found["percentile"]["p99"]):
            shown = format_time(value)
            assert shown in done.out, (key, shown)
            assert shown.split()[0] in page, (key, shown)


def test_a_validation_has_one_set_of_digits(epicycle: Callable[..., Any], tmp_path: Path) -> None:
    table = "h200-2026-11-27.gemm.csv"
    done = epicycle("validate", table, "--json", "a.json", "--html", "a.html", "--csv", "a.csv")
    assert done.status == 0, done.err
    python = epicycle_python.validate(table)
    assert python.to_json() == (tmp_path / "a.json").read_text(encoding="utf-8")
    assert python.to_csv() == (tmp_path / "a.csv").read_text(encoding="utf-8")
    told, page = json.loads(python.to_json()), _page(tmp_path)
    rows = list(csv.DictReader(io.StringIO(python.to_csv())))
    assert sum(group["rows"] for group in told["groups"]) == len(rows)
    for group in told["groups"]:
        assert f"{group['mape_pct']:.1f}" in done.out
        assert f"{group['mape_pct']:.1f}" in page
    errors = [abs(float(row["predicted_us"]) / float(row["latency_us"]) - 1.0) for row in rows]
    counted = sum(group["rows"] * group["mape_pct"] for group in told["groups"]) / len(rows)
    assert 100 * sum(errors) / len(rows) == pytest.approx(counted, rel=1e-3)


def test_exchanges_have_one_set_of_digits(epicycle: Callable[..., Any], tmp_path: Path) -> None:
    tokens = [8, 128]
    done = epicycle("exchanges", "ep-anatomy", "--tokens", "8,128", "--json", "a.json", "--html", "a.html", "--csv", "a.csv")
    assert done.status == 0, done.err
    python = epicycle_python.exchanges("ep-anatomy", tokens=tokens)
    assert python.to_json() == (tmp_path / "a.json").read_text(encoding="utf-8")
    assert python.to_csv() == (tmp_path / "a.csv").read_bytes().decode()
    told, page = json.loads(python.to_json()), _page(tmp_path)
    rows = {(row["protocol"], int(row["tokens"])): row for row in csv.DictReader(io.StringIO(python.to_csv()))}
    assert len(rows) == len(tokens) * len(told["curves"]) > 0
    for curve in told["curves"]:
        for at, layer_us in zip(tokens, curve["layer_us"], strict=True):
            assert rows[curve["protocol"], at]["layer_us"] == f"{layer_us:.12g}"
            shown = format_time(layer_us * 1e-6)
            assert shown in done.out and shown in page, (curve["protocol"], shown)


def test_a_published_system_has_one_set_of_digits(epicycle: Callable[..., Any], tmp_path: Path) -> None:
    done = epicycle("gallery", "isca25-exchange-bound", "--json", "a.json", "--html", "a.html")
    assert done.status == 0, done.err
    told, page = json.loads((tmp_path / "a.json").read_text(encoding="utf-8")), _page(tmp_path)
    assert len(told["rows"]) == 6
    for row in told["rows"]:
        shown = f"{row['simulated']:.4g}"
        assert shown in done.out and shown in page, (row["id"], shown)


@pytest.mark.parametrize("name", ["cluster", "model"])
def test_a_catalogue_entry_says_on_the_terminal_what_it_says_in_json(name: str, epicycle: Callable[..., Any]) -> None:
    kind, entry = {"cluster": ("nics", "connectx7-400g"), "model": ("models", "deepseek-v3")}[name]
    told = epicycle("catalog", kind, entry, "--json", "-")
    shown = epicycle("catalog", kind, entry).out
    entries = json.loads(told.out)["entries"]
    listed = entries if isinstance(entries, list) else [entries]
    words = [str(value) for each in listed for value in each.values() if isinstance(value, str) and len(value) < 20]
    assert words and all(word in shown for word in words)


def _page(folder: Path) -> str:
    html = (folder / "a.html").read_text("utf-8")
    return re.sub(r"<script.*?</script>|<style.*?</style>|<[^>]+>", " ", html, flags=re.S)
