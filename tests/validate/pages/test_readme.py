"""The README's summary of the evidence is that of docs/validation.md, whose own tables are held current by test_page.py."""

from pathlib import Path

import pytest

from epicycle.validate.pages.readme_summary import BEGIN, END, summary, summed

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGE = (ROOT / "docs" / "validation.md").read_text(encoding="utf-8")


def test_the_readme_s_summary_is_that_of_the_page() -> None:
    assert summed(README, PAGE) == README, "run `python -m epicycle.validate.pages.docs_page --quick`"
    block = README[README.index(BEGIN) : README.index(END)]
    for kind in ("exchange kernels", "time per output token", "time to first token", "**blind**"):
        assert kind in block


def test_a_group_s_error_counts_by_its_rows() -> None:
    head = "\n## gemm.csv\n\n| system | kernel | op | nodes | rows | MAPE, % | median, % | bias, % |\n|---|\n"
    rows = "| a | gemm | bf16 | 1 | 30 | 2.0 | 1.0 | +1.0 |\n| b | gemm | fp8 | 1 | 10 | 6.0 | 1.0 | +1.0 |\n"
    start = PAGE.index("\n## gemm.csv\n")
    other = PAGE[:start] + head + rows + PAGE[PAGE.index("\n## ", start + 5) :]
    assert "| dense GEMMs | 40 | 3.0 % on average, 6.0 % in the worst group |" in summary(other)


def test_a_page_that_no_longer_says_it_is_told() -> None:
    with pytest.raises(ValueError, match="no longer says"):
        summary(PAGE.replace("time to first token: median error", "first token: error"))
