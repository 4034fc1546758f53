"""What the pages say can be typed can be typed: every shown command runs, the shown files load, every key is explained.

In a page, a block ```` ```sh ```` holds commands: each line that begins with ``epicycle`` is run, in order, in one empty folder
(``# exits 3`` at its end says which exit status is right; ``bench`` needs a GPU and is not run). A block whose first line has a
second word, as in ```` ```yaml my.yaml ````, is that file.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pytest

from epicycle.scenarios.answer.evaluation import Comparison, Evaluation, Explanation, Metric, Plan, Sweep
from epicycle.scenarios.ask.document import parse_document
from epicycle.scenarios.ask.gallery import gallery_names
from epicycle.scenarios.ask.layer_scenario import LayerScenario
from epicycle.scenarios.ask.scenario import load_layer, load_scenario
from epicycle.scenarios.ask.search import Search
from epicycle.scenarios.ask.serving_scenario import ServingScenario
from epicycle.sim.inputs.deployment import Deployment, Protocol
from epicycle.sim.inputs.serving import Bill, Serving, Slo, Worker, Workload
from epicycle.sim.inputs.traffic import Routing, Traffic

Command = Callable[..., Any]

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SHOWN = [line.split("#")[0].strip() for page in PAGES for line in page.read_text(encoding="utf-8").splitlines()]
COMMANDS = sorted({line for line in SHOWN if line.startswith("epicycle simulate ") and "…" not in line})
SCENARIOS_PAGE = (ROOT / "docs" / "scenarios.md").read_text(encoding="utf-8")
NOT_RUN = ("bench",)

_BLOCK = re.compile(r"^```(\w+) *([^\n]*)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def blocks(page: Path) -> list[tuple[str, str, str]]:
    """(language, file name or "", text) of every fenced block of a page."""
    return _BLOCK.findall(page.read_text(encoding="utf-8"))


def commands(page: Path) -> list[tuple[list[str], int]]:
    """(words after ``epicycle``, exit status) of every shown command of a page."""
    found = []
    for language, _, text in blocks(page):
        for line in text.replace("\\\n", " ").splitlines() if language == "sh" else ():
            status = re.search(r"# exits (\d)", line)
            words = shlex.split(line, comments=True)
            if words[:1] == ["epicycle"] and words[1] not in NOT_RUN:
                found.append((words[1:], int(status.group(1)) if status else 0))
    return found


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda page: page.name)
def test_every_shown_command_runs(page: Path, epicycle: Command, tmp_path: Path) -> None:
    for _, name, text in blocks(page):
        if name:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text, encoding="utf-8")
    for words, status in commands(page):
        shared = [str((ROOT / word).resolve()) if word.startswith("../shared/") else word for word in words]
        if any(word != known and not Path(word).exists() for word, known in zip(shared, words, strict=True)):
            continue  # measurements that this checkout has no copy of
        done = epicycle(*shared)
        assert done.status == status, f"epicycle {shlex.join(words)}: {done.err or done.out}"


def test_the_machinery_finds_commands_and_files(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    shown = "```sh\nepicycle plan a.yaml \\\n  --set b=1  # exits 3\nepicycle bench\nls\n```\n"
    shown += "```yaml a.yaml\nname: x\n```\n```\nepicycle no\n```\n"
    page.write_text(shown, encoding="utf-8")
    assert commands(page) == [(["plan", "a.yaml", "--set", "b=1"], 3)]
    assert [(language, name) for language, name, _ in blocks(page)] == [("sh", ""), ("yaml", "a.yaml")]
    assert commands(ROOT / "docs" / "scenarios.md")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_shown_command_can_be_asked(command: str) -> None:
    words = shlex.split(command)[2:]
    sets = [after for word, after in pairwise(words) if word == "--set"]
    if words[0] in gallery_names():
        load_layer(words[0], sets).resolve()
    else:
        assert words[0].startswith("my"), "a file the reader would write"


def test_the_shown_files_are_scenarios_and_show_every_key(tmp_path: Path) -> None:
    shown = {name: text for language, name, text in blocks(ROOT / "docs" / "scenarios.md") if language == "yaml" and name}
    for name, record in (("my-decode.yaml", LayerScenario), ("my-serving.yaml", ServingScenario)):
        (tmp_path / name).write_text(shown[name], encoding="utf-8")
        scenario = load_scenario(tmp_path / name)
        assert isinstance(scenario, record)
        assert scenario.resolve().name == name.removesuffix(".yaml")
        assert set(parse_document(shown[name], "shown").data or {}) == set(record.model_fields)


@pytest.mark.parametrize("record", [Traffic, Routing, Deployment, Workload, Slo, Bill, Serving, Worker, Search])
def test_every_key_is_explained(record: Any) -> None:
    for key in record.model_fields:
        assert re.search(rf"`[a-z.]*\.{key}`", SCENARIOS_PAGE) or key == "routing", f"{record.__name__}.{key}"


def test_every_protocol_is_listed() -> None:
    row = next(line for line in SCENARIOS_PAGE.splitlines() if line.startswith("| `deployment.protocol`"))
    table = SCENARIOS_PAGE[SCENARIOS_PAGE.index("### Protocols") : SCENARIOS_PAGE.index("## Serving")]
    for protocol in get_args(Protocol):
        assert f"`{protocol}`" in row
        assert re.search(rf"^\| .*`{protocol}`.* \|.* \|.* \|.* \|$", table, re.MULTILINE), f"{protocol} is not explained"


@pytest.mark.parametrize("record", [Plan, Sweep, Comparison, Explanation, Evaluation, Metric])
def test_every_json_key_is_explained(record: Any) -> None:
    page = SCENARIOS_PAGE[SCENARIOS_PAGE.index("## What comes back") :]
    for key in record.__dataclass_fields__:
        assert f"`{key}`" in page, f"{record.__name__}.{key}"
