"""The page of an explanation: the waterfall adds up to the step, the tornado is sorted, intervals say why."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from epicycle.scenarios.answer.evaluation import PartTime
from epicycle.scenarios.report.deployment.explain import render_explanation, write_explanation_report
from epicycle.scenarios.report.deployment.parts import SHOWN_PARTS, listed
from epicycle.scenarios.report.deployment.waterfall import bound_seconds, waterfall

COMMAND = "epicycle explain deepseek-v3-h200 --html why.html"
EVIL = "</script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def html(made_up: ModuleType) -> str:
    return render_explanation(made_up.explanation(), COMMAND)


def boxes(row: str) -> list[tuple[str, float, float]]:
    """(look, left, width) of the boxes of one row."""
    found = re.findall(r"<i(?: class=(\w+))? style=\"left:([\d.]+)%;width:([\d.]+)%", row)
    return [(look, float(left), float(width)) for look, left, width in found]


def test_sections_in_order(html: str) -> None:
    ids = re.findall(r'<(?:section|header) id="?([a-z-]+)', html)
    assert ids == ["answer", "step", "bounds", "sensitivity", "limits", "memory", "cost", "sure", "inputs"]


def test_each_part_begins_where_the_one_before_it_ended(made_up: ModuleType) -> None:
    step = made_up.step()
    rows = [boxes(r) for r in re.findall(r"<div class=track>(.*?)</div>", waterfall(step))]
    assert len(rows) == len(step.parts) + 1
    scale = rows[-1][0][2] / step.seconds
    at = 0.0
    for part, row in zip(step.parts, rows[:-1], strict=True):
        _, left, width = row[-1]
        assert left == pytest.approx(at * scale, abs=0.01) and width == pytest.approx(part.exposed_s * scale, abs=0.01)
        ghosts = [box for box in row if box[0] == "ghost"]
        assert bool(ghosts) == (part.seconds > part.exposed_s)
        at += part.exposed_s


def test_time_that_no_part_explains_is_a_row(made_up: ModuleType) -> None:
    step = made_up.step()
    assert "not attributed" not in waterfall(step)
    assert "not attributed" in waterfall(replace(step, seconds=1.2 * step.seconds))


def test_small_parts_are_added_up_and_nothing_is_lost(made_up: ModuleType) -> None:
    parts = tuple(PartTime(f"p{i}", "experts", 1.0 + i, 0.5 + i, "hbm", 1.0, 2.0, 3.0) for i in range(3 * SHOWN_PARTS))
    short = listed(parts)
    assert len(short) == SHOWN_PARTS and "smaller parts" in short[-1].name
    for field in ("seconds", "exposed_s", "flops", "hbm_bytes", "wire_bytes"):
        assert sum(getattr(p, field) for p in short) == pytest.approx(sum(getattr(p, field) for p in parts))


def test_bounds_add_up_to_the_exposed_time(made_up: ModuleType) -> None:
    step = made_up.step()
    found = bound_seconds(step)
    assert sum(found.values()) == pytest.approx(sum(p.exposed_s for p in step.parts))
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_the_tornado_has_the_strongest_first_and_leaves_out_what_does_nothing(html: str) -> None:
    body = html[html.index('<div id="tornado-tpot"') : html.index('<div id="tornado-usd_per_mtok_output"')]
    names = re.findall(r"<span class=name>([^<]+)</span>", body)
    assert names[:3] == ["HBM bandwidth", "NIC bandwidth", "NIC message rate"] and "NVLink bandwidth" not in names
    assert "−21 % / +24 %" in body and "One other number" in body


def test_a_metric_that_moves_like_another_has_no_tornado_of_its_own(made_up: ModuleType) -> None:
    x = made_up.explanation()
    same = tuple(
        replace(s, more={**s.more, "requests_per_s": s.more["tpot"]}, less={**s.less, "requests_per_s": s.less["tpot"]})
        for s in x.sensitivities
    )
    page = render_explanation(replace(x, sensitivities=same), COMMAND)
    assert "tornado-tpot" in page and "tornado-usd_per_mtok_output" in page and "tornado-requests_per_s" not in page


def test_intervals_say_why_they_are_wide(made_up: ModuleType, html: str) -> None:
    for reason in made_up.evaluation().why_wide:
        assert reason.replace("'", "&#x27;") in html
    assert "90 %: 22.2 to 31.6 ms" in html


def test_hostile_text_stays_text(made_up: ModuleType) -> None:
    x = made_up.explanation()
    e = x.evaluation
    pools = tuple(
        replace(
            p,
            arrangement=EVIL,
            memory=tuple(replace(m, name=EVIL + m.name, source=EVIL) for m in p.memory),
            steps=tuple(
                replace(s, parts=tuple(replace(q, name=EVIL, group=EVIL, bound=EVIL, source=EVIL) for q in s.parts))
                for s in p.steps
            ),
        )
        for p in e.pools
    )
    metrics = tuple(replace(m, words=EVIL) for m in e.metrics)
    bad = replace(e, name=EVIL, pools=pools, metrics=metrics, cost={EVIL: 1.0}, why_wide=(EVIL,), notes=(EVIL,))
    page = render_explanation(
        replace(
            x, evaluation=bad, sensitivities=tuple(replace(s, words=EVIL, value=EVIL, source=EVIL) for s in x.sensitivities)
        ),
        EVIL,
    )
    assert "<img" not in page and page.count("<script>") == render_explanation(x, COMMAND).count("<script>")


def test_a_bare_evaluation_is_a_page_as_well(made_up: ModuleType) -> None:
    x = made_up.explanation()
    bare = replace(x.evaluation, serving=None, metrics=(), pools=(), cost={}, limits=(), why_wide=(), inputs=())
    ids = re.findall(
        r'<(?:section|header) id="?([a-z-]+)', render_explanation(replace(x, evaluation=bare, sensitivities=()), COMMAND)
    )
    assert ids == ["answer", "inputs"]


def test_same_explanation_same_bytes(made_up: ModuleType, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_explanation_report(made_up.explanation(), tmp_path / name, COMMAND)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_in_the_browser(browser: Any, made_up: ModuleType, tmp_path: Path) -> None:
    write_explanation_report(made_up.explanation(), tmp_path / "e.html", COMMAND)
    for width in (360, 1300):
        browser.open(tmp_path / "e.html", width, dark=width > 600)
        browser.click_on("button[data-show=tornado-usd_per_mtok_output]")
        browser.until("document.getElementById('tornado-tpot').hidden")
        browser.click_on("#step details summary")
        browser.until("document.querySelector('#step details').open")
        assert browser.overflow() == 0
    browser.print(tmp_path / "e.pdf")
    assert (tmp_path / "e.pdf").read_bytes().startswith(b"%PDF")
