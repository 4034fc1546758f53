"""The whole gallery: every row has an answer, arithmetic holds or is corrected, and docs/gallery.md says what comes out."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from epicycle.scenarios.ask.gallery import gallery_path, published_names
from epicycle.scenarios.published.gallery import gallery
from epicycle.scenarios.published.lists import load_lists
from epicycle.scenarios.published.picture import picture
from epicycle.scenarios.published.row import Gallery
from epicycle.scenarios.report.gallery.gallery_report import render_gallery
from epicycle.scenarios.say.gallery_json import gallery_json
from epicycle.scenarios.say.gallery_page import PAGE, PICTURES, page


@pytest.fixture(scope="module")
def whole() -> Gallery:
    return gallery()


def test_every_scenario_is_there_and_every_row_has_an_answer(whole: Gallery) -> None:
    assert sorted(entry.scenario for entry in whole.entries) == sorted(published_names())
    assert all(entry.rows and entry.prose and 1 <= entry.section <= 5 for entry in whole.entries)
    assert [row.refusal for row in whole.rows if row.simulated is None] == []
    assert Counter(row.id for row in whole.rows).most_common(1)[0][1] == 1


def test_arithmetic_holds_to_the_published_digits_or_is_corrected(whole: Gallery) -> None:
    missed = [row.id for row in whole.rows if row.evidence == "arithmetic" and row.verdict == "missed"]
    assert missed == []
    assert all(row.why for row in whole.rows if row.verdict == "corrected")


def test_headlines_that_do_not_hold_are_shown_by_a_row_or_said_in_prose(whole: Gallery) -> None:
    entries = {entry.scenario: entry for entry in whole.entries}
    for headline in load_lists().headlines:
        rows = entries[headline.scenario].rows
        # Of these the rows show what does hold, beside prose that says what does not.
        told = headline.scenario in ("boardfly", "tract-shared-memory", "bullet-sm-sharing")
        assert told or any(row.verdict in ("corrected", "missed") for row in rows)


def test_calibrated_rows_name_what_was_fitted_and_to_how_many_points(whole: Gallery) -> None:
    assert all("fitted to" in row.fitted for row in whole.rows if row.evidence == "calibrated")


def test_the_page_in_docs_is_current(whole: Gallery) -> None:
    again = "make it again: python -m epicycle.scenarios.say.gallery_page"
    assert PAGE.read_text(encoding="utf-8") == page(whole, load_lists()), again
    assert all(path.read_text(encoding="utf-8") == drawn(whole) for path, drawn in PICTURES.items()), again


def test_the_picture_has_a_mark_for_every_figure_that_was_published(whole: Gallery) -> None:
    published = sum(row.error_pct is not None for row in whole.rows)
    assert [drawn(whole).count("<title>") for drawn in PICTURES.values()] == [published, published]
    assert all(
        entry.scenario in picture(whole) for entry in whole.entries if any(row.error_pct is not None for row in entry.rows)
    )


def test_json_and_the_html_page_have_every_row(whole: Gallery) -> None:
    rows = json.loads(gallery_json(whole))["rows"]
    assert len(rows) == len(whole.rows)
    wanted = {"system", "metric", "published", "simulated", "error_pct", "evidence", "tolerance_pct", "verdict"}
    assert all(wanted <= set(row) for row in rows)
    html = render_gallery(whole, "epicycle gallery")
    assert all(f'id="{entry.scenario}"' in html for entry in whole.entries)
    assert html.count("data-figure=") >= len(whole.entries) // 2


def test_a_file_of_ones_own_is_a_gallery_of_one(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        """
name: mine
system: A number of mine
prose: Eight nodes.
calculate:
  kind: failures
  gpus: 100
  days: 10
  failures: 5
  group: 10
  outage: 1 min
  sources: {"*": "made up for this test"}
expect:
  - {metric: gpu_hours, published: [4800, 9600], unit: h, evidence: arithmetic, tolerance_pct: 1, source: made up,
     over: {path: calculate.days, values: [10, 20]}}
  - {metric: days_between, published: 1, unit: h, evidence: predicted, tolerance_pct: 1, source: made up}
  - {metric: lost, published: 100, as: change, relative_to: {set: [calculate.outage=30 s]}, evidence: predicted,
     tolerance_pct: 1, source: made up}
""",
        encoding="utf-8",
    )
    rows = gallery(str(file)).rows
    assert [row.verdict for row in rows] == ["holds", "holds", "missed", "holds"]
    assert "cannot be read in 'h'" in rows[2].refusal
    assert rows[3].simulated == pytest.approx(100, abs=0.2)


def test_every_test_of_the_list_is_there() -> None:
    root = PAGE.parents[1]
    for tested in load_lists().tests:
        for place in re.findall(r"[a-z]+/[\w/]+(?:\.py)?(?:::\w+)?", tested.where):
            file, _, name = place.partition("::")
            assert (root / file).exists(), place
            assert not name or f"def {name}(" in (root / file).read_text(encoding="utf-8"), place


def test_a_system_that_no_list_has_is_one_short_file() -> None:
    text = gallery_path("distserve-kv-transfer").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 60
    assert [row.verdict for row in gallery("distserve-kv-transfer").rows] == ["holds", "corrected", "no claim"]
