"""The routed experts as a part: rows of the busiest rank, weights read, and which kernels run."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epicycle.hwmodels.backends import Constants, load_backend
from epicycle.hwmodels.catalog import load_cluster
from epicycle.hwmodels.specs import Cluster
from epicycle.sim.ep.compute.experts import counted, widened_rows
from epicycle.sim.ep.normal import largest_of
from epicycle.sim.inputs.model import MoeModel, load_model
from epicycle.sim.inputs.stored import grouped_int4, named
from epicycle.sim.precision import WEIGHT_BYTES, Dtype
from epicycle.sim.step.experts.expert_block import expert_part, fp8_rate, rank_imbalance
from epicycle.sim.step.part import Part
from epicycle.sim.step.worker import EVEN, Arrangement, Batch, Precision, Skew

CLUSTERS = ("h100-cx7", "h200-cx7", "b200-cx7", "gb200-nvl72")


@cache
def cluster_of(name: str) -> Cluster:
    return load_cluster(name)


def precision_of(model: MoeModel, experts: Dtype | None = None) -> Precision:
    dtype = experts or model.expert_dtype
    return Precision(model.weight_dtype, dtype, "bf16", "fp8")


def engine_of(fused: bool) -> Constants:
    """An engine whose expert kernels take what the tables say."""
    return load_backend("vllm").constants.model_copy(update={"fused_experts": fused, "expert_launch": 1.0})


def experts(
    batch: Batch,
    ep: float = 32.0,
    dp: float = 32.0,
    tp: float = 1.0,
    *,
    name: str = "deepseek-v3",
    cluster: str = "h200-cx7",
    skew: Skew = EVEN,
    redundant: float = 0.0,
    fused: bool = False,
    dtype: Dtype | None = None,
) -> tuple[Part, float]:
    model = load_model(name)
    a = Arrangement(tp, dp, 1.0, ep, redundant=redundant)
    part, busiest = expert_part(model, cluster_of(cluster), a, batch, precision_of(model, dtype), skew, engine_of(fused))
    return part, float(np.asarray(busiest))


def prompts(tokens: float) -> Batch:
    return Batch(0.0, 0.0, prefill=tokens, chunk=tokens)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", ["deepseek-v3", "qwen3-235b-a22b", "mixtral-8x7b", "gpt-oss-120b"])
@given(tokens=st.floats(1.0, 4096.0))
def test_one_rank_computes_all_rows(name: str, fused: bool, tokens: float) -> None:
    """2 flops for each of an expert's weights and each of a token's ``top_k`` experts."""
    model = load_model(name)
    part, busiest = experts(Batch(tokens, 100.0), 1.0, 1.0, name=name, fused=fused)
    assert float(part.flops) == pytest.approx(2.0 * tokens * model.top_k * model.expert_params, rel=1e-6)
    assert busiest == 1.0
    assert part.times == model.moe_layers


@pytest.mark.parametrize("cluster", CLUSTERS)
@pytest.mark.parametrize(
    "batch", [Batch(1.0, 100.0), Batch(64.0, 100.0), Batch(256.0, 100.0), prompts(4096.0), prompts(16_384.0)]
)
def test_no_rank_outruns_its_gpu(cluster: str, batch: Batch) -> None:
    part, _ = experts(batch, cluster=cluster)
    gpu = cluster_of(cluster).node.gpu
    assert part.seconds >= part.flops / gpu.tensor_flops("fp8")
    assert part.seconds >= part.hbm_bytes / gpu.hbm_bandwidth


@given(tokens=st.floats(1.0, 512.0), ep=st.sampled_from([8.0, 16.0, 32.0, 64.0]))
def test_the_busiest_rank_is_no_less_than_the_mean_and_nears_it(tokens: float, ep: float) -> None:
    model = load_model("deepseek-v3")
    per_row = 2.0 * model.expert_params
    part, _ = experts(Batch(tokens, 100.0), ep, ep)
    assert float(part.flops) / per_row >= tokens * model.top_k * (1 - 1e-6)
    many, _ = experts(Batch(tokens * 1000.0, 100.0), ep, ep)
    assert float(many.flops) / per_row == pytest.approx(tokens * 1000.0 * model.top_k, rel=0.15)


@pytest.mark.parametrize("ep", [8.0, 32.0])
def test_weights_of_all_local_experts_are_read_once(ep: float) -> None:
    model = load_model("deepseek-v3")
    part, _ = experts(Batch(256.0, 100.0), ep, ep)
    local = model.experts / ep * model.expert_params * WEIGHT_BYTES["fp8"]
    assert local * 0.95 <= float(part.hbm_bytes)
    few, _ = experts(Batch(1.0 / ep, 100.0), ep, ep)  # one token in the whole group
    assert float(few.hbm_bytes) < 0.5 * local


@pytest.mark.parametrize("batch", [Batch(128.0, 100.0), prompts(8192.0)])
def test_experts_split_over_gpus_share_their_rows_work(batch: Batch) -> None:
    whole, _ = experts(batch, 8.0, 1.0, 8.0, name="mixtral-8x7b")
    split, _ = experts(batch, 1.0, 1.0, 8.0, name="mixtral-8x7b")
    model = load_model("mixtral-8x7b")
    assert float(split.flops) == pytest.approx(2.0 * batch.tokens * model.top_k * model.expert_params / 8, rel=1e-6)
    assert float(whole.flops) >= float(split.flops) * (1 - 1e-6), "ranks of whole experts wait for the fullest"


@settings(max_examples=40)
@given(tokens=st.floats(1.0, 8192.0), more=st.floats(1.0, 4.0), decode=st.booleans())
def test_more_tokens_never_take_less(tokens: float, more: float, decode: bool) -> None:
    first, second = (experts(Batch(t, 100.0) if decode else prompts(t))[0].seconds for t in (tokens, tokens * more))
    assert second >= 0.98 * first


@given(imbalance=st.floats(0.0, 4.0), tokens=st.floats(256.0, 4096.0))
def test_what_a_balancer_leaves_multiplies_the_rows(imbalance: float, tokens: float) -> None:
    part, busiest = experts(Batch(tokens, 100.0), skew=Skew(rank_imbalance=imbalance))
    even, _ = experts(Batch(tokens, 100.0))
    assert busiest == 1.0 + imbalance
    assert float(part.flops) / float(even.flops) == pytest.approx(1.0 + imbalance, rel=0.06)


@pytest.mark.parametrize("alpha", [0.6, 1.2])
def test_replicas_take_load_off_the_busiest_rank(alpha: float) -> None:
    skew = Skew(alpha=alpha)
    plain, busiest = experts(Batch(256.0, 100.0), skew=skew)
    helped, less = experts(Batch(256.0, 100.0), skew=skew, redundant=32.0)
    even, one = experts(Batch(256.0, 100.0))
    assert busiest > less > 1.0 >= 0.9 * one
    assert plain.seconds > helped.seconds >= 0.9 * float(np.asarray(even.seconds))


def test_nothing_runs_without_tokens() -> None:
    for batch in (Batch(0.0, 100.0), prompts(0.0)):
        part, _ = experts(batch)
        assert part.seconds == part.flops == part.hbm_bytes == 0.0


def test_the_kernels_follow_the_phase_and_the_engine() -> None:
    decode, prefill = experts(Batch(64.0, 100.0))[0], experts(prompts(4096.0))[0]
    assert "masked" in decode.source
    assert "contiguous" in prefill.source
    alone, _ = experts(Batch(64.0, 100.0), 8.0, 1.0, 8.0, fused=True)
    assert "triton" in alone.source
    assert "masked" in experts(Batch(64.0, 100.0), 8.0, 1.0, 8.0)[0].source
    assert "masked" in experts(Batch(64.0, 100.0), 8.0, 8.0, fused=True)[0].source, "an exchange brings DeepGEMM's layout"


@given(st.lists(st.sampled_from([1.0, 2.0, 8.0]), min_size=2, max_size=5), st.floats(1.0, 256.0))
def test_a_table_mixes_engines_kernels_row_by_row(groups: list[float], tokens: float) -> None:
    model, there = load_model("deepseek-v3"), cluster_of("h200-cx7")
    dp = np.array(groups)
    a = Arrangement(8.0 / dp, dp, 1.0, 8.0)
    table, _ = expert_part(model, there, a, Batch(tokens, 100.0), precision_of(model), EVEN, engine_of(True))
    rows = [float(np.asarray(experts(Batch(tokens, 100.0), 8.0, d, 8.0 / d, fused=True)[0].seconds)) for d in groups]
    assert np.broadcast_to(np.asarray(table.seconds), dp.shape) == pytest.approx(rows)


def test_four_bit_experts_read_fewer_bytes() -> None:
    fp8, fp4 = (experts(Batch(64.0, 100.0), cluster="b200-cx7", dtype=dtype)[0] for dtype in ("fp8", "fp4"))
    assert float(fp4.hbm_bytes) < 0.7 * float(fp8.hbm_bytes)
    assert fp4.seconds < fp8.seconds
    assert fp4.flops == fp8.flops


def test_unbalanced_experts_leave_the_fullest_rank_with_more() -> None:
    """A rank of m experts spreads by a root of m less; replicas, and one rank, do not; what is stated is not doubled."""
    model = load_model("deepseek-v3")
    wide, narrow = Arrangement(1.0, 32.0, 1.0, 32.0), Arrangement(1.0, 8.0, 1.0, 8.0)
    spread = Skew(spread=1.0)
    assert rank_imbalance(model, wide, spread) == pytest.approx(float(largest_of(32.0)) / np.sqrt(8.0))
    assert rank_imbalance(model, narrow, spread) == pytest.approx(float(largest_of(8.0)) / np.sqrt(32.0))
    assert rank_imbalance(model, Arrangement(8.0, 1.0, 1.0, 1.0), spread) == 0.0
    assert rank_imbalance(model, replace(wide, redundant=32.0), spread) == 0.0
    assert rank_imbalance(model, wide, Skew(rank_imbalance=0.2, spread=1.0)) == 0.2
    even, uneven = (experts(Batch(256.0, 2000.0), skew=skew)[0] for skew in (EVEN, spread))
    assert uneven.seconds > even.seconds


def test_all_ranks_experts_see_the_mean_group() -> None:
    """Half of the groups idle: as many rows as if all had half."""
    both, half = experts(Batch(64.0, 100.0))[0], experts(Batch(128.0, 100.0, fullest=2.0))[0]
    assert half.seconds == pytest.approx(float(np.asarray(both.seconds)))


def test_a_point_is_the_same_whatever_stands_beside_it() -> None:
    """A batch of prompts alone runs the kernels of prompts in an array with decoding batches, too."""
    decode, prefill = np.array([0.0, 64.0]), np.array([4096.0, 0.0])
    model, arrangement = load_model("deepseek-v3"), Arrangement(1.0, 32.0, 1.0, 32.0)
    asked = (precision_of(model), EVEN, engine_of(False))
    together, _ = expert_part(model, cluster_of("h200-cx7"), arrangement, Batch(decode, 1000.0, prefill, 4096.0), *asked)
    for i in range(2):
        alone, _ = expert_part(
            model, cluster_of("h200-cx7"), arrangement, Batch(float(decode[i]), 1000.0, float(prefill[i]), 4096.0), *asked
        )
        assert np.asarray(together.seconds)[i] == np.asarray(alone.seconds)
        assert np.asarray(together.host_s)[i] == np.asarray(alone.host_s)


@pytest.mark.parametrize("tokens", [4.0, 64.0, 4096.0])
def test_four_bit_weights_are_widened_where_no_tensor_core_takes_them(tokens: float) -> None:
    """Every tile widens its weights again: an SM's cycles for each, beside the products; nothing where they are taken."""
    model, batch = load_model("gpt-oss-120b"), Batch(0.0, 0.0, prefill=tokens, chunk=tokens)
    for cluster, slower in (("h100-cx7", True), ("b200-cx7", False)):
        where, a = cluster_of(cluster), Arrangement(1.0, 1.0, 1.0, 1.0)
        free, slow = (
            expert_part(model, where, a, batch, precision_of(model), EVEN, engine_of(True).model_copy(update={"widened": w}))[0]
            for w in (0.0, 64.0)
        )
        assert (float(slow.loads["tensor"]) > float(free.loads["tensor"])) == slower
        assert float(slow.hbm_bytes) == float(free.hbm_bytes)


def test_integers_are_widened_everywhere() -> None:
    """Kimi's int4: no tensor core multiplies it, not even Blackwell's."""
    model, batch, a = load_model("kimi-k2"), prompts(4096.0), Arrangement(8.0, 1.0, 1.0, 1.0)
    stored = model.formats.model_copy(update={"experts": grouped_int4(32)})
    whole = Precision("bf16", "fp4", "bf16", "fp8", stored)
    there = cluster_of("b200-cx7")
    integer, floating = (
        expert_part(model, there, a, batch, p, EVEN, engine_of(True))[0] for p in (whole, replace(whole, stored=None))
    )
    assert float(integer.loads["tensor"]) > 3.0 * float(floating.loads["tensor"])


@pytest.mark.parametrize(
    ("stored", "cluster", "slower"),
    [("fp8", "b200-cx7", True), ("fp8 channel", "b200-cx7", False), ("fp8", "h100-cx7", False)],
)
def test_only_blocks_of_fp8_on_blackwell_have_a_rate_of_the_engines(stored: str, cluster: str, slower: bool) -> None:
    engine = engine_of(False).model_copy(update={"fp8_blackwell": 0.5})
    assert fp8_rate(cluster_of(cluster).node.gpu, engine, named(stored)) == (0.5 if slower else 1.0)


@pytest.mark.parametrize(
    ("rows", "tile"), [(1.0, 16.0), (16.0, 16.0), (17.0, 32.0), (29.0, 32.0), (100.0, 128.0), (5000.0, 128.0)]
)
def test_kernels_that_widen_take_tiles_as_high_as_an_expert_has_rows(rows: float, tile: float) -> None:
    """triton_kernels: the next power of two from 16 to 128 (vLLM 0.33, matmul_ogs_details/opt_flags.py)."""
    counts = counted(np.full((1, 32), rows), 32 * rows)
    assert float(np.asarray(widened_rows(counts))[0]) == tile


def test_few_prompts_do_not_fill_tiles_of_128_rows() -> None:
    """gpt-oss on four H100: 925 tokens leave 29 rows for an expert, which cost a quarter of what padding to 128 would."""
    part, _ = experts(prompts(925.0), 1.0, 1.0, 4.0, name="gpt-oss-120b", cluster="h100-cx7", fused=True)
    padded, _ = experts(prompts(3700.0), 1.0, 1.0, 4.0, name="gpt-oss-120b", cluster="h100-cx7", fused=True)
    assert float(part.loads["tensor"]) < 0.6 * float(padded.loads["tensor"])
