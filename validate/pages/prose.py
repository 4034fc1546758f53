"""What is said about the shipped calibrations in words, and what was worked out beforehand: the sections of ``prose.md``.

They are written in the little Markdown that they need (paragraphs, lists, tables, code), so that ``docs/validation.md`` takes
them as they stand and the HTML page renders them.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

from ...scenarios.report.shell.page import Html, safe, table

ABLATION = "What each mechanism buys"
RIGHT = "Where the model is right"
WRONG = "Where it is wrong"
HONESTLY = "Reading these numbers honestly"

_CODE = re.compile(r"`([^`]+)`")


@cache
def sections() -> dict[str, str]:
    """Title -> Markdown, in the file's order."""
    text = files("epicycle.validate.pages").joinpath("prose.md").read_text(encoding="utf-8")
    parts = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)
    return {title: body.strip() + "\n" for title, body in zip(parts[1::2], parts[2::2], strict=True)}


def as_markdown(title: str) -> str:
    """One section with its heading."""
    return f"## {title}\n\n{sections()[title]}"


def as_html(markdown: str) -> Html:
    """``markdown`` as HTML; whatever else it holds stays text."""
    return Html("".join(_block(block) for block in re.split(r"\n\s*\n", markdown.strip()) if block))


def _block(block: str) -> str:
    lines = block.splitlines()
    if lines[0].startswith("|"):
        rows = [[_inline(cell.strip()) for cell in line.strip().strip("|").split("|")] for line in lines]
        words = [i for i, dashes in enumerate(lines[1].strip("|").split("|")) if not dashes.endswith(":")]
        return table(rows[0], rows[2:], words)
    if lines[0].startswith("- "):
        items = re.split(r"^- ", block, flags=re.MULTILINE)[1:]
        return "<ul>" + "".join(f"<li>{_inline(' '.join(item.split()))}</li>" for item in items) + "</ul>"
    return f"<p>{_inline(' '.join(block.split()))}</p>"


def _inline(text: str) -> Html:
    return Html("".join(f"<code>{safe(part)}</code>" if i % 2 else str(safe(part)) for i, part in enumerate(_CODE.split(text))))
