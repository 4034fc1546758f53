"""Field reports as a table: rates judged as times, reports grouped, brackets and ratios said, nothing silent."""

from __future__ import annotations

from pathlib import Path

import pytest

from epicycle.hwmodels.errors import BadInput
from epicycle.validate.validate import validate_table

SCENARIO = """
name: a-report
model: deepseek-v3
cluster: {name: h200-cx7, nodes: 1}
workload: {input_tokens: 1000, output_tokens: 500, concurrency: 64}
deployment: {backend: sglang, decode: {tp: 8}}
"""
HEAD = "id,scenario,metric,measured,counts,source\n"


def table(folder: Path, *lines: str) -> Path:
    (folder / "one.yaml").write_text(SCENARIO)
    (folder / "more.yaml").write_text(SCENARIO.replace("concurrency: 64", "concurrency: 256"))
    (folder / "wrong.yaml").write_text(SCENARIO.replace("tp: 8", "tp: 3"))
    path = folder / "measured.csv"
    path.write_text(HEAD + "".join(line + "\n" for line in lines))
    return path


def test_rates_are_judged_as_times(tmp_path: Path) -> None:
    found = validate_table(table(tmp_path, "a1_x,one.yaml,tpot,0.02,yes,one", "a1_y,one.yaml,output_tokens_per_s,3000,yes,one"))
    by_metric = {r["op"]: r for r in found.rows}
    assert {r["protocol"] for r in found.rows} == {"a1"}
    assert float(by_metric["tpot"]["latency_us"]) == pytest.approx(20_000.0)
    assert float(by_metric["output_tokens_per_s"]["latency_us"]) == pytest.approx(1e6 / 3000, rel=1e-3)
    assert float(by_metric["output_tokens_per_s"]["predicted_us"]) == pytest.approx(
        1e6 / float(by_metric["output_tokens_per_s"]["figure_predicted"]), rel=1e-3
    )
    for row in found.rows:
        assert float(row["predicted_low90_us"]) < float(row["predicted_us"]) < float(row["predicted_high90_us"])


def test_what_does_not_count_is_said(tmp_path: Path) -> None:
    found = validate_table(
        table(
            tmp_path,
            "b1_x,one.yaml,tpot,0.02,yes,one",
            "b2_low,one.yaml,tpot,0.02,bracket,two",
            "b2_high,more.yaml,tpot,0.02,bracket,two",
            "b3_a,one.yaml,tpot,0.03,ratio,three",
            "b3_b,more.yaml,tpot,0.015,ratio,three",
            "b4_x,one.yaml,tpot,0.02,no,a sick site",
            "b5_x,wrong.yaml,tpot,0.02,yes,five",
        )
    )
    assert len(found.rows) == 1
    assert any("b2: tpot" in note and "enclose" in note for note in found.notes)
    assert any("b3: b3_a over b3_b measured 2.00" in note for note in found.notes)
    assert sum(found.skipped.values()) == 2
    assert any("a sick site" in why for why in found.skipped) and any("tp" in why for why in found.skipped)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("c1,one.yaml,tpot,0.02,maybe,x", "line 2: counts: wanted one of yes, no, ratio, bracket, got 'maybe'"),
        ("c1,one.yaml,tpott,0.02,yes,x", "line 2: metric: no such number in the answer: tpott"),
        ("c1,one.yaml,tpot,fast,yes,x", "line 2: measured: wanted a number, got 'fast'"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        validate_table(table(tmp_path, line))
