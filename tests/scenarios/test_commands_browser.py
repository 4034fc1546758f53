"""The pages that the commands really write, opened in a real browser: a layer has no deployment, bill or limits to show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize(
    "arguments",
    [
        ("sweep", "ep-anatomy", "--over", "traffic.tokens_per_rank=1,64", "--over", "deployment.ep=4,7,8"),
        ("compare", "ep-anatomy", "--set", "cluster.node.nic=connectx8-800g", "--set", "deployment.ep=4"),
        ("explain", "ep-anatomy"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_layer_s_page_opens_without_a_complaint(
    epicycle: Callable[..., Any], tmp_path: Path, browser: Any, arguments: tuple[str, ...]
) -> None:
    done = epicycle(*arguments, "--html", "a.html")
    assert done.status == 0, done.err
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "None" not in text.split("<script")[0]
    for width in (1300, 390):
        browser.open(tmp_path / "a.html", width=width)
        assert browser.overflow() <= 0
    shown = browser.eval("document.body.innerText")
    assert "ep-anatomy" in shown
    assert "nan" not in shown.lower().split()
    assert "undefined" not in shown
