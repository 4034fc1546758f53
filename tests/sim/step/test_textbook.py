"""A whole model step against the textbook: weights multiplied once, bytes read once, never faster than the datasheet."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epicycle.hwmodels.backends import backend_names, load_backend
from epicycle.hwmodels.catalog import load_cluster
from epicycle.hwmodels.laws.kernels import OPERAND_BYTES
from epicycle.hwmodels.specs import Cluster
from epicycle.sim.inputs.attention import Gqa, Linear
from epicycle.sim.inputs.model import MoeModel, load_model, model_names
from epicycle.sim.precision import ELEMENT_BYTES
from epicycle.sim.step.part import Part
from epicycle.sim.step.step import Step, model_step
from epicycle.sim.step.worker import Arrangement, Batch, Precision, Skew

BF16 = Precision("bf16", "bf16", "bf16", "bf16")
FP8 = Precision("fp8", "fp8", "bf16", "fp8")
ENGINE = load_backend("vllm").constants
CLUSTERS = ("h100-cx7", "h200-cx7", "b200-cx7", "gb200-nvl72")
MODELS = tuple(name for name in model_names() if name != "anatomy-toy")


def shape(tp: float = 1, dp: float = 1, pp: float = 1, ep: float = 1, **more: object) -> Arrangement:
    return Arrangement(float(tp), float(dp), float(pp), float(ep), **more)  # type: ignore[arg-type]


def stored(model: MoeModel) -> Precision:
    return Precision(model.weight_dtype, model.expert_dtype, "bf16", "bf16" if model.expert_dtype == "bf16" else "fp8")


@cache
def cluster_of(name: str, gpus: int) -> Cluster:
    return load_cluster(name, max(1, gpus // load_cluster(name, 1).node.gpus))


def step_of(
    model: str,
    a: Arrangement,
    batch: Batch,
    precision: Precision | None = None,
    cluster: str = "h100-cx7",
    engine: object = ENGINE,
    **more: object,
) -> Step:
    record = load_model(model)
    there = cluster_of(cluster, int(np.max(np.asarray(a.gpus))))
    return model_step(record, there, a, batch, precision or stored(record), engine, **more)  # type: ignore[arg-type]


def part(step: Step, name: str) -> Part:
    (found,) = [p for p in step.parts if p.name == name]
    return found


def one(value: object) -> float:
    return float(np.asarray(value))


def sum_of(step: Step, attribute: str) -> float:
    """Of one run of every part, times its runs."""
    return float(np.sum([np.asarray(getattr(p, attribute)) * p.times for p in step.parts]))


def split_params(model: MoeModel) -> float:
    """Weights of a dense model's GEMMs without the head."""
    attention = sum(kind.layers * kind.params(model.hidden) for kind in model.attention)
    return attention + model.dense_layers * model.mlp_matrices * model.hidden * model.dense_intermediate


# --- the textbook ---


@pytest.mark.parametrize("name", ["llama-3.1-8b", "llama-3.1-70b"])
@pytest.mark.parametrize("tp", [1, 8])
@pytest.mark.parametrize("tokens", [512, 4096])
def test_prefill_multiplies_every_weight_with_every_token(name: str, tp: int, tokens: int) -> None:
    """2 flops a weight and token; 4 heads x dim a pair of query and earlier key; the head for the last token alone."""
    model = load_model(name)
    (kind,) = model.attention
    assert isinstance(kind, Gqa)
    pairs = tokens * (tokens + 1) / 2
    expected = 2.0 * split_params(model) * tokens + 2.0 * model.vocab * model.hidden
    expected += model.layers * 4.0 * kind.heads * kind.head_dim * pairs
    found = step_of(name, shape(tp=tp), Batch(0.0, 0.0, prefill=tokens, chunk=tokens), BF16)
    assert found.flops * tp == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("tp", [1, 8])
@pytest.mark.parametrize("context", [1024.0, 16_384.0])
def test_llama_70b_in_fp8_reads_its_weights_and_its_cache(tp: int, context: float) -> None:
    model = load_model("llama-3.1-70b")
    (kind,) = model.attention
    weights = split_params(model) + 2.0 * model.vocab * model.hidden  # the head stays bf16
    cache_bytes = model.layers * kind.cache_bytes_per_token(2.0) * context
    found = step_of("llama-3.1-70b", shape(tp=tp), Batch(1.0, context), FP8)
    assert found.hbm_bytes * tp == pytest.approx(weights + cache_bytes, rel=0.02)


@pytest.mark.parametrize("context", [1024.0, 32_768.0])
def test_deepseek_v3_reads_eight_experts_for_one_token(context: float) -> None:
    """Its 37 billion active weights but the embedding, and MLA's latent once a layer; activations are the rest."""
    model = load_model("deepseek-v3")
    (kind,) = model.attention
    weights = model.layers * kind.params(model.hidden) + model.mlp_matrices * model.hidden * model.dense_intermediate * 3
    weights += model.moe_layers * (model.shared_params + model.top_k * model.expert_params + 2 * model.router_params)
    weights += 2 * model.vocab * model.hidden
    cache_bytes = model.layers * kind.cache_bytes_per_token(2.0) * context
    found = step_of("deepseek-v3", shape(), Batch(1.0, context), FP8, "h200-cx7")
    assert found.hbm_bytes == pytest.approx(weights + cache_bytes, rel=0.04)


def test_a_full_batch_reads_every_expert_of_its_rank() -> None:
    model = load_model("deepseek-v3")
    found = step_of("deepseek-v3", shape(dp=8, ep=8), Batch(256.0, 1000.0), FP8, "h200-cx7")
    weights = model.experts / 8 * model.expert_params
    assert weights <= one(part(found, "experts").hbm_bytes) <= 1.6 * weights


@pytest.mark.parametrize("name", ["llama-3.1-70b", "qwen3-32b"])
def test_tensor_parallelism_reads_a_share_of_the_weights(name: str) -> None:
    """At one row the weights are all of a GEMM's bytes: an eighth on each of eight GPUs."""
    whole, eighth = (step_of(name, shape(tp=tp), Batch(1.0, 1024.0), BF16) for tp in (1, 8))
    for gemm in ("gqa projections", "dense MLP", "head"):
        assert one(part(eighth, gemm).hbm_bytes) == pytest.approx(one(part(whole, gemm).hbm_bytes) / 8, rel=0.02), gemm
    assert eighth.flops == pytest.approx(whole.flops / 8, rel=1e-6)


@pytest.mark.parametrize(("name", "label"), [("nemotron-3-super", "mamba"), ("qwen3.5-397b-a17b", "delta net")])
def test_context_does_not_move_what_a_constant_state_reads(name: str, label: str) -> None:
    model = load_model(name)
    assert any(isinstance(kind, Linear) for kind in model.attention)
    short, long = (step_of(name, shape(tp=2), Batch(4.0, context), cluster="h200-cx7") for context in (1e3, 1e5))
    seen = 0
    for before, after in zip(short.parts, long.parts, strict=True):
        if before.name.startswith(label):
            seen += 1
            assert np.asarray(before.hbm_bytes) == np.asarray(after.hbm_bytes)
            assert np.asarray(before.seconds) == np.asarray(after.seconds)
    assert seen
    grown = sum(kind.layers * kind.cache_bytes_per_token(2.0) for kind in model.attention) / 2 * 4 * 99_000
    assert long.hbm_bytes - short.hbm_bytes == pytest.approx(grown, rel=0.1), "the full layers read theirs"


# --- the datasheet ---


@pytest.mark.parametrize("cluster", CLUSTERS)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("batch", [Batch(1.0, 500.0), Batch(128.0, 4000.0), Batch(0.0, 0.0, prefill=8192.0, chunk=2048.0)])
def test_no_step_outruns_its_gpu(name: str, cluster: str, batch: Batch) -> None:
    """Bytes over HBM's rate, flops over the fastest tensor rate: of the step, and of each part while an engine adds nothing."""
    a = shape(tp=4, ep=4) if load_model(name).experts else shape(tp=4)
    gpu = cluster_of(cluster, 4).node.gpu
    fastest = max(gpu.tensor_flops(dtype) for dtype in gpu.tensor_flop_per_cycle_sm)
    found = step_of(name, a, batch, cluster=cluster)
    assert np.isfinite(found.seconds)
    assert found.seconds >= found.flops / fastest
    assert found.seconds >= found.hbm_bytes / gpu.hbm_bandwidth
    plain = ENGINE.model_copy(update={"busy": 1.0, "prompt_busy": 1.0})
    for p in step_of(name, a, batch, cluster=cluster, engine=plain).parts:
        assert np.all(np.asarray(p.seconds) >= np.asarray(p.hbm_bytes) / gpu.hbm_bandwidth * (1 - 1e-9)), p.name
        assert np.all(np.asarray(p.seconds) >= np.asarray(p.flops) / fastest * (1 - 1e-9)), p.name


@pytest.mark.parametrize("backend", backend_names())
@pytest.mark.parametrize("cluster", CLUSTERS)
@pytest.mark.parametrize("batch", [Batch(1.0, 500.0), Batch(256.0, 4000.0), Batch(0.0, 0.0, prefill=16_384.0, chunk=4096.0)])
def test_no_fitted_engine_makes_a_gpu_faster_than_its_datasheet(backend: str, cluster: str, batch: Batch) -> None:
    engine = load_backend(backend).on(cluster_of(cluster, 8).calibration)
    gpu = cluster_of(cluster, 8).node.gpu
    fastest = max(gpu.tensor_flops(dtype) for dtype in gpu.tensor_flop_per_cycle_sm)
    for name, a in (("llama-3.1-70b", shape(tp=8)), ("deepseek-v3", shape(tp=8, ep=8)), ("deepseek-v3", shape(dp=8, ep=8))):
        found = step_of(name, a, batch, cluster=cluster, engine=engine)
        assert found.seconds >= max(found.flops / fastest, found.hbm_bytes / gpu.hbm_bandwidth)


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=20)
@given(
    decode=st.floats(1.0, 300.0),
    context=st.floats(16.0, 60_000.0),
    prefill=st.floats(0.0, 8192.0),
    chunk=st.floats(64.0, 8192.0),
    more=st.floats(1.05, 4.0),
    which=st.sampled_from(["decode", "context", "prefill", "cached"]),
)
def test_more_work_never_takes_less(
    name: str, decode: float, context: float, prefill: float, chunk: float, more: float, which: str
) -> None:
    """But for whole tiles and waves, which may save a tail, and a decoding kernel that no longer splits its cache: 5 %."""
    a = shape(tp=2, ep=2) if load_model(name).experts else shape(tp=2)
    batch = Batch(decode, context, prefill, chunk, cached=1000.0)
    larger = replace(batch, **{which: getattr(batch, which) * more})
    engine = ENGINE.model_copy(update={"prompt_busy": 1.0})
    first, second = (step_of(name, a, b, cluster="h200-cx7", engine=engine).seconds for b in (batch, larger))
    assert second >= 0.95 * first


# --- the sum ---


@pytest.mark.parametrize("backend", backend_names())
@pytest.mark.parametrize("name", ["llama-3.1-8b", "deepseek-v3", "qwen3.5-397b-a17b", "deepseek-v4-pro"])
def test_parts_add_up_to_the_step(name: str, backend: str) -> None:
    model = load_model(name)
    for graphs in (True, False):
        a = shape(tp=2, dp=4, ep=8, graphs=graphs) if model.experts else shape(tp=8, graphs=graphs)
        found = step_of(name, a, Batch(32.0, 2000.0, prefill=512.0, chunk=512.0), engine=load_backend(backend).constants)
        assert np.all(np.asarray(found.hidden_s) == 0.0)
        assert sum_of(found, "seconds") == pytest.approx(one(found.seconds), rel=1e-9)
        assert sum_of(found, "flops") == pytest.approx(one(found.flops))
        assert sum_of(found, "hbm_bytes") == pytest.approx(one(found.hbm_bytes))


def test_with_overlap_they_add_up_but_for_what_is_hidden() -> None:
    a = shape(dp=72, ep=72, redundant=32.0, overlap=True)
    found = step_of("deepseek-v3", a, Batch(128.0, 4000.0), FP8)
    assert sum_of(found, "seconds") - one(found.hidden_s) == pytest.approx(one(found.seconds))


POINTS = st.tuples(st.floats(1.0, 256.0), st.floats(1.0, 20_000.0), st.floats(0.0, 4096.0), st.sampled_from([1.0, 2.0, 4.0]))


@pytest.mark.parametrize("name", ["llama-3.1-70b", "deepseek-v3", "gpt-oss-120b"])
@settings(max_examples=25)
@given(points=st.lists(POINTS, min_size=2, max_size=5))
def test_a_table_is_its_rows(name: str, points: list[tuple[float, float, float, float]]) -> None:
    """Every row decodes: which kernels the experts run on is chosen for the whole table."""
    decode, context, prefill, tp = (np.array(column) for column in zip(*points, strict=True))
    experts = bool(load_model(name).experts)
    dp = 8.0 / tp if experts else np.ones_like(tp)
    chunk = np.maximum(prefill / 2.0, 1.0)

    def run(i: slice | int) -> Step:
        a = Arrangement(tp[i], dp[i], 1.0, 8.0 if experts else 1.0)
        return step_of(name, a, Batch(decode[i], context[i], prefill[i], chunk[i]), cluster="h200-cx7")

    table = run(slice(None))
    rows = [run(i) for i in range(len(points))]
    for field in ("seconds", "flops", "hbm_bytes", "tokens"):
        found = np.broadcast_to(getattr(table, field), tp.shape)
        assert found == pytest.approx([one(getattr(row, field)) for row in rows], rel=1e-9), field


# --- widths ---


def test_one_attention_group_exchanges_nothing() -> None:
    found = step_of("deepseek-v3", shape(tp=8, ep=8), Batch(64.0, 1000.0), FP8, "h200-cx7")
    assert not [p for p in found.parts if p.name.startswith(("dispatch", "combine", "prepare"))]
    assert part(found, "expert all-reduce").seconds > 0.0


def test_groups_exchange_and_sum_nothing_beyond_tp() -> None:
    found = step_of("deepseek-v3", shape(dp=8, ep=8), Batch(64.0, 1000.0), FP8, "h200-cx7")
    assert part(found, "expert all-reduce").seconds == 0.0
    assert part(found, "attention all-reduce").seconds == 0.0
    assert part(found, "dispatch").seconds > 0.0
    assert part(found, "combine").seconds > part(found, "dispatch").seconds * 0.9, "fp8 there, bf16 back"
    mixed = step_of("deepseek-v3", shape(tp=2, dp=4, ep=8), Batch(64.0, 1000.0), FP8, "h200-cx7")
    alone = step_of("deepseek-v3", shape(tp=2, ep=2), Batch(64.0, 1000.0), FP8, "h200-cx7")
    assert part(mixed, "expert all-reduce").seconds == part(alone, "expert all-reduce").seconds


@pytest.mark.parametrize("cluster", ["h100-cx7", "gb200-nvl72"])
def test_a_pipeline_adds_hops_and_nothing_else(cluster: str) -> None:
    """A micro-batch passes every stage: the same kernels as on one stage, and activations that move ``pp - 1`` times."""
    batch = Batch(16.0, 2000.0)
    whole, four = (step_of("llama-3.1-70b", shape(tp=8, pp=pp), batch, BF16, cluster) for pp in (1, 4))
    hops = part(four, "stage hops")
    assert one(hops.seconds) > 0.0
    assert one(four.seconds) - one(hops.seconds) == pytest.approx(one(whole.seconds), abs=2 * ENGINE.gap)
    assert one(hops.wire_bytes) == pytest.approx(3 * 16 * load_model("llama-3.1-70b").hidden * 2 / 8)
    assert not [p for p in whole.parts if p.name == "stage hops"]


def test_a_hop_inside_an_nvlink_domain_takes_no_nic() -> None:
    slow, fast = (
        part(step_of("llama-3.1-70b", shape(tp=8, pp=2), Batch(16.0, 2000.0), BF16, cluster), "stage hops")
        for cluster in ("h100-cx7", "gb200-nvl72")
    )
    assert one(fast.loads["nic"]) == one(slow.loads["nvlink"]) == 0.0
    assert one(fast.seconds) < one(slow.seconds)


# --- the engine ---


@pytest.mark.parametrize("backend", backend_names())
@settings(max_examples=25)
@given(decode=st.floats(1.0, 512.0), context=st.floats(16.0, 32_000.0), tp=st.sampled_from([1, 2, 4, 8]))
def test_kernel_by_kernel_is_never_faster(backend: str, decode: float, context: float, tp: int) -> None:
    engine = load_backend(backend).constants
    for name in ("llama-3.1-8b", "qwen3-30b-a3b"):
        ep = tp if load_model(name).experts else 1
        graphs, eager = (
            step_of(name, shape(tp=tp, ep=ep, graphs=graphs), Batch(decode, context), engine=engine).seconds
            for graphs in (True, False)
        )
        assert eager >= graphs


@pytest.mark.parametrize("field", ["gap", "step", "sequence", "all_reduce", "busy", "prompt_busy"])
def test_a_slower_engine_is_slower(field: str) -> None:
    batch = Batch(32.0, 1000.0, prefill=256.0, chunk=256.0)
    slower = ENGINE.model_copy(update={field: getattr(ENGINE, field) * 1.5 + 1e-6})
    before, after = (step_of("llama-3.1-70b", shape(tp=8), batch, BF16, engine=e).seconds for e in (ENGINE, slower))
    assert after > before


def test_without_its_own_time_an_engine_is_its_kernels() -> None:
    none = {"gap": 0.0, "step": 0.0, "sequence": 0.0, "launch": 0.0, "busy": 1.0, "prompt_busy": 1.0}
    found = step_of("llama-3.1-8b", shape(), Batch(8.0, 1000.0), BF16, engine=ENGINE.model_copy(update=none))
    assert part(found, "kernel gaps").seconds == part(found, "host").seconds == 0.0
    assert found.seconds == pytest.approx(sum(one(p.step_seconds) for p in found.parts if p.group != "host"))


# --- multi-token prediction and skew ---


@given(drafts=st.integers(1, 4), decode=st.floats(1.0, 128.0))
def test_drafts_are_rows_and_one_layer_each(drafts: int, decode: float) -> None:
    a, batch = shape(dp=8, ep=8), Batch(decode, 2000.0, speculated=1.0 + drafts)
    plain = step_of("deepseek-v3", a, Batch(decode, 2000.0), FP8, "h200-cx7")
    rows = step_of("deepseek-v3", a, batch, FP8, "h200-cx7")
    whole = step_of("deepseek-v3", a, batch, FP8, "h200-cx7", drafts=float(drafts))
    assert rows.tokens == whole.tokens == pytest.approx(decode * (1 + drafts))
    assert plain.seconds < rows.seconds < whole.seconds
    assert part(whole, "experts").times == pytest.approx(58 + drafts)
    assert part(whole, "mla decode").times == pytest.approx(61 + drafts)
    assert part(whole, "head").times == 1 + drafts
    read = [one(part(step, "mla decode").hbm_bytes) for step in (plain, rows)]
    assert read[0] == pytest.approx(read[1], rel=0.05), "the cache is read once for all rows of a sequence"


def test_skew_makes_all_wait_for_the_busiest_rank() -> None:
    even, uneven = (
        step_of("deepseek-v3", shape(dp=32, ep=32), Batch(128.0, 2000.0), FP8, "h200-cx7", skew=skew)
        for skew in (Skew(), Skew(rank_imbalance=0.5))
    )
    ratio = one(part(uneven, "experts").flops) / one(part(even, "experts").flops)
    assert ratio == pytest.approx(1.5, rel=0.03)  # chance weighs less on more rows
    assert uneven.seconds > even.seconds


# --- precisions ---


@pytest.mark.parametrize("rows", [4.0, 4096.0])
def test_fp4_on_hopper_reads_four_bits_and_multiplies_in_bf16(rows: float) -> None:
    narrow = Precision("fp4", "fp4", "bf16", "bf16")
    gpu = load_cluster("h200-cx7", 1).node.gpu
    assert "fp4" not in gpu.tensor_flop_per_cycle_sm
    batch = Batch(rows, 500.0) if rows < 100 else Batch(0.0, 0.0, prefill=rows, chunk=rows)
    found = step_of("llama-3.1-70b", shape(), batch, narrow, "h200-cx7", ENGINE.model_copy(update={"busy": 1.0}))
    mlp, model = part(found, "dense MLP"), load_model("llama-3.1-70b")
    weights = 3 * model.hidden * model.dense_intermediate
    if rows < 100:
        assert one(mlp.hbm_bytes) == pytest.approx(weights * OPERAND_BYTES["fp4"], rel=0.05)
    assert one(mlp.seconds) >= 2.0 * weights * rows / gpu.tensor_flops("bf16")
    assert step_of("llama-3.1-70b", shape(), batch, narrow, "b200-cx7").seconds < found.seconds


def test_the_caches_precision_moves_the_cache_alone() -> None:
    wide, narrow = (
        step_of("deepseek-v3", shape(dp=8, ep=8), Batch(128.0, 8000.0), replace(FP8, kv=kv), "h200-cx7")
        for kv in ("bf16", "fp8")
    )
    model = load_model("deepseek-v3")
    elements = sum(kind.layers * kind.cache_bytes_per_token(1.0) for kind in model.attention) * 128.0 * 8000.0
    saved = elements * (ELEMENT_BYTES["bf16"] - ELEMENT_BYTES["fp8"])
    assert wide.hbm_bytes - narrow.hbm_bytes == pytest.approx(saved, rel=0.05)
