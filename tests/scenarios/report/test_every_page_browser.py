"""Every command's page: no complaint of the browser, no wider than a phone, dark where asked, whole on paper, and light."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SERVE, LITTLE = "serve-deepseek-v3-h200", ("--set", "search.gpus=16", "--set", "search.confirm=0")
PLAN = ("plan", "plan-deepseek-v3-h200", *LITTLE)
#: Page -> the command that writes it, its exit status, and the most it may weigh. Only what is drawn carries the library.
DRAWN, PLAIN = 5.6e6, 0.2 * 4.8e6
PAGES: dict[str, tuple[tuple[str, ...], int, float]] = {
    "plan": (PLAN, 0, DRAWN),
    "no": ((*PLAN, "--set", "slo.tpot=4 ms"), 3, DRAWN),
    "sweep": (("sweep", SERVE, "--no-keep", "--over", "deployment.decode.batch=64,128"), 0, DRAWN),
    "compare": (("compare", SERVE, "--set", "cluster.node.nic=connectx8-800g"), 0, PLAIN),
    "explain": (("explain", SERVE), 0, PLAIN),
    "serve": (("serve", SERVE, "--requests", "200"), 0, DRAWN),
    "simulate": (("simulate", "ep-anatomy"), 0, DRAWN),
    "validate": (("validate", "h200-2026-11-27.gemm.csv"), 0, DRAWN),
    "gallery": (("gallery", "isca25-exchange-bound"), 0, DRAWN),
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_everywhere(name: str, browser: Any, epicycle: Callable[..., Any], tmp_path: Path) -> None:
    arguments, status, most = PAGES[name]
    done = epicycle(*arguments, "--html", "a.html")
    assert done.status == status, done.err
    assert (tmp_path / "a.html").stat().st_size <= most
    papers = set()
    for width, dark in ((390, False), (1300, False), (1300, True)):
        browser.open(tmp_path / "a.html", width, dark=dark)
        assert browser.overflow() <= 0, (width, dark)
        assert browser.errors == []
        papers.add((dark, browser.eval("getComputedStyle(document.body).backgroundColor")))
    assert len(papers) == 2, papers
    browser.print(tmp_path / "a.pdf")
    assert (tmp_path / "a.pdf").read_bytes().count(b"/Type /Page") > 0
