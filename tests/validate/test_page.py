"""docs/validation.md says what the code says now."""

from __future__ import annotations

from pathlib import Path

from epicycle.validate.page import ablation_of, render

PAGE = Path(__file__).resolve().parents[2] / "docs" / "validation.md"


def test_the_page_is_current(tables: Path) -> None:
    """All but the ablation, whose refits take a minute: `python -m epicycle.validate.page` makes it again."""
    page = PAGE.read_text(encoding="utf-8")
    assert render(tables, ablation_of(page)) == page, "run `python -m epicycle.validate.page` and commit docs/validation.md"


def test_the_page_has_its_sections() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for title in ("Where the model is right", "Where it is wrong", "Reading these numbers honestly", "Reproducing"):
        assert f"## {title}" in page
    assert "buys" in ablation_of(page)
