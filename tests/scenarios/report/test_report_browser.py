"""The page of one layer in a real browser, and that the browser's complaints are heard at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from epicycle.scenarios.report.shell.page import document, figure


@pytest.mark.parametrize(
    "body",
    [
        "<script>alert(1)</script>",  # a script that the policy does not name
        '<img src="https://example.org/x.png">',  # a request
        '<p onclick="x()">a</p>',  # a handler in an attribute
    ],
)
def test_what_the_policy_forbids_is_heard(browser: Any, tmp_path: Path, body: str) -> None:
    (tmp_path / "p.html").write_text(document("t", (), body, ""), encoding="utf-8")
    browser.open(tmp_path / "p.html")
    browser.eval("new Promise(r => setTimeout(r, 100))")
    assert browser.errors
    browser.errors.clear()


def test_an_error_of_a_script_is_heard(browser: Any, tmp_path: Path) -> None:
    page = document("t", (), figure("f", [{"type": "scatter"}], {"xaxis": {}}, 100, "t"), "const Plotly = {};")
    (tmp_path / "p.html").write_text(page, encoding="utf-8")
    browser.open(tmp_path / "p.html")
    browser.eval("new Promise(r => setTimeout(r, 300))")
    assert any("react" in e for e in browser.errors)
    browser.errors.clear()


def test_the_page_of_a_layer(browser: Any, epicycle: Callable[..., Any], tmp_path: Path) -> None:
    run = epicycle("simulate", "ep-anatomy", "--html", "a.html")
    assert run.status == 0, run.err
    for width in (360, 1300):
        browser.open(tmp_path / "a.html", width)
        browser.draw("timeline-0")
        button = "document.querySelector('button[data-zoom=timeline-0]:nth-of-type(2)').dataset"
        browser.click_on("button[data-zoom=timeline-0]:nth-of-type(2)")
        browser.until(f"document.getElementById('timeline-0').layout.xaxis.range[1] === Number({button}.to)")
        browser.eval("document.querySelectorAll('summary').forEach(s => s.click())")
        for name in browser.eval("[...document.querySelectorAll('div.plot')].filter(e => e.offsetParent).map(e => e.id)"):
            browser.draw(name)
        assert browser.overflow() == 0
