"""plan, sweep, compare, explain: held against a toy engine whose answers are arithmetic, and against layers that are played."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import math
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epicycle.hwmodels.catalog import load_cluster
from epicycle.hwmodels.errors import BadInput
from epicycle.scenarios.ask.scenario import load_layer
from epicycle.scenarios.say import record_csv, record_json
from epicycle.scenarios.study.design import axis
from epicycle.scenarios.study.sweep import sweep
from epicycle.scenarios.weigh.compare import compare
from epicycle.scenarios.weigh.explain import explain
from epicycle.scenarios.weigh.hardware_number import NUMBERS, HardwareNumber, scaled

Command = Callable[..., Any]

TEXT = """name: try
model: deepseek-v3
cluster: {name: h200-cx7, nodes: 8}
workload: {input_tokens: 4000, output_tokens: 1000}
slo: {tpot: 30 ms}
deployment:
  decode: {dp: 32, ep: 32, batch: 128}
"""
HBM, NIC = 4.8e12, 50e9


def installed(patch: pytest.MonkeyPatch, folder: Path) -> ModuleType:
    """The toy in the place of the engine and of the planner; scenarios for it in ``folder``: s.yaml, and p.yaml for plans."""
    spec = importlib.util.spec_from_file_location("toy_engine", Path(__file__).with_name("toy_engine.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("answer.evaluate", "plan.plan"):
        patch.setitem(sys.modules, f"epicycle.scenarios.{name}", module)
    patch.chdir(folder)
    Path("s.yaml").write_text(TEXT, encoding="utf-8")
    Path("p.yaml").write_text(TEXT[: TEXT.index("deployment")] + "search: {batches: [64, 128, 256]}\n", encoding="utf-8")
    return module


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    return installed(monkeypatch, tmp_path)


# Sweeps


def test_a_sweep_answers_every_combination_in_order(toy: ModuleType) -> None:
    found = sweep(
        "s.yaml", ["deployment.decode.batch=64,128", "cluster.node.nic=connectx7-400g, connectx8-800g"], ["slo.tpot=1 s"]
    )
    assert found.axes == ("deployment.decode.batch", "cluster.node.nic")
    assert [p.values for p in found.points] == [(b, n) for b in ("64", "128") for n in ("connectx7-400g", "connectx8-800g")]
    for point in found.points:
        assert point.evaluation is not None
        nic = NIC * (2 if "8" in point.values[1].split("-")[0] else 1)
        wanted = sum(toy.seconds(int(point.values[0]), HBM, nic))
        assert point.evaluation.metric("tpot").value == pytest.approx(wanted, rel=1e-12)
        assert point.evaluation.limits[0].wanted == 1.0
    assert "the lowest USD/Mtok out" in found.sentence
    assert found.sentence.endswith("at deployment.decode.batch=128, cluster.node.nic=connectx8-800g.")


def test_a_point_that_cannot_be_asked_is_a_row_with_the_reason(toy: ModuleType) -> None:
    found = sweep("s.yaml", ["deployment.decode.batch=64,4096", "deployment.decode.protocol=low-latency,one-sided"])
    refusals = {point.values: point.refusal for point in found.points}
    assert refusals["64", "low-latency"] == ""
    assert refusals["64", "one-sided"].startswith("one-sided needs all ranks in one NVLink domain")
    assert refusals["4096", "low-latency"] == "memory does not fit batch 4096: use batch=2048 or less"
    assert "4 points" in found.sentence
    assert "3 refused" in found.sentence
    rows = list(csv.DictReader(io.StringIO("".join(record_csv.sweep_csv(found)))))
    assert [bool(row["tpot"]) for row in rows] == [True, False, False, False]
    assert rows[1]["refusal"] == refusals["64", "one-sided"]
    points = json.loads(record_json.record_json(found))["points"]
    assert points[0]["values"] == {"deployment.decode.batch": "64", "deployment.decode.protocol": "low-latency"}
    assert points[1]["evaluation"] is None


def test_a_sweep_without_a_deployment_takes_the_best_at_each_point(toy: ModuleType) -> None:
    found = sweep("p.yaml", ["slo.tpot=16 ms,30 ms,1 ms"])
    batches = [p.evaluation.serving.decode.batch if p.evaluation and p.evaluation.serving else None for p in found.points]
    assert batches[:2] == [64, 128]
    assert found.points[2].refusal.startswith("try: none of 3 deployments meets the limits: TPOT 13 ms, wanted 1 ms: a smaller")


def test_a_sweep_of_layers_plays_each(tmp_path: Path) -> None:
    from epicycle.sim.layer.layer import simulate

    found = sweep("ep-anatomy", ["traffic.tokens_per_rank=1,64", "deployment.ep=8,7"])
    for point in found.points:
        tokens, ep = point.values
        if ep == "7":
            assert point.refusal.startswith("experts (16) do not divide over ep (7)")
            continue
        played = simulate(load_layer("ep-anatomy", [f"traffic.tokens_per_rank={tokens}"]).resolve()).layers[0]
        assert point.evaluation is not None
        assert point.evaluation.metric("layer").value == pytest.approx(played.makespan_ps / 1e12)
        step = point.evaluation.pools[0].steps[0]
        assert math.fsum(part.exposed_s for part in step.parts) == pytest.approx(step.seconds), "the ops are the layer"


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a.b=1,2", ("1", "2")),
        ("a.b= x , y z ", ("x", "y z")),
        ("a={kind: file, file: x},{kind: uniform}", ("{kind: file, file: x}", "{kind: uniform}")),
        ("a=[1, 2],[3]", ("[1, 2]", "[3]")),
        ("a='x,y',z", ("'x,y'", "z")),
        ("a=b=c", ("b=c",)),
    ],
)
def test_commas_inside_brackets_and_quotes_do_not_divide(text: str, values: tuple[str, ...]) -> None:
    found = axis(text)
    assert (found.path, found.values) == (text.split("=")[0].strip(), values)


# Comparisons


def test_the_part_that_made_the_difference_is_named(toy: ModuleType) -> None:
    found = compare("s.yaml", sets=["cluster.node.nic=connectx8-800g"])
    before, after = (sum(toy.seconds(128, HBM, nic)) for nic in (NIC, 2 * NIC))
    assert [(c.path, c.before, c.after) for c in found.changes] == [("cluster.node.nic", "connectx7-400g", "connectx8-800g")]
    assert found.changes[0].effect["tpot"] == pytest.approx(after / before - 1)
    assert found.mechanism.startswith(
        "Decode step 20.7 ms -> 15.6 ms (-24.7 %): 100 % of the gain is dispatch (10.2 ms -> 5.12 ms"
    )
    assert "bound by the NIC" in found.mechanism
    assert "cluster.node.nic connectx7-400g -> connectx8-800g: time per output token 20.7 ms -> 15.6 ms" in found.sentence


@given(
    chosen=st.lists(
        st.sampled_from(
            (
                "cluster.node.nic=connectx8-800g",
                "cluster.node.gpu.hbm_bandwidth=3 TB/s",
                "deployment.decode.batch=256",
                "deployment.decode.count=2",
                "prices.gpu_hour.h200-sxm=1 USD/GPU-h",
                "workload.routing.kind=power-law",
                "slo.tpot=15 ms",
                "bill.basis=on-demand",
                "seed=3",
            )
        ),
        min_size=1,
        max_size=9,
        unique=True,
    )
)
def test_a_walk_makes_each_change_once_and_its_effects_multiply_to_the_whole(chosen: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        installed(patch, Path(folder))
        found = compare("s.yaml", sets=chosen)
    assert sorted(change.path for change in found.changes) == sorted(text.split("=")[0] for text in chosen)
    for key in ("tpot", "usd_per_mtok_output"):
        product = math.prod(1 + change.effect[key] for change in found.changes)
        assert product == pytest.approx(found.b.metric(key).value / found.a.metric(key).value, rel=1e-9)


@pytest.mark.parametrize(
    ("first", "second", "paths"),
    [
        # Wider needs the nodes first, narrower gives them back last.
        (
            (),
            ("deployment.decode={dp: 128, ep: 128}", "cluster.nodes=16"),
            ["cluster.nodes", "deployment.decode.dp + deployment.decode.ep"],
        ),
        (
            ("deployment.decode={dp: 128, ep: 128}", "cluster.nodes=16"),
            (),
            ["deployment.decode.dp + deployment.decode.ep", "cluster.nodes"],
        ),
        # Neither stands alone: 256 experts do not divide over 24, 264 not over 32.
        (
            (),
            ("deployment.decode={dp: 24, ep: 24, redundant_experts: 8}",),
            ["deployment.decode.dp + deployment.decode.ep + deployment.decode.redundant_experts"],
        ),
        # Mode and pools are one change.
        ((), ("deployment.mode=disaggregated", "deployment.prefill={dp: 8, ep: 8}"), ["deployment.mode + deployment.prefill"]),
        # Nodes of 4 GPUs instead of 8: four of them are too few, so there have to be more first.
        (("cluster.nodes=4",), ("cluster=gb200-nvl72", "cluster.nodes=8"), ["cluster.nodes", "cluster"]),
    ],
)
def test_changes_that_cannot_stand_alone_wait_or_go_together(
    toy: ModuleType, first: tuple[str, ...], second: tuple[str, ...], paths: list[str]
) -> None:
    batch = ("deployment.decode.batch=128",)
    found = compare("s.yaml", "s.yaml", sets_a=[*first, *batch], sets_b=[*second, *batch])
    assert [change.path for change in found.changes] == paths
    product = math.prod(1 + change.effect["output_tokens_per_s_gpu"] for change in found.changes)
    whole = found.b.metric("output_tokens_per_s_gpu").value / found.a.metric("output_tokens_per_s_gpu").value
    assert product == pytest.approx(whole)


def test_where_deployments_are_looked_for_the_best_are_compared(toy: ModuleType) -> None:
    found = compare("p.yaml", sets=["slo.tpot=16 ms"])
    changes = {change.path: change for change in found.changes}
    assert changes["slo.tpot"].effect["tpot"] == 0.0
    assert (changes["deployment.decode.batch"].before, changes["deployment.decode.batch"].after) == ("128", "64")
    assert "128 -> 64.0 tokens per GPU" in found.mechanism or "128 -> 64 tokens per GPU" in found.mechanism


def test_two_that_ask_the_same_have_no_changes(toy: ModuleType) -> None:
    found = compare("s.yaml", "s.yaml")
    assert found.changes == ()
    assert found.sentence == "try and try ask the same question."


def test_layers_compare_too() -> None:
    found = compare("ep-anatomy", "ep-anatomy", ["traffic.tokens_per_rank=4096"], sets_b=["deployment.ep=4"])
    assert [change.path for change in found.changes] == ["deployment.ep"], "one node instead of two"
    assert found.mechanism.startswith("Layer ")
    assert "bound by the NIC before, by " in found.mechanism


def test_only_one_kind_compares(toy: ModuleType) -> None:
    with pytest.raises(BadInput, match="different kinds of question"):
        compare("s.yaml", "ep-anatomy")
    with pytest.raises(BadInput, match="nothing to be compared with"):
        compare("s.yaml")


# Explanations


@pytest.mark.parametrize("step", [0.1, 0.25])
def test_sensitivities_are_those_of_the_quotients(toy: ModuleType, step: float) -> None:
    found = explain("s.yaml", step=step)
    attention, experts, dispatch, host = toy.seconds(128, HBM, NIC)
    tpot = sum(toy.seconds(128, HBM, NIC))
    by_words = {s.words: s for s in found.sensitivities}
    for words, share in (("HBM bandwidth", attention + experts), ("NIC bandwidth", dispatch), ("NVLink bandwidth", 0.0)):
        more, less = by_words[words].more["tpot"], by_words[words].less["tpot"]
        assert more == pytest.approx(share / tpot * (1 / (1 + step) - 1), abs=1e-12)
        assert less == pytest.approx(share / tpot * (1 / (1 - step) - 1), abs=1e-12)
    assert by_words["sglang's host time of a step"].more["tpot"] == pytest.approx(step * host / tpot)
    assert [s.words for s in found.sensitivities[:2]] == ["NIC bandwidth", "HBM bandwidth"]
    assert by_words["fabric oversubscription"].less == {}, "it is 1, and cannot be less"
    assert found.sentence.startswith(
        "Decode step 20.7 ms: 49 % communication (the NIC), 26 % attention (HBM), 20 % experts (HBM)"
    )
    assert f"{100 * step:.3g}" in found.sentence


@given(number=st.sampled_from(NUMBERS), factor=st.floats(0.2, 3.0))
def test_a_scaled_cluster_differs_in_one_number(number: HardwareNumber, factor: float) -> None:
    cluster = load_cluster("h200-cx7")
    other = scaled(cluster, number, factor)
    before, after = cluster.model_dump(), (other or cluster).model_dump()
    *owners, key = number.path.split(".")
    for owner in owners:
        before, after = before[owner], after[owner]
    held, moved = before.pop(key), after.pop(key)
    assert before == after
    if isinstance(held, dict):
        assert moved == pytest.approx({dtype: value * factor for dtype, value in held.items()})
    else:
        wanted = min(number.high, max(number.low, held * factor))
        assert moved == pytest.approx(wanted, abs=0.5 if number.whole else 0.0)
        assert type(moved) is type(held)


def test_a_layer_is_explained(tmp_path: Path) -> None:
    found = explain("ep-anatomy")
    assert found.sentence.startswith("Layer ")
    moved = {s.words for s in found.sensitivities if abs(s.more.get("layer", 0.0)) > 1e-4}
    assert "NIC latency" in moved, "one token a rank is latency"


# The commands


@pytest.mark.parametrize(
    ("arguments", "first"),
    [
        (("plan", "p.yaml"), "32 GPUs of h200-cx7 serve deepseek-v3: $0.126 per million output tokens, TPOT 20.7 ms."),
        (
            ("sweep", "s.yaml", "--over", "deployment.decode.batch=64,128,4096"),
            "3 points over deployment.decode.batch, 1 refused",
        ),
        (
            ("compare", "s.yaml", "--set", "cluster.node.nic=connectx8-800g"),
            "cluster.node.nic connectx7-400g -> connectx8-800g:",
        ),
        (("compare", "s.yaml", "s.yaml", "--set-b", "deployment.decode.batch=64"), "deployment.decode.batch 128 -> 64:"),
        (("explain", "s.yaml"), "32 GPUs of h200-cx7 serve deepseek-v3: $0.126 per million output tokens, TPOT 20.7 ms; 10 %"),
        (("explain", "p.yaml"), "32 GPUs of h200-cx7 serve deepseek-v3: $0.126 per million output tokens, TPOT 20.7 ms; 10 %"),
        (
            ("sweep", "ep-anatomy", "--over", "traffic.tokens_per_rank=1,2"),
            "2 points over traffic.tokens_per_rank: the lowest time",
        ),
        (
            ("compare", "ep-anatomy", "--set", "deployment.compare=[]", "--set", "cluster.node.nic=connectx8-800g"),
            "cluster.node.nic ",
        ),
    ],
)
def test_every_command_answers_in_every_form(
    epicycle: Command, toy: ModuleType, tmp_path: Path, arguments: tuple[str, ...], first: str
) -> None:
    files = ("--json", "a.json", "--csv", "a.csv", "--html", "a.html")
    done = epicycle(*arguments, *files)
    assert done.status == 0, done.err
    assert done.out.startswith(first), done.out
    assert done.err == ""
    written = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert written["kind"] == arguments[0]
    assert len(list(csv.reader((tmp_path / "a.csv").open(encoding="utf-8", newline="")))) > 1
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert f"epicycle {arguments[0]} {arguments[1]}" in page
    before = (tmp_path / "a.json").read_bytes()
    assert epicycle(*arguments, "--json", "b.json").status == 0
    assert (tmp_path / "b.json").read_bytes() == before
    on_stdout = epicycle(*arguments, "--csv", "-")
    assert on_stdout.out == (tmp_path / "a.csv").read_text(encoding="utf-8")
    assert on_stdout.err.startswith(first)


def test_json_has_no_number_that_does_not_exist(epicycle: Command, toy: ModuleType) -> None:
    written = json.loads(epicycle("plan", "p.yaml", "--json", "-").out, parse_constant=pytest.fail)
    assert written["best"]["metrics"]["nothing"]["value"] is None
    assert written["best"]["metrics"]["tpot"]["unit"] == "s"
    assert written["best"]["serving"]["decode"]["batch"] == 128


def test_a_plan_that_finds_nothing_exits_3_and_still_answers(epicycle: Command, toy: ModuleType, tmp_path: Path) -> None:
    done = epicycle("plan", "p.yaml", "--set", "slo.tpot=1 ms", "--json", "a.json", "--csv", "a.csv", "--html", "a.html")
    assert done.status == 3
    assert done.out.startswith("0 of 3 deployments meet the limits.")
    assert "a smaller batch" in done.out
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["best"] is None
    assert (tmp_path / "a.csv").exists()
    assert (tmp_path / "a.html").exists()


def test_a_report_that_fails_leaves_nothing(
    epicycle: Command, toy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError(28, "No space left on device", "a.html")

    monkeypatch.setattr("epicycle.scenarios.report.write_sweep_report", broken)
    before = sorted(tmp_path.iterdir())
    done = epicycle(
        "sweep", "s.yaml", "--over", "deployment.decode.batch=64,128", "--json", "a.json", "--csv", "a.csv", "--html", "a.html"
    )
    assert (done.status, done.err) == (74, "error: a.html: No space left on device\n")
    assert sorted(tmp_path.iterdir()) == before


def test_text_from_a_file_is_never_markup(epicycle: Command, toy: ModuleType, tmp_path: Path) -> None:
    name = "[red]<script>alert(1)</script>"
    done = epicycle("explain", "s.yaml", "--set", f"name='{name}'", "--html", "a.html")
    assert done.status == 0, done.err
    assert "<script>alert" not in (tmp_path / "a.html").read_text(encoding="utf-8")
    assert epicycle("plan", "p.yaml", "--set", f"name='{name}'").status == 0


@pytest.mark.parametrize("command", ["plan", "sweep", "compare", "explain"])
def test_help_has_an_example_and_the_exit_status(epicycle: Command, command: str) -> None:
    done = epicycle(command, "--help")
    text = " ".join(done.out.split())
    assert f"epicycle {command} " in text
    assert "Exit status" in text
    assert ("3 nothing meets the limits" in text) == (command == "plan")
