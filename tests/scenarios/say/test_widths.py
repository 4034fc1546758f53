"""Answers at 80, 100 and 140 columns, and piped: nothing beyond the width, no heading cut, no word broken, nothing padded."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epicycle.scenarios.say.terminal.sweep import ranges
from epicycle.scenarios.say.terminal.text_table import TextTable

WIDTHS = (80, 100, 140)
#: What is printed to be copied: one word each, however long.
QUESTIONS = {
    "simulate": ("simulate", "ep-anatomy"),
    "plan": ("plan", "plan-deepseek-v3-h200", "--set", "search.gpus=16", "--set", "search.confirm=1"),
    "no": ("plan", "plan-deepseek-v3-h200", "--set", "search.gpus=16", "--set", "slo.tpot=4 ms"),
    "sweep": ("sweep", "serve-deepseek-v3-h200", "--no-keep", "--over", "deployment.decode.batch=64,128"),
    "compare": ("compare", "serve-deepseek-v3-h200", "--set", "cluster.node.nic=connectx8-800g"),
    "explain": ("explain", "serve-deepseek-v3-h200"),
    "catalog": ("catalog", "gpus"),
    "serve": ("serve", "serve-deepseek-v3-h200", "--requests", "200"),
    "validate": ("validate", "h200-2026-11-27.grouped_gemm.csv"),
    "calibrate": ("calibrate", "h200-2026-11-27.gemm.csv", "--system", "h200_sxm"),
    "layers": ("compare", "ep-anatomy", "--set", "cluster.node.nic=connectx8-800g"),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_an_answer_keeps_to_its_width(name: str, epicycle: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {}
    for width in WIDTHS:
        monkeypatch.setenv("COLUMNS", str(width))
        texts[width] = epicycle(*QUESTIONS[name]).out
    monkeypatch.delenv("COLUMNS")
    texts[0] = epicycle(*QUESTIONS[name]).out
    words = [word for word in re.split(r"[\s,]+", texts[0]) if word and not set(word) <= set("─━│╭╮╰╯")]
    for width, text in texts.items():
        for line in text.splitlines():
            assert line == line.rstrip(), "padded"
            assert len(line) <= (width or len(line)) or len(line.split()) == 1, (width, line)
        assert "…" not in text
        # The same words at every width: none cut, none broken.
        found = re.split(r"[\s,]+", text)
        assert sorted(set(words) - set(found)) == [], (width, name)


def test_a_plan_s_headline_is_short_and_its_rows_say_what_they_are(
    epicycle: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    lines = epicycle(*QUESTIONS["plan"]).out.splitlines()
    pools = next(i for i, line in enumerate(lines) if line.startswith(("decode", "prefill", "aggregated")))
    assert len(" ".join(lines[:pools]).split()) <= 30
    heading = next(line for line in lines if line.lstrip().startswith("#"))
    for word in ("GPUs", "engine", "$/h", "TPOT", "TTFT"):
        assert word in heading
    table = lines.index(heading)
    numbered = [line.split()[0] for line in lines[table + 1 :] if re.match(r" *\d+  ", line)]
    assert numbered[:2] == ["1", "2"]
    assert numbered.count("1") == 2  # in the table, and in the list of arrangements


@pytest.mark.parametrize("name", ["plan", "sweep", "compare", "layers", "explain"])
def test_a_headline_has_at_most_thirty_words(name: str, epicycle: Callable[..., Any]) -> None:
    first = epicycle(*QUESTIONS[name]).out.splitlines()[0]
    assert len(first.split()) <= 30, first
    if name in ("plan", "explain"):
        assert all(word in first for word in ("GPUs", "$", "TPOT", "TTFT")), first


CELLS = st.lists(st.text("ab cd-ef/gh", max_size=60), min_size=4, max_size=4)


@given(st.lists(CELLS, min_size=1, max_size=5), st.integers(40, 140))
def test_a_table_loses_no_word_and_breaks_none(rows: list[list[str]], width: int) -> None:
    table = TextTable(">#", "a long heading", ">value", "note")
    for row in rows:
        table.add_row(*row)
    lines = [line for line, _ in table.lines(width)]
    said = sorted(word for line in lines for word in re.split(r"[\s,]+", line) if word)
    wanted = {word for row in rows for cell in row for word in re.split(r"[\s,]+", cell) if word}
    assert wanted <= set(said)
    assert all(line == line.rstrip() for line in lines)
    longest = max((len(word) for row in rows for cell in row for word in cell.split()), default=0)
    if 2 * longest + 20 < width:  # number columns do not wrap: only what can be broken is held to the width
        right = max(len(row[0]) + len(row[2]) for row in rows)
        assert all(len(line) <= max(width, right + 40) for line in lines)


def test_a_table_by_eye() -> None:
    table = TextTable("key", ">is", "what it does")
    table.add_row("cluster.node.nic", "50 GB/s", "buys 3.4 % of what is asked for, and then no more")
    table.add_row("gpu", "1", "")
    assert [line for line, _ in table.lines(60)] == [
        "key                    is  what it does",
        "cluster.node.nic  50 GB/s  buys 3.4 % of what is asked for,",
        "                           and then no more",
        "gpu                     1",
    ]
    assert [line for line, _ in table.lines(30)] == [
        "key                    is",
        "cluster.node.nic  50 GB/s",
        "    what it does buys 3.4 % of",
        "    what is asked for, and",
        "    then no more",
        "gpu                     1",
    ]


def test_runs_of_numbers() -> None:
    assert ranges([1, 2, 3, 5, 7, 8]) == "1-3, 5, 7-8"
