"""Published systems whose mechanism is requests one by one: the figures of their scenarios hold, or the claim is enclosed."""

from __future__ import annotations

import pytest

from epicycle.scenarios.published.gallery import gallery


@pytest.mark.parametrize("name", ["elastic-ep-lost-gpus", "ppd-append-prefill"])
def test_published_figures_hold(name: str) -> None:
    """Elastic EP within 15 % after 2, 4, 8 and 16 lost GPUs; PPD's three splits within 10 points."""
    claimed = [row for row in gallery(name).rows if row.published is not None]
    assert len(claimed) >= 3
    assert [row.id for row in claimed if row.verdict != "holds"] == []


def test_what_a_pin_saves_encloses_what_was_published() -> None:
    """Continuum's 1.12 to 3.66 lie between an idle and a full GPU, and it grows with the load."""
    found = [row.simulated for row in gallery("continuum-tool-calls").rows if row.over == "workload.rate"]
    assert all(ratio is not None for ratio in found)
    assert found == sorted(found)  # type: ignore[type-var]
    assert found[0] < 1.12 < 3.66 < found[-1]  # type: ignore[operator]
