"""docs/gallery.md and its pictures, written from the gallery: ``python -m epicycle.scenarios.say.gallery_page [FILE]``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from ..published.gallery import gallery
from ..published.lists import Lists, load_lists
from ..published.picture import picture, picture_by_section
from ..published.row import Entry, Gallery, Row
from ..published.words import figure_words, number, predicted_share, published_text, remark, summary

PAGE = Path(__file__).parents[2] / "docs" / "gallery.md"
PICTURES = {PAGE.with_name("gallery.svg"): picture, PAGE.with_name("gallery-sections.svg"): picture_by_section}
_HOW = """\
`epicycle gallery` makes all of it, `epicycle gallery NAME` one system, `--html` a page with a plot for each. A system is one
file, `scenarios/gallery/published/<section>/<name>.yaml`: a scenario with `system`, `prose` and `expect`.

**Evidence.** *predicted*: nothing was fitted to that source. *calibrated*: the named parameters were. *arithmetic*: an
identity over published inputs. **Verdict.** *holds*: within the tolerance, which is never wider than 25 %. *missed*: not.
*corrected*: the published figure does not follow from its own inputs, the corrected one does. *no claim*: nothing published.
A published range holds up to the tolerance beyond its nearer end.

**A system of your own** is one file as well:
[distserve-kv-transfer](../scenarios/gallery/published/4-serving/distserve-kv-transfer.yaml), which no list asked for, has 49
lines, and `epicycle gallery my-system.yaml` runs any. What its inputs may be is in
[scenario files](scenarios.md)."""
_SECTIONS = {
    1: "The expert-parallel kernel",
    2: "Overlap, balance, failure, network, placement, cost",
    3: "Production runs, blind",
    4: "Serving systems",
    5: "Devices and kernels",
}


def page(found: Gallery, lists: Lists) -> str:
    """The whole page as Markdown."""
    return "\n".join(_lines(found, lists)) + "\n"


def _lines(found: Gallery, lists: Lists) -> Iterator[str]:
    yield "# The gallery: published systems, reproduced and judged"
    yield ""
    yield "<!-- written by python -m epicycle.scenarios.say.gallery_page -->"
    yield ""
    yield f"{summary(found)}. {predicted_share(found)}"
    yield ""
    yield "![every published figure and the error of what is simulated](gallery.svg)"
    yield ""
    yield _HOW
    yield ""
    yield "## Headlines that do not hold as stated"
    yield ""
    yield "| said | what does not hold | scenario |"
    yield "|---|---|---|"
    for headline in lists.headlines:
        yield f"| {headline.says} | {headline.holds_not} | `{headline.scenario}` |"
    yield ""
    yield "## What misses"
    yield ""
    yield "| figure | published | simulated | error |"
    yield "|---|--:|--:|--:|"
    for row in found.rows:
        if row.verdict == "missed":
            values = f"{published_text(row)} | {number(row.simulated)} | {_error(row)}"
            yield f"| `{row.scenario}`: {figure_words(row)} | {values} |"
    for section, title in _SECTIONS.items():
        yield ""
        yield f"## {section}. {title}"
        for entry in found.entries:
            if entry.section == section:
                yield from _entry(entry)
    yield ""
    yield "## Rows that are tests"
    yield ""
    for test in lists.tests:
        yield f"- {test.system}: {test.where}."
    yield ""
    if lists.not_yet:
        yield "## Not yet"
        yield ""
        for missing in lists.not_yet:
            yield f"- {missing.system}: {missing.why}."
        yield ""
    yield "## Out of scope"
    yield ""
    for other in lists.out_of_scope:
        yield f"- {other.what}: {other.why}."


def _entry(entry: Entry) -> Iterator[str]:
    yield ""
    yield f"### {entry.system}"
    yield ""
    yield f"`epicycle gallery {entry.scenario}`. {entry.prose}"
    yield ""
    yield "| figure | published | simulated | error | evidence | verdict |"
    yield "|---|--:|--:|--:|---|---|"
    for row in entry.rows:
        verdict = f"**{row.verdict}**" if row.verdict == "missed" else row.verdict
        values = f"{published_text(row)} | {number(row.simulated)} | {_error(row)}"
        yield f"| {figure_words(row)} | {values} | {row.evidence} | {verdict} |"
    remarks = list(dict.fromkeys(said for row in entry.rows if (said := remark(row))))
    if remarks:
        yield ""
        for said in remarks:
            yield f"- {said}."
    yield ""
    yield f"Sources: {'; '.join(dict.fromkeys(row.source for row in entry.rows))}."


def _error(row: Row) -> str:
    if row.error_pct is None:
        return ""
    unit = " points" if row.error_in == "points" else " %"
    return f"{row.error_pct:+.1f}{unit}"


def main(arguments: list[str]) -> None:
    """Write the page, and beside it the pictures."""
    path, found = Path(arguments[0]) if arguments else PAGE, gallery()
    path.write_text(page(found, load_lists()), encoding="utf-8")
    for name, drawn in PICTURES.items():
        path.with_name(name.name).write_text(drawn(found), encoding="utf-8")
    print(f"{path} and its pictures written")


if __name__ == "__main__":
    main(sys.argv[1:])
