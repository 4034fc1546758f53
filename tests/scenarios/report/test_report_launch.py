"""The plan page's launch section: the engine's own scripts behind buttons, or why there are none."""

from __future__ import annotations

from html import unescape
from pathlib import Path
from types import ModuleType
from typing import Any

import epicycle
from epicycle.scenarios.report.deployment.plan import render_plan

SMALL = {"search.gpus": "16", "search.confirm": "0"}


def test_the_page_has_what_emit_writes(tmp_path: Path) -> None:
    plan = epicycle.plan("plan-deepseek-v3-h200", sets=SMALL)
    page = plan.to_html(tmp_path / "p.html").read_text(encoding="utf-8")
    engine = plan.best.serving.backend
    for target in (engine, "dynamo"):
        for name, text in epicycle.emit("plan-deepseek-v3-h200", target, sets=SMALL).items():
            assert text in unescape(page), (target, name)
        assert f'data-show="launch-{target}"' in page
        assert f"--emit {target} launch" in unescape(page)


def test_a_button_copies_a_script(browser: Any, tmp_path: Path) -> None:
    plan = epicycle.plan("plan-deepseek-v3-h200", sets=SMALL)
    browser.open(plan.to_html(tmp_path / "p.html"))
    name = next(n for n in epicycle.emit("plan-deepseek-v3-h200", plan.best.serving.backend, sets=SMALL) if n.endswith(".sh"))
    button = f"button[data-copy='launch-{plan.best.serving.backend}-{name}']"
    before = browser.eval(f'document.querySelector("{button}").textContent')
    browser.eval(f'document.querySelector("{button}").scrollIntoView({{block: "center"}})')
    browser.eval(f'document.querySelector("{button}").click()')
    browser.until(f'document.querySelector("{button}").textContent !== {before!r}')
    browser.click_on("button[data-show='launch-dynamo']")
    assert browser.eval("document.getElementById('launch-dynamo').hidden") is False


def test_what_the_engine_lacks_is_said_in_its_place(made_up: ModuleType) -> None:
    refused = "vllm has no option for deployment.payload=bf16: leave <it> out"
    page = render_plan(made_up.plan(), made_up.COMMAND, {"vllm": refused})
    assert "leave &lt;it&gt; out" in page
    assert 'data-show="launch-vllm"' not in page, "one choice needs no switch"
    assert 'id="launch"' not in render_plan(made_up.plan(), made_up.COMMAND)
