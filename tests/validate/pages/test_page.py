"""docs/validation.md says what the code says now."""

from __future__ import annotations

from pathlib import Path

import pytest

from epicycle.validate.pages.docs_page import PROSE, render
from epicycle.validate.pages.prose import ABLATION, HONESTLY, RIGHT, WRONG, as_html, as_markdown, sections

PAGE = Path(__file__).resolve().parents[3] / "docs" / "validation.md"


def test_the_page_is_current(tables: Path) -> None:
    """All but the refits of the ablation: `python -m epicycle.validate.pages.docs_page` makes them again."""
    page = PAGE.read_text(encoding="utf-8")
    assert render(tables) == page, "run `python -m epicycle.validate.pages.docs_page --quick`"


def test_the_page_has_its_sections() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for title in (ABLATION, RIGHT, WRONG, HONESTLY):
        assert as_markdown(title) in page
    assert "## Reproducing" in page
    assert "\n".join(as_markdown(title) for title in sections()) == PROSE.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("markdown", "html"),
    [
        ("one\ntwo `a < b`", "<p>one two <code>a &lt; b</code></p>"),
        ("- one\n  more\n- <b>", "<ul><li>one more</li><li>&lt;b&gt;</li></ul>"),
        ("a\n\nb", "<p>a</p><p>b</p>"),
    ],
)
def test_the_little_markdown_it_is_written_in(markdown: str, html: str) -> None:
    assert as_html(markdown) == html


def test_a_table_of_words_and_numbers() -> None:
    html = as_html("| what | how much |\n|---|--:|\n| `x` | 1.5 |")
    assert "<th class=s>what</th><th class=n>how much</th>" in html.replace("class=h", "class=s").replace("scope=col ", "")
    assert "<code>x</code>" in html
    assert "<td class=n>1.5</td>" in html
