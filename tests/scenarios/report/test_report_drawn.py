"""Pages carry the plotting library only where they draw with it; headers have scope; a no has a way out to copy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from epicycle.scenarios.report.deployment.limits import way_out
from epicycle.scenarios.report.shell.page import document, figure


def test_plotly_lies_only_in_pages_that_draw(epicycle: Callable[..., Any], tmp_path: Path) -> None:
    library = "const Plotly = {react() {}};"
    assert library not in document("t", (), "<p>words</p>", library)
    assert library in document("t", (), figure("f", [], {}, 100, "t"), library)
    done = epicycle("compare", "ep-anatomy", "--set", "cluster.node.nic=connectx8-800g", "--html", "a.html")
    assert done.status == 0, done.err
    page = (tmp_path / "a.html").read_bytes()
    assert len(page) < 1_000_000  # a fifth of what the library alone weighs
    assert b"<th scope=col" in page
    assert b"<th>" not in page


def test_a_way_out_is_the_command_with_the_lever_s_changes() -> None:
    lever = "--set search.weights=fp8 --set search.experts=fp8: 32.9 ms, and every limit is met"
    asked = "epicycle plan mine.yaml --set 'slo.tpot=4 ms' --html plan.html"
    assert way_out(lever, asked) == (
        "epicycle plan mine.yaml --set 'slo.tpot=4 ms' --set search.weights=fp8 --set search.experts=fp8"
    )
    assert way_out("search.modes=[aggregated, disaggregated]: it fits", asked).endswith(
        "--set 'search.modes=[aggregated, disaggregated]'"
    )
    assert way_out("a lower rate: nothing carries it", asked) == ""
