"""Attention of a model step: sums done by hand, the measured module, limits, monotony, and arrays against single points."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epicycle.hwmodels.catalog import load_cluster, load_gpu
from epicycle.hwmodels.errors import UnknownName
from epicycle.hwmodels.laws.attention import decode_seconds, prefill_seconds
from epicycle.hwmodels.laws.kernels import smooth_max
from epicycle.sim.inputs.model import MoeModel, load_model, model_names
from epicycle.sim.step.attention.cores import flash_seconds, pairs, query_rows, ramp_seconds
from epicycle.sim.step.attention.mla import mla_constants
from epicycle.sim.step.attention.parts import attention_parts
from epicycle.sim.step.gpu_kernels import GpuKernels
from epicycle.sim.step.part import Part
from epicycle.sim.step.worker import Arrangement, Batch, Precision

BF16 = Precision("bf16", "bf16", "bf16", "bf16")
FP8 = Precision("fp8", "fp8", "fp8", "fp8")
ONE = Arrangement(1.0, 1.0, 1.0, 1.0)
KINDS = (
    "llama-3.1-8b",
    "gpt-oss-120b",
    "qwen3.5-397b-a17b",
    "nemotron-3-super",
    "deepseek-v3",
    "deepseek-v3.2",
    "deepseek-v4-pro",
)


def parts_of(
    model: str,
    batch: Batch,
    arrangement: Arrangement = ONE,
    precision: Precision = BF16,
    gpu: str = "h100-sxm",
    system: str = "h100_sxm",
) -> tuple[Part, ...]:
    return attention_parts(load_model(model), arrangement, batch, precision, load_gpu(gpu), system)


def named(parts: tuple[Part, ...], ending: str) -> list[Part]:
    return [part for part in parts if part.name.endswith(ending)]


def total(parts: tuple[Part, ...], field: str = "seconds") -> float:
    return float(sum(getattr(part, field) * part.times for part in parts))


def test_llama_8b_decode_by_hand() -> None:
    parts = parts_of("llama-3.1-8b", Batch(64.0, 2000.0))
    (decode,) = named(parts, "decode")
    assert decode.times == 32
    cache = 64 * 2000 * 2 * 8 * 128 * 2  # 128 KiB a token in 32 layers
    assert cache * 32 == 64 * 2000 * load_model("llama-3.1-8b").kv_bytes_per_token()
    queries_and_outputs = 2 * 64 * 32 * 128 * 2
    assert decode.hbm_bytes == cache + queries_and_outputs
    assert decode.flops == 2 * 2 * 64 * 32 * 128 * 2000  # Q K^T and P V
    (projections,) = named(parts, "projections")
    weights = 4096 * 128 * (32 + 16 + 32)
    assert projections.flops == 2 * 64 * weights
    assert projections.hbm_bytes == 2 * weights + 2 * 64 * (4096 + 6144 + 4096 + 4096)
    assert projections.kernels == 2


def test_qwen3_32b_mixed_step_by_hand() -> None:
    batch = Batch(100.0, 1000.0, 1024.0, 512.0, 300.0)
    parts = parts_of("qwen3-32b", batch, replace(ONE, tp=8.0))
    weights = 5120 * 128 * (8 + 2 * 1 + 8)  # 64 query and 8 KV heads over 8 GPUs
    assert named(parts, "projections")[0].flops == 2 * (100 + 1024) * weights
    assert named(parts, "decode")[0].flops == 4 * 128 * 8 * 100 * 1000
    seen = 512 * 300 + 512 * 513 / 2
    (prefill,) = named(parts, "prefill")
    assert prefill.flops == 4 * 128 * 8 * 2 * seen
    assert prefill.hbm_bytes == 2 * (2 * 1 * (300 + 512) * 2 + 2 * 2 * 512 * 8) * 128


def test_deepseek_v3_decode_by_hand() -> None:
    parts = parts_of("deepseek-v3", Batch(128.0, 4096.0), replace(ONE, tp=4.0), FP8)
    (decode,) = named(parts, "decode")
    assert decode.hbm_bytes == 128 * 4096 * 576  # the latent cache is on every GPU, read once for all its heads
    assert decode.flops == 2 * 128 * 4096 * 32 * (576 + 512)
    (projections,) = named(parts, "projections")
    fp8 = 7168 * (1536 + 576) + 1536 * 32 * 192 + 32 * 128 * 7168
    bf16 = 32 * 512 * 256
    assert projections.flops == 2 * 128 * (fp8 + bf16)
    assert projections.hbm_bytes == fp8 + 2 * bf16
    wide = named(parts_of("deepseek-v3", Batch(128.0, 4096.0), replace(ONE, tp=4.0), replace(FP8, kv="bf16")), "decode")[0]
    assert wide.hbm_bytes == 2 * decode.hbm_bytes
    assert wide.loads["hbm"] == pytest.approx(2 * decode.loads["hbm"])


def test_prefill_of_llama_70b_is_the_textbooks_sum() -> None:
    tokens = 8192.0
    parts = parts_of("llama-3.1-70b", Batch(0.0, 0.0, tokens, tokens))
    layers, hidden, heads, kv, head = 80, 8192, 64, 8, 128
    weights = 2 * hidden * hidden + 2 * hidden * kv * head
    textbook = layers * (2 * tokens * weights + 4 * heads * head * tokens * (tokens + 1) / 2)
    assert total(parts, "flops") == pytest.approx(textbook, rel=1e-12)


@pytest.mark.parametrize("heads", [16, 32, 64, 128])
def test_deepseek_decode_is_the_measured_module(heads: int) -> None:
    """With fp8 weights and cache the module is the law fitted on mla_attention.csv, to the last bit but for rounding."""
    constants, source = mla_constants("h100_sxm", "mla_decode")
    assert "flashinfer" in source
    batch, context = np.array([1.0, 64.0, 512.0]), np.array([16384.0, 2048.0, 128.0])
    parts = parts_of("deepseek-v3", Batch(batch, context), replace(ONE, tp=128.0 / heads), FP8)
    module = sum(part.seconds for part in parts if not part.name.endswith("norm"))
    measured_law = decode_seconds(np.full(3, float(heads)), batch, context, load_gpu("h100-sxm"), constants)
    np.testing.assert_allclose(module, measured_law, rtol=1e-12)


def test_deepseek_prefill_is_the_measured_module_with_its_launches() -> None:
    decode, prefill = (mla_constants("h100_sxm", op)[0] for op in ("mla_decode", "mla_prefill"))
    prompts, tokens = np.array([1.0, 4.0, 32.0]), np.array([128.0, 4096.0, 300.0])
    eager = replace(ONE, graphs=False)
    parts = parts_of("deepseek-v3", Batch(0.0, 0.0, prompts * tokens, tokens), eager, FP8)
    module = sum(part.seconds for part in parts if not part.name.endswith("norm"))
    (projections,) = named(parts, "projections")
    np.testing.assert_allclose(projections.host_s, prefill.host)
    whole = replace(prefill, launch=decode.launch, weights_hbm_efficiency=decode.weights_hbm_efficiency)
    np.testing.assert_allclose(
        smooth_max(prefill.sharpness, module, projections.host_s),
        prefill_seconds(np.full(3, 128.0), prompts, tokens, load_gpu("h100-sxm"), whole),
        rtol=1e-12,
    )
    (replayed,) = named(parts_of("deepseek-v3", Batch(0.0, 0.0, prompts * tokens, tokens), ONE, FP8), "projections")
    assert np.all(np.asarray(replayed.host_s) == 0.0)


def test_blackwell_takes_its_own_kernel_and_hopper_never_borrows_blackwells() -> None:
    assert "trtllm_mla" in mla_constants("b200_sxm", "mla_decode")[1]
    assert "borrowed from b200_sxm" in mla_constants("gb300", "mla_prefill")[1]
    assert "flashinfer, fitted on mla_attention.csv, borrowed from h100_sxm" in mla_constants("h800_sxm", "mla_decode")[1]


@pytest.mark.parametrize("model", KINDS)
def test_what_does_not_run_costs_nothing(model: str) -> None:
    decoding, prompts = parts_of(model, Batch(32.0, 3000.0)), parts_of(model, Batch(0.0, 3000.0, 2048.0, 512.0, 100.0))
    mixed = parts_of(model, Batch(32.0, 3000.0, 2048.0, 512.0, 100.0))
    for part in (*named(decoding, "prefill"), *named(prompts, "decode"), *parts_of(model, Batch(0.0, 0.0))):
        assert (part.seconds, part.flops, part.hbm_bytes, part.kernels) == (0.0, 0.0, 0.0, 0.0), part.name
        assert set(part.loads.values()) == {0.0}
    for core, alone in (("decode", decoding), ("prefill", prompts)):
        assert [p.seconds for p in named(mixed, core)] == [p.seconds for p in named(alone, core)]
    assert total(mixed) < total(decoding) + total(prompts)


@pytest.mark.parametrize("model", model_names())
def test_every_preset_has_parts_for_all_its_layers(model: str) -> None:
    loaded = load_model(model)
    parts = parts_of(model, Batch(32.0, 3000.0, 2048.0, 512.0, 100.0))
    assert sum(part.times for part in named(parts, "decode")) == loaded.layers
    assert len({part.name for part in parts}) == len(parts)
    for part in parts:
        assert part.source
        assert part.seconds >= max(part.loads.values()) * (1 - 1e-9)
        assert 0 < part.kernels < 20


# Widths of the projections per token are weights: what a part reads cannot miss any of them.
@pytest.mark.parametrize("model", KINDS)
def test_projections_multiply_every_weight_once(model: str) -> None:
    loaded = load_model(model)
    parts = parts_of(model, Batch(4.0, 0.0))
    flops = sum(p.flops * p.times for p in parts if p.name.endswith(("projections", "indexer")))
    convolutions = sum(k.layers * k.conv_kernel * k.conv_channels for k in loaded.attention if k.kind == "linear")
    weights = sum(kind.layers * kind.params(loaded.hidden) for kind in loaded.attention) - convolutions
    assert flops == pytest.approx(2 * 4 * weights, rel=1e-12)


batches = st.builds(
    Batch,
    decode=st.sampled_from([0.0, 1.0, 7.0, 64.0, 512.0]),
    context=st.floats(1.0, 200_000.0),
    prefill=st.sampled_from([0.0, 512.0, 8192.0]),
    chunk=st.sampled_from([1.0, 37.0, 512.0, 4096.0]),
    cached=st.floats(0.0, 100_000.0),
    speculated=st.sampled_from([1.0, 2.0, 4.0]),
)
tps = st.sampled_from([1.0, 2.0, 4.0, 8.0, 16.0])


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(KINDS), batches, tps, st.sampled_from(["decode", "context", "prefill", "cached"]), st.floats(1.0, 3.0))
def test_more_never_costs_less(model: str, batch: Batch, tp: float, field: str, factor: float) -> None:
    more = replace(batch, **{field: getattr(batch, field) * factor})
    arrangement = replace(ONE, tp=tp)
    before, after = parts_of(model, batch, arrangement, FP8), parts_of(model, more, arrangement, FP8)
    # Cached tokens may be attended in absorbed form where that is quicker: it reads less and computes more than expanding them.
    names = ("seconds",) if field == "cached" else ("seconds", "flops", "hbm_bytes")
    for name in names:
        assert total(after, name) >= total(before, name) * (1 - 1e-9), name


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(KINDS), batches)
def test_more_gpus_never_move_more_bytes_each(model: str, batch: Batch) -> None:
    split = [parts_of(model, batch, replace(ONE, tp=tp)) for tp in (1.0, 2.0, 8.0, 64.0)]
    for wide, narrow in pairwise(split):
        for one, other in zip(wide, narrow, strict=True):
            if one.name == "mla prefill":  # which runs the fastest of three ways, whatever each moves
                assert other.seconds <= one.seconds * (1 + 1e-9)
                continue
            assert other.flops <= one.flops * (1 + 1e-9), one.name
            if not one.name.endswith("decode"):  # whose merge of split sequences moves partial results
                assert other.hbm_bytes <= one.hbm_bytes * (1 + 1e-9), one.name


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(KINDS), st.lists(batches, min_size=1, max_size=4), st.lists(tps, min_size=1, max_size=3))
def test_arrays_are_the_points_one_by_one(model: str, points: list[Batch], splits: list[float]) -> None:
    columns = {name: np.array([getattr(b, name) for b in points])[:, None] for name in Batch.__slots__}
    table = parts_of(model, Batch(**columns), replace(ONE, tp=np.array(splits)))
    for i, batch in enumerate(points):
        for j, tp in enumerate(splits):
            for whole, single in zip(table, parts_of(model, batch, replace(ONE, tp=tp)), strict=True):
                for name in ("seconds", "flops", "hbm_bytes", "kernels"):
                    cell = np.broadcast_to(getattr(whole, name), (len(points), len(splits)))[i, j]
                    assert cell == pytest.approx(getattr(single, name), rel=1e-9), (whole.name, name)


def test_a_window_stops_growing_and_a_state_never_grows() -> None:
    near, far = (parts_of("gpt-oss-120b", Batch(64.0, context)) for context in (1000.0, 100_000.0))
    assert named(near, "sliding 128 decode")[0].seconds == named(far, "sliding 128 decode")[0].seconds
    assert named(far, "gqa decode")[0].seconds > 50 * named(near, "gqa decode")[0].seconds
    near, far = (parts_of("nemotron-3-super", Batch(64.0, context)) for context in (1000.0, 100_000.0))
    assert named(near, "mamba decode")[0].seconds == named(far, "mamba decode")[0].seconds
    state = 64 * 2 * 4 * 128 * 64 * 128
    assert named(near, "mamba decode")[0].hbm_bytes == pytest.approx(state, rel=0.05)


def test_sparse_attention_reads_its_choice_and_scores_everything() -> None:
    near, far = (parts_of("deepseek-v3.2", Batch(64.0, context), ONE, FP8) for context in (4096.0, 65_536.0))
    assert named(near, "mla decode")[0].hbm_bytes == named(far, "mla decode")[0].hbm_bytes == 64 * 2048 * 576
    keys = 64 * (65_536 - 4096) * (132 + 8)  # an FP8 key with its scale, and its fp32 score written and read
    assert named(far, "indexer")[0].hbm_bytes - named(near, "indexer")[0].hbm_bytes == pytest.approx(keys)


def test_few_sequences_are_split_over_the_sms() -> None:
    """One sequence of 8 KV heads: without splitting, 8 of 132 SMs would draw at most 8 shares of L2's rate."""
    gpu = load_gpu("h100-sxm")
    (decode,) = named(parts_of("llama-3.1-8b", Batch(1.0, 131_072.0)), "decode")
    cache = 131_072 * 2 * 8 * 128 * 2
    assert decode.kernels == 2
    assert 0.7 < cache / decode.seconds / gpu.hbm_bandwidth < 0.87
    (full,) = named(parts_of("llama-3.1-8b", Batch(256.0, 2000.0)), "decode")
    assert full.kernels == 1


def grouped(heads: int, kv_heads: int, head_dim: int = 128) -> MoeModel:
    model = load_model("llama-3.1-8b")
    kind = model.attention[0].model_copy(update={"heads": heads, "kv_heads": kv_heads, "head_dim": head_dim})
    return model.model_copy(update={"attention": (kind,)})


@pytest.mark.parametrize(
    ("gpu", "system", "heads", "kv_heads", "sequences", "tokens", "measured_us"),
    [
        # FlashInfer, fp16; github.com/Dao-AILab/flash-attention issue 1572 and the benchmark made for it (2025-04): A800, whose
        # memory is A100's.
        ("a100-sxm", "a100_sxm", 32, 32, 16, 32_000, 4610.0),
        # FlashInfer, bf16, Qwen-32B over 2 GPUs; github.com/vllm-project/flash-attention pull request 63.
        ("h100-sxm", "h100_sxm", 20, 4, 1, 1024, 12.3),
        ("h100-sxm", "h100_sxm", 20, 4, 1, 4096, 15.9),
        ("h100-sxm", "h100_sxm", 20, 4, 1, 16_384, 25.1),
        # FlashAttention-3, bf16; github.com/vllm-project/vllm pull request 43232.
        ("h200-sxm", "h200_sxm", 32, 8, 1, 1024, 11.0),
        ("h200-sxm", "h200_sxm", 32, 8, 8, 4096, 41.6),
        ("h200-sxm", "h200_sxm", 32, 8, 8, 32_768, 253.5),
    ],
)
def test_decoding_meets_published_timings(
    gpu: str, system: str, heads: int, kv_heads: int, sequences: int, tokens: int, measured_us: float
) -> None:
    parts = attention_parts(grouped(heads, kv_heads), ONE, Batch(sequences, tokens), BF16, load_gpu(gpu), system)
    assert named(parts, "decode")[0].seconds == pytest.approx(measured_us * 1e-6, rel=0.18)


@pytest.mark.parametrize(
    ("tokens", "published"), [(512, 430.3), (1024, 517.1), (2048, 565.5), (4096, 590.2), (8192, 614.2), (16_384, 620.7)]
)
def test_prefill_meets_flash_attention_3(tokens: int, published: float) -> None:
    """pytorch/benchmark pull request 2391: TFLOP/s on H100 of 16,384 tokens, 16 heads of 128, every query with every key."""
    kernels = GpuKernels.of(load_gpu("h100-sxm"), "h100_sxm")
    rows, pair_flops = 16.0 * 16_384, 4 * 128
    seconds = flash_seconds(kernels, rows, float(tokens), pair_flops) + ramp_seconds(kernels, rows / 128)
    assert rows * tokens * pair_flops / seconds / 1e12 == pytest.approx(published, rel=0.01)
    # Causal, the same kernel has half the pairs but whole tiles on the diagonal.
    parts = attention_parts(grouped(16, 16), ONE, Batch(0.0, 0.0, 16_384.0, tokens), BF16, load_gpu("h100-sxm"), "h100_sxm")
    (prefill,) = named(parts, "prefill")
    assert 0.5 * seconds < prefill.loads["tensor"] < 0.5 * seconds * (1 + 640 / tokens)


@pytest.mark.parametrize(
    ("key_heads", "heads", "prompts", "tokens", "measured_ms"),
    [  # flash-linear-attention on H100: flashinfer pull requests 3866 and 3902
        (2, 8, 1, 65_536, 1.954),
        (2, 8, 1, 8192, 0.259),
        (16, 48, 1, 65_536, 5.074),
        (16, 48, 1, 8192, 0.653),
        (16, 32, 4, 2048, 0.465),
        (16, 32, 32, 8192, 12.915),
    ],
)
def test_delta_net_prefill_meets_published_timings(
    key_heads: int, heads: int, prompts: int, tokens: int, measured_ms: float
) -> None:
    model = load_model("qwen3.5-397b-a17b")
    linear = next(kind for kind in model.attention if kind.kind == "linear")
    model = model.model_copy(update={"attention": (linear.model_copy(update={"heads": heads, "key_heads": key_heads}),)})
    batch = Batch(0.0, 0.0, float(prompts * tokens), float(tokens))
    (prefill,) = named(attention_parts(model, ONE, batch, BF16, load_gpu("h100-sxm"), "h100_sxm"), "prefill")
    # The convolution before it is not in their timing: what it moves, at most.
    convolution = prompts * tokens * 4.0 * (2 * key_heads + heads) * 128 / 2.9e12
    assert prefill.seconds - convolution == pytest.approx(measured_ms * 1e-3, rel=0.12)


def test_weights_narrower_than_the_tensor_cores_are_read_narrow_and_multiplied_wide() -> None:
    batch = Batch(4096.0, 1.0)
    by_dtype = {
        dtype: {
            gpu: named(parts_of("qwen3-32b", batch, ONE, replace(BF16, weights=dtype), gpu, system), "projections")[0]
            for gpu, system in (("h100-sxm", "h100_sxm"), ("b200-sxm", "b200_sxm"), ("a100-sxm", "a100_sxm"))
        }
        for dtype in ("bf16", "fp8", "fp4")
    }
    tensor = {dtype: {gpu: part.loads["tensor"] for gpu, part in row.items()} for dtype, row in by_dtype.items()}
    assert tensor["fp4"]["b200-sxm"] < tensor["fp8"]["b200-sxm"] < tensor["bf16"]["b200-sxm"]
    assert tensor["fp8"]["h100-sxm"] < tensor["fp4"]["h100-sxm"]
    few = Batch(1.0, 1.0)
    read = [named(parts_of("qwen3-32b", few, ONE, replace(BF16, weights=d)), "projections")[0].hbm_bytes for d in by_dtype]
    assert read[0] > 1.9 * read[1] > 1.9 * 1.7 * read[2]


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 60))
def test_pairs_count_what_queries_see(new: int, cached: int, limit: int) -> None:
    assert pairs(float(new), float(cached), float(limit)) == sum(min(cached + j, limit) for j in range(1, new + 1))
    assert pairs(float(new), float(cached)) == sum(cached + j for j in range(1, new + 1))


def test_query_rows_fill_tiles() -> None:
    assert query_rows(np.array([1.0, 16.0, 17.0, 64.0, 65.0, 129.0])).tolist() == [16, 16, 64, 64, 128, 256]


def test_a_system_nobody_knows_is_one_line() -> None:
    with pytest.raises(UnknownName):
        parts_of("llama-3.1-8b", Batch(1.0, 1.0), system="h1000")


def test_every_shipped_cluster_finds_constants() -> None:
    for name in ("a100-cx7", "h200-cx7", "mi300x-cx7", "gb300-nvl72"):
        cluster = load_cluster(name)
        parts = attention_parts(load_model("deepseek-v3"), ONE, Batch(8.0, 100.0), FP8, cluster.node.gpu, cluster.calibration)
        assert total(parts) > 0
