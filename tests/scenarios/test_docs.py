"""What the pages say can be typed can be typed: every shown command runs, the shown files load, every key is explained.

In a page, each line of a block ```` ```sh ```` that begins with ``epicycle`` is run, in order, in one empty folder
(``# exits 3`` at its end says which exit status is right). A block whose first line has a second word, as in
```` ```yaml my.yaml ````, is that file. Before a block may stand

- ``<!-- needs: a GPU -->``: it is not run, and this is why;
- ``<!-- files of: docs/first-plan.md -->``: that page's files lie in the folder, too.

A block that shows a command and is neither run nor marked fails, and so does a command outside of a fenced block.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from epicycle.scenarios.answer.evaluation import Comparison, Evaluation, Explanation, Metric, Plan, Sweep
from epicycle.scenarios.ask.document import parse_document
from epicycle.scenarios.ask.gallery import gallery_names
from epicycle.scenarios.ask.layer_scenario import LayerScenario
from epicycle.scenarios.ask.scenario import load_layer, load_scenario
from epicycle.scenarios.ask.search import Search
from epicycle.scenarios.ask.serving_scenario import ServingScenario
from epicycle.sim.ep.protocol import all_protocols
from epicycle.sim.inputs import requests as played
from epicycle.sim.inputs.deployment import Deployment
from epicycle.sim.inputs.serving import Bill, Serving, Slo, Worker, Workload
from epicycle.sim.inputs.traffic import Routing, Traffic

Command = Callable[..., Any]

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SHOWN = [line.split("#")[0].strip() for page in PAGES for line in page.read_text(encoding="utf-8").splitlines()]
COMMANDS = sorted({line for line in SHOWN if line.startswith("epicycle simulate ") and "…" not in line})
SCENARIOS_PAGE = (ROOT / "docs" / "scenarios.md").read_text(encoding="utf-8")
#: First words of a line that is typed.
_TYPED = re.compile(r"^\s*(?:\$ +)?(?:epicycle|make|torchrun|git clone|pip3?|python3?|\.venv/bin/\S+) +[^\s=]")
_MARK = re.compile(r"<!-- (needs|files of): (.+?) -->")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file it is, its text, why it is not run, the page whose files it wants (or "")."""

    language: str
    name: str
    text: str
    needs: str = ""
    files_of: str = ""

    @property
    def lines(self) -> list[str]:
        return self.text.replace("\\\n", " ").splitlines()

    @property
    def commands(self) -> list[tuple[list[str], int]]:
        """(words after ``epicycle``, exit status) of every command of the block that is run."""
        found = []
        for line in self.lines if self.language == "sh" and not self.needs else ():
            status = re.search(r"# exits (\d)", line)
            words = shlex.split(line, comments=True)
            if words[:1] == ["epicycle"]:
                found.append((words[1:], int(status.group(1)) if status else 0))
        return found

    @property
    def loose(self) -> list[str]:
        """The commands that are shown, not run, and not said to need anything."""
        typed = [line.strip() for line in self.lines if _TYPED.match(line)] if self.language in ("", "sh") else []
        ran = self.language == "sh"
        return [line for line in typed if not self.needs and not (ran and line.startswith("epicycle "))]


def blocks(page: str) -> list[Block]:
    """Every fenced block of a page's text."""
    found, marks, lines = [], {}, iter(page.splitlines(keepends=True))
    for line in lines:
        if line.startswith("```"):
            language, _, name = line[3:].strip().partition(" ")
            text = "".join(iter(lambda: next(lines), "```\n"))
            found.append(Block(language, name.strip(), text, marks.get("needs", ""), marks.get("files of", "")))
        marks = marks | dict(_MARK.findall(line)) if line.startswith("<!--") else {}
    return found


def outside(page: str) -> list[str]:
    """Commands that stand in an indented block, where nothing runs or marks them."""
    bare = re.sub(r"^```.*?^```$", "", page, flags=re.DOTALL | re.MULTILINE)
    return [line.strip() for line in bare.splitlines() if line.startswith("    ") and _TYPED.match(line)]


def commands(page: str) -> list[tuple[list[str], int]]:
    """(words after ``epicycle``, exit status) of every shown command of a page that is run."""
    return [command for block in blocks(page) for command in block.commands]


TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}


@pytest.mark.parametrize("page", [page for page in PAGES if commands(TEXTS[page])], ids=lambda page: page.name)
def test_every_shown_command_runs(page: Path, epicycle: Command, tmp_path: Path) -> None:
    lent = {block.files_of for block in blocks(TEXTS[page]) if block.files_of}
    for text in (*(TEXTS[ROOT / other] for other in lent), TEXTS[page]):
        for block in blocks(text):
            if block.name:
                (tmp_path / block.name).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / block.name).write_text(block.text, encoding="utf-8")
    absent = []
    for words, status in commands(TEXTS[page]):
        shared = [str((ROOT / word).resolve()) if word.startswith("../shared/") else word for word in words]
        if any(word != known and not Path(word).exists() for word, known in zip(shared, words, strict=True)):
            absent.append(shlex.join(words))
            continue
        done = epicycle(*shared)
        assert done.status == status, f"epicycle {shlex.join(words)}: {done.err or done.out}"
    if absent:
        pytest.skip(f"all ran but those that read measurements of which this checkout has no copy: {'; '.join(absent)}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_command_is_shown_that_neither_runs_nor_says_what_it_needs(page: Path) -> None:
    assert [line for block in blocks(TEXTS[page]) for line in block.loose] == []
    assert outside(TEXTS[page]) == [], "put it into a fenced block"


def test_every_shown_target_of_make_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    shown = set()
    for text in TEXTS.values():
        lines = [line for block in blocks(text) for line in block.lines if block.language in ("", "sh")]
        typed = [line.split("#")[0] for line in lines if line.startswith("make ")] + re.findall(r"`(make [a-z-]+)[^`]*`", text)
        shown |= {word for line in typed for word in line.split()[1:] if re.fullmatch(r"[a-z-]+", word)}
    assert {"demo", "test", "check"} <= shown <= targets


def test_the_machinery_finds_commands_and_files() -> None:
    shown = "```sh\nepicycle plan a.yaml \\\n  --set b=1  # exits 3\nls\n```\n"
    shown += (
        "```yaml a.yaml\nname: x\nmake: y\n```\n<!-- files of: b.md -->\n<!-- needs: a GPU -->\n```sh\nepicycle bench\n```\n"
    )
    assert commands(shown) == [(["plan", "a.yaml", "--set", "b=1"], 3)]
    assert [(b.language, b.name, b.needs, b.files_of) for b in blocks(shown)] == [
        ("sh", "", "", ""),
        ("yaml", "a.yaml", "", ""),
        ("sh", "", "a GPU", "b.md"),
    ]
    assert all(block.loose == [] for block in blocks(shown))
    assert commands(TEXTS[ROOT / "docs" / "scenarios.md"])


@pytest.mark.parametrize(
    "shown",
    [
        "```\nepicycle no\n```\n",
        "```sh\nmake test\n```\n",
        "```\npython -m epicycle bench\n```\n",
        "<!-- needs: a GPU -->\n\n```\n$ make demo  # a mark stands right before its block\n```\n",
    ],
)
def test_the_machinery_finds_what_is_not_run(shown: str) -> None:
    assert [len(block.loose) for block in blocks(shown)] == [1]


def test_the_machinery_finds_commands_outside_of_blocks() -> None:
    assert outside("text\n\n    epicycle bench\n\n```sh\n    make x\n```\n    makes sense\n") == ["epicycle bench"]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_shown_command_can_be_asked(command: str) -> None:
    words = shlex.split(command)[2:]
    sets = [after for word, after in pairwise(words) if word == "--set"]
    if words[0] in gallery_names():
        load_layer(words[0], sets).resolve()
    else:
        assert words[0].startswith("my"), "a file the reader would write"


def test_the_shown_files_are_scenarios_and_show_every_key(tmp_path: Path) -> None:
    shown = {block.name: block.text for block in blocks(SCENARIOS_PAGE) if block.language == "yaml" and block.name}
    for name, record in (("my-decode.yaml", LayerScenario), ("my-serving.yaml", ServingScenario)):
        (tmp_path / name).write_text(shown[name], encoding="utf-8")
        scenario = load_scenario(tmp_path / name)
        assert isinstance(scenario, record)
        assert scenario.resolve().name == name.removesuffix(".yaml")
        assert set(parse_document(shown[name], "shown").data or {}) == set(record.model_fields)


_REQUESTS = [record for record in vars(played).values() if isinstance(record, type) and issubclass(record, played.Strict)]


@pytest.mark.parametrize("record", [Traffic, Routing, Deployment, Workload, Slo, Bill, Serving, Worker, Search, *_REQUESTS])
def test_every_key_is_explained(record: Any) -> None:
    for key in record.model_fields:
        assert re.search(rf"`[a-z.]*\.{key}`", SCENARIOS_PAGE) or key == "routing", f"{record.__name__}.{key}"


def test_every_protocol_is_listed() -> None:
    table = SCENARIOS_PAGE[SCENARIOS_PAGE.index("### Protocols") : SCENARIOS_PAGE.index("## Serving")]
    for protocol in all_protocols():
        assert re.search(rf"^\| .*`{protocol}`.* \|.* \|.* \|.* \|$", table, re.MULTILINE), f"{protocol} is not explained"


@pytest.mark.parametrize("record", [Plan, Sweep, Comparison, Explanation, Evaluation, Metric])
def test_every_json_key_is_explained(record: Any) -> None:
    page = SCENARIOS_PAGE[SCENARIOS_PAGE.index("## What comes back") :]
    for key in record.__dataclass_fields__:
        assert f"`{key}`" in page, f"{record.__name__}.{key}"
