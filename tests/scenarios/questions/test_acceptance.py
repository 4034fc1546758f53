"""Draft tokens whose acceptance falls with their place: used by the closed form and by requests played one by one."""

from __future__ import annotations

import numpy as np
import pytest

from epicycle.hwmodels.errors import BadInput
from epicycle.scenarios.answer.evaluate import evaluate
from epicycle.scenarios.ask.scenario import load_serving
from epicycle.sim.serving.requests.loop.draws import accepted
from epicycle.sim.serving.requests.rules import rules_of
from epicycle.sim.serving.steady import Speculation

SCENARIO = "serve-deepseek-v3-h200"


def tpot(*sets: str) -> float:
    return evaluate(load_serving(SCENARIO, ["workload.concurrency=256", *sets]).resolve()).metric("tpot").value


def test_a_list_is_the_share_of_steps_that_accept_each_place() -> None:
    assert Speculation(3, (0.9, 0.7, 0.5)).accepted == pytest.approx(3.1)
    assert Speculation(3, (0.8, 0.64, 0.512)).accepted == pytest.approx(Speculation(3, 0.8).accepted)


def test_powers_of_one_chance_are_that_chance() -> None:
    assert tpot("deployment.mtp=2", "deployment.acceptance=[0.8, 0.64]") == pytest.approx(tpot("deployment.mtp=2"))


def test_later_places_that_count_less_make_tokens_slower() -> None:
    assert tpot("deployment.mtp=2", "deployment.acceptance=[0.8, 0.3]") > tpot("deployment.mtp=2") * 1.02


@pytest.mark.parametrize(
    ("mtp", "acceptance", "said"),
    [(2, "[0.9, 0.7, 0.5]", "mtp drafts 2"), (0, "[0.9]", "mtp=1"), (2, "[0.5, 0.7]", "grows"), (1, "[1.5]", "acceptance")],
)
@pytest.mark.parametrize("section", ["deployment", "search"])
def test_lists_that_are_no_chances_of_the_drafts_are_refused(section: str, mtp: int, acceptance: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        load_serving(SCENARIO, ["deployment={}", f"{section}.mtp={mtp}", f"{section}.acceptance={acceptance}"])


def test_requests_played_one_by_one_draw_each_place() -> None:
    rules = rules_of(drafts=3, acceptance=(0.9, 0.7, 0.5))
    tokens = np.array([accepted(rules.drafts, rules.chances, 7, 1, count) for count in range(20_000)])
    shares = [float(np.mean(tokens > place)) for place in (1, 2, 3)]
    assert shares == pytest.approx([0.9, 0.7, 0.5], abs=0.015)
    assert tokens.max() == 4
