"""What lies between attention and the experts, and the head: every weight counted once, split over tensor parallelism."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epicycle.hwmodels.catalog import load_cluster
from epicycle.hwmodels.specs import Cluster
from epicycle.sim.inputs.model import load_model, model_names
from epicycle.sim.step.feed_forward import feed_forward_parts, head_parts
from epicycle.sim.step.part import Part
from epicycle.sim.step.worker import Arrangement, Batch, Precision

BF16 = Precision("bf16", "bf16", "bf16", "bf16")
FP8 = Precision("fp8", "fp8", "bf16", "fp8")
MODELS = model_names()
WIDTHS = st.sampled_from([1.0, 2.0, 4.0, 8.0])


@cache
def cluster() -> Cluster:
    return load_cluster("h200-cx7")


def blocks(name: str, batch: Batch, tp: float = 1.0, precision: Precision = BF16) -> dict[str, Part]:
    there = cluster()
    found = feed_forward_parts(
        load_model(name), Arrangement(tp, 1.0, 1.0, 1.0), batch, precision, there.node.gpu, there.calibration
    )
    return {part.name: part for part in found}


def head(name: str, batch: Batch, tp: float = 1.0) -> Part:
    there = cluster()
    (found,) = head_parts(load_model(name), Arrangement(tp, 1.0, 1.0, 1.0), batch, BF16, there.node.gpu, there.calibration)
    return found


@pytest.mark.parametrize("name", MODELS)
@given(rows=st.floats(1.0, 4096.0), tp=WIDTHS)
def test_every_weight_is_multiplied_once_a_row(name: str, rows: float, tp: float) -> None:
    model = load_model(name)
    found = blocks(name, Batch(rows, 100.0), tp)
    wanted = {
        "dense MLP": model.mlp_matrices * model.hidden * model.dense_intermediate / tp if model.dense_layers else 0.0,
        "shared experts": model.mlp_matrices * model.hidden * model.shared_intermediate * model.shared_experts / tp
        if model.moe_layers
        else 0.0,
        "router": float(model.hidden * model.experts) if model.moe_layers else 0.0,
    }
    for part, weights in wanted.items():
        if weights:
            assert found[part].flops == pytest.approx(2.0 * rows * weights), part
        else:
            assert part not in found, part
    assert sum(float(p.flops) for p in found.values()) == pytest.approx(2.0 * rows * sum(wanted.values()))


@pytest.mark.parametrize("name", MODELS)
def test_they_run_once_in_every_layer_that_has_one(name: str) -> None:
    model = load_model(name)
    found = blocks(name, Batch(8.0, 100.0))
    dense = found["dense MLP"].times if "dense MLP" in found else 0.0
    moe = found["router"].times if "router" in found else 0.0
    assert dense == model.dense_layers
    assert moe == model.moe_layers
    assert dense + moe + model.bare_layers == model.layers


def test_one_row_reads_the_stored_weights() -> None:
    model = load_model("llama-3.1-70b")
    weights = model.mlp_matrices * model.hidden * model.dense_intermediate
    for precision, size in ((BF16, 2.0), (FP8, 1.0)):
        found = blocks("llama-3.1-70b", Batch(1.0, 100.0), 8.0, precision)["dense MLP"]
        assert float(found.hbm_bytes) == pytest.approx(weights * size / 8, rel=0.02)


@pytest.mark.parametrize("name", ["llama-3.1-8b", "deepseek-v3"])
@given(decode=st.floats(0.0, 256.0), prompts=st.integers(0, 8), chunk=st.floats(1.0, 4096.0), tp=WIDTHS)
def test_the_head_sees_every_sequence_once_and_of_a_prompt_the_last_token(
    name: str, decode: float, prompts: int, chunk: float, tp: float
) -> None:
    model = load_model(name)
    batch = Batch(decode, 100.0, prefill=prompts * chunk, chunk=chunk, speculated=2.0)
    rows = 2.0 * decode + prompts
    assert float(head(name, batch, tp).flops) == pytest.approx(2.0 * rows * model.vocab * model.hidden / tp, abs=1.0)


@pytest.mark.parametrize("name", MODELS)
@given(rows=st.floats(1.0, 2048.0), more=st.floats(1.0, 4.0))
def test_more_rows_take_longer(name: str, rows: float, more: float) -> None:
    before, after = blocks(name, Batch(rows, 100.0)), blocks(name, Batch(rows * more, 100.0))
    for part in before:
        # Rounding to whole tiles and waves may save a tail.
        assert float(np.asarray(after[part].seconds)) >= 0.98 * float(np.asarray(before[part].seconds)), part


@given(rows=st.floats(1.0, 2048.0), tp=WIDTHS)
def test_a_narrower_share_never_takes_longer(rows: float, tp: float) -> None:
    whole, share = blocks("deepseek-v3", Batch(rows, 100.0)), blocks("deepseek-v3", Batch(rows, 100.0), tp)
    for part in whole:
        assert float(np.asarray(share[part].seconds)) <= 1.02 * float(np.asarray(whole[part].seconds)), part
    assert share["router"].seconds == whole["router"].seconds, "the router is on every GPU"


def test_nothing_runs_without_rows() -> None:
    for part in blocks("deepseek-v3", Batch(0.0, 100.0)).values():
        assert part.seconds == part.flops == part.hbm_bytes == 0.0
