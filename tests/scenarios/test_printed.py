"""The pages show what the commands print."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

_SPEC = importlib.util.spec_from_file_location("printed", Path(__file__).with_name("printed.py"))
assert _SPEC and _SPEC.loader
printed: ModuleType = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(printed)

SHOWING = [page for page in printed.PAGES if "<!-- prints " in page.read_text(encoding="utf-8")]


@pytest.mark.parametrize("page", SHOWING, ids=lambda page: page.name)
def test_a_page_shows_what_is_printed(page: Path, epicycle: Callable[..., Any], tmp_path: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name, content in printed.files(text).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    anew = printed.current(text, lambda words: epicycle(*words).out)
    assert anew == text, "print it anew: python tests/scenarios/printed.py"


PAGE = """```sh
epicycle plan a.yaml  # exits 3
epicycle sweep b.yaml \\
  --over c=1,2
```
<!-- prints :1 | table:2 -->
```text
old
```
"""


def test_only_the_asked_lines_of_the_last_command_are_shown() -> None:
    asked: list[list[str]] = []

    def run(words: list[str]) -> str:
        asked.append(words)
        return "said\nleft out\ntable   of\na       1\nb       2\n"

    anew = printed.current(PAGE, run)
    assert asked == [["sweep", "b.yaml", "--over", "c=1,2"]]
    assert anew == PAGE.replace("old\n", "said\n…\ntable   of\na       1\n")
    assert printed.current(anew, run) == anew


def test_sentences_are_wrapped_and_tables_are_not() -> None:
    table = "a   " + "b" * 200
    lines = printed.picked("word " * 60 + "\n" + table, "all").splitlines()
    assert max(map(len, lines[:-1])) <= printed.WIDTH and lines[-1] == table


def test_a_line_that_is_not_there_is_told() -> None:
    with pytest.raises(ValueError, match="no line begins with 'table'"):
        printed.picked("said\n", ":1 | table:2")
