"""The page of a sweep: lines for one axis, heat maps for two, a table for more; what was refused is said."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epicycle.scenarios.report.deployment.sweep import render_sweep, write_sweep_report
from epicycle.scenarios.report.deployment.swept import numbers, short_axes, shown_metrics
from epicycle.scenarios.report.shell.quantity import between, change, nice_step, said

COMMAND = "epicycle sweep deepseek-v3-h200 --over cluster.node.nic.bandwidth=100,200"


def figures(html: str) -> dict[str, Any]:
    return {n: json.loads(s) for n, s in re.findall(r'data-figure="([^"]+)">(.*?)</script>', html, re.DOTALL)}


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_every_point_is_shown_or_refused(made_up: ModuleType, axes: int) -> None:
    sweep = made_up.sweep(axes)
    html = render_sweep(sweep, COMMAND)
    ids = re.findall(r'<(?:section|header) id="?([a-z-]+)', html)
    assert ids == ["answer", *(["metrics"] if axes < 3 else []), "steps", "points", "refused", "inputs"]
    answered = sum(p.evaluation is not None for p in sweep.points)
    table = html[html.index('<section id="points"') : html.index('<section id="refused"')]
    assert table.count("<tr>") == 1 + answered
    for point in sweep.points:
        if point.evaluation is None:
            assert point.refusal in html
    for spec in figures(html).values():
        go.Figure(json.loads(re.sub(r'"var\(--[a-z0-9-]+\)"', '"#123456"', json.dumps(spec))))


def test_a_line_has_its_intervals_and_a_gap_where_a_point_was_refused(made_up: ModuleType) -> None:
    sweep = made_up.sweep(1)
    spec = figures(render_sweep(sweep, COMMAND))["metric-tpot"]
    line = spec["data"][-1]
    assert line["x"] == [100, 200, 400, 800, 1600, 3200] and line["y"][-1] is None
    tpots = [p.evaluation.metric("tpot") for p in sweep.points if p.evaluation]
    assert line["y"][:-1] == pytest.approx([1e3 * m.value for m in tpots])
    wide, narrow = (t["y"] for t in spec["data"][:2])
    assert wide == pytest.approx([1e3 * m.high90 for m in tpots] + [1e3 * m.low90 for m in reversed(tpots)])
    assert max(narrow) < max(wide)
    assert spec["layout"]["xaxis"]["type"] == "log" and "Gb/s" in spec["layout"]["xaxis"]["title"]["text"]


def test_a_heat_map_outlines_the_best_and_leaves_gaps(made_up: ModuleType) -> None:
    spec = figures(render_sweep(made_up.sweep(2), COMMAND))["metric-tpot"]
    z = spec["data"][0]["z"]
    assert z[0][3] is None and sum(v is None for row in z for v in row) == 1
    box = spec["layout"]["shapes"][0]
    assert z[round((box["y0"] + box["y1"]) / 2)][round((box["x0"] + box["x1"]) / 2)] == min(v for r in z for v in r if v)


def test_words_as_values_are_points_not_lines(made_up: ModuleType) -> None:
    sweep = made_up.sweep(1)
    words = ("uniform", "power-law", "file", "x", "y", "z")
    sweep = replace(sweep, points=tuple(replace(p, values=(w,)) for p, w in zip(sweep.points, words, strict=True)))
    line = figures(render_sweep(sweep, COMMAND))["metric-tpot"]["data"][-1]
    assert line["mode"] == "markers" and "error_y" in line


def test_axes_are_named_so_that_they_differ(made_up: ModuleType) -> None:
    sweep = made_up.sweep(2)
    assert short_axes(sweep) == ["ep", "batch"]
    both = replace(sweep, axes=("deployment.decode.ep", "deployment.prefill.ep"))
    assert short_axes(both) == ["decode ep", "prefill ep"]


def test_numbers_of_an_axis() -> None:
    assert numbers(["400 Gb/s", "800 Gb/s"]) == ([400.0, 800.0], "Gb/s")
    assert numbers(["1e3", "2000"]) == ([1000.0, 2000.0], "")
    assert numbers(["400 Gb/s", "1 Tb/s"]) is None and numbers(["a", "2"]) is None and numbers(["fp8"]) is None


def test_nothing_answered_is_a_page_as_well(made_up: ModuleType) -> None:
    sweep = made_up.sweep(1)
    sweep = replace(sweep, points=tuple(replace(p, evaluation=None, refusal="no") for p in sweep.points))
    assert shown_metrics([]) == []
    ids = re.findall(r'<(?:section|header) id="?([a-z-]+)', render_sweep(sweep, COMMAND))
    assert ids == ["answer", "refused", "inputs"]


@given(st.floats(1e-9, 1e9))
def test_a_step_of_a_scale_is_round_and_divides_it_into_a_few(span: float) -> None:
    step = nice_step(span, 4)
    assert 1 <= span / step <= 4.01
    assert min(abs(step / 10.0**p - m) for p in range(-12, 12) for m in (1, 2, 2.5, 5)) < 1e-6


def test_quantities_in_words() -> None:
    assert said(0.0312, "s") == "31.2 ms" and said(2.1e-6, "s") == "2.10 us" and said(0.0, "s") == "0 s"
    assert said(0.421, "USD/Mtok") == "$0.42 per Mtok" and said(0.114, "", "mfu") == "11.4 %" and said(4096, "") == "4,096"
    assert between(128, 186, "requests/s") == "128 to 186 requests/s" and between(0.9, 1.2, "s") == "900 ms to 1.20 s"
    assert change(10, 11) == "+10 %" and change(10, 9.58) == "−4.2 %" and change(10, 25) == "2.50×" and change(1, 1) == "same"


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_in_the_browser(browser: Any, made_up: ModuleType, tmp_path: Path, axes: int) -> None:
    write_sweep_report(made_up.sweep(axes), tmp_path / "s.html", COMMAND)
    for width in (360, 1300):
        browser.open(tmp_path / "s.html", width)
        for name in browser.eval("[...document.querySelectorAll('div.plot')].map(e => e.id)"):
            browser.draw(name)
        for summary in range(browser.eval("document.querySelectorAll('summary').length")):
            browser.eval(f"document.querySelectorAll('summary')[{summary}].click()")
        assert browser.overflow() == 0
