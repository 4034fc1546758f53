"""More GPUs to choose from never make a plan dearer: what could be deployed on fewer still can."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from epicycle.scenarios.ask.scenario import load_serving
from epicycle.scenarios.weigh.evaluation_of import plan_of


@pytest.mark.long(share=0.15)
@pytest.mark.parametrize("seed", range(40))
def test_more_gpus_never_cost_more_for_the_same_question(seed: int) -> None:
    draw = random.Random(seed)
    load = draw.choice(("rate: 2 /s", "rate: 12 /s", "concurrency: 64", "concurrency: 400"))
    tokens = f"input_tokens: {draw.choice((500, 3000))}, output_tokens: {draw.choice((150, 600))}"
    limits = f"ttft: {draw.choice((1, 3))} s, tpot: {draw.choice((25, 60))} ms"
    sets = [
        f"model={draw.choice(('qwen3-30b-a3b', 'gpt-oss-120b', 'llama-3.1-8b'))}",
        "cluster={name: h200-cx7, nodes: 4}",
        f"workload={{{tokens}, {load}}}",
        f"slo={{{limits}}}",
        "search={worker_gpus: 4, batches: [4, 16, 64], chunk_tokens: [8192], keep: 4, confirm: 0, "
        f"backends: [{draw.choice(('sglang', 'vllm', 'trtllm'))}]}}",
    ]
    bills: list[float] = []
    for gpus in (4, 8, 16):
        found = plan_of(load_serving("plan-deepseek-v3-h200", [*sets, f"search.gpus={gpus}"]))
        if found.best is None:
            assert not bills, "what fewer GPUs do, more do"
            continue
        bills.append(found.best.metric("usd_per_mtok_output").value)
    assert all(more <= fewer * (1 + 1e-6) for fewer, more in pairwise(bills)), bills
