"""The page of a validation run: complete, safe, sampled where rows are many."""

from __future__ import annotations

import itertools
import json
import re
import sys
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest

from epicycle.scenarios.report.shell.page import safe
from epicycle.validate.pages.findings import coverage, right_and_wrong
from epicycle.validate.pages.prose import ABLATION, HONESTLY, RIGHT, WRONG, sections
from epicycle.validate.pages.report import DRAWN_POINTS, WORST, _sample, render_validation_report, write_validation_report
from epicycle.validate.pages.timing import Timing, regime_of, regime_words, timing
from epicycle.validate.predict.predicted import GroupError
from epicycle.validate.validate import validate_table

EVIL = '</script><img src=x onerror="alert(1)"><!--'


@dataclass(frozen=True)
class MadeUpRun:
    groups: list[dict[str, object]] = field(default_factory=list)
    rows: list[dict[str, object]] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)


def made_up_run(per_group: int = 120, system: str = "h100_sxm", skipped: dict[str, int] | None = None) -> MadeUpRun:
    """Groups of rows whose times grow with tokens, predicted with 6 % of noise."""
    rng = np.random.default_rng(3)
    run = MadeUpRun(skipped=skipped or {})
    for protocol, floor in (("deepep-normal", 60.0), ("deepep-low-latency", 12.0)):
        for op, nodes in itertools.product(("dispatch", "combine"), (1, 2, 4)):
            tokens = 2 ** rng.integers(0, 14, per_group)
            measured = floor + 0.06 * tokens * (1 + nodes / 2)
            errors = 1.0 + 6.0 * rng.standard_normal(per_group)
            names = {"system": system, "protocol": protocol, "op": op, "nodes": nodes}
            shape = {"hidden": 7168, "top_k": 8, "experts": 256, "comm_sms": 24 if protocol == "deepep-normal" else ""}
            for t, m, e in zip(tokens, measured, errors, strict=True):
                times = {"latency_us": f"{m:.3f}", "predicted_us": float(m * (1 + e / 100))}
                run.rows.append({**names, "tokens_per_rank": int(t), **shape, **times})
            apes = np.abs(errors)
            summary = (apes.mean(), np.median(apes), np.percentile(apes, 90), errors.mean())
            run.groups.append(asdict(GroupError(system, protocol, op, nodes, per_group, *map(float, summary), system)))
    return run


def figures(html: str) -> dict[str, dict]:
    found = re.findall(r'<script type="application/json" data-figure="([^"]*)">(.*?)</script>', html)
    return {name: json.loads(spec) for name, spec in found}


def test_every_part_is_there_and_every_figure_valid() -> None:
    run = made_up_run(skipped={"unknown system b300": 12})
    html = render_validation_report(
        run.groups, run.rows, run.skipped, source="ep_comm.csv", command="epicycle validate ep_comm.csv"
    )
    parts = ("Error by group", "Error by regime", "Predicted against measured", "The worst rows")
    for words in (*parts, "unknown system b300", "epicycle validate ep_comm.csv"):
        assert words in html
    drawn = figures(html)
    assert len(drawn) == len(run.groups)
    for spec in drawn.values():
        go.Figure(json.loads(re.sub(r'"var\(--[a-z0-9-]+\)"', '"#123456"', json.dumps(spec))))
        assert spec["layout"]["xaxis"]["title"]["text"] == "measured, us"


def test_coverage_of_intervals_by_group() -> None:
    run = made_up_run()
    held = run.groups[0] | {"unseen_rows": 120, "covered_50_pct": 51.0, "covered_90_pct": 90.4}
    missed = run.groups[1] | {"unseen_rows": 118, "covered_50_pct": 30.0, "covered_90_pct": 71.0}
    few = run.groups[2] | {"unseen_rows": 12, "covered_50_pct": 50.0, "covered_90_pct": 66.0}
    timings = [timing(row | {"predicted_low90_us": 0.9 * row["predicted_us"], "predicted_high90_us": 1.1 * row["predicted_us"]})
               for row in run.rows]  # fmt: skip
    html = coverage([held, missed, few, *run.groups[3:]], timings)
    assert html.count("<tr>") == 1 + 3, "groups without unseen rows have no coverage"
    assert "<b class=warn>71</b>" in html and "<b class=warn>66</b>" not in html, "chance marks no group"
    assert ">90</td>" in html and ">10.0</td>" in html
    assert coverage(run.groups, timings) == ""


def test_right_and_wrong_are_told_apart() -> None:
    names = {"system": "s", "protocol": "p", "op": "o", "hidden": 1, "bound": "nic"}
    rows = [names | {"nodes": 1, "tokens_per_rank": 8, "latency_us": "100", "predicted_us": 102.0}] * 6
    rows += [names | {"nodes": 2, "tokens_per_rank": 4096, "latency_us": "100", "predicted_us": 60.0}] * 5
    rows += [names | {"nodes": 4, "tokens_per_rank": 4096, "latency_us": "100", "predicted_us": 10.0}] * 4
    html = right_and_wrong([timing(row) for row in rows])
    right, wrong = html.split("<h3>Where it is wrong</h3>", 1)
    assert "s, 1 node: p o, 4–16 tokens per rank: 2.0 % of 6 rows" in right
    assert "s, 2 nodes: p o, 4k–16k tokens per rank: 40.0 % of 5 rows, 40 % too fast, mostly bound by nic" in wrong
    assert "4 nodes" not in html.split("<details")[0], "too few rows to judge"


def test_what_was_worked_out_beforehand_is_shown_and_said_so() -> None:
    run = made_up_run()
    html = render_validation_report(run.groups, run.rows, {})
    for title in (ABLATION, HONESTLY, RIGHT, WRONG):
        assert title in html
    assert "Worked out beforehand from the public H100 table" in html
    mechanisms = [line.split("|")[1].strip() for line in sections()[ABLATION].splitlines() if line.startswith("| ")]
    assert len(mechanisms) > 5 and all(safe(mechanism) in html for mechanism in mechanisms)


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    run = made_up_run(5, system=EVIL, skipped={EVIL: 1})
    write_validation_report(
        run.groups, run.rows, run.skipped, tmp_path / "v.html", source=EVIL, version=EVIL, command=EVIL, notes=(EVIL,)
    )
    html = (tmp_path / "v.html").read_text("utf-8")
    assert "<img" not in html[: html.index("<script>")] and "<!--" not in html
    assert len(re.findall("</script>", html)) == 2 + len(run.groups)


def test_no_row_predicted_is_said() -> None:
    html = render_validation_report([], [], {"unknown protocol": 3})
    assert "No row of this table could be predicted" in html and "unknown protocol" in html


def test_many_rows_are_sampled_and_the_worst_kept() -> None:
    own = [timing(row) for row in made_up_run(4000).rows[:4000]]
    shown = _sample(own)
    assert len(shown) <= DRAWN_POINTS
    worst = sorted(own, key=lambda r: -abs(r.error_pct))[:WORST]
    assert all(r in shown for r in worst)


def test_a_row_is_read_from_text_and_empty_cells_left_out() -> None:
    row = made_up_run(1).rows[-1] | {"latency_us": "200.0", "predicted_us": 190.0}
    read = timing(row)
    assert read == Timing(
        ("h100_sxm", "deepep-low-latency", "combine", 4), read.size, read.case, 200.0, 190.0, unit="tokens per rank"
    )
    assert read.error_pct == pytest.approx(-5.0) and "SMs" not in read.case and "top-8, 256 experts" in read.case


@pytest.mark.parametrize(
    ("columns", "size", "case"),
    [
        ({"m": 8, "n": 2112, "k": 7168}, (8, "rows of the product"), "m 8, n 2112, k 7168"),
        ({"gpus": 4, "message_bytes": 1 << 21}, (1 << 21, "bytes"), "2097152 B, 4 GPUs"),
        ({"heads": 16, "batch": 2, "context_len": 4096}, (4096, "tokens of context"), "16 heads, batch 2, context 4096"),
        ({}, (0, ""), ""),
    ],
)
def test_other_tables_have_cases_and_sizes_too(columns: dict[str, int], size: tuple[int, str], case: str) -> None:
    names = {"system": "s", "protocol": "p", "op": "o", "nodes": "1", "latency_us": "1", "predicted_us": "1"}
    read = timing(names | columns)
    assert ((read.size, read.unit), read.case) == (size, case)


@pytest.mark.parametrize("table", ["gemm.csv", "collectives.csv", "mla_attention.csv", "grouped_gemm.csv", "ep_comm.csv"])
def test_every_row_belongs_to_its_group(tables: Path, table: str) -> None:
    found = validate_table(tables / table)
    counted = Counter(timing(row).key for row in found.rows)
    assert counted == {(g.system, g.protocol, g.op, g.nodes): g.rows for g in found.groups}
    assert all(timing(row).size and timing(row).case for row in found.rows)


def test_bands_in_words() -> None:
    assert [regime_words(r) for r in (0, 4, 5, 9, 14)] == ["1–4", "256–1k", "1k–4k", "256k–1M", "256M–1G"]


@pytest.mark.parametrize(("tokens", "regime"), [(0, 0), (1, 0), (3, 0), (4, 1), (15, 1), (16, 2), (128, 3), (4096, 6)])
def test_regimes_are_powers_of_four(tokens: int, regime: int) -> None:
    assert regime_of(tokens) == regime


if __name__ == "__main__":
    made_up = made_up_run(1200, skipped={"unknown system b300": 12, "op prepare is not predicted": 540})
    write_validation_report(made_up.groups, made_up.rows, made_up.skipped, Path(sys.argv[1]), source="ep_comm.csv", command="…")
