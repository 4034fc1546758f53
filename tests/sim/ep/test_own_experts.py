"""Experts of our own protocols take the times of our own kernels, by the law that predicts what bench measured of them."""

import numpy as np
import pytest

from epicycle.hwmodels.catalog import load_cluster
from epicycle.sim.engine import Simulator
from epicycle.sim.ep.compute.experts import ExpertShape, counted
from epicycle.sim.ep.compute.own_kernels import move_seconds, product_seconds
from epicycle.sim.ep.machine import machine_of
from epicycle.sim.ep.protocols.epicycle import HT, LL, own_experts
from epicycle.sim.layer.layer import _notes
from epicycle.sim.layer.program import build
from epicycle.sim.layer.traffic import own_seconds, rank_loads

GPU, MACHINE = load_cluster("h200-cx7").node.gpu, machine_of(load_cluster("h200-cx7"))
HIDDEN, INTER, LOCAL = 7168, 2048, 8


@pytest.mark.parametrize("weights", ["bf16", "fp8"])
@pytest.mark.parametrize("each", [1, 16, 128, 200, 4096])
def test_three_launches_are_the_law_of_the_rows(weights: str, each: int) -> None:
    own = own_experts("h200_sxm", weights)
    assert own is not None
    shape = ExpertShape(float(HIDDEN), float(INTER), weights, weights)
    found = own.seconds(counted(np.full((8, LOCAL), float(each)), 0.0), float(each), shape, MACHINE, float(GPU.sms))
    height = 128 if each >= 128 else 64
    row = INTER * (4 + (1 + 4 / 128 if weights == "fp8" else 2))
    want = (
        product_seconds(each, LOCAL, 2 * INTER, HIDDEN, weights, GPU, own.product)
        + move_seconds(-(-each // height) * height * LOCAL * row, GPU, own.swiglu)
        + product_seconds(each, LOCAL, HIDDEN, INTER, weights, GPU, own.product)
    )
    assert found == pytest.approx(np.full(8, float(want)), rel=1e-9)


def test_nobody_timed_fp4() -> None:
    assert own_experts("h200_sxm", "fp4") is None


@pytest.mark.parametrize("protocol", [HT, LL])
def test_a_layer_takes_them_and_says_so(ask, protocol):
    """Replayed by graphs, as they were timed: ours."""
    question = ask(ep=8, protocol=protocol, tokens=128, cluster__node__gpu__hbm_capacity='"800 GiB"')
    program = build(question, protocol, Simulator(0))
    assert [source.name for source in program.sources if source.op is None] == ["compute swiglu", "compute product"]
    works = [step.stage for step in program.steps if step.stage.op == "compute"]
    assert [work.name for work in works] == ["experts.up", "experts.swiglu", "experts.down"]
    loads = [rank_loads(w, program.drawn, program.layout, program.machine) for w in works]
    seconds = sum(own_seconds(w, found, 8) + w.latency_s for w, found in zip(works, loads, strict=True))
    assert program.closed_experts_s == pytest.approx(seconds.max(), rel=0.10)
    assert any(note.startswith("experts: our own product and SwiGLU, fitted to h200") for note in _notes(question, program))


def test_what_nobody_timed_of_ours_is_deepgemm_and_says_so(ask):
    question = ask(ep=8, protocol=HT, tokens=128, deployment__cuda_graphs="false", cluster__node__gpu__hbm_capacity='"800 GiB"')
    program = build(question, HT, Simulator(0))
    assert [source.name for source in program.sources if source.op is None] == ["compute"]
    assert any(note.startswith("experts: DeepGEMM's times") for note in _notes(question, program))
