"""Requests one by one from a scenario: against the closed form, from traces good and bad, in every form of answer."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from epicycle.hwmodels.errors import BadInput
from epicycle.scenarios.answer.evaluate import evaluate
from epicycle.scenarios.answer.request_run import RequestRun
from epicycle.scenarios.ask.document import ScenarioError
from epicycle.scenarios.ask.scenario import load_serving
from epicycle.scenarios.report.requests.run_page import CONTENTS, render_run
from epicycle.scenarios.say.output import Outputs
from epicycle.scenarios.say.record_json import record_json
from epicycle.scenarios.serve.replications import others
from epicycle.scenarios.serve.run import serve
from epicycle.scenarios.weigh.evaluation_of import evaluation_of
from epicycle.scenarios.weigh.played_requests import answer_requests
from epicycle.sim.serving.requests.arrivals.trace_file import Scale, format_of, trace_chunks

LLAMA, DEEPSEEK = "serve-llama-lost-gpu", "serve-deepseek-v3-h200"
TRACES = Path(__file__).parents[4] / "shared" / "traces"
CALM = ("faults=null", "slo={}")


def run(name: str, *sets: str) -> RequestRun:
    question = load_serving(name, (*sets,)).resolve()
    return serve(question)


@pytest.mark.parametrize(
    ("name", "sets"),
    [
        (LLAMA, ("workload.rate=5.8 /s", "deployment.decode.count=1")),
        (LLAMA, ("workload.rate=14.5 /s", "deployment.decode.count=1")),
        (LLAMA, ("workload.rate=6.2 /s", "deployment.decode.count=1", "deployment.backend=sglang")),
        (DEEPSEEK, ("workload.rate=10 /s", "workload.length_spread=0.5")),
        (DEEPSEEK, ("workload.rate=30 /s", "workload.length_spread=0.5")),
        (DEEPSEEK, ("workload.concurrency=64", "workload.length_spread=0.5")),
    ],
)
def test_means_are_the_closed_forms(name: str, sets: tuple[str, ...]) -> None:
    """Time per token within 3 %. Time to first token within 10 %: the closed form lets every group of a prefill worker have a
    prompt at once, the requests show that mostly one of sixteen has."""
    found = run(name, *(CALM if name == LLAMA else ()), *sets, "requests.count=3000")
    assert found.distributions["tpot"].mean == pytest.approx(found.closed_form["tpot"], rel=0.03)
    assert found.distributions["ttft"].mean == pytest.approx(found.closed_form["ttft"], rel=0.10)


def test_the_same_seed_gives_the_same_bytes() -> None:
    one, two = (record_json(run(LLAMA, "requests.count=500")) for _ in range(2))
    other = record_json(run(LLAMA, "requests.count=500", "seed=2"))
    assert one == two != other


def test_every_form_of_the_answer(tmp_path: Path) -> None:
    lines, steps = tmp_path / "requests.csv", tmp_path / "steps.json"
    with Outputs((lines, steps)) as outputs:
        found = answer_requests(LLAMA, ("requests.count=3000",), outputs.put, lines, steps, "59,62", None)
    rows = list(csv.DictReader(lines.open()))
    assert len(rows) == 3000 == found.counts["played"]
    assert {row["status"] for row in rows} == {"served"}
    assert sum(int(row["tries"]) for row in rows) == found.counts["tries"] > 0
    spans = [e for e in json.loads(steps.read_text())["traceEvents"] if e["ph"] == "X"]
    assert spans
    assert all(59e6 <= e["ts"] < 62e6 for e in spans)
    page = render_run(found, "epicycle serve")
    for name, _ in CONTENTS[1:]:
        assert f'id="{name}"' in page, name
    told = json.loads(record_json(found))
    assert told["kind"] == "serve"
    assert told["distributions"]["ttft"]["percentile"]["p99"] == pytest.approx(found.distributions["ttft"].percentile["p99"])
    assert found.happenings[0].at_s == 60.0


def test_tails_go_with_every_command() -> None:
    """A scenario that plays its requests answers compare, sweep and explain with its distributions."""
    scenario = load_serving(LLAMA, ("requests.count=800",))
    answer = evaluation_of(scenario)
    assert answer.metric("ttft_p99").value > answer.metric("ttft_p50").value
    assert [limit.key for limit in answer.limits] == ["ttft_p99", "goodput"]


def test_a_tail_is_not_settled_by_a_mean() -> None:
    scenario = load_serving(LLAMA, ("requests=null", "faults=null", "slo={ttft_p99: 50 ms}"))
    answer = evaluation_of(scenario)
    (limit,) = answer.limits
    assert limit.key == "ttft_p99"
    assert not limit.met


@pytest.mark.parametrize(
    "change",
    [
        "requests.cuont=3",
        "requests.scheduler.prompt=mixed",
        "requests.tools={cache: pin}",
        "faults.at=[{at: 3 s, worker: 16}]",
        "faults.gpu_hour=3",
        "requests.router.append=true",
        "requests.tiers=[{name: host, capacity: 1 TB, bandwidth: 50 GB/s}]",
        "slo={goodput: 0.9}",
        "requests={wave: {amplitude: 0.5}, trace: {file: x.csv}}",
    ],
)
def test_what_cannot_be_is_refused(change: str) -> None:
    with pytest.raises(ScenarioError):
        evaluation_of(load_serving(LLAMA, (change,)))


HEADER = "arrival_s,input_tokens,output_tokens\n"
BAD = {
    "unsorted": (HEADER + "0,10,10\n2,10,10\n1,10,10\n", ":4: arrives at 1.000000 s, before"),
    "negative": (HEADER + "0,10,10\n1,-5,10\n", ":3: input_tokens: wanted 1 or more tokens, got -5"),
    "no column": ("arrival_s,input_tokens\n0,10\n", ":1: no column output_tokens"),
    "absurd": (HEADER + "0,10,99999999999\n", ":2: output_tokens: 99999999999 tokens are beyond any context"),
    "not a number": (HEADER + "0,ten,10\n", ":2: input_tokens: wanted a whole number of tokens, got ten"),
    "short line": (HEADER + "0,10\n", ":2: wanted 3 columns"),
    "unknown column": (
        "arrival_s,input_tokens,output_tokens,sesion\n0,1,1,2\n",
        ":1: column sesion is not used: did you mean session",
    ),
    "empty": ("", ":1: the trace is empty"),
    "no request": (HEADER, "the trace holds no request"),
    "not JSON": ('{"arrival_s": 0, "input_tokens": 3, "output_tokens": 1}\n{"arrival', ":2: wanted a JSON object"),
    "no date": ("TIMESTAMP,ContextTokens,GeneratedTokens\nyesterday,3,4\n", ":2: TIMESTAMP: wanted a date and time"),
    "blocks": ('{"timestamp": 0, "input_length": 5, "output_length": 1, "hash_ids": [1, 2]}\n', ":1: 2 hash_ids are more than"),
    "time": (HEADER + "nan,10,10\n", ":2: arrival_s: wanted seconds, got nan"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_trace_is_one_line_with_its_number(case: str, tmp_path: Path) -> None:
    text, said = BAD[case]
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(BadInput) as refused:
        list(trace_chunks(path))
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_run_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    """The trace's last line is bad: what was written until then is not there."""
    trace, lines = tmp_path / "trace.csv", tmp_path / "requests.csv"
    trace.write_text(HEADER + "".join(f"{i / 50},100,20\n" for i in range(9_000)) + "1,1,1\n")
    changes = (*CALM, "workload.rate=null", f"requests={{trace: {{file: {trace}}}}}")
    with pytest.raises(BadInput), Outputs((lines,)) as outputs:
        answer_requests(LLAMA, changes, outputs.put, lines, None, "0,1", None)
    assert sorted(tmp_path.iterdir()) == [trace]


def test_a_trace_is_scaled_in_rate_and_lengths(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text(HEADER + "10,100,20\n12,100,20\n")
    (chunk,) = trace_chunks(trace, Scale(rate=2.0, input=0.5, output=3.0))
    assert list(chunk.arrivals["at"]) == [0, 10**12]
    assert list(chunk.arrivals["input"]) == [50, 50]
    assert list(chunk.arrivals["output"]) == [60, 60]


@pytest.mark.skipif(not TRACES.is_dir(), reason="the public traces are not here")
@pytest.mark.parametrize(
    ("file", "name", "requests"),
    [("azure2023_conv.csv", "Azure", 19_366), ("mooncake_conversation.jsonl", "Mooncake", 12_031)],
)
def test_public_traces_are_read_whole(file: str, name: str, requests: int) -> None:
    path = TRACES / file
    assert format_of(path).name == name
    assert sum(chunk.arrivals.size for chunk in trace_chunks(path)) == requests


def test_conversations_find_their_prefixes() -> None:
    talk = "requests.conversations={turns: 4, added_tokens: 128, think: 5 s, shared_prefix: 256}"
    sets = (*CALM, "workload.rate=20 /s", talk, "requests.count=2000", "requests.router.policy=sticky")
    found = run(LLAMA, *sets)
    assert found.counts["share of prompt tokens found in a cache"] > 0.7
    cold = run(LLAMA, *sets, "requests.scheduler.prefix_cache=false")
    assert found.distributions["ttft"].mean < cold.distributions["ttft"].mean


def test_a_plan_is_settled_by_its_tails() -> None:
    from epicycle.scenarios.weigh.evaluation_of import plan_of

    sets = ("search={gpus: 8, confirm: 0}", "deployment=null", "faults=null", "requests={count: 1000}", "workload.rate=20 /s")
    met = plan_of(load_serving(LLAMA, (*sets, "slo={ttft_p99: 2 s, tpot_p95: 30 ms}")))
    assert met.best is not None
    assert {limit.key for limit in met.best.limits} == {"ttft_p99", "tpot_p95"}
    assert all(limit.met for limit in met.best.limits)


def test_replications_are_the_same_in_processes_and_here() -> None:
    """Each has the next seed; together they are more requests, and say more surely."""
    question = load_serving(LLAMA, ("requests.count=400", "requests.replications=3")).resolve()
    here, elsewhere = (list(others(question, None, processes)) for processes in (1, 2))
    for mine, theirs in zip(here, elsewhere, strict=True):
        assert mine.weighed.counts == theirs.weighed.counts
        assert mine.weighed.tokens == theirs.weighed.tokens
        for key, histogram in mine.weighed.histograms.items():
            assert str(histogram.distribution()) == str(theirs.weighed.histograms[key].distribution())
    found = serve(question)
    assert found.counts["played"] == 3 * 400
    second = run(LLAMA, "requests.count=400", "seed=2")
    assert second.counts["tokens output"] == here[0].weighed.tokens["output"]


def test_six_replications_are_a_batch_each() -> None:
    found = run(LLAMA, *CALM, "requests.count=300", "requests.replications=6")
    means = [run(LLAMA, *CALM, "requests.count=300", f"seed={seed}").distributions["ttft"].mean for seed in range(1, 7)]
    half = 2.57 * np.std(means, ddof=1) / 6**0.5
    ttft = found.distributions["ttft"]
    assert ttft.high["mean"] - ttft.low["mean"] == pytest.approx(2 * half, rel=0.02)


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (
            (
                "deployment={mode: disaggregated, decode: {tp: 8}, prefill: {tp: 8, cluster: h100-cx7}}",
                "cluster={name: h200-cx7, nodes: 2}",
            ),
            "requests are played on one kind of hardware",
        ),
        (("deployment.mode=decode",), "requests pass through whole deployments"),
    ],
)
def test_what_no_request_passes_through_is_refused_with_the_reason(sets: tuple[str, ...], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        evaluation_of(load_serving(LLAMA, (*CALM, *sets)))


def test_rows_of_parquet_are_the_lines_of_csv(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    lines, rows = tmp_path / "requests.csv", tmp_path / "requests.parquet"
    with Outputs((lines, rows)) as outputs:
        answer_requests(LLAMA, ("requests.count=600",), outputs.put, lines, None, "0,1", None, rows)
    told = list(csv.DictReader(lines.open()))
    typed = parquet.read_table(rows).to_pylist()
    assert len(told) == len(typed) == 600
    for line, row in zip(told, typed, strict=True):
        assert list(line) == list(row)
        for key, text in line.items():
            value = row[key]
            assert (text == "") == (value is None), key
            if value is not None:
                assert text == value if isinstance(value, str) else float(text) == pytest.approx(value, abs=2e-9), key


def test_use_energy_and_the_bill_are_in_the_answer() -> None:
    found = run(LLAMA, *CALM, "requests.count=2000").evaluation
    closed = evaluate(load_serving(LLAMA, (*CALM, "requests=null")).resolve())
    # All of the time, steps with prompts too, against a decode step's share of it.
    assert 0.3 < found.metric("aggregated_MBU").value / closed.metric("mbu").value < 1.1
    assert 0.0 < found.metric("aggregated_MFU").value < 1.0
    tokens, watts = found.metric("output_tokens_per_s").value, found.metric("power_kw").value * 1e3
    assert found.metric("energy_per_token").value == pytest.approx(watts / tokens)
    assert found.metric("preemptions").value == 0
    assert found.metric("usd_per_mtok").value < found.metric("usd_per_mtok_output").value


def test_engines_wait_as_they_are_told() -> None:
    """Looks every 20 steps, prompts that gather, groups that wait for each other: each is played, and tells in the queue."""
    plain = run(LLAMA, *CALM, "requests.count=1500").distributions["queue"].mean
    for sets in (("deployment.poll_steps=20",), ("deployment.wait_steps=20", "deployment.backend=trtllm")):
        assert run(LLAMA, *CALM, *sets, "requests.count=1500").distributions["queue"].mean > plain + 0.02
    groups = ("deployment={backend: trtllm, decode: {dp: 8, ep: 8}}", "model=qwen3-30b-a3b", "workload.rate=10 /s")
    dealt = [
        run(LLAMA, *CALM, *groups, f"deployment.decode.balance={balance}", "requests.count=800").distributions["queue"].mean
        for balance in ("round-robin", "wait")
    ]
    assert dealt[1] > dealt[0]


def test_a_predictive_scaler_is_there_before_the_wave() -> None:
    """It starts workers while a wave rises, for as long as a start takes: more GPU time, and far fewer who wait."""
    found = {}
    for policy in ("reactive", "predictive"):
        scaling = f"{{spare: 6, start_up: 90 s, every: 10 s, policy: {policy}}}"
        wave = "{amplitude: 0.9, period: 1200 s, peak: 600 s}"
        sets = ("deployment.decode={count: 8, batch: 32}", "workload.rate=24 /s")
        found[policy] = run(LLAMA, *CALM, *sets, f"requests={{duration: 1200 s, wave: {wave}, scaling: {scaling}}}")
    early, late = (found[policy].distributions["ttft"] for policy in ("predictive", "reactive"))
    assert early.percentile["p99"] < 0.3 * late.percentile["p99"]
    on = {policy: found[policy].counts["share of GPU time that is on"] for policy in found}
    assert 1.0 < on["predictive"] / on["reactive"] < 2.0
