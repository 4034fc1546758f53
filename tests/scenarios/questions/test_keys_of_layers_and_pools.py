"""Every key of a layer, and those of serving files beside the workers' own, changes the answer, is named in it, or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import epicycle
from epicycle.hwmodels.errors import BadInput
from epicycle.scenarios.answer.evaluate import evaluate
from epicycle.scenarios.answer.evaluation import Evaluation
from epicycle.scenarios.ask.layer_scenario import LayerScenario
from epicycle.scenarios.ask.scenario import load_serving
from epicycle.sim.inputs.deployment import Deployment
from epicycle.sim.inputs.traffic import Routing, Traffic

LAYER = ("cluster.nodes=2", "deployment.ep=16", "deployment.compare=[]", "traffic.tokens_per_rank=64")
GROUPED = "traffic.routing={kind: group-limited}"
LAW = "traffic.routing={kind: power-law}"
#: Key -> (another value, what it needs beside it to have a meaning).
LAYERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "model": ("qwen3-235b-a22b", ()),
    "cluster": ("{name: h200-cx7, nodes: 2}", ()),
    "memory": ("ignore", ("cluster.nodes=1", "deployment.ep=8")),
    "seed": ("5", ()),
    "traffic.tokens_per_rank": ("65", ()),
    "traffic.routing.kind": ("balanced", ()),
    "traffic.routing.groups": ("4", (GROUPED,)),
    "traffic.routing.groups_kept": ("1", (GROUPED,)),
    "traffic.routing.alpha": ("0.5", (LAW,)),
    "traffic.routing.file": ("FILE", ("traffic.routing={kind: file, file: OTHER}",)),
    "traffic.routing.layer": ("1", ("traffic.routing={kind: file, file: LAYERS, layer: 0}",)),
    "deployment.ep": ("8", ("cluster.nodes=2", "memory=ignore")),
    "deployment.protocol": ("high-throughput", ()),
    "deployment.compare": ("[all-gather]", ()),
    "deployment.payload": ("bf16", ()),
    "deployment.weights": ("bf16", ("memory=ignore",)),
    "deployment.comm_sms": ("16", ("deployment.protocol=high-throughput",)),
    "deployment.max_tokens": ("256", ()),
    "deployment.placement": ("round-robin", (LAW,)),
    "deployment.redundant_experts": ("16", ()),
    "deployment.capacity_factor": ("2.0", ("deployment.protocol=padded-all-to-all",)),
    "deployment.reserved_sms": ("20", ()),
    "deployment.cuda_graphs": ("true", ("deployment.protocol=high-throughput",)),
    "deployment.transport": ("ibrc", ()),
}
RECORDS: tuple[tuple[str, Any, set[str]], ...] = (
    ("", LayerScenario, {"name", "description", "traffic", "deployment"}),
    ("traffic.", Traffic, {"routing"}),
    ("traffic.routing.", Routing, set()),
    ("deployment.", Deployment, set()),
)


@pytest.mark.parametrize(("prefix", "record", "inner"), RECORDS, ids=["file", "traffic", "routing", "deployment"])
def test_no_key_of_a_layer_is_forgotten(prefix: str, record: Any, inner: set[str]) -> None:
    """``inner``: keys that hold others, and words."""
    here = {key.removeprefix(prefix) for key in LAYERS if key.startswith(prefix) and "." not in key.removeprefix(prefix)}
    assert set(record.model_fields) - inner == here


@pytest.fixture(scope="module")
def counts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Expert counts: FILE and OTHER of one layer, LAYERS of two."""
    folder = tmp_path_factory.mktemp("counts")

    def written(name: str, head: str, lines: list[str]) -> Path:
        path = folder / f"{name}.csv"
        path.write_text("\n".join([head, *lines]) + "\n", "utf-8")
        return path

    one = [f"{e},{10 + e * e % 97}" for e in range(256)]
    other = [f"{e},{1000 if e < 8 else 10}" for e in range(256)]
    both = [f"{layer},{line}" for layer, lines in enumerate((one, other)) for line in lines]
    return {
        "FILE": written("one", "expert,count", one),
        "OTHER": written("other", "expert,count", other),
        "LAYERS": written("both", "layer,expert,count", both),
    }


def named(text: str, counts: dict[str, Path]) -> str:
    for name, path in counts.items():
        text = text.replace(name, str(path))
    return text


def played(sets: list[str]) -> str:
    """The answer, without its inputs."""
    found = epicycle.simulate("deepseek-v3-decode-ep32", sets=sets).to_dict()
    return json.dumps({key: value for key, value in found.items() if key != "inputs"}, sort_keys=True, default=str)


@pytest.mark.parametrize("key", LAYERS)
def test_a_key_of_a_layer_changes_its_answer(key: str, counts: dict[str, Path]) -> None:
    value, beside = LAYERS[key]
    sets = [named(each, counts) for each in (*LAYER, *beside)]
    try:
        before = played(sets)
    except BadInput as refusal:
        assert key == "memory", refusal
        before = "refused"
    assert played([*sets, f"{key}={named(value, counts)}"]) != before


SERVED = "serve-deepseek-v3-h200"


def said(found: Evaluation) -> tuple[object, ...]:
    numbers = tuple((m.key, m.value, m.low90, m.high90) for m in found.metrics)
    return numbers, found.limits, found.notes, found.cost, found.why_wide, tuple(pool.memory for pool in found.pools)


ALONE = ("workload.concurrency=256",)
TOGETHER = "deployment={backend: sglang, decode: {tp: 1, dp: 16, ep: 16, count: 2}}"
#: Keys that the records' own test leaves: (path, value, beside).
OTHERS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("deployment.decode.pp", "2", ("deployment={backend: vllm, decode: {tp: 8, ep: 8}}",)),
    ("deployment.decode.balance", "perfect", (TOGETHER,)),
    ("deployment.prefill.balance", "perfect", ()),
    ("deployment.attention", "fp8", ("deployment.kv=fp8", "deployment.backend=vllm")),
    ("deployment.attention", "bf16", ("deployment.kv=fp8", "deployment.backend=sglang")),
    ("deployment.poll_steps", "20", (TOGETHER,)),
    ("deployment.wait_steps", "20", (TOGETHER,)),
    ("deployment.wait_fill", "0.01", (TOGETHER, "deployment.wait_steps=20")),
    ("deployment.wait_fill", "0.25", (TOGETHER,)),
    ("deployment.acceptance", "0.5", ()),
    ("deployment.acceptance", "[0.8, 0.4]", ("deployment.mtp=2",)),
    ("deployment.decode.chunk_tokens", "1024", ()),
    ("deployment.decode.comm_sms", "40", ("deployment.decode.protocol=low-latency",)),
    ("deployment.decode.placement", "balanced", ()),
    ("deployment.prefill.chunk_tokens", "2048", ()),
    ("deployment.prefill.batch", "7", ()),
    ("deployment.prefill.cuda_graphs", "false", ()),
    ("deployment.prefill.comm_sms", "40", ()),
    ("deployment.prefill.overlap", "true", ()),
    ("deployment.prefill.redundant_experts", "32", ()),
    ("bill.basis", "owned", ()),
    ("bill.fixed_per_hour", "5 USD", ()),
    *((f"slo.{name}_p{share}", "300 ms", ()) for name in ("ttft", "tpot", "e2e") for share in (50, 90, 95, 99)),
    ("slo.goodput", "0.9", ("slo.tpot=50 ms",)),
)


@pytest.mark.parametrize(("key", "value", "beside"), OTHERS, ids=[f"{key}={value}{len(more)}" for key, value, more in OTHERS])
def test_a_key_beside_the_workers_changes_the_answer_or_is_named(key: str, value: str, beside: tuple[str, ...]) -> None:
    def told(*sets: str) -> tuple[object, ...]:
        return said(evaluate(load_serving(SERVED, [*ALONE, *beside, *sets]).resolve()))

    before = told()
    try:
        after = told(f"{key}={value}")
    except BadInput as refusal:
        assert key.rsplit(".", 1)[-1] in str(refusal)
        return
    assert after != before
