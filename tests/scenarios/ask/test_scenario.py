"""Scenario files, ``--set`` and what they resolve to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from epicycle.scenarios.ask.scenario import ScenarioError, load_layer
from epicycle.sim.inputs.question import Question

TEXT = """name: try
model: deepseek-v3
cluster: {name: h100-cx7, nodes: 4}
traffic:
  tokens_per_rank: 128
deployment:
  ep: 32
"""
CONFIGS = Path(__file__).parents[4] / "shared" / "models"


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "s.yaml"
    path.write_text(TEXT, encoding="utf-8")
    return path


def ask(path: Path | str, *sets: str) -> Question:
    return load_layer(path, sets).resolve()


def refusal(path: Path | str, *sets: str) -> str:
    with pytest.raises(ScenarioError) as caught:
        ask(path, *sets)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_the_anatomy_is_the_articles() -> None:
    question = ask("ep-anatomy")
    assert (question.cluster.nodes, question.cluster.node.gpus, question.cluster.node.nics) == (2, 4, 4)
    assert (question.model.experts, question.model.top_k) == (16, 2)
    assert question.traffic.on_ranks(8) == (1,) * 8
    assert ask("ep-anatomy", "model.experts=8").model.experts == 8


def test_a_file_resolves(scenario: Path) -> None:
    question = ask(scenario)
    assert (question.model.name, question.model.experts, question.cluster.nodes) == ("deepseek-v3", 256, 4)
    assert question.nodes_used == 4


def test_set_reaches_into_presets_and_catalogue(scenario: Path) -> None:
    question = ask(
        scenario,
        "model.experts=64",
        "cluster.node.nic=connectx8-800g",
        "cluster.node.gpu.hbm_bandwidth=3 TB/s",
        "cluster.nodes=8",
        "traffic.tokens_per_rank=256",
        "traffic.routing.kind=power-law",
        "deployment.protocol=high-throughput",
        "deployment.compare=[low-latency]",
        "seed=7",
    )
    assert question.model.experts == 64
    assert question.cluster.node.nic.name == "connectx8-800g"
    assert question.cluster.node.gpu.hbm_bandwidth == 3e12
    assert question.cluster.nodes == 8
    assert question.traffic.tokens_per_rank == 256
    assert question.traffic.routing.kind == "power-law"
    assert question.deployment.protocol == "high-throughput"
    assert question.deployment.compare == ("low-latency",)
    assert question.seed == 7


def test_another_cluster_keeps_the_number_of_nodes(scenario: Path) -> None:
    question = ask(scenario, "cluster.node.gpus=4", "cluster=b300-cx8")
    assert (question.cluster.name, question.cluster.nodes, question.cluster.node.gpus) == ("b300-cx8", 4, 8)


def test_the_last_set_wins(scenario: Path) -> None:
    assert ask(scenario, "deployment.ep=8", "deployment.ep=16").deployment.ep == 16


def test_overrides_may_be_nested_or_dotted(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    nested = "cluster: {name: h100-cx7, nodes: 4, overrides: {fabric: {kind: fat-tree, oversubscription: 4}, node.gpus: 8}}"
    path.write_text(TEXT.replace("cluster: {name: h100-cx7, nodes: 4}", nested), encoding="utf-8")
    cluster = ask(path).cluster
    assert (cluster.fabric.kind, cluster.fabric.oversubscription, cluster.node.gpus) == ("fat-tree", 4.0, 8)


@pytest.mark.skipif(not CONFIGS.is_dir(), reason="the shared model configs are not here")
def test_a_config_json_is_a_model(scenario: Path, tmp_path: Path) -> None:
    assert ask(scenario, f"model={CONFIGS / 'Qwen3-30B-A3B.json'}").model.experts == 128
    (tmp_path / "config.json").write_bytes((CONFIGS / "DeepSeek-V3.json").read_bytes())
    beside = tmp_path / "beside.yaml"
    beside.write_text(TEXT.replace("deepseek-v3", "config.json"), encoding="utf-8")
    assert ask(beside).model.experts == 256, "a path in a file is relative to the file"


def test_a_folder_beside_the_scenario_is_a_model(scenario: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = {"model_type": "mixtral", "num_hidden_layers": 2, "hidden_size": 4096, "num_attention_heads": 32}
    config |= {"intermediate_size": 1024, "num_local_experts": 64, "num_experts_per_tok": 2, "vocab_size": 1000}
    folder = scenario.parent / "my-model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    monkeypatch.chdir(scenario.parent)
    scenario.write_text(TEXT.replace("deepseek-v3", "./my-model"), encoding="utf-8")
    assert ask(scenario.name).model.name == "my-model"


def test_a_routing_file_is_relative_to_the_scenario(scenario: Path) -> None:
    scenario.write_text(TEXT + "", encoding="utf-8")
    routed = TEXT.replace("tokens_per_rank: 128", "tokens_per_rank: 128\n  routing: {kind: file, file: drawn.csv}")
    scenario.write_text(routed, encoding="utf-8")
    assert load_layer(scenario).traffic.routing.file == scenario.parent / "drawn.csv"


def test_an_error_names_the_line_and_the_nearest_key(scenario: Path) -> None:
    scenario.write_text(TEXT + "  protcol: low-latency\n", encoding="utf-8")
    assert refusal(scenario) == f"{scenario}:8: no such key deployment.protcol: did you mean 'protocol'?"


def test_a_missing_key_is_named(scenario: Path) -> None:
    scenario.write_text(TEXT.replace("  ep: 32\n", "  comm_sms: 24\n"), encoding="utf-8")
    assert refusal(scenario) == f"{scenario}:6: deployment.ep is missing"


def test_a_wrong_value_says_wanted_and_got(scenario: Path) -> None:
    said = refusal(scenario, "deployment.protocol=lowlatency")
    assert said.startswith("--set deployment.protocol=lowlatency: deployment.protocol: wanted 'all-gather'")
    assert said.endswith("got 'lowlatency': did you mean 'low-latency'?")


def test_a_set_is_blamed_for_what_it_broke_and_the_file_for_its_own(scenario: Path) -> None:
    assert refusal(scenario, "traffic.tokens_per_rank=0").startswith("--set traffic.tokens_per_rank=0: traffic: ")
    scenario.write_text(TEXT.replace("ep: 32", "ep: 48"), encoding="utf-8")
    assert refusal(scenario, "cluster.nodes=8").startswith(f"{scenario}:7: ")


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (
            ("deployment.ep=48", "cluster.nodes=8"),
            "experts (256) do not divide over ep (48): use 32 or 64, or redundant_experts=32",
        ),
        (("deployment.redundant_experts=8", "deployment.ep=32"), "use ep 24 or 33, or redundant_experts=32"),
        (("model.top_k=300",), "top_k (300) must lie within 1 and experts (256)"),
        (("cluster.nodes=2",), "ep (32) needs 4 nodes: 2 nodes of h100-cx7 are 16 GPUs: use cluster.nodes=4"),
        (("traffic.tokens_per_rank=[1, 2]",), "tokens_per_rank lists 2 ranks, the deployment has 32"),
        (("traffic.routing={kind: group-limited, groups: 3}",), "experts (256) do not divide over 3 routing groups"),
        (("traffic.routing={kind: group-limited, groups: 8, groups_kept: 9}",), "groups_kept (9) is more than groups (8)"),
        (("traffic.routing={kind: group-limited, groups: 64, groups_kept: 1}",), "use groups_kept=2"),
        (("deployment.protocol=one-sided",), "domains of 8 GPUs, ep is 32: use ep of 8 or less, another protocol"),
        (("deployment.compare=[one-sided]",), "one-sided needs all ranks in one NVLink domain"),
        (("deployment.protocol=high-throughput", "deployment.ep=20", "model.experts=240"), "ep is 20: use 16 or 24"),
        (("deployment.protocol=high-throughput", "deployment.comm_sms=132"), "none of the 132 SMs of h100-sxm"),
        (("deployment.protocol=elastic", "deployment.comm_sms=132"), "none of the 132 SMs of h100-sxm"),
        (("model=llama-3.1-8b",), "llama-3.1-8b is a dense model"),
        (("model=3",), "model.preset: wanted a valid string, got 3"),
        (("traffic=3",), "traffic: wanted keys and values, got 3"),
        (("deployment.ep",), "wanted path=value"),
        (("deployment..ep=3",), "wanted path=value"),
        (("deployment.ep.x=3",), "is the single value 32"),
        (("sed=3",), "did you mean 'seed'?"),
    ],
)
def test_what_does_not_go_together_says_the_lever(scenario: Path, sets: tuple[str, ...], said: str) -> None:
    assert said in refusal(scenario, *sets)


def test_the_levers_work(scenario: Path) -> None:
    assert ask(scenario, "deployment.ep=64", "cluster.nodes=8").slots == 256
    assert ask(scenario, "deployment.ep=48", "cluster.nodes=6", "deployment.redundant_experts=32").slots == 288
    assert ask(scenario, "traffic.routing={kind: group-limited, groups: 64, groups_kept: 2}").model.top_k == 8
