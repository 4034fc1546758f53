"""The page of a validation run: complete, safe, sampled where rows are many."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest

from epicycle.validate.report import (
    DRAWN_POINTS,
    WORST,
    GroupError,
    PredictedRow,
    _regime,
    _sample,
    error_pct,
    render_validation_report,
    write_validation_report,
)

EVIL = '</script><img src=x onerror="alert(1)"><!--'


def made_up_run(per_group: int = 120, system: str = "h100_sxm") -> tuple[list[GroupError], list[PredictedRow]]:
    """Groups of rows whose times grow with tokens, predicted with 6 % of noise."""
    rng = np.random.default_rng(3)
    groups, rows = [], []
    for protocol, floor in (("deepep-normal", 60.0), ("deepep-low-latency", 12.0)):
        for op in ("dispatch", "combine"):
            for nodes in (1, 2, 4):
                tokens = 2 ** rng.integers(0, 14, per_group)
                measured = floor + 0.06 * tokens * (1 + nodes / 2)
                predicted = measured * (1.01 + 0.06 * rng.standard_normal(per_group))
                own: list[PredictedRow] = [
                    {
                        "system": system,
                        "protocol": protocol,
                        "op": op,
                        "nodes": nodes,
                        "tokens_per_rank": int(t),
                        "hidden": 7168,
                        "top_k": 8,
                        "experts": 256,
                        "comm_sms": 24 if protocol == "deepep-normal" else None,
                        "latency_us": round(float(m), 3),
                        "predicted_us": float(p),
                    }
                    for t, m, p in zip(tokens, measured, predicted, strict=True)
                ]
                errors = np.array([error_pct(r) for r in own])
                apes = np.abs(errors)
                groups.append(
                    GroupError(
                        system=system,
                        protocol=protocol,
                        op=op,
                        nodes=nodes,
                        rows=per_group,
                        mape_pct=float(apes.mean()),
                        median_ape_pct=float(np.median(apes)),
                        p90_ape_pct=float(np.percentile(apes, 90)),
                        bias_pct=float(errors.mean()),
                    )
                )
                rows += own
    return groups, rows


def figures(html: str) -> dict[str, dict]:
    found = re.findall(r'<script type="application/json" data-figure="([^"]*)">(.*?)</script>', html)
    return {name: json.loads(spec) for name, spec in found}


def test_every_part_is_there_and_every_figure_valid() -> None:
    groups, rows = made_up_run()
    html = render_validation_report(
        groups, rows, {"unknown system b300": 12}, source="ep_comm.csv", command="epicycle validate x.csv"
    )
    for words in (
        "Error by group",
        "Error by regime",
        "Predicted against measured",
        "The worst rows",
        "unknown system b300",
        "epicycle validate x.csv",
    ):
        assert words in html
    drawn = figures(html)
    assert len(drawn) == len(groups)
    for spec in drawn.values():
        go.Figure(json.loads(re.sub(r'"var\(--[a-z0-9-]+\)"', '"#123456"', json.dumps(spec))))
        assert spec["layout"]["xaxis"]["title"]["text"] == "measured, µs"


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    groups, rows = made_up_run(5, system=EVIL)
    write_validation_report(
        groups, rows, {EVIL: 1}, tmp_path / "v.html", source=EVIL, version=EVIL, command=EVIL, notes=(EVIL,)
    )
    html = (tmp_path / "v.html").read_text("utf-8")
    assert "<img" not in html.replace(html[html.index("<script>") :], "") and "<!--" not in html
    assert len(re.findall("</script>", html)) == 2 + len(groups)


def test_no_row_predicted_is_said() -> None:
    assert "No row of this table could be predicted" in render_validation_report([], [], {"unknown protocol": 3})


def test_many_rows_are_sampled_and_the_worst_kept() -> None:
    _, rows = made_up_run(4000)
    own = rows[:4000]
    shown = _sample(own)
    assert len(shown) <= DRAWN_POINTS
    worst = sorted(own, key=lambda r: -abs(error_pct(r)))[:WORST]
    assert all(r in shown for r in worst)


@pytest.mark.parametrize(("tokens", "regime"), [(0, 0), (1, 0), (3, 0), (4, 1), (15, 1), (16, 2), (128, 3), (4096, 6)])
def test_regimes_are_powers_of_four(tokens: int, regime: int) -> None:
    assert _regime(tokens) == regime


if __name__ == "__main__":
    write_validation_report(
        *made_up_run(1200),
        {"unknown system b300": 12, "op prepare is not predicted": 540},
        Path(sys.argv[1]),
        source="ep_comm.csv",
    )
