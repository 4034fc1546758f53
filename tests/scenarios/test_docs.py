"""What the pages say can be typed can be typed: every shown command's scenario resolves, the shown file loads."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest

from epicycle.scenarios.document import parse_document
from epicycle.scenarios.gallery import gallery_names
from epicycle.scenarios.scenario import LayerScenario, load_layer
from epicycle.sim.inputs.deployment import Deployment
from epicycle.sim.inputs.traffic import Routing, Traffic

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SHOWN = [line.split("#")[0].strip() for page in PAGES for line in page.read_text(encoding="utf-8").splitlines()]
COMMANDS = sorted({line for line in SHOWN if line.startswith("epicycle simulate ") and "…" not in line})
SCENARIOS_PAGE = (ROOT / "docs" / "scenarios.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_shown_command_can_be_asked(command: str) -> None:
    words = shlex.split(command)[2:]
    sets = [after for word, after in pairwise(words) if word == "--set"]
    if words[0] in gallery_names():
        load_layer(words[0], sets).resolve()
    else:
        assert words[0].startswith("my"), "a file the reader would write"


def test_the_shown_file_is_a_scenario(tmp_path: Path) -> None:
    shown = re.search(r"```yaml\n(.*?)```", SCENARIOS_PAGE, re.DOTALL)
    assert shown
    (tmp_path / "s.yaml").write_text(shown.group(1), encoding="utf-8")
    assert load_layer(tmp_path / "s.yaml").resolve().name == "my-decode"
    assert set(parse_document(shown.group(1), "shown").data or {}) == set(LayerScenario.model_fields)


def test_every_key_is_explained() -> None:
    for record in (Traffic, Routing, Deployment):
        for key in record.model_fields:
            assert re.search(rf"`[a-z.]*\.{key}`", SCENARIOS_PAGE) or key == "routing", f"{record.__name__}.{key}"
