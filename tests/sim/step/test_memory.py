"""A worker's memory against sums, published sizes, and itself at other widths."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epicycle.hwmodels.catalog import load_cluster
from epicycle.sim.ep.buffer import rectangle
from epicycle.sim.ep.protocols import elastic
from epicycle.sim.inputs.model import load_model, model_names
from epicycle.sim.step.memory import worker_memory
from epicycle.sim.step.weights import stage_of, unsplit_params
from epicycle.sim.step.worker import Arrangement, Precision

BF16 = Precision("bf16", "bf16", "bf16", "bf16")
FP8 = Precision("fp8", "fp8", "bf16", "fp8")
H200 = load_cluster("h200-cx7")
MODELS = [name for name in model_names() if name != "anatomy-toy"]


def _arrangement(tp=1, dp=1, pp=1, ep=None, **more):
    return Arrangement(float(tp), float(dp), float(pp), float(ep or tp * dp), **more)


def _held(model, arrangement, precision=FP8, cluster=H200, tokens=128, share=0.9, context=5000, **more):
    return worker_memory(
        model, arrangement, precision, cluster, tokens_per_step=tokens, memory_share=share, context=context, **more
    )


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("pp", [1, 2, 3, 8])
def test_a_pipeline_of_single_gpus_holds_every_weight_once(name, pp):
    model = load_model(name)
    total = sum(sum(stage_of(model, _arrangement(pp=pp), BF16, s, 0)[0].values()) for s in range(pp))
    # Tied embeddings lie on the first and the last stage, so a pipeline repeats them.
    repeated = model.vocab * model.hidden if model.tied_embeddings and pp > 1 else 0
    assert total == pytest.approx(2 * (model.total_params + repeated), rel=1e-12)


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(MODELS), st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 5]))
def test_tensor_parallelism_repeats_only_what_has_no_heads(name, tp, ep_of, pp):
    model = load_model(name)
    a = _arrangement(tp=tp, pp=pp, ep=min(ep_of, tp))
    slots = np.ceil(model.experts / a.ep) * a.ep if model.experts else 0
    total = tp * sum(sum(stage_of(model, a, BF16, s, 0)[0].values()) for s in range(pp))
    more = (slots - model.experts) * model.expert_params * model.moe_layers
    more += (tp - 1) * model.router_params * model.moe_layers
    for kind in model.attention:
        whole, by_kv_head, kv_heads = unsplit_params(kind, model.hidden)
        more += kind.layers * ((tp - 1) * whole + by_kv_head * (tp / min(tp, kv_heads) - 1))
    more += model.vocab * model.hidden if model.tied_embeddings and pp > 1 else 0
    assert total == pytest.approx(2 * (model.total_params + more), rel=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_what_does_not_split_is_part_of_a_layer(name):
    model = load_model(name)
    for kind in model.attention:
        whole, by_kv_head, _ = unsplit_params(kind, model.hidden)
        assert 0 <= whole + by_kv_head < kind.params(model.hidden)


def test_deepseek_v3_on_eight_h200():
    held = _held(load_model("deepseek-v3"), _arrangement(tp=8), tokens=8192)
    # 671 GB / 8 = 83.9 GB, and on every GPU the down-projections (0.9 GB) and the router; embeddings and head are bf16.
    assert 83.9e9 < held.weight_bytes < 86e9
    assert held.kv_token_bytes == 70_272  # systems.md: 61 layers x (512 + 64) x 2 B
    assert held.sequences == held.kv_bytes // (70_272 * 5000)
    assert 120 < held.sequences < 150


def test_deepseek_v3_in_fp8_does_not_fit_eight_h100():
    held = _held(load_model("deepseek-v3"), _arrangement(tp=8), cluster=load_cluster("h100-cx7"))
    assert not held.fits
    assert held.sequences == 0
    assert "routed expert weights" in held.refusal()
    short = held.used_bytes + held.sequence_bytes - 0.9 * 80 * 2**30
    assert held.short_bytes == pytest.approx(short)
    assert _held(load_model("deepseek-v3"), _arrangement(tp=16), cluster=load_cluster("h100-cx7")).refusal() == ""


def test_low_latency_slabs_are_the_published_sizes():
    model = load_model("deepseek-v3")
    for redundant, tokens, gib in ((0, 128, 1.78), (32, 128, 2.00), (32, 4096, 64.0)):
        held = _held(model, _arrangement(dp=32, redundant=float(redundant)), tokens=tokens)
        assert held.items["low-latency slabs"] / 2**30 == pytest.approx(gib, rel=2e-3)


def test_exact_rows_instead_of_the_rectangle_gain_207_thousand_tokens():
    model = load_model("deepseek-v3")
    row = 2 * model.hidden
    exact = 0.43e9
    worst = rectangle(4096, 32, 8, row)
    assert worst == pytest.approx(15.0e9, rel=0.01)
    token = _held(model, _arrangement(dp=32, protocol="high-throughput")).kv_token_bytes
    assert (15.0e9 - exact) / token == pytest.approx(207_000, rel=0.005)


def test_received_rows_are_what_a_token_reaches():
    model = load_model("deepseek-v3")
    held = _held(model, _arrangement(dp=32, protocol="high-throughput"), tokens=4096)
    rows = held.items["received rows"] / (-(-(7168 * (1 + 4 / 128) + 8 + 64) // 16) * 16)
    assert 4096 * 7.27 < rows < 1.05 * 4096 * 7.27  # the busiest rank's


@pytest.mark.parametrize(("dp", "nodes"), [(8, 1), (32, 4)])
def test_elastic_buffers_are_those_of_a_layer(dp, nodes):
    """Slots as the protocol has them; room for every token at 8 local experts under CUDA graphs, else for those that come."""
    model = load_model("deepseek-v3")
    held = _held(model, _arrangement(dp=dp, protocol="elastic"), tokens=256)
    assert held.items["elastic slots"] == elastic.slots(256, 8, nodes, 8, 7520.0, 14368.0)
    assert held.items["ordered rows"] == 256 * dp * 8 * 7520
    counted = _held(model, _arrangement(dp=dp, protocol="elastic", graphs=False), tokens=256)
    assert 256 * 7520 < counted.items["ordered rows"] < 256 * dp * 7520 and counted.items["ordered rows"] % 7520 == 0
    prompts = {"tokens": 256, "prompt_tokens": 4096}
    both, alone = (_held(model, _arrangement(dp=dp, protocol="elastic"), **p) for p in (prompts, {"tokens": 256}))
    assert both.items["elastic slots"] == elastic.slots(4096, 8, nodes, 8, 7520.0, 14368.0), "one buffer serves both"
    assert alone.items["ordered rows"] <= both.items["ordered rows"] < 4096 * dp * 7520, "prompts are counted"


def test_nothing_is_exchanged_without_data_parallel_attention():
    for protocol in ("low-latency", "high-throughput", "elastic", "one-sided", "all-gather", "padded-all-to-all"):
        held = _held(load_model("deepseek-v3"), _arrangement(tp=8, protocol=protocol))
        names = {"low-latency slabs", "NVLink rings", "RDMA rings", "received rows", "exchange slots", "gathered tokens"}
        assert sum(held.items.get(name, 0.0) for name in (*names, "padded slots", "elastic slots", "ordered rows")) == 0


def test_kv_heads_split_up_to_their_number_and_latents_never():
    gqa, mla = load_model("qwen3-235b-a22b"), load_model("deepseek-v3")
    at = {tp: _held(gqa, _arrangement(tp=tp), BF16).kv_token_bytes for tp in (1, 2, 4, 8)}
    assert at[1] == gqa.kv_bytes_per_token()
    assert at[4] == at[1] / 4 == at[8]  # 4 KV heads
    assert _held(mla, _arrangement(tp=8)).kv_token_bytes == mla.kv_bytes_per_token()


def test_linear_states_stay_constant():
    model = load_model("qwen3.5-397b-a17b")
    short, long = (_held(model, _arrangement(tp=8), BF16, context=context) for context in (1, 1_000_000))
    states = 45 * 4 * 64 * 128 * 128 / 8
    grown = 1_000_000 * 15 * 2 * 256 * 2  # 15 layers of full attention, one KV head on a GPU
    assert long.sequence_bytes - short.sequence_bytes == pytest.approx(grown, rel=1e-5)
    assert short.sequence_bytes > states


def test_a_window_stops_growing():
    model = load_model("gpt-oss-120b")
    sliding = next(kind for kind in model.attention if kind.kind == "sliding")
    below, at, beyond = (
        _held(model, _arrangement(), BF16, context=n).sequence_bytes
        for n in (sliding.window - 1, sliding.window, sliding.window + 1)
    )
    everything = model.kv_bytes(1) - model.kv_bytes(0)
    assert at - below == pytest.approx(everything)
    assert beyond - at == pytest.approx(model.kv_bytes_per_token())
    assert at == pytest.approx(model.kv_bytes(sliding.window))


def test_a_million_tokens_on_one_gpu_when_most_layers_keep_a_constant_state():
    """Nemotron 3 Super 120B-A12B: 8 attention layers of two KV heads, 40 Mamba-2 layers whose states do not grow."""
    model = load_model("nemotron-3-super")
    precision = Precision("fp8", "fp4", "fp8", "fp8")
    b200 = load_cluster("b200-cx7")
    held, started = (_held(model, _arrangement(), precision, b200, context=n, tokens=8192) for n in (1_000_000, 0))
    assert held.fits
    assert held.kv_token_bytes == 8 * 2 * 2 * 128
    states = 40 * (4 * 128 * 128 * 64 + 3 * (2 * 8 * 128 + 128 * 64))
    assert started.sequence_bytes == states
    assert held.sequence_bytes == states + 4.096e9
    full = model.attention[1].model_copy(update={"layers": 48, "kv_heads": 32})
    assert not _held(model.model_copy(update={"attention": (full,)}), _arrangement(), precision, b200, context=1_000_000).fits


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from(["deepseek-v3", "qwen3-235b-a22b", "gpt-oss-120b", "llama-4-maverick"]),
    st.lists(st.tuples(*(st.sampled_from([1, 2, 4, 8]) for _ in range(3))), min_size=2, max_size=5),
    st.sampled_from(["low-latency", "high-throughput", "elastic", "one-sided", "all-gather", "padded-all-to-all"]),
    st.integers(1, 8192),
)
def test_a_table_is_its_rows(name, widths, protocol, tokens):
    model = load_model(name)
    tp, dp, pp = (np.array(column, float) for column in zip(*widths, strict=True))
    table = _held(model, Arrangement(tp, dp, pp, tp * dp, protocol, redundant=8.0), tokens=tokens)
    for i, (t, d, p) in enumerate(widths):
        row = _held(model, _arrangement(t, d, p, protocol=protocol, redundant=8.0), tokens=tokens)
        assert np.broadcast_to(table.used_bytes, tp.shape)[i] == pytest.approx(float(row.used_bytes), rel=1e-12)
        assert np.broadcast_to(table.sequences, tp.shape)[i] == float(row.sequences)
        assert [m.bytes for m in table.table(i)] == [m.bytes for m in row.table()]


def test_parts_and_kv_fill_what_may_be_filled():
    held = _held(load_model("kimi-k2"), _arrangement(dp=32), tokens=256)
    assert sum(item.bytes for item in held.table()) == pytest.approx(0.9 * 141 * 2**30, abs=16)
    assert all(item.source for item in held.table())


def test_mtp_layers_cost_only_when_they_draft():
    model = load_model("deepseek-v3")
    without, drafting = (_held(model, _arrangement(), mtp=n) for n in (0, 1))
    assert without.items["MTP layers"] == 0
    # DeepSeek-V3 README: 14B of MTP weights with shared embedding and head, 11.5B of its own.
    assert drafting.items["MTP layers"] == pytest.approx(11.5e9, rel=0.02)
    assert drafting.kv_token_bytes == pytest.approx(70_272 * 62 / 61)
