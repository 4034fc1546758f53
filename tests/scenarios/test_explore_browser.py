"""The page of `epicycle explore` in a real browser: sliders, links and plays say what the command line says."""

from __future__ import annotations

import shlex
import socket
import threading
from collections.abc import Iterator
from itertools import pairwise
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
    from epicycle.scenarios.explore.explorer import Explorer

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
    _open(browser, address)
    sets = {"deployment.decode.batch": "64"}
    for path in ("deployment.decode.batch", "workload.input_tokens", "workload.output_tokens"):
        place = next(i for i, knob in enumerate(_knobs()) if knob.path == path)
        knob = _knobs()[place]
        before = browser.eval("document.getElementById('command').textContent")
        front = browser.eval(_FRONT)
        browser.eval(f"document.querySelector('#knob-{place} [role=slider], [id=\"knob-{place}\"] [role=slider]').focus()")
        for kind in ("rawKeyDown", "keyUp"):
            browser.call("Input.dispatchKeyEvent", type=kind, key="ArrowRight", code="ArrowRight", windowsVirtualKeyCode=39)
        browser.until(f"document.getElementById('command').textContent !== {before!r}")
        browser.until(f"{_FRONT} !== {front!r}")
        sets[path] = knob.values[knob.values.index(knob.now) + 1]
    browser.until(f"document.getElementById('command').textContent.includes('output_tokens={sets['workload.output_tokens']}')")
    answer = epicycle.evaluate(NAME, sets=sets)
    _shows(browser, answer)
    link = browser.eval("document.getElementById('link').href")
    assert link == browser.eval("document.getElementById('link').textContent")
    assert browser.eval("document.querySelectorAll('#copy-command, #copy-link, #copy-yaml').length") == 3
    # The command that the page gives, run as it stands, says the same.
    words = shlex.split(browser.eval("document.getElementById('command').textContent"))
    given = [value for option, value in pairwise(words) if option == "--set"]
    assert epicycle.evaluate(words[2], sets=given).sentence == answer.sentence
    # The bill and the waterfall are those of the answer.
    assert browser.eval("document.querySelector('#bill .js-plotly-plot').data[0].x[0]") == pytest.approx(
        max(answer.cost.values())
    )
    step = answer.pools[0].steps[0]
    drawn = browser.eval("document.querySelector('#steps .js-plotly-plot').data[0].x.reduce((a, b) => a + b)")
    assert drawn == pytest.approx(sum(part.exposed_s for part in step.parts) * 1e3)
    _open(browser, link)
    browser.until(f"document.getElementById('sentence').textContent === {answer.sentence!r}")
    _shows(browser, answer)
    browser.click_on("#play-exchange")
    browser.until("document.getElementById('played').textContent.startsWith('Played event by event')")
    assert "closed form says" in browser.eval("document.getElementById('played').textContent")
    assert asked
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []


@pytest.mark.parametrize(("width", "dark"), [(390, False), (1300, True)])
def test_it_fits_a_phone_and_the_dark(browser: Any, address: str, width: int, dark: bool) -> None:
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.call("Emulation.setEmulatedMedia", features=[scheme])
    _open(browser, address)
    assert browser.overflow() <= 0
    paper = browser.eval("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(20, 23, 26)" if dark else "rgb(253, 253, 251)")


#: Where the chosen deployment lies in the picture of the front.
_FRONT = "JSON.stringify(document.querySelector('#front .js-plotly-plot')?.data.at(-1)?.x)"


def _open(browser: Any, address: str) -> None:
    browser.errors.clear()
    browser.call("Page.navigate", url="about:blank")
    browser.call("Page.navigate", url=address)
    browser.until("!!document.getElementById('n-tpot') && !!document.querySelector('#front .main-svg')")
    browser.until(f"!!{_FRONT}")


def _shows(browser: Any, answer: Any) -> None:
    for key in ("tpot", "ttft", "output_tokens_per_s_gpu", "usd_per_mtok_output"):
        metric = answer.metric(key)
        assert browser.eval(f"document.getElementById('n-{key}').textContent") == number_text(metric.value, metric.unit, key)
    assert browser.eval("document.getElementById('sentence').textContent") == answer.sentence
    browser.until(f"{_FRONT} === JSON.stringify([{1.0 / answer.metric('tpot').value!r}])")


def test_what_cannot_be_asked_says_why_and_moves_on() -> None:
    from epicycle.scenarios.explore.explorer import Explorer

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


def test_every_menu_and_slider_that_the_issue_names_is_there_and_moves_the_answer() -> None:
    from epicycle.scenarios.explore.explorer import Explorer

    page = Explorer(NAME, [])
    before, _ = page.ask({})
    moves = {"cluster.node.gpu": "h100-sxm", "cluster.node.nic": "connectx8-800g", "cluster.node.nic.bandwidth": "100 GB/s"}
    moves |= {"deployment.decode.batch": "64", "deployment.decode.redundant_experts": "32", "deployment.decode.overlap": "true"}
    moves |= {"deployment.decode.protocol": "high-throughput", "slo.tpot": "20 ms", "workload.output_tokens": "500"}
    moves |= {"deployment.decode.ep": "16", "cluster.nodes": "64", "workload.concurrency": "1024"}
    for path, value in moves.items():
        assert path in {knob.path for knob in page.knobs}, path
        assert value in next(knob for knob in page.knobs if knob.path == path).values, path
        answer, why = page.ask({path: value})
        assert answer is not None, why
        same = answer.metrics == before.metrics and answer.limits == before.limits  # type: ignore[union-attr]
        assert same == (path == "cluster.nodes"), path  # nodes are room: the deployment stays as it is
    assert page.linked(page.query(moves)) == moves
    assert page.linked("?cluster.node.gpu=abacus&no.such.key=1") == {}


def test_the_front_is_of_the_same_engine_and_protocol_and_nothing_beats_it() -> None:
    from epicycle.scenarios.explore.explorer import Explorer

    found = Explorer(NAME, []).around({})
    edge = [d for d in found.deployments if d.on_front]
    assert len(edge) > 5
    assert all("prefill" in d.words for d in edge)
    for d in found.deployments:
        assert any(e.tokens_per_s_user >= d.tokens_per_s_user and e.tokens_per_s_gpu >= d.tokens_per_s_gpu for e in edge)
    why = Explorer(NAME, ["deployment.attention=bf16"]).around({}).why
    assert "does not look for deployments with attention=bf16" in why


def test_a_play_of_the_exchange_is_the_plan_s_own() -> None:
    """The same deployment in a plan's table has its exchange played to the same time per token."""
    from epicycle.hwmodels.units import format_time
    from epicycle.scenarios.explore.explorer import Explorer

    sets = {"search.gpus": "32", "search.confirm": "1", "search.tp": "[1]", "search.dp": "[8]"}
    plan = epicycle.plan("plan-deepseek-v3-h200", sets=sets)
    best = plan.candidates[0]
    assert best.events_tpot_s is not None
    page = Explorer("plan-deepseek-v3-h200", [f"{key}={value}" for key, value in sets.items()])
    assert f"TPOT is {format_time(best.events_tpot_s)};" in page.played_exchange({})


@pytest.mark.parametrize(
    ("name", "sets", "told"),
    [
        ("ep-anatomy", [], "asks about one layer"),
        ("no-such-scenario", [], "no-such-scenario"),
        (NAME, ["deployment.decode.batch=none"], "deployment.decode.batch"),
    ],
)
def test_what_is_no_deployment_is_refused_in_one_line(name: str, sets: list[str], told: str, epicycle: Any) -> None:
    done = epicycle("explore", name, *(word for each in sets for word in ("--set", each)))
    assert done.status == 2
    assert told in done.err
    assert "Traceback" not in done.err


def test_a_port_that_is_taken_is_refused_in_one_line(epicycle: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = epicycle("explore", NAME, "--port", str(taken.getsockname()[1]))
    assert done.status == 2
    assert "leave it out for one that is free" in done.err
