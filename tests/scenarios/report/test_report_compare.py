"""The page of a comparison: the parts' differences add up to the step's, the walk to the whole change."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from epicycle.scenarios.report.deployment.compare import render_comparison, write_comparison_report
from epicycle.scenarios.report.shell.bars import Bar, Span, bars, stacked

COMMAND = "epicycle compare h200-400g h200-800g"


@pytest.fixture(scope="module")
def html(made_up: ModuleType) -> str:
    return render_comparison(made_up.comparison(), COMMAND)


def rows_of(html: str, section: str) -> list[list[tuple[float, float]]]:
    """(left, width) in per cent of the boxes of every row of bars in a section."""
    body = html[html.index(f'<section id="{section}"') :]
    body = body[: body.index("</section>")]
    rows = re.findall(r"<div class=track>(.*?)</div>", body)
    return [[(float(a), float(b)) for a, b in re.findall(r"left:([\d.]+)%;width:([\d.]+)%", row)] for row in rows]


def test_sections_in_order(made_up: ModuleType, html: str) -> None:
    ids = re.findall(r'<(?:section|header) id="?([a-z-]+)', html)
    assert ids == ["answer", "difference", "walk", "metrics", "steps", "memory", "cost", "differing", "inputs"]
    assert html.index(made_up.comparison().sentence) < html.index(made_up.comparison().mechanism)


def test_the_parts_of_a_difference_end_where_the_whole_does(html: str) -> None:
    steps: list[list[list[tuple[float, float]]]] = [[]]
    for row in rows_of(html, "difference"):
        steps[-1].append(row)
        if len(row) == 1 and len(steps[-1]) > 1 and len(steps[-1]) % 3 == 0:
            steps.append([])
    for combine, dispatch, whole in (s for s in steps if s):
        assert whole[0][1] == pytest.approx(combine[0][1] + dispatch[0][1], abs=0.01)
        assert dispatch[0][0] == pytest.approx(whole[0][0], abs=0.01)


def test_compositions_share_one_scale(made_up: ModuleType, html: str) -> None:
    comparison = made_up.comparison()
    a, b, *_ = rows_of(html, "steps")
    prefill = [e.pools[0].steps[0].seconds for e in (comparison.a, comparison.b)]
    lengths = [sum(width for _, width in row) for row in (a, b)]
    assert lengths[1] / lengths[0] == pytest.approx(prefill[1] / prefill[0], rel=1e-3)


def test_a_change_for_the_worse_is_said(made_up: ModuleType) -> None:
    c = made_up.comparison()
    turned = render_comparison(replace(c, a=c.b, b=c.a), COMMAND)
    assert "<span class=warn>worse</span>" in turned and "worse" not in render_comparison(c, COMMAND)


def test_the_inputs_that_differ_are_listed(html: str) -> None:
    body = html[html.index('id="differing"') : html.index('<section id="inputs"')]
    assert "50 GB/s" in body and "100 GB/s" in body and "HBM bandwidth" not in body


def test_nothing_in_common_and_nothing_changed_is_a_page_as_well(made_up: ModuleType) -> None:
    c = made_up.comparison()
    bare = replace(c, a=replace(c.a, pools=(), cost={}, inputs=()), b=replace(c.b, pools=(), cost={}, inputs=()), changes=())
    ids = re.findall(r'<(?:section|header) id="?([a-z-]+)', render_comparison(bare, COMMAND))
    assert ids == ["answer", "metrics", "inputs"]
    same = render_comparison(replace(c, b=c.a), COMMAND)
    assert "no difference" in same and "All inputs are the same" in same


def test_boxes_lie_on_the_scale() -> None:
    text = bars(
        [Bar("a", (Span(-2.0, 6.0, "red"),), "8"), Bar("b", stacked([("x", 1.0, "red"), ("y", 3.0, "blue")], "xy"), "4")], "s"
    )
    boxes = [(float(a), float(b)) for a, b in re.findall(r"left:([\d.]+)%;width:([\d.]+)%", text)]
    assert boxes == [(0.0, 100.0), (25.0, 12.5), (37.5, 37.5)]
    assert re.findall(r"%\">([^<]+)</span>", text) == ["−2", "0", "2", "4", "6 s"]


def test_in_the_browser(browser: Any, made_up: ModuleType, tmp_path: Path) -> None:
    write_comparison_report(made_up.comparison(), tmp_path / "c.html", COMMAND)
    for width in (360, 1300):
        browser.open(tmp_path / "c.html", width, dark=width > 600)
        browser.click_on("button[data-show=walk-usd_per_mtok_output]")
        browser.until("!document.getElementById('walk-usd_per_mtok_output').hidden")
        assert browser.eval("document.getElementById('walk-tpot').hidden")
        for summary in range(browser.eval("document.querySelectorAll('summary').length")):
            browser.eval(f"document.querySelectorAll('summary')[{summary}].click()")
        assert browser.eval("[...document.querySelectorAll('details')].every(d => d.open)")
        assert browser.overflow() == 0
