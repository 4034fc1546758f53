"""A commented scenario to begin with: `epicycle init`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from ...hwmodels.units import DURATION, PER_SECOND


@dataclass(frozen=True, slots=True)
class Starter:
    """What a first question is made of; each has the value that a commented file begins with."""

    name: str = "my-plan"
    model: str = "deepseek-v3"
    cluster: str = "h200-cx7"
    nodes: int = 8
    input_tokens: int = 4000
    output_tokens: int = 1000
    rate: str = "10 /s"
    ttft: str = "2 s"
    tpot: str = "50 ms"
    backend: str = "sglang"
    said: str = "the longest prompt, and the longest answer"

    def check(self) -> None:
        """Raises BadInput or ValueError for what no scenario may hold."""
        PER_SECOND.parse(self.rate)
        for limit in (self.ttft, self.tpot):
            DURATION.parse(limit)


def of_trace(asked: Starter, path: Path, given: Iterable[str] = ()) -> Starter:
    """``asked`` with the lengths and the rate of the requests of a trace, but for what is ``given``. Raises BadInput."""
    from ...sim.serving.requests.arrivals.trace_file import trace_chunks

    requests, tokens_in, tokens_out, last_ps = 0, 0, 0, 0
    for chunk in trace_chunks(path):
        rows = chunk.arrivals
        requests += len(rows)
        tokens_in += int(rows["input"].sum())
        tokens_out += int(rows["output"].sum())
        last_ps = int(rows["at"][-1])
    found: dict[str, Any] = {"input_tokens": round(tokens_in / requests), "output_tokens": max(1, round(tokens_out / requests))}
    if last_ps > 0:
        found["rate"] = f"{(requests - 1) / (last_ps * 1e-12):.4g} /s"
    kept = {key: value for key, value in found.items() if key not in set(given)}
    return replace(asked, **kept, said=f"on average, of {requests:,} requests of {path.name}")


def starter_text(asked: Starter) -> str:
    """The scenario file, ready to plan."""
    asked.check()

    def word(value: str) -> str:
        return yaml.safe_dump(value, width=1000).removesuffix("...\n").strip()

    return f"""name: {word(asked.name)}
# description: what is being asked, for whoever reads the report
model: {word(asked.model)}    # a preset (epicycle catalog models), or the path of a Hugging Face config.json
cluster: {{name: {word(asked.cluster)}, nodes: {asked.nodes}}}    # the GPUs there are (epicycle catalog clusters)
workload:
  input_tokens: {asked.input_tokens}     # {asked.said}
  output_tokens: {asked.output_tokens}
  rate: {word(asked.rate)}           # requests that arrive; or concurrency: those in flight; or neither: as many as fit
  # cached_input: 0.5     # the share of a prompt whose KV cache is there already
slo: {{ttft: {word(asked.ttft)}, tpot: {word(asked.tpot)}}}    # the first token within this, then one every that
search:
  backends: [{word(asked.backend)}]      # the engines to consider: sglang, vllm, trtllm
  # experts: fp8          # narrower experts than the checkpoint has
  # worker_gpus: 32       # the most GPUs of one worker
# bill: {{basis: rental}}    # how GPUs are paid for: rental, on-demand, reserved, three-years, owned
seed: 1
# Every other key: docs/scenarios.md. A deployment that is there already: deployment: {{from: "vllm serve …"}}
"""
