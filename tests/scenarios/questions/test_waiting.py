"""What a request waits for: others and not itself, the step under way, the tokens that it has, the law of arrivals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from epicycle.hwmodels.backends import load_backend
from epicycle.scenarios.answer.evaluate import evaluate
from epicycle.scenarios.answer.evaluation import Sweep
from epicycle.scenarios.ask.scenario import load_serving
from epicycle.scenarios.study.sweep import sweep
from epicycle.sim.serving.queue import ArrivalLaw, boarding_wait, queue_wait

Asked = dict[str, Path]
LONG = "input_tokens: 100000, output_tokens: 200"


def values(found: Sweep, key: str) -> list[float]:
    assert all(point.evaluation for point in found.points), [point.refusal for point in found.points]
    return [point.evaluation.metric(key).value for point in found.points if point.evaluation]


def test_a_lone_request_has_one_answer(asked: Asked) -> None:
    over = [f"workload={{{LONG}, rate: 0.001 /s}},{{{LONG}, concurrency: 1}}"]
    for backend in ("sglang", "vllm", "trtllm"):
        found = sweep(asked["q11"], over, [f"deployment.backend={backend}"])
        for key in ("tpot", "ttft"):
            assert values(found, key)[0] == pytest.approx(values(found, key)[1], rel=0.02), (backend, key)


def test_a_lone_request_reads_its_cache(asked: Asked) -> None:
    """100,000 tokens of 61 layers' 576 values are 7 GB that a step reads from each GPU's HBM."""
    loads = ["workload.input_tokens=1000,100000"]
    few, many = values(sweep(asked["q11"], loads), "tpot")
    # 576 values of two bytes in 61 layers; no GPU reads faster than its datasheet's 4.8 TB/s.
    assert many - few > 99_000 * 576 * 2 * 61 / 4.8e12


def test_apart_pools_serve_a_lone_request_alike(asked: Asked) -> None:
    one = {"rate": "rate: 0.001 /s", "loop": "concurrency: 1"}
    over = ["workload=" + ",".join(f"{{input_tokens: 4096, output_tokens: 1536, {load}}}" for load in one.values())]
    found = sweep(asked["q2b"], over)
    for key in ("tpot", "ttft"):
        assert values(found, key)[0] == pytest.approx(values(found, key)[1], rel=0.02)


@pytest.mark.parametrize("backend", ["sglang", "vllm"])
def test_a_token_past_a_chunk_costs_about_a_token(asked: Asked, backend: str) -> None:
    sets = ["workload.rate=0.01 /s", f"deployment.backend={backend}"]
    found = values(sweep(asked["q2b"], ["workload.input_tokens=64,512,8191,8192,8193,16384,16385"], sets), "ttft")
    assert found == sorted(found)
    small = found[1] - found[0] + 0.1  # a step of few tokens reads the weights once more
    assert found[4] < 1.05 * found[3] + small
    assert found[6] < 1.05 * found[5] + small
    alone = {"cluster.nodes=1", "deployment={decode: {tp: 8, ep: 8}}", "model=deepseek-v3", "cluster=h200-cx7"}
    together = [*sets[:1], *alone, f"deployment.backend={backend}"]
    found = values(sweep(asked["q2b"], ["workload.input_tokens=64,512,8192,8193"], together), "ttft")
    assert found == sorted(found)
    assert found[3] < 1.05 * found[2] + found[1] - found[0] + 0.1


def predicted(file: Path, *sets: str) -> float:
    """The closed form's time to first token, before the median of its error is put on it."""
    question = load_serving(file, sets).resolve()
    assert question.serving is not None
    engine = load_backend(question.serving.backend)
    fit = engine.fit and engine.fit.model_copy(update={"intervals": (), "ttft_intervals": ()})
    return evaluate(question, engine.model_copy(update={"fit": fit})).metric("ttft").value


def test_prompts_wait_for_the_step_under_way(asked: Asked) -> None:
    rates = [f"workload.rate={rate} /s" for rate in (0.01, 0.5, 10, 18)]
    found = [predicted(asked["q2b"], rate) for rate in rates]
    assert found == sorted(found)
    step = found[0]
    assert 0.25 * step < found[2] - found[0] < 0.6 * step, "about half a lock-step"
    even = [predicted(asked["q2b"], rate, "workload.arrivals=even") for rate in rates]
    bursts = [predicted(asked["q2b"], rate, "workload.arrivals=bursty") for rate in rates]
    assert even[1] == pytest.approx(even[0], rel=1e-3), "one every two seconds never meets a step of less"
    assert all(e <= p * 1.0001 for e, p in zip(even, found, strict=True))
    assert bursts[-1] > found[-1]
    shown = values(sweep(asked["q2b"], ["workload.rate=0.01 /s,1 /s,10 /s,18 /s"]), "ttft")
    assert shown == sorted(shown)


def test_how_requests_come_is_said_of_a_rate_only(asked: Asked) -> None:
    for sets, words in (
        (["workload.arrivals=even"], "arrivals goes with workload.rate"),
        (["workload.rate=1 /s", "workload.burstiness=4"], "burstiness goes with arrivals=bursty"),
    ):
        with pytest.raises(ValueError, match=words):
            sweep(asked["q2b"], ["seed=0"], sets)


def test_steps_are_boarded_as_a_simulation_boards_them() -> None:
    """Random arrivals at one worker that steps while anybody waits, room enough: the wait for a step is `boarding_wait`."""
    draw = np.random.Generator(np.random.PCG64(3))
    for load in (0.3, 1.0, 3.0, 8.0):
        times = np.cumsum(draw.exponential(1.0 / load, 60_000))
        end, waited = 0.0, 0.0
        at = 0
        while at < len(times):
            start = max(end, times[at])
            boarding = np.searchsorted(times, start, side="right")
            waited += float((start - times[at:boarding]).sum())
            at, end = boarding, start + 1.0
        assert float(boarding_wait(1.0, load, 1.0)) == pytest.approx(waited / len(times), rel=0.05)


def test_even_arrivals_board_as_a_simulation_boards_them() -> None:
    for load in (0.5, 1.0, 2.0, 5.0, 10.0):
        times, end, waited, at = np.arange(20_000) / load, 0.0, 0.0, 0
        while at < len(times):
            start = max(end, times[at])
            boarding = int(np.searchsorted(times, start + 1e-9, side="right"))
            waited += float((start - times[at:boarding]).sum())
            at, end = boarding, start + 1.0
        assert float(boarding_wait(1.0, load, 1.0, ArrivalLaw(0.0))) == pytest.approx(waited / len(times), abs=0.01)


def test_the_queue_scales_with_the_variation_of_arrivals() -> None:
    law = [float(queue_wait(1.0, 4.0, 0.8, ArrivalLaw(v))) for v in (0.0, 1.0, 9.0)]
    assert law[0] == 0.0 and law[2] == pytest.approx(9 * law[1])
