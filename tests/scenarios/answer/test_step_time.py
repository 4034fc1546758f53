"""What the parts of a step show adds up to the step, with overlap and without."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from epicycle.scenarios.ask.scenario import load_serving
from epicycle.scenarios.weigh.evaluation_of import evaluation_of

TEXT = """name: try
model: deepseek-v3
cluster: {name: h200-cx7, nodes: 16}
workload: {input_tokens: 4000, output_tokens: 1000}
deployment:
  mode: disaggregated
  decode: {dp: 32, ep: 32, batch: 128}
  prefill: {dp: 16, ep: 16, protocol: high-throughput}
"""


@pytest.mark.parametrize(
    "sets",
    [
        (),
        ("deployment.decode.overlap=true",),
        ("deployment.decode.overlap=true", "deployment.decode.batch=4"),
        ("deployment.decode.overlap=true", "deployment.decode.protocol=high-throughput", "deployment.decode.comm_sms=100"),
        ("deployment.prefill.overlap=true", "deployment.decode.cuda_graphs=false"),
        # Nothing to hide behind: one worker without data-parallel attention only has all-reduces.
        ("deployment.decode={tp: 8, ep: 8, overlap: true}",),
        # All of the computing hides behind a slow exchange.
        ("deployment.decode.overlap=true", "cluster.node.nic.bandwidth=2 GB/s"),
        ("deployment.decode={tp: 4, dp: 4, ep: 16, pp: 2, overlap: true}",),
    ],
)
def test_parts_add_up(sets: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(TEXT, encoding="utf-8")
    answer = evaluation_of(load_serving(tmp_path / "s.yaml", sets))
    steps = [step for pool in answer.pools for step in pool.steps]
    assert {step.phase for step in steps} == {"decode", "prefill"}
    for step in steps:
        assert math.fsum(part.exposed_s for part in step.parts) == pytest.approx(step.seconds, rel=1e-9)
        assert all(part.exposed_s >= 0.0 for part in step.parts)
        assert 0.0 < step.mfu < 1.0
