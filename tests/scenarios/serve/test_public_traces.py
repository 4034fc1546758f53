"""Public traces served by what a plan found for their mean lengths, at the load that it promised."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from epicycle.scenarios.answer.request_run import RequestRun
from epicycle.scenarios.ask.scenario import load_serving
from epicycle.scenarios.serve.run import serve
from epicycle.scenarios.weigh.played_requests import answer_requests
from epicycle.sim.serving.requests.arrivals.trace_file import Scale, trace_chunks

TRACES = Path(__file__).parents[4] / "shared" / "traces"
pytestmark = pytest.mark.skipif(not TRACES.is_dir(), reason="the public traces are not here")


def served(
    tmp_path: Path, file: str, own_rate: float, rate: float, lengths: str, more: tuple[str, ...] = ()
) -> tuple[RequestRun, RequestRun]:
    """What a plan for ``lengths`` at ``rate`` a second found: under arrivals at random with these means, and under the requests
    of ``file`` at that mean rate."""
    scenario = tmp_path / "promised.yaml"
    scenario.write_text(
        f"""
name: promised
model: llama-3.1-8b
cluster: {{name: h100-cx7, nodes: 1}}
workload: {{{lengths}, rate: {rate} /s}}
slo: {{ttft: 1 s, tpot: 25 ms}}
search: {{gpus: 8, confirm: 0, backends: [vllm]}}
""",
        encoding="utf-8",
    )
    random = answer_requests(str(scenario), ["requests.count=3000", *more], lambda *_: None, None, None, "0,1", None)
    trace = f"requests={{trace: {{file: {TRACES / file}, rate_scale: {rate / own_rate}}}}}"
    sets = ("search=null", f"workload={{{lengths}}}", trace, "slo.goodput=0.9", *more)
    question = load_serving(str(scenario), sets).model_copy(update={"deployment": random.evaluation.serving})
    return random, serve(question.resolve())


def test_azure_s_conversations_at_the_promised_load(tmp_path: Path) -> None:
    """40 a second on eight H100: at least 90 % of the requests keep the limits that the plan's means keep."""
    _, found = served(tmp_path, "azure2023_conv.csv", 5.5304, 40.0, "input_tokens: 1155, output_tokens: 211")
    assert found.counts["played"] == 19_366
    assert found.evaluation.metric("goodput").value >= 0.9
    assert found.evaluation.metric("goodput_per_s").value == pytest.approx(40.0, rel=0.1)


def test_azure_s_code_comes_in_bursts_that_no_mean_knows(tmp_path: Path) -> None:
    """A promise of 20 a second is kept by arrivals at random with these means, and not by the trace: counted by the second, its
    arrivals vary 67 times as much as at random, and reach 18 times their mean."""
    random, found = served(tmp_path, "azure2023_code.csv", 2.5667, 20.0, "input_tokens: 2048, output_tokens: 28")
    assert random.evaluation.metric("goodput").value >= 0.9
    assert found.evaluation.metric("goodput").value < 0.9
    moments = np.concatenate(
        [chunk.arrivals["at"] for chunk in trace_chunks(TRACES / "azure2023_code.csv", Scale(rate=20 / 2.5667))]
    )
    by_second = np.bincount((moments * 1e-12).astype(int))
    assert by_second.var() > 50 * by_second.mean()
    assert by_second.max() > 15 * by_second.mean()
