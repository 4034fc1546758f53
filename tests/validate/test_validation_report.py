"""The page of a validation run: complete, safe, sampled where rows are many."""

from __future__ import annotations

import itertools
import json
import re
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest

from epicycle.validate.predict import GroupError
from epicycle.validate.report import (
    DRAWN_POINTS,
    WORST,
    Timing,
    _regime,
    _sample,
    render_validation_report,
    timing,
    write_validation_report,
)

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
        assert spec["layout"]["xaxis"]["title"]["text"] == "measured, µs"


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
    assert read == Timing(("h100_sxm", "deepep-low-latency", "combine", 4), read.tokens, read.case, 200.0, 190.0)
    assert read.error_pct == pytest.approx(-5.0) and "SMs" not in read.case and "top-8, 256 experts" in read.case


@pytest.mark.parametrize(("tokens", "regime"), [(0, 0), (1, 0), (3, 0), (4, 1), (15, 1), (16, 2), (128, 3), (4096, 6)])
def test_regimes_are_powers_of_four(tokens: int, regime: int) -> None:
    assert _regime(tokens) == regime


if __name__ == "__main__":
    made_up = made_up_run(1200, skipped={"unknown system b300": 12, "op prepare is not predicted": 540})
    write_validation_report(made_up.groups, made_up.rows, made_up.skipped, Path(sys.argv[1]), source="ep_comm.csv", command="…")
