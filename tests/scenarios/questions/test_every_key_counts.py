"""Every key of a file changes something in the answer or its notes, or is refused; more of a good thing is never worse."""

from __future__ import annotations

import random
from typing import Any

import pytest

from epicycle.hwmodels.backends import load_backend
from epicycle.hwmodels.errors import BadInput
from epicycle.scenarios.answer.evaluate import evaluate
from epicycle.scenarios.answer.evaluation import Evaluation
from epicycle.scenarios.ask.scenario import load_serving
from epicycle.sim.inputs.serving import Serving, Slo, Worker, Workload

BASE = ("serve-deepseek-v3-h200", ("workload.concurrency=1024", "slo={ttft: 2 s, tpot: 50 ms}"))
AGGREGATED = "deployment={backend: vllm, decode: {tp: 4, dp: 4, ep: 16, count: 2}}"
#: A value other than the default of every key of the records; a key that is missing here fails the test.
OTHER: dict[str, dict[str, Any]] = {
    "workload": {
        "input_tokens": 3000,
        "output_tokens": 700,
        "length_spread": 0.5,
        "cached_input": 0.5,
        "concurrency": 512,
        "rate": "10 /s",
        "arrivals": "even",
        "burstiness": 20,
        "routing": "{kind: power-law}",
        "rank_imbalance": 0.3,
        "expert_spread": 0.8,
    },
    "slo": {"ttft": "1 s", "tpot": "20 ms", "confidence": 0.8},
    "deployment": {
        "backend": "trtllm",
        "weights": "bf16",
        "experts": "bf16",
        "kv": "fp8",
        "payload": "bf16",
        "mtp": 1,
        "acceptance": 0.5,
        "memory_share": 0.7,
    },
    "worker": {
        "tp": 2,
        "dp": 16,
        "ep": 16,
        "dcp": 2,
        "count": 2,
        "protocol": "high-throughput",
        "transport": "ibrc",
        "comm_sms": 40,
        "redundant_experts": 32,
        "placement": "balanced",
        "overlap": True,
        "cuda_graphs": False,
        "batch": 32,
        "chunk_tokens": 1024,
    },
}
#: What a key needs beside it to have a meaning.
BESIDE = {
    "rate": ("workload.concurrency=null",),
    "arrivals": ("workload.concurrency=null", "workload.rate=30 /s"),
    "burstiness": ("workload.concurrency=null", "workload.rate=30 /s", "workload.arrivals=bursty"),
    "acceptance": ("deployment.mtp=2",),
    "count": ("cluster.nodes=16",),
    "dp": ("deployment.decode.ep=16",),
    "ep": ("deployment.decode.dp=16",),
    "dcp": ("deployment={backend: vllm, decode: {tp: 8, dp: 2, ep: 16}}",),
    "comm_sms": ("deployment.decode.protocol=high-throughput",),
    "placement": ("workload.routing={kind: power-law}",),
}


def answer(*sets: str, base: tuple[str, tuple[str, ...]] = BASE) -> Evaluation:
    return evaluate(load_serving(base[0], [*base[1], *sets]).resolve())


def said(found: Evaluation) -> tuple[object, ...]:
    numbers = tuple((m.key, m.value, m.low90, m.high90) for m in found.metrics)
    return numbers, found.limits, found.notes, found.cost, found.why_wide, tuple(pool.memory for pool in found.pools)


def keys() -> list[tuple[str, str, Any]]:
    found = [("workload", key, value) for key, value in OTHER["workload"].items()]
    found += [("slo", key, value) for key, value in OTHER["slo"].items()]
    found += [("deployment", key, value) for key, value in OTHER["deployment"].items()]
    return found + [("deployment.decode", key, value) for key, value in OTHER["worker"].items()]


@pytest.mark.parametrize(("section", "key", "value"), keys(), ids=[f"{section}.{key}" for section, key, _ in keys()])
def test_a_key_changes_the_answer_or_is_named_in_it(section: str, key: str, value: Any) -> None:
    beside = BESIDE.get(key, ())
    if section == "deployment.decode" and key == "chunk_tokens":
        beside = (AGGREGATED,)
    text = str(value).lower() if isinstance(value, bool) else value
    try:
        before = answer(*beside)
    except BadInput:
        before = answer()
    try:
        after = answer(*beside, f"{section}.{key}={text}")
    except BadInput as refusal:
        assert key in str(refusal), "a refusal names the key"
        return
    assert said(before) != said(after) or any(f"{section}.{key}" in note for note in after.notes)


@pytest.mark.parametrize(
    ("record", "section", "elsewhere"),
    [
        (Workload, "workload", set()),
        (Slo, "slo", {f"{key}_p{n}" for key in ("ttft", "tpot", "e2e") for n in (50, 90, 95, 99)} | {"goodput"}),
        (Serving, "deployment", {"mode", "decode", "prefill", "attention", "poll_steps", "wait_steps", "wait_fill"}),
        (Worker, "worker", {"pp", "balance", "cluster"}),
    ],
)
def test_no_field_is_forgotten(record: Any, section: str, elsewhere: set[str]) -> None:
    """``elsewhere``: keys whose effect other tests hold (requests played one by one, pipelines, schedulers)."""
    assert set(record.model_fields) - elsewhere == set(OTHER[section])


def drawn(seed: int) -> list[str]:
    """A random valid deployment and load."""
    draw = random.Random(seed)
    tp, ranks = draw.choice((1, 2, 4)), draw.choice((8, 16, 32))
    apart = draw.random() < 0.5
    worker = f"{{tp: {tp}, dp: {ranks // tp}, ep: {ranks}, batch: {draw.choice((8, 32, 64))}"
    protocol = draw.choice(("low-latency", "high-throughput"))
    decode = f"{worker}, protocol: {protocol}, overlap: {draw.choice(('true', 'false'))}}}"
    prefill = ", mode: disaggregated, prefill: {dp: 16, ep: 16, count: 2, protocol: high-throughput}" if apart else ""
    engine = draw.choice(("sglang", "vllm", "trtllm"))
    load = f"workload={{input_tokens: {draw.choice((500, 2000, 9000))}, output_tokens: {draw.choice((100, 800))}, concurrency: "
    load += f"{draw.choice((1, 16, 300, 2000))}, cached_input: {draw.choice((0, 0.4))}}}"
    return ["slo={}", load, f"deployment={{backend: {engine}, decode: {decode}{prefill}}}"]


@pytest.mark.long(share=0.05)
@pytest.mark.parametrize("seed", range(200))
def test_more_bandwidth_is_never_slower_and_more_tokens_never_faster(seed: int) -> None:
    sets = drawn(seed)
    try:
        plain = answer(*sets, base=("serve-deepseek-v3-h200", ()))
    except BadInput:
        pytest.skip("does not fit")
    for metric in plain.metrics:
        if metric.low90 is not None and metric.low50 is not None and metric.high50 is not None and metric.high90 is not None:
            assert metric.low90 <= metric.low50 * (1 + 1e-9) and metric.high50 <= metric.high90 * (1 + 1e-9)
            assert metric.low50 * (1 - 1e-9) <= metric.value <= metric.high50 * (1 + 1e-9), "the interval contains its value"
    base, question = unbiased(sets), load_serving("serve-deepseek-v3-h200", sets).resolve()
    gpu = question.cluster.node.gpu
    assert question.serving is not None
    for number, more in (
        ("cluster.node.nic.bandwidth", f"{question.cluster.node.nic.bandwidth * 1.3 / 1e9} GB/s"),
        ("cluster.node.gpu.hbm_bandwidth", f"{gpu.hbm_bandwidth * 1.3 / 1e12} TB/s"),
        ("cluster.node.gpu.nvlink_bandwidth", f"{gpu.nvlink_bandwidth * 1.3 / 1e9} GB/s"),
    ):
        # In a closed loop a quicker prompt leaves more sequences decoding side by side: what never falls is what is served.
        assert unbiased([*sets, f"{number}={more}"]) >= base * (1 - 1e-6), number
    assert unbiased([*sets, f"workload.input_tokens={question.workload.input_tokens + 500}"]) <= base * (1 + 1e-6)


def test_faster_decoding_does_not_make_prompts_wait_longer() -> None:
    """A shrunk counter-example: with 30 % more HBM bandwidth decode steps get shorter and those with a prompt do not. A queue
    whose service was what a prompt adds to a step had each take more then, where steps have places for dozens of prompts."""
    decode = "{dp: 16, ep: 16, batch: 32, overlap: true}"
    load = "{input_tokens: 500, output_tokens: 100, concurrency: 300, cached_input: 0.4}"
    sets = ["slo={}", f"workload={load}", f"deployment={{backend: trtllm, decode: {decode}}}"]
    assert unbiased([*sets, "cluster.node.gpu.hbm_bandwidth=6.24 TB/s"]) >= unbiased(sets)


def unbiased(sets: list[str]) -> float:
    """Requests a second as the closed form has them, before the median of its error is put on them."""
    question = load_serving("serve-deepseek-v3-h200", sets).resolve()
    assert question.serving is not None
    engine = load_backend(question.serving.backend)
    fit = engine.fit and engine.fit.model_copy(update={"intervals": (), "ttft_intervals": ()})
    return evaluate(question, engine.model_copy(update={"fit": fit})).metric("requests_per_s").value


#: Keys whose other value needs something beside it that a random file may not have; the test above gives it to them.
NEEDS = {"count", "dp", "ep", "tp", "dcp", "arrivals", "burstiness", "expert_spread", "rank_imbalance"}


@pytest.mark.long(share=0.1)
@pytest.mark.parametrize("seed", range(200))
def test_a_key_of_a_random_file_counts_or_is_named(seed: int) -> None:
    sets = drawn(seed)
    draw = random.Random(1000 + seed)
    base = ("serve-deepseek-v3-h200", ())
    try:
        before = answer(*sets, base=base)
    except BadInput:
        pytest.skip("does not fit")
    for section, key, value in draw.sample([each for each in keys() if each[1] not in NEEDS], 6):
        text = str(value).lower() if isinstance(value, bool) else value
        more = ["workload.concurrency=null"] if key == "rate" else []
        try:
            after = answer(*sets, *more, f"{section}.{key}={text}", base=base)
        except BadInput as refusal:
            short = key == "memory_share" and "more than it may fill" in str(refusal)
            assert key in str(refusal) or short or "carry" in str(refusal), (key, str(refusal))
            continue
        same = (
            getattr(getattr(before.serving, "decode", None) if section.endswith("decode") else before.serving, key, ()) == value
        )
        assert same or said(before) != said(after) or any(f"{section}.{key}" in note for note in after.notes), (
            section,
            key,
            value,
        )
