"""What a published figure may say: no tolerance beyond 25 %, no correction of a prediction, no verdict without a value."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from epicycle.scenarios.ask.document import parse_document
from epicycle.scenarios.ask.expectation import Expectation
from epicycle.scenarios.ask.scenario import ScenarioError, read_scenario
from epicycle.scenarios.published.row import judged

FIGURE = {"metric": "tpot", "published": 10.0, "source": "a paper", "evidence": "predicted", "tolerance_pct": 10}


def expected(**changes: Any) -> Expectation:
    return Expectation.model_validate(FIGURE | changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"tolerance_pct": 26},
        {"tolerance_pct": 0},
        {"corrected": {"value": 9.0, "why": "the inputs of the paper give nine"}},
        {"evidence": "calibrated"},
        {"fitted": {"parameters": ["x"], "points": 1, "explains": 1}},
        {"as": "ratio"},
        {"relative_to": {"set": ["seed=1"]}},
        {"published": [1.0, 2.0]},
        {"published": [1.0, 2.0], "over": {"path": "seed", "values": [1]}},
        {"over": {"path": "seed", "values": [1]}},
        {"widened": True},
    ],
)
def test_what_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        expected(**changes)


def test_verdicts() -> None:
    assert judged(expected(), 10.0, 10.9)[1] == "holds"
    assert judged(expected(), 10.0, 11.1)[1] == "missed"
    assert judged(expected(), 10.0, None)[1] == "missed"
    assert judged(expected(published=None), None, 3.0) == (None, "no claim")
    assert judged(expected(published=None), None, None)[1] == "missed"
    wrong = expected(evidence="arithmetic", corrected={"value": 5.0, "why": "half of it is counted twice"})
    assert judged(wrong, 10.0, 5.1)[1] == "corrected"
    assert judged(wrong, 10.0, 10.1)[1] == "holds"
    assert judged(wrong, 10.0, 7.0)[1] == "missed"


def test_the_error_of_a_change_is_in_points() -> None:
    change = expected(**{"published": -27.0, "as": "change", "relative_to": {"set": ["a=1"]}, "tolerance_pct": 3})
    assert judged(change, -27.0, -25.0) == (2.0, "holds")
    assert judged(change, -27.0, -23.0) == (4.0, "missed")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("calculate: {kind: failure}", "did you mean 'failures'"),
        ("calculate: {kind: failures, sources: {}}", "is missing"),
        ("calculate: {kind: deadline, forward: 1 s, budget: 1 s, sources: {forward: x}}", "says nothing of budget"),
        ("calculate: {kind: deadline, forward: 1 s, budget: 1 s, sources: {'*': x, steps: y}}", "speaks of steps"),
        ("calculate: {kind: deadline, forward: 1, budget: 1 s, sources: {'*': x}}", "needs a unit"),
        ("calculate: {kind: deadline, forwards: 1 s, budget: 1 s, sources: {'*': x}}", "no such input"),
        ("calculate: {}\nworkload: {}", "both calculate and workload"),
        ("calculate: {}\nexpect: [{metric: x, publish: 1}]", "publish"),
    ],
)
def test_a_calculator_that_cannot_be_asked_says_where_and_why(text: str, said: str) -> None:
    from epicycle.scenarios.weigh.evaluation_of import evaluation_of

    with pytest.raises(ScenarioError, match=said) as error:
        evaluation_of(read_scenario(parse_document(f"name: x\n{text}", "x.yaml")))
    assert str(error.value).startswith("x.yaml")
