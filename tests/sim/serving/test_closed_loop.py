"""Closed loops by what must hold of any: Little's law, capacity, more clients never fewer requests, arrays as their points."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epicycle.hwmodels.backends import load_backend, with_overrides
from epicycle.hwmodels.catalog import load_cluster
from epicycle.sim.inputs.model import load_model
from epicycle.sim.serving.deployment import PoolShape, Served, aggregated, disaggregated
from epicycle.sim.serving.queue import queue_wait
from epicycle.sim.serving.steady import Setting, Speculation
from epicycle.sim.step.worker import Arrangement, Precision


@dataclass(frozen=True)
class Lengths:
    mean_input: float = 2048.0
    mean_output: float = 512.0
    cached_input: float = 0.0


FP8 = Precision("fp8", "fp8", "fp8", "fp8")
SETTING = Setting(load_model("deepseek-v3"), load_cluster("h200-cx7"), FP8, load_backend("trtllm"), Lengths())
WIDE, NARROW = Arrangement(1.0, 8.0, 1.0, 8.0), Arrangement(8.0, 1.0, 1.0, 1.0)
PREFILL = PoolShape(WIDE, 2.0)


def decoding(shape: Arrangement = WIDE, count: float = 3.0, slots: float = 256.0) -> PoolShape:
    return PoolShape(shape, count, slots)


def both(concurrency: float, setting: Setting = SETTING) -> tuple[Served, Served]:
    apart = disaggregated(setting, PREFILL, decoding(), concurrency=concurrency)
    return aggregated(setting, decoding(NARROW), concurrency=concurrency), apart


@settings(max_examples=12, deadline=None)
@given(st.floats(4.0, 4096.0))
def test_clients_are_requests_in_flight(concurrency: float) -> None:
    """N = X (TTFT + output x TPOT): every client waits for a first token or between tokens."""
    for served in both(concurrency):
        each = served.ttft_s + Lengths.mean_output * served.tpot_s
        assert served.requests_per_s * each == pytest.approx(concurrency, rel=0.03)
        assert served.concurrency == pytest.approx(concurrency, rel=0.03)


@settings(max_examples=12, deadline=None)
@given(st.floats(4.0, 4096.0))
def test_a_pool_loop_is_closed_at_its_batch(concurrency: float) -> None:
    """B + X R = N, or every slot is taken."""
    served = disaggregated(SETTING, PREFILL, decoding(), concurrency=concurrency)
    assert served.prefill is not None
    servers, most = PREFILL.arrangement.dp * PREFILL.count, served.prefill.requests_per_s * PREFILL.count
    busy = served.requests_per_s / most
    if busy > 0.97:  # the wait grows without bound there: a thousandth more requests would double it
        return
    wait = queue_wait(served.prefill.prompt_s, servers, busy)
    engine = SETTING.engine
    first = served.prefill.ttft_s + served.transfer_s + wait + engine.handover + engine.handover_steps * served.tpot_s
    flying = served.batch * 24.0 + served.requests_per_s * first
    assert flying == pytest.approx(concurrency, rel=0.02) or served.batch == pytest.approx(256.0, rel=1e-3)
    assert served.requests_per_s <= served.capacity_per_s * 1.001
    assert served.batch <= 256.0 * 1.001


def test_more_clients_never_finish_fewer_requests() -> None:
    clients = np.geomspace(2.0, 8192.0, 14)
    apart = disaggregated(SETTING, PREFILL, decoding(), concurrency=clients)
    assert np.all(np.diff(apart.requests_per_s) >= -1e-6 * apart.requests_per_s[:-1])
    assert np.all(np.diff(apart.tpot_s) >= -1e-6)
    together = aggregated(SETTING, decoding(NARROW), concurrency=clients)
    assert np.all(np.diff(together.tpot_s) >= -1e-6)


def test_an_array_of_clients_is_its_points() -> None:
    clients = np.array([8.0, 96.0, 1500.0])
    for i, found in enumerate(zip(both(clients[0]), both(clients[1]), both(clients[2]), strict=True)):
        whole = both(clients)[i]  # type: ignore[arg-type]
        np.testing.assert_allclose([f.tpot_s for f in found], whole.tpot_s, rtol=2e-3)
        np.testing.assert_allclose([f.requests_per_s for f in found], whole.requests_per_s, rtol=2e-3)


def test_a_decode_worker_hands_out_a_first_token_after_some_steps() -> None:
    """Steps, not a constant: what a request waits for them grows with the batch, and with drafts a step yields more."""
    light, loaded = (disaggregated(SETTING, PREFILL, decoding(), concurrency=c) for c in (8.0, 1024.0))
    late = replace(SETTING, backend=with_overrides(SETTING.backend, {"handover_steps": SETTING.engine.handover_steps + 10.0}))
    for served, clients in ((light, 8.0), (loaded, 1024.0)):
        slower = disaggregated(late, PREFILL, decoding(), concurrency=clients)
        assert slower.ttft_s - served.ttft_s == pytest.approx(10.0 * slower.tpot_s, rel=0.25)
    assert loaded.tpot_s > 1.5 * light.tpot_s


def test_a_versions_pace_lengthens_every_step() -> None:
    slow = replace(SETTING, pace=1.25)
    for quick, paced in zip(both(64.0), both(64.0, slow), strict=True):
        assert paced.tpot_s / quick.tpot_s == pytest.approx(1.25, rel=0.03)
    np.testing.assert_allclose(
        both(64.0, replace(SETTING, pace=np.array([1.0, 1.25])))[0].tpot_s[1], both(64.0, slow)[0].tpot_s
    )


def test_at_a_rate_decoding_keeps_up() -> None:
    served = disaggregated(SETTING, PREFILL, decoding(), rate=2.0)
    assert served.requests_per_s == pytest.approx(2.0, rel=0.01)


def test_accepted_drafts_share_a_step() -> None:
    """Where steps cost the same with one row or with many, TPOT falls by the accepted tokens; it never falls by more."""
    plain = disaggregated(SETTING, PREFILL, decoding(), concurrency=24.0)
    drafting = replace(SETTING, speculation=Speculation(3, 0.7))
    fast = disaggregated(drafting, PREFILL, decoding(), concurrency=24.0)
    assert Speculation(3, 0.7).accepted == pytest.approx(1 + 0.7 + 0.49 + 0.343)
    assert 1.0 < plain.tpot_s / fast.tpot_s < Speculation(3, 0.7).accepted


def test_requests_that_start_together_stay_together_if_prompts_go_first() -> None:
    """All prompts, then all outputs: half of the others' prompts before the first token, half after it."""
    engine = load_backend("sglang")
    setting = replace(SETTING, backend=engine, together=True)
    served = aggregated(setting, PoolShape(NARROW, 1.0, 512.0), concurrency=64.0)
    rates = served.decode
    assert rates.decode is not None
    step = rates.decode.seconds
    waves = 64.0 / (512.0 * step + 64.0 * rates.prompt_s)
    assert served.requests_per_s == pytest.approx(waves, rel=1e-6)
    assert served.tpot_s == pytest.approx(step + 0.5 * 63.0 * rates.prompt_s / 512.0, rel=1e-6)
    assert served.ttft_s == pytest.approx(0.5 * 65.0 * rates.prompt_s, rel=1e-6)
    mixing = replace(setting, backend=load_backend("trtllm"))
    steady = replace(mixing, together=False)
    one, other = (aggregated(s, PoolShape(NARROW, 1.0, 512.0), concurrency=64.0) for s in (mixing, steady))
    assert one.tpot_s == other.tpot_s


def test_a_full_worker_queues() -> None:
    few = PoolShape(NARROW, 1.0, 16.0)
    served = aggregated(SETTING, few, concurrency=64.0)
    assert served.batch <= 16.0
    assert served.requests_per_s == pytest.approx(served.capacity_per_s, rel=0.02)
    assert served.ttft_s > 10 * aggregated(SETTING, few, concurrency=8.0).ttft_s
