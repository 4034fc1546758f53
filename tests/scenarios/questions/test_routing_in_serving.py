"""Expert counts that a user brings decide a deployment's answer: by expert, by placement, by layer."""

from __future__ import annotations

from pathlib import Path

import pytest

from epicycle.scenarios.answer.evaluation import Sweep
from epicycle.scenarios.study.sweep import sweep

Asked = dict[str, Path]
PLAIN = "deployment.decode.redundant_experts=0"
COUNTED = "workload.routing={kind: file, file: c256.csv}"


@pytest.fixture(autouse=True)
def _beside_the_counts(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(asked["q10"].parent)


def values(found: Sweep, key: str = "tpot") -> list[float]:
    assert all(point.evaluation for point in found.points), [point.refusal for point in found.points]
    return [point.evaluation.metric(key).value for point in found.points if point.evaluation]


def test_counts_from_a_file_slow_a_deployment_down_as_they_slow_a_layer(asked: Asked) -> None:
    files = "={kind: uniform},{kind: file, file: c256.csv},{kind: file, file: hot.csv}"
    served = values(sweep(asked["q10"], [f"workload.routing{files}"], [PLAIN]))
    layer = values(sweep(asked["q10l"], [f"traffic.routing{files}"]), "layer")
    for slower in (served, layer):
        assert slower[0] * 1.1 < slower[1] and slower[1] * 1.1 < slower[2]
    assert layer == pytest.approx([352e-6, 590e-6, 1070e-6], rel=0.1)


def test_copies_gain_before_they_lose(asked: Asked) -> None:
    tpot = values(sweep(asked["q10"], ["deployment.decode.redundant_experts=0,32,64,128,256"], [COUNTED]))
    assert tpot[1] < 0.92 * tpot[0]
    assert tpot[-1] > tpot[1] * 1.01


def test_experts_rearranged_without_copies_lie_between(asked: Asked) -> None:
    over = ["deployment.decode.placement=contiguous,balanced"]
    contiguous, rearranged = values(sweep(asked["q10"], over, [PLAIN, COUNTED]))
    copied = values(sweep(asked["q10"], ["deployment.decode.redundant_experts=32"], [COUNTED]))[0]
    assert copied < rearranged < contiguous
    assert values(sweep(asked["q10"], over, [PLAIN]))[0] == values(sweep(asked["q10"], over, [PLAIN]))[1], "all are alike"


def test_layers_of_a_file_are_each_their_own(asked: Asked) -> None:
    """Three layers, each waiting for its own busiest rank: the mean of the three, not the three counts in one."""
    layered = "workload.routing={kind: file, file: layers.csv%s}"
    whole = values(sweep(asked["q10"], ["seed=0"], [PLAIN, layered % ""]))[0]
    alone = values(sweep(asked["q10"], [layered % ", layer: 0", layered % ", layer: 2"][:1], [PLAIN]))
    alone += values(sweep(asked["q10"], ["seed=0"], [PLAIN, layered % ", layer: 1"]))
    alone += values(sweep(asked["q10"], ["seed=0"], [PLAIN, layered % ", layer: 2"]))
    assert min(alone) < whole < max(alone)
    assert whole == pytest.approx(sum(alone) / 3, rel=0.03)


def test_one_layer_of_several_has_to_be_named(asked: Asked) -> None:
    with pytest.raises(ValueError, match=r"holds 3 layers, one is asked for: use routing.layer=0"):
        sweep(asked["q10l"], ["traffic.routing={kind: file, file: layers.csv}"])
    with pytest.raises(ValueError, match=r"holds layers 0 to 2, got routing.layer=3"):
        sweep(asked["q10"], ["workload.routing={kind: file, file: layers.csv, layer: 3}"])
