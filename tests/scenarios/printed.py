"""What the pages show as printed is what is printed: `python tests/scenarios/printed.py` prints it anew into them.

In a page, a comment ``<!-- prints :2 | what differs:4 -->`` stands before a ```` ```text ```` block: that block holds lines of
what the last command above it printed, here the first two and four from the line that begins with "what differs"
(``<!-- prints all -->``: all of them). Sentences are wrapped, tables kept; "…" stands for lines left out.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
WIDTH = 118

_BLOCK = re.compile(r"^```(\w+) *([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_PRINTS = re.compile(r"^<!-- prints ([^\n]*?) -->\n```text\n(.*?)^```$", re.DOTALL | re.MULTILINE)

Run = Callable[[list[str]], str]


def shown(page: str) -> Iterator[tuple[re.Match[str], list[str]]]:
    """(block of printed text, words of the command that prints it) of a page's text."""
    for block in _PRINTS.finditer(page):
        above = [found for found in _BLOCK.finditer(page, 0, block.start()) if found[1] == "sh"]
        lines = above[-1][3].replace("\\\n", " ").splitlines() if above else []
        commands = [words[1:] for line in lines if (words := shlex.split(line, comments=True))[:1] == ["epicycle"]]
        if not commands:
            raise ValueError(f"no command above the text printed with {block[1]!r}")
        yield block, commands[-1]


def files(page: str) -> dict[str, str]:
    """The files that a page shows, by name."""
    return {name: text for language, name, text in _BLOCK.findall(page) if name and language != "text"}


def picked(out: str, wanted: str) -> str:
    """The lines of ``out`` that ``wanted`` asks for, as a page has them. Raises ValueError where one does not begin so."""
    lines = [line.rstrip() for line in out.rstrip("\n").splitlines()]
    if wanted == "all":
        return _page(lines)
    kept: list[int] = []
    for pick in wanted.split("|"):
        begin, _, count = pick.strip().rpartition(":")
        first = next((i for i, line in enumerate(lines) if line.startswith(begin)), None)
        if first is None:
            raise ValueError(f"no line begins with {begin!r}")
        kept += range(first, min(first + int(count), len(lines)))
    shown: list[str] = []
    for before, at in zip([None, *kept], kept, strict=False):
        if before is not None and at != before + 1:
            shown.append("…")
        shown.append(lines[at])
    return _page(shown)


def current(page: str, run: Run) -> str:
    """``page`` with everything printed anew by ``run``, which takes a command's words and gives what it printed."""
    answers: dict[tuple[str, ...], str] = {}
    parts, end = [], 0
    for block, words in shown(page):
        if tuple(words) not in answers:
            answers[tuple(words)] = run(words)
        parts += [page[end : block.start(2)], picked(answers[tuple(words)], block[1])]
        end = block.end(2)
    return "".join([*parts, page[end:]])


def _page(lines: list[str]) -> str:
    wrapped = [text for line in lines for text in _wrapped(line)]
    return "\n".join(wrapped) + "\n"


def _wrapped(line: str) -> list[str]:
    sentence = "   " not in line.strip()
    return (textwrap.wrap(line, WIDTH, break_on_hyphens=False) or [""]) if sentence else [line]


def _ran(words: list[str]) -> str:
    from epicycle.cli import main

    sys.argv = ["epicycle", *words]
    out, err = io.StringIO(), io.StringIO()
    try:
        with redirect_stdout(out), redirect_stderr(err):
            main()
    except SystemExit as stopped:
        if stopped.code not in (0, None, 3):
            raise RuntimeError(f"epicycle {shlex.join(words)}: {err.getvalue()}") from None
    return out.getvalue()


if __name__ == "__main__":
    os.environ.pop("COLUMNS", None)
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory() as folder, chdir(folder):
            for name, content in files(text).items():
                Path(name).parent.mkdir(parents=True, exist_ok=True)
                Path(name).write_text(content, encoding="utf-8")
            anew = current(text, _ran)
        if anew != text:
            path.write_text(anew, encoding="utf-8")
            print(f"{path.relative_to(ROOT)}: printed anew")
