"""The table of exchanges: every protocol differs from every other in its stages or in what carries it; the page shows it."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

from epicycle.sim.ep.exchange_table import exchange_table, own_rows
from epicycle.sim.ep.protocol import all_protocols, find_protocol

PAGE = Path(__file__).parents[3] / "docs" / "exchanges.md"


def test_two_libraries_differ_in_stages_or_transport() -> None:
    rows = [line.split(" | ")[:4] for line in exchange_table().splitlines()[2:]]
    assert len(rows) == len(all_protocols())
    for a, b in combinations(rows, 2):
        assert a[1:] != b[1:], (a[0], b[0])


def test_rows_of_its_own_are_counted_and_their_lack_is_said() -> None:
    assert own_rows(find_protocol("hybrid-ep")) == "12 of published_ep_2.csv"
    assert own_rows(find_protocol("nixl-ep")).startswith("none: unmeasured")


def test_the_page_has_the_table() -> None:
    assert exchange_table() in PAGE.read_text(encoding="utf-8")
