"""Two-batch overlap: what hides, what cannot, and where it pays."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epicycle.hwmodels.backends import backend_names, load_backend
from epicycle.hwmodels.catalog import load_cluster
from epicycle.sim.inputs.model import load_model
from epicycle.sim.step.overlap import overlapped_seconds
from epicycle.sim.step.part import Part
from epicycle.sim.step.step import Step, model_step
from epicycle.sim.step.worker import Arrangement, Batch, Precision

SECONDS = st.floats(0.0, 1.0)
SMS = 132
FP8 = Precision("fp8", "fp8", "bf16", "fp8")


def parts_of(attention: float, experts: float, dispatch: float, combine: float, wire: float = 1.0) -> list[Part]:
    """A pass in four parts; of an exchange the share ``wire`` is waiting for the NIC."""
    return [
        Part("mla decode", "attention", attention, 1.0),
        Part("experts", "experts", experts, 1.0),
        Part("dispatch", "communication", dispatch, 1.0, wire_wait_s=wire * dispatch),
        Part("combine", "communication", combine, 1.0, wire_wait_s=wire * combine),
    ]


def seconds(parts: list[Part], protocol: str = "low-latency", comm_sms: float = 0.0, aside: float = 0.0) -> float:
    return float(np.asarray(overlapped_seconds(parts, 0.0, protocol, comm_sms, aside, SMS)))


@given(SECONDS, SECONDS)
def test_without_communication_nothing_changes(attention: float, experts: float) -> None:
    assert seconds(parts_of(attention, experts, 0.0, 0.0)) == pytest.approx(attention + experts)
    assert seconds(parts_of(attention, experts, 0.0, 0.0), "high-throughput", 24.0) == pytest.approx(attention + experts)


@given(SECONDS, SECONDS)
def test_without_computation_nothing_hides(dispatch: float, combine: float) -> None:
    assert seconds(parts_of(0.0, 0.0, dispatch, combine)) == pytest.approx(dispatch + combine)


@given(SECONDS, SECONDS, SECONDS, SECONDS, st.floats(0.0, 1.0), st.sampled_from(["low-latency", "high-throughput", "elastic"]))
def test_it_lies_between_the_longer_and_the_sum(
    attention: float, experts: float, dispatch: float, combine: float, wire: float, protocol: str
) -> None:
    """Without SMs taken away. The longer of both is a bound whatever the order of the slots."""
    found = seconds(parts_of(attention, experts, dispatch, combine, wire), protocol)
    compute, communication = attention + experts, dispatch + combine
    assert found >= max(compute, communication) * (1 - 1e-9) - 1e-12
    assert found <= (compute + communication) * (1 + 1e-9) + 1e-12


@given(SECONDS, SECONDS, SECONDS, SECONDS)
def test_only_the_wait_for_the_wire_hides_of_a_low_latency_exchange(
    attention: float, experts: float, dispatch: float, combine: float
) -> None:
    on_gpu = seconds(parts_of(attention, experts, dispatch, combine, wire=0.0))
    assert on_gpu == pytest.approx(attention + experts + dispatch + combine)
    assert seconds(parts_of(attention, experts, dispatch, combine, wire=0.5)) <= on_gpu + 1e-12


@given(SECONDS, SECONDS, SECONDS, SECONDS, st.floats(1.0, 64.0))
def test_sms_of_a_high_throughput_exchange_are_missed_while_it_runs(
    attention: float, experts: float, dispatch: float, combine: float, sms: float
) -> None:
    parts = parts_of(attention, experts, dispatch, combine)
    free, taken = seconds(parts, "high-throughput"), seconds(parts, "high-throughput", sms)
    share = SMS / (SMS - sms)
    assert free - 1e-12 <= taken <= free * share + 1e-12
    # Computing that outlasts the exchange everywhere loses exactly the SMs' share of the exchange's time.
    long = parts_of(10.0 * (1 + dispatch + combine), 10.0 * (1 + dispatch + combine), dispatch, combine)
    lost = seconds(long, "high-throughput", sms) - seconds(long, "high-throughput")
    assert lost == pytest.approx((dispatch + combine) * sms / SMS, abs=1e-9)


@given(SECONDS, SECONDS, st.floats(1.0, 64.0))
def test_sms_set_aside_slow_every_kernel(attention: float, experts: float, sms: float) -> None:
    found = seconds(parts_of(attention, experts, 0.0, 0.0), aside=sms)
    assert found == pytest.approx((attention + experts) * SMS / (SMS - sms))


@given(SECONDS, SECONDS, SECONDS, SECONDS, SECONDS)
def test_sums_over_tensor_parallel_gpus_do_not_hide(
    attention: float, experts: float, dispatch: float, combine: float, reduce: float
) -> None:
    parts = parts_of(attention, experts, dispatch, combine)
    summed = [*parts, Part("attention all-reduce", "communication", reduce, 1.0)]
    assert seconds(summed) == pytest.approx(seconds(parts) + reduce)


# --- whole steps ---


@cache
def step(batch: float, overlap: bool, backend: str = "sglang", cluster: str = "h100-cx7", ep: int = 72) -> Step:
    there = load_cluster(cluster, ep // load_cluster(cluster, 1).node.gpus)
    a = Arrangement(1.0, float(ep), 1.0, float(ep), redundant=32.0, overlap=overlap)
    engine = load_backend(backend).on(there.calibration)
    return model_step(load_model("deepseek-v3"), there, a, Batch(batch, 2050.0), FP8, engine)


def gain(batch: float, backend: str = "sglang") -> float:
    """Throughput with overlap over without, less one."""
    return float(np.asarray(step(batch, False, backend).seconds / step(batch, True, backend).seconds)) - 1.0


@pytest.mark.parametrize("backend", backend_names())
@pytest.mark.parametrize("batch", [16.0, 64.0, 128.0, 256.0])
def test_halves_pay_their_weights_twice_and_hide_at_most_the_exchange(batch: float, backend: str) -> None:
    plain, halves = step(batch, False, backend), step(batch, True, backend)
    assert halves.hbm_bytes > plain.hbm_bytes
    both = {group: _sum(halves, group) for group in (True, False)}
    on_gpu = float(np.asarray(halves.seconds)) - _host(halves)
    # SMs that an engine sets aside come on top of the kernels' own time, so that less than nothing may hide.
    assert on_gpu >= max(both.values()) * (1 - 1e-9)
    exchange = sum(float(np.asarray(p.step_seconds)) for p in halves.parts if p.name in ("dispatch", "combine"))
    assert float(np.asarray(halves.hidden_s)) <= exchange


def _sum(found: Step, communication: bool) -> float:
    own = [p for p in found.parts if (p.group == "communication") == communication and p.name != "host"]
    return sum(float(np.asarray(p.step_seconds)) for p in own)


def _host(found: Step) -> float:
    (host,) = [p for p in found.parts if p.name == "host"]
    return float(np.asarray(host.seconds))


def test_small_batches_lose_and_large_ones_win() -> None:
    """SGLang, EP72 on H100 (LMSYS, 2025-05-05): -27 % at 32 tokens a GPU, even between 64 and 128, +25.5 % at 256."""
    assert gain(8.0) < 0.0
    assert gain(32.0) < 0.0
    assert gain(256.0) > 0.1
    assert gain(32.0) < gain(128.0) < gain(256.0)
    crossing = next(batch for batch in np.arange(16.0, 512.0, 8.0) if gain(float(batch)) > 0.0)
    assert 32.0 < crossing <= 160.0, "published: between 64 and 128"


def test_hidden_is_nothing_without_overlap() -> None:
    assert np.all(np.asarray(step(128.0, False).hidden_s) == 0.0)


@pytest.mark.parametrize("batch", [1.0, 8.0, 64.0, 256.0])
@pytest.mark.parametrize("ep", [16, 72])
@pytest.mark.parametrize("faster", ["nic", "nvlink"])
def test_a_faster_link_never_makes_an_overlapped_step_slower(batch: float, ep: int, faster: str) -> None:
    there = load_cluster("h100-cx7", ep // 8)
    a = Arrangement(1.0, float(ep), 1.0, float(ep), redundant=32.0, overlap=True)
    engine, model = load_backend("sglang").on(there.calibration), load_model("deepseek-v3")
    found = []
    for times in (0.5, 0.9, 1.0, 1.1, 1.3, 2.0, 8.0, 64.0):
        node = there.node
        if faster == "nic":
            changed = {"nic": node.nic.model_copy(update={"bandwidth": node.nic.bandwidth * times})}
        else:
            changed = {"gpu": node.gpu.model_copy(update={"nvlink_bandwidth": node.gpu.nvlink_bandwidth * times})}
        cluster = there.model_copy(update={"node": node.model_copy(update=changed)})
        found.append(float(np.asarray(model_step(model, cluster, a, Batch(batch, 2050.0), FP8, engine).seconds)))
    assert all(later <= earlier * (1 + 1e-12) for earlier, later in pairwise(found))


@given(st.floats(0.01, 1.0), st.floats(0.01, 1.0))
def test_kernels_beside_an_exchange_take_longer_by_the_engines_share(attention: float, dispatch: float) -> None:
    parts = parts_of(attention, attention, dispatch, dispatch)
    free, slowed = (
        float(np.asarray(overlapped_seconds(parts, 0.0, "high-throughput", 0.0, 0.0, SMS, share))) for share in (1.0, 1.189)
    )
    assert free == pytest.approx(2.0 * max(attention, dispatch))
    assert free < slowed <= 1.189 * free + 1e-12
