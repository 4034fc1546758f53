"""The page of a plan: the front opens its deployments, "no" says why, and what is copied is the deployment itself."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import plotly.graph_objects as go
import pytest
import yaml

from epicycle.scenarios.ask.scenario import load_serving
from epicycle.scenarios.report.deployment.candidate import deployment_yaml, explain_command
from epicycle.scenarios.report.deployment.front import best_first, user_speed
from epicycle.scenarios.report.deployment.limits import gap
from epicycle.scenarios.report.deployment.plan import render_plan, write_plan_report
from epicycle.sim.inputs.serving import Serving

EVIL = "</script><img src=x onerror=alert(1)>\"'&"


def figures(html: str) -> dict[str, Any]:
    """Figure id -> its plotly data and layout."""
    return {n: json.loads(s) for n, s in re.findall(r'data-figure="([^"]+)">(.*?)</script>', html, re.DOTALL)}


@pytest.fixture(scope="module")
def html(made_up: ModuleType) -> str:
    return render_plan(made_up.plan(), made_up.COMMAND)


@pytest.fixture(scope="module")
def file(made_up: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plan") / "plan.html"
    write_plan_report(made_up.plan(), path, made_up.COMMAND)
    return path


def test_the_answer_comes_first_and_every_section_follows(made_up: ModuleType, html: str) -> None:
    ids = re.findall(r'<(?:section|header) id="?([a-z-]+)', html)
    assert ids == ["answer", "limits", "front", "ruled-out", "step", "memory", "cost", "sure", "inputs"]
    assert html.index(made_up.plan().sentence) < html.index("What there is to choose from")


def test_every_figure_is_one_that_plotly_accepts(html: str) -> None:
    found = figures(html)
    assert list(found) == ["front-throughput", "front-cost"]
    for spec in found.values():
        go.Figure(json.loads(re.sub(r'"var\(--[a-z0-9-]+\)"', '"#123456"', json.dumps(spec))))
        assert spec["layout"]["xaxis"]["title"]["text"] and spec["layout"]["yaxis"]["title"]["text"]


def test_colours_that_the_page_names_exist(html: str) -> None:
    style = html[html.index("<style>") : html.index("</style>")]
    for colour in set(re.findall(r"var\((--[a-z0-9-]+)\)", html.replace("var(--step, 25%)", ""))):
        assert f"{colour}:" in style, colour


def test_every_candidate_is_a_point_of_both_pictures_and_has_a_panel(made_up: ModuleType, html: str) -> None:
    for spec in figures(html).values():
        ids = [i for trace in spec["data"] for i in trace.get("ids", [])]
        assert sorted(ids) == sorted(f"candidate-{i}" for i in range(len(made_up.candidates())))
        assert all(f'<div id="{i}"' in html for i in ids)
        assert [t.get("meta") for t in spec["data"]].count("picked") == 1


def test_the_limit_on_time_per_token_is_a_line_at_its_inverse(made_up: ModuleType, html: str) -> None:
    lines = figures(html)["front-throughput"]["layout"]["shapes"]
    assert [s["x0"] for s in lines] == [pytest.approx(1 / 0.030)]


def test_the_best_is_shown_first(made_up: ModuleType) -> None:
    plan = made_up.plan()
    turned = replace(plan, candidates=tuple(reversed(plan.candidates)))
    assert best_first(turned)[0].serving == plan.best.serving
    assert user_speed(best_first(turned)[0]) == pytest.approx(1 / 0.0241)


def test_what_is_copied_is_the_deployment(made_up: ModuleType, tmp_path: Path) -> None:
    scenario = tmp_path / "s.yaml"
    scenario.write_text(
        "name: s\nmodel: deepseek-v3\ncluster: {name: h200-cx7, nodes: 8}\nworkload: {input_tokens: 100, output_tokens: 9}\n",
        encoding="utf-8",
    )
    for candidate in made_up.candidates():
        data = yaml.safe_load(deployment_yaml(candidate.serving))
        assert Serving.model_validate(data["deployment"]) == candidate.serving
        plan = shlex.join(["epicycle", "plan", str(scenario), "--set", "workload.input_tokens=4000", "--html", "x.html"])
        words = shlex.split(explain_command(candidate, plan))
        assert words[:3] == ["epicycle", "explain", str(scenario)]
        sets = [words[i + 1] for i, w in enumerate(words) if w == "--set"]
        asked = load_serving(scenario, sets)
        assert asked.deployment == candidate.serving
        assert asked.workload.input_tokens == 4000 and asked.cluster.name == "h200-cx7"


def test_the_front_table_has_a_cell_for_every_heading(made_up: ModuleType) -> None:
    plan = made_up.plan()
    moved = replace(plan, candidates=(*plan.candidates[:3], *(replace(c, cluster="b200-cx7") for c in plan.candidates[3:])))
    for each, heads in ((plan, 9), (moved, 10)):
        html = render_plan(each, made_up.COMMAND)
        table = html[html.index("<h3>The front") :]
        table = table[: table.index("</table>")]
        assert {len(re.findall("<t[hd] ", row)) for row in table.split("<tr>")[1:]} == {heads}
        assert table.count("<tr>") == 1 + sum(c.on_front for c in each.candidates)


def test_no_names_each_unmet_limit_its_gap_and_its_lever(made_up: ModuleType) -> None:
    plan = made_up.plan(possible=False)
    html = render_plan(plan, made_up.COMMAND)
    ids = re.findall(r'<(?:section|header) id="?([a-z-]+)', html)
    assert ids[:2] == ["answer", "limits"] and "step" not in ids
    for limit in plan.limits:
        assert (limit.lever in html) if not limit.met else ("GPUs 64" in html)
    assert "1.40 ms (18 %) too much" in html and gap(plan.limits[1]) == "+18 %"


def test_hostile_text_stays_text(made_up: ModuleType) -> None:
    plan = made_up.plan()
    bad = replace(
        plan,
        name=EVIL,
        description=EVIL,
        sentence=EVIL,
        notes=(EVIL,),
        ruled_out={EVIL: 3},
        candidates=tuple(replace(c, arrangement=EVIL, cluster=EVIL) for c in plan.candidates),
        limits=tuple(replace(x, words=EVIL, lever=EVIL, met=False) for x in plan.limits),
    )
    html = render_plan(bad, shlex.join(["epicycle", "plan", EVIL]))
    assert "<img" not in html and html.count("<script>") == render_plan(plan, made_up.COMMAND).count("<script>")


def test_nothing_found_is_a_page_as_well(made_up: ModuleType) -> None:
    plan = replace(made_up.plan(possible=False), candidates=(), limits=(), ruled_out={}, inputs=(), considered=0)
    assert re.findall(r'<(?:section|header) id="?([a-z-]+)', render_plan(plan, "epicycle plan x")) == ["answer", "inputs"]


def test_a_click_on_a_point_opens_its_deployment(browser: Any, file: Path) -> None:
    browser.open(file)
    browser.draw("front-throughput")
    shown = "[...document.querySelectorAll('[id^=candidate-]')].filter(e => e.parentElement.matches('.panels') && !e.hidden)"
    assert browser.eval(f"{shown}.map(e => e.id)") == ["candidate-0"]
    at = browser.eval(
        "(() => { const g = document.getElementById('front-throughput'), l = g._fullLayout, b = g.getBoundingClientRect();"
        " const t = g.data.find(t => (t.ids || []).includes('candidate-5')), i = t.ids.indexOf('candidate-5');"
        " return [b.x + l.xaxis._offset + l.xaxis.d2p(t.x[i]), b.y + l.yaxis._offset + l.yaxis.d2p(t.y[i])]; })()"
    )
    browser.click(*at)
    browser.until(f"{shown}[0].id === 'candidate-5'")
    assert browser.eval(f"{shown}.length") == 1
    ring = "document.getElementById('front-throughput').data.find(t => t.meta === 'picked')"
    point = "document.getElementById('front-throughput').data.find(t => (t.ids || []).includes('candidate-5'))"
    assert browser.eval(f"{ring}.x[0] === {point}.x[{point}.ids.indexOf('candidate-5')]")


def test_the_table_and_the_switch_and_the_copy_button(browser: Any, file: Path) -> None:
    browser.open(file)
    browser.click_on("button.link[data-show=candidate-3]")
    browser.until("!document.getElementById('candidate-3').hidden && document.getElementById('candidate-0').hidden")
    assert browser.eval("document.querySelector('button.link[data-show=candidate-3]').ariaPressed") == "true"
    browser.click_on("button[data-show=view-cost]")
    browser.draw("front-cost")
    assert browser.eval("document.getElementById('view-throughput').hidden")
    assert browser.eval("document.getElementById('front-cost').data.find(t => t.meta === 'picked').x.length") == 1
    browser.click_on("button[data-copy=candidate-3-yaml]")
    browser.until("/copied|selected/.test(document.querySelector('button[data-copy=candidate-3-yaml]').textContent)")
    assert browser.eval("getSelection().toString()").startswith("deployment:")


@pytest.mark.parametrize("width", [360, 1300])
@pytest.mark.parametrize("possible", [True, False])
def test_it_fits_the_window_in_both_colours(
    browser: Any, made_up: ModuleType, tmp_path: Path, width: int, possible: bool
) -> None:
    write_plan_report(made_up.plan(possible), tmp_path / "p.html", made_up.COMMAND)
    browser.open(tmp_path / "p.html", width, dark=width < 600)
    browser.draw("front-throughput")
    browser.eval("document.querySelectorAll('summary').forEach(s => s.click())")
    assert browser.overflow() == 0


def test_on_paper_both_pictures_are_drawn_and_one_deployment(browser: Any, file: Path) -> None:
    browser.open(file)
    browser.eval("dispatchEvent(new Event('beforeprint'))")
    assert browser.eval("[...document.querySelectorAll('.plot .main-svg')].length") >= 2
    assert browser.eval("[...document.querySelectorAll('article')].filter(e => e.offsetParent).length") == 1
    widths = browser.eval("[...document.querySelectorAll('div.plot')].map(e => e.layout.width)")
    assert max(widths) <= 700
    browser.eval("dispatchEvent(new Event('afterprint'))")
