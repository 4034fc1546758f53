"""Widths, rows and precisions of one engine instance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epicycle.sim.inputs.model import load_model, model_names
from epicycle.sim.inputs.serving import Serving, Worker
from epicycle.sim.step.worker import Arrangement, Batch, Skew, arrangement_of, for_prompts, precision_of

WIDTHS = st.sampled_from([1, 2, 4, 8, 16])


@st.composite
def workers(draw: st.DrawFn) -> Worker:
    tp, dp, pp = draw(WIDTHS), draw(WIDTHS), draw(st.integers(1, 4))
    ep = draw(st.sampled_from([n for n in (1, 2, 4, 8, 16, 32) if tp * dp % n == 0]))
    return Worker(
        tp=tp, dp=dp, pp=pp, ep=ep,
        redundant_experts=draw(st.integers(0, 64)), overlap=draw(st.booleans()), cuda_graphs=draw(st.booleans()),
        protocol=draw(st.sampled_from(["low-latency", "high-throughput", "one-sided", "all-gather"])),
    )  # fmt: skip


@given(workers())
def test_an_arrangement_is_its_worker(worker: Worker) -> None:
    found = arrangement_of(worker)
    assert found.gpus == worker.gpus == worker.tp * worker.dp * worker.pp
    assert found.moe_tp * found.ep == worker.tp * worker.dp, "experts lie on every GPU of a stage"
    assert (found.protocol, found.overlap, found.graphs) == (worker.protocol, worker.overlap, worker.cuda_graphs)
    assert found.redundant == worker.redundant_experts


@given(workers())
def test_prompts_run_kernel_by_kernel_and_off_the_low_latency_slabs(worker: Worker) -> None:
    there = arrangement_of(worker)
    found = for_prompts(there)
    assert not found.graphs
    assert found.protocol == ("high-throughput" if worker.protocol == "low-latency" else worker.protocol)
    assert (found.tp, found.dp, found.pp, found.ep, found.overlap) == (there.tp, there.dp, there.pp, there.ep, there.overlap)
    assert for_prompts(found) == found


def test_widths_may_be_tables() -> None:
    tp, dp = np.array([1.0, 2.0, 4.0]), np.array([8.0, 4.0, 2.0])
    found = Arrangement(tp, dp, 2.0, 4.0)
    assert np.all(found.gpus == 16.0)
    assert np.all(found.moe_tp == 2.0)


@given(decode=st.floats(0.0, 1024.0), context=st.floats(0.0, 1e5), prefill=st.floats(0.0, 16_384.0), drafts=st.integers(0, 4))
def test_rows_are_sequences_times_drafts_and_prompt_tokens(decode: float, context: float, prefill: float, drafts: int) -> None:
    batch = Batch(decode, context, prefill, speculated=1.0 + drafts)
    assert batch.tokens == pytest.approx(decode * (1 + drafts) + prefill)


def test_nothing_is_skewed_by_default() -> None:
    assert Skew() == Skew(alpha=0.0, rank_imbalance=0.0)


@pytest.mark.parametrize("name", model_names())
def test_precisions_default_to_the_checkpoint(name: str) -> None:
    model = load_model(name)
    found = precision_of(model, Serving())
    assert (found.weights, found.experts, found.kv) == (model.weight_dtype, model.expert_dtype, "bf16")
    assert found.payload == ("bf16" if model.expert_dtype == "bf16" else "fp8")


def test_precisions_asked_for_are_taken() -> None:
    model = load_model("deepseek-v3")
    found = precision_of(model, Serving(weights="bf16", experts="fp4", kv="fp8", payload="fp4"))
    assert (found.weights, found.experts, found.kv, found.payload) == ("bf16", "fp4", "fp8", "fp4")
    assert precision_of(model, Serving(experts="bf16")).payload == "bf16", "rows travel as the experts take them"
