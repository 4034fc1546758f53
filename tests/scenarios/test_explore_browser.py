"""The page of `epicycle explore` in a real browser: three sliders moved, the command line's numbers, no request elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

import epicycle
from epicycle.scenarios.answer.words.number_text import number_text

pytest.importorskip("dash", reason="Dash is not installed")
NAME = "serve-deepseek-v3-h200"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    from werkzeug.serving import make_server

    from epicycle.scenarios.explore.dash_page import ADDRESS, explore

    app, port = explore(NAME, ["deployment.decode.batch=64"])
    server = make_server(ADDRESS, port, app.server, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://{ADDRESS}:{port}/"
    server.shutdown()


def _knobs() -> list[Any]:
    from epicycle.scenarios.explore.dash_page import Explorer

    return list(Explorer(NAME, ["deployment.decode.batch=64"]).knobs)


def test_three_sliders_and_the_numbers_of_the_command_line(browser: Any, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    noted = browser._note

    def note(said: dict[str, Any]) -> None:
        if said.get("method") == "Network.requestWillBeSent":
            asked.append(said["params"]["request"]["url"])
        noted(said)

    monkeypatch.setattr(browser, "_note", note)
    browser.call("Network.enable")
    browser.errors.clear()
    browser.call("Page.navigate", url=address)
    browser.until("!!document.getElementById('n-tpot')")
    sets = {"deployment.decode.batch": "64"}
    for path in ("deployment.decode.batch", "workload.input_tokens", "workload.output_tokens"):
        place = next(i for i, knob in enumerate(_knobs()) if knob.path == path)
        knob = _knobs()[place]
        before = browser.eval("document.getElementById('command').textContent")
        browser.eval(f"document.querySelector('#knob-{place} [role=slider], [id=\"knob-{place}\"] [role=slider]').focus()")
        for kind in ("rawKeyDown", "keyUp"):
            browser.call("Input.dispatchKeyEvent", type=kind, key="ArrowRight", code="ArrowRight", windowsVirtualKeyCode=39)
        browser.until(f"document.getElementById('command').textContent !== {before!r}")
        sets[path] = knob.values[knob.values.index(knob.now) + 1]
    browser.until(f"document.getElementById('command').textContent.includes('output_tokens={sets['workload.output_tokens']}')")
    answer = epicycle.evaluate(NAME, sets=sets)
    for key in ("tpot", "ttft", "output_tokens_per_s_gpu", "usd_per_mtok_output"):
        metric = answer.metric(key)
        assert browser.eval(f"document.getElementById('n-{key}').textContent") == number_text(metric.value, metric.unit, key)
    assert browser.eval("document.getElementById('sentence').textContent") == answer.sentence
    assert asked
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []


def test_what_cannot_be_asked_says_why_and_moves_on() -> None:
    from epicycle.scenarios.explore.dash_page import Explorer

    page = Explorer(NAME, [])
    answer, why = page.ask({"cluster.nodes": "1"})
    assert answer is None
    assert "cluster" in why
    answer, why = page.ask({"deployment.decode.ep": "16"})
    assert answer is not None
    assert answer.serving is not None
    assert (answer.serving.decode.dp, answer.serving.decode.ep) == (16, 16)
    command = page.command({"deployment.decode.ep": "16"})
    assert command.startswith(f"epicycle explain {NAME} --set deployment.decode.ep=16")
    import yaml

    again = epicycle.evaluate(yaml.safe_load(page.written({"deployment.decode.ep": "16"})))
    assert again.metric("tpot").value == answer.metric("tpot").value
