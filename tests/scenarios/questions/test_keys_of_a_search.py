"""Every key of a search changes the plan, is named in it, or refused; a search that an answer leaves is named there."""

from __future__ import annotations

import json

import pytest

from epicycle.hwmodels.errors import BadInput
from epicycle.scenarios.ask.scenario import load_serving
from epicycle.scenarios.ask.search import Search
from epicycle.scenarios.weigh.evaluation_of import evaluation_of, plan_of

SEARCH = {
    "worker_gpus": 4,
    "batches": [16, 64],
    "chunk_tokens": [8192],
    "prefill_chunk_tokens": [8192],
    "confirm": 0,
    "keep": 6,
}
ASKED = (
    "workload={input_tokens: 2000, output_tokens: 500, rate: 5 /s}",
    "slo={ttft: 3 s, tpot: 60 ms}",
    "model=qwen3-30b-a3b",
    "cluster={name: h200-cx7, nodes: 1}",
)
ALONE, APART, DENSE = "search.modes=[aggregated]", "search.modes=[disaggregated]", "model=llama-3.1-8b"
MTP = "model={preset: qwen3-30b-a3b, overrides: {mtp_layers: 1}}"
#: Key -> another value, and what it needs beside it to have a meaning.
KEYS: dict[str, tuple[str, tuple[str, ...]]] = {
    "gpus": ("4", ()),
    "clusters": ("[h100-cx7]", ()),
    "backends": ("[vllm]", ()),
    "modes": ("[aggregated]", ()),
    "tp": ("[1]", ()),
    "dp": ("[2]", ()),
    "pp": ("[2]", ()),
    "ep": ("[2]", ()),
    "worker_gpus": ("2", ()),
    "counts": ("[2]", ()),
    "protocols": ("[high-throughput]", ()),
    "overlap": ("[true]", ()),
    "redundant_experts": ("[32]", ()),
    "prefill_tp": ("[1]", ()),
    "prefill_dp": ("[2]", ()),
    "prefill_pp": ("[2]", ()),
    "prefill_ep": ("[2]", ()),
    "prefill_worker_gpus": ("2", ()),
    "prefill_counts": ("[2]", ()),
    "prefill_protocols": ("[elastic]", ()),
    "prefill_overlap": ("[true]", (APART, "search.prefill_dp=[2]", "search.prefill_protocols=[high-throughput]")),
    "prefill_redundant_experts": ("[32]", ()),
    "placement": ("contiguous", ("workload.routing={kind: power-law}",)),
    "batches": ("[8]", ()),
    "chunk_tokens": ("[1024]", (ALONE,)),
    "prefill_chunk_tokens": ("[4096]", ()),
    "comm_sms": ("40", ()),
    "weights": ("bf16", ()),
    "experts": ("bf16", ()),
    "kv": ("fp8", ()),
    "payload": ("bf16", ()),
    "mtp": ("1", (MTP,)),
    "acceptance": ("0.5", (MTP, "search.mtp=1")),
    "memory_share": ("0.75", ()),
    "keep": ("3", ()),
    "confirm": ("1", ("search.dp=[4]",)),
}
#: The same where they have none.
IDLE: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    *((key, value, (ALONE,)) for key, (value, _) in KEYS.items() if key.startswith("prefill_")),
    ("chunk_tokens", "[1024]", (APART,)),
    ("acceptance", "0.5", ()),
    ("confirm", "1", ("search.dp=[1]",)),
    *((key, KEYS[key][0], (DENSE,)) for key in ("dp", "ep", "protocols", "redundant_experts", "placement", "comm_sms")),
    *((key, KEYS[key][0], (DENSE,)) for key in ("experts", "payload", "confirm", "prefill_ep", "prefill_protocols")),
)


def planned(*sets: str) -> str:
    search = ", ".join(f"{key}: {json.dumps(value)}" for key, value in SEARCH.items())
    found = plan_of(load_serving("plan-deepseek-v3-h200", [f"search={{{search}}}", *ASKED, *sets]))
    shown = [(c.serving.model_dump(), c.values, c.on_front, c.meets, c.hardware, c.events_tpot_s) for c in found.candidates]
    told = (found.sentence, found.considered, found.fitting, found.meeting, found.notes, found.ruled_out, found.limits)
    return repr((told, shown))


def test_no_key_of_a_search_is_forgotten() -> None:
    assert set(Search.model_fields) == set(KEYS)


@pytest.mark.parametrize("key", KEYS)
def test_a_key_of_a_search_changes_its_plan(key: str) -> None:
    value, beside = KEYS[key]
    before = planned(*beside)
    try:
        after = planned(*beside, f"search.{key}={value}")
    except BadInput as refusal:
        assert key in str(refusal), "a refusal names the key"
        return
    assert before != after


@pytest.mark.parametrize(("key", "value", "beside"), IDLE, ids=[f"{key}{len(' '.join(more))}" for key, _, more in IDLE])
def test_a_key_without_meaning_is_named(key: str, value: str, beside: tuple[str, ...]) -> None:
    try:
        assert f"search.{key}" in planned(*beside, f"search.{key}={value}")
    except BadInput as refusal:
        assert key in str(refusal), "a refusal names the key"


def test_a_search_beside_a_deployment_is_named_where_it_is_left() -> None:
    asked = load_serving("serve-deepseek-v3-h200", ["search={gpus: 8}", "requests=null"])
    assert any(note.startswith("not used: search, the file gives its deployment") for note in evaluation_of(asked).notes)
    found = load_serving("plan-deepseek-v3-h200", [*ASKED, "search={confirm: 0, worker_gpus: 4, keep: 1}"])
    assert not any("not used: search" in note for note in evaluation_of(found).notes)


def test_a_seed_is_named_where_nothing_is_drawn() -> None:
    notes = evaluation_of(load_serving("serve-deepseek-v3-h200", ["requests=null", "seed=7"])).notes
    assert "not used: seed (7), nothing is drawn in closed form" in notes
    alone = ["requests=null", "seed=7", "deployment={mode: decode, decode: {dp: 16, ep: 16, batch: 64}}"]
    notes = evaluation_of(load_serving("serve-deepseek-v3-h200", alone)).notes
    assert "not used: seed (7), nothing is drawn in closed form" in notes
    assert "not used: seed" not in planned("seed=7")
