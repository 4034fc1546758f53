"""Bad input: one clear line on stderr, exit status 2, nothing written, and the engine is never reached."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

Command = Callable[..., Any]
Refused = Callable[..., str]

TEXT = """name: try
model: deepseek-v3
cluster: {name: h100-cx7, nodes: 4}
traffic:
  tokens_per_rank: 128
deployment:
  ep: 32
"""


@pytest.fixture
def refused(epicycle: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Refused:
    """Run a command that must be refused before the engine; give its one line."""

    def reached(*_: object, **__: object) -> None:
        raise AssertionError("bad input reached the engine")

    for name, function in (
        ("sim.layer.layer", "simulate"),
        ("scenarios.answer.evaluate", "evaluate"),
        ("scenarios.plan.plan", "plan"),
    ):
        engine = ModuleType(f"epicycle.{name}")
        setattr(engine, function, reached)
        monkeypatch.setitem(sys.modules, f"epicycle.{name}", engine)

    def run(*arguments: object) -> str:
        return one_line(epicycle, tmp_path, *arguments)

    return run


def one_line(epicycle: Command, folder: Path, *arguments: object) -> str:
    before = contents(folder)
    done = epicycle(*arguments)
    assert done.status == 2, done
    assert done.out == ""
    assert done.err.startswith("error: "), done.err
    assert done.err.endswith("\n")
    line = done.err[len("error: ") : -1]
    assert line.isprintable(), "one line, no control characters"
    assert contents(folder) == before
    return str(line)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() if p.is_file() else b"" for p in sorted(folder.rglob("*"))}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            "cluster.node.gpu=h100-sxn",
            "unknown GPU 'h100-sxn': did you mean 'h100-sxm'? List them with",
        ),
        ("cluster.node.nic=connectx7-400", "unknown NIC 'connectx7-400': did you mean 'connectx7-400g'?"),
        ("cluster=h100-cx77", "unknown cluster 'h100-cx77': did you mean 'h100-cx7'?"),
        ("model=deepseek-v33", "unknown model 'deepseek-v33': did you mean 'deepseek-v3'?"),
        ("model.expert=8", "has no key 'expert': did you mean 'experts'?"),
        ("cluster.node.gpus_per_node=4", "has no key 'node.gpus_per_node'"),
        ("cluster.node.gpu.hbm_bandwith=1 TB/s", "did you mean 'node.gpu.hbm_bandwidth'?"),
        ("deployment.protcol=low-latency", "no such key deployment.protcol: did you mean 'protocol'?"),
        ("deploymnt.ep=8", "no such key 'deploymnt': did you mean 'deployment'?"),
        ("traffic.routing.knd=uniform", "no such key traffic.routing.knd: did you mean 'kind'?"),
        ("cluster.node.gpu.hbm_bandwidth=3350", "a bandwidth needs a unit: write"),
        ("cluster.node.nic.latency=2.8", "a latency needs a unit"),
        ("cluster.node.nic.bandwidth=50 GB", "a bandwidth is per second: write GB/s"),
        ("cluster.node.gpu.hbm_bandwidth=-3 TB/s", "must be positive"),
        ("cluster.node.gpu.hbm_bandwidth=3350000 TB/s", "is absurd"),
        ("cluster.node.gpu.sms=0", "node.gpu.sms"),
        ("cluster.nodes=0", "cluster.nodes: wanted greater than or equal to 1, got 0"),
        ("cluster.nodes=100000", "cluster.nodes: wanted less than or equal to 4096"),
        ("traffic.tokens_per_rank=-1", "no negative count, got -1"),
        ("traffic.tokens_per_rank=10000000", "is beyond 1,048,576: is a unit wrong?"),
        ("traffic.tokens_per_rank=many", "wanted a valid integer"),
        ("traffic.tokens_per_rank=[1, 2, 3]", "lists 3 ranks, the deployment has 32"),
        ("deployment.ep=1", "deployment.ep: wanted greater than or equal to 2, got 1"),
        ("deployment.ep=31", "experts (256) do not divide over ep (31): use 16 or 32, or redundant_experts=23"),
        ("deployment.ep=64", "ep (64) needs 8 nodes: 4 nodes of h100-cx7 are 32 GPUs: use cluster.nodes=8"),
        ("model.top_k=257", "top_k (257) must lie within 1 and experts (256)"),
        ("model.top_k=0", "top_k (0) must lie within 1 and experts (256)"),
        ("model.hidden=-7168", "hidden"),
        ("model=missing/config.json", "missing/config.json: cannot be read: No such file or directory"),
        ("seed=-1", "seed: wanted greater than or equal to 0, got -1"),
        ("seed=x", "seed: wanted a valid integer"),
        ("name=", "name: wanted a valid string"),
        ("traffic.routing.kind=file", "routing.file goes with routing.kind=file"),
        ("traffic.routing.alpha=nan", "alpha"),
        ("deployment.ep", "wanted path=value"),
        ("deployment.ep=[", "malformed YAML"),
        ('name="a\\e[31mb"', "name"),
    ],
)
def test_a_scenario_that_cannot_be_asked(refused: Refused, tmp_path: Path, change: str, said: str) -> None:
    (tmp_path / "s.yaml").write_text(TEXT, encoding="utf-8")
    line = refused("simulate", "s.yaml", "--set", change, "--json", "a.json", "--html", "a.html")
    assert said in line


def test_the_issue_s_own_example(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(TEXT.replace("ep: 32", "ep: 48").replace("nodes: 4", "nodes: 6"), encoding="utf-8")
    wanted = "s.yaml:7: experts (256) do not divide over ep (48): use 32 or 64, or redundant_experts=32"
    assert refused("simulate", "s.yaml", "--json", "a.json") == wanted


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "wanted the keys name, model, cluster and either traffic and deployment, or workload, got an empty file"),
        ("- a\n- b\n", "got a list"),
        ("name: a\nmodel: [\n", "s.yaml:3: malformed YAML"),
        ("name: a\n\tmodel: b\n", "s.yaml:2: malformed YAML"),
        (TEXT + "seed: 1\nseed: 2\n", "s.yaml:9: seed is given twice, first at s.yaml:8"),
        (TEXT + "sed: 1\n", "s.yaml:8: no such key sed: did you mean 'seed'?"),
        (TEXT.replace("  ep: 32\n", "  protocol: low-latency\n"), "s.yaml:6: deployment.ep is missing"),
        (TEXT.replace("h100-cx7", "h100-cx77"), "s.yaml:3: unknown cluster 'h100-cx77'"),
        (
            TEXT.replace("deepseek-v3", "{preset: deepseek-v3, overrides: {hiden: 8}}"),
            "s.yaml:2: deepseek-v3 has no",
        ),
    ],
)
def test_a_file_that_is_no_scenario(refused: Refused, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "s.yaml").write_text(text, encoding="utf-8")
    assert said in refused("simulate", "s.yaml", "--json", "a.json")


SERVING = """name: serve
model: deepseek-v3
cluster: {name: h200-cx7, nodes: 4}
workload: {input_tokens: 4000, output_tokens: 1000}
slo: {tpot: 30 ms}
deployment:
  decode: {dp: 32, ep: 32}
search: {batches: [64, 128]}
"""
OUTPUTS = ("--json", "a.json", "--csv", "a.csv", "--html", "a.html")


@pytest.mark.parametrize("command", [("plan",), ("sweep", "--over", "seed=1,2"), ("compare", "--set", "seed=2"), ("explain",)])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("workload: {input_tokens: 0, output_tokens: 1}", "s.yaml:4: workload.input_tokens: wanted greater than or equal to 1"),
        ("workload: {input_tokens: 4000}", "s.yaml:4: workload.output_tokens is missing"),
        ("workload: {input_tokens: 4k, output_tokens: 1}", "s.yaml:4: workload.input_tokens: wanted a valid integer"),
        ("wrkload: {input_tokens: 4000}", "s.yaml:4: no such key wrkload: did you mean 'workload'?"),
        ("traffic: {tokens_per_rank: 4}\nworkload: {input_tokens: 4, output_tokens: 1}", "both workload (serving) and traffic"),
        ("", "s.yaml:1: workload is missing"),
    ],
)
def test_a_serving_scenario_that_cannot_be_asked(
    refused: Refused, tmp_path: Path, command: tuple[str, ...], change: str, said: str
) -> None:
    asked = "workload: {input_tokens: 4000, output_tokens: 1000}"
    (tmp_path / "s.yaml").write_text(SERVING.replace(asked, change), encoding="utf-8")
    assert said in refused(command[0], "s.yaml", *command[1:], *OUTPUTS)


@pytest.mark.parametrize(
    ("set_", "said"),
    [
        ("deployment.decode.ep=48", "ep (48) must divide tp x dp (1 x 32 = 32): use ep=32"),
        ("deployment.decode.count=2", "needs 8 nodes: 4 nodes of h200-cx7 are 32 GPUs: use cluster.nodes=8"),
        ("deployment.decode.bach=2", "no such key deployment.decode.bach: did you mean 'batch'?"),
        ("deployment.mode=disagregated", "got 'disagregated': did you mean 'disaggregated'?"),
        ("search.batches=[]", "search.batches"),
        ("search.batchs=[1]", "no such key search.batchs: did you mean 'batches'?"),
        ("search.clusters=[h100]", "unknown cluster 'h100'"),
        ("bill.basis=stolen", "bill.basis: wanted 'rental'"),
        ("slo.tpot=30", "a duration needs a unit"),
        ("slo.tpt=30 ms", "no such key slo.tpt: did you mean 'tpot'?"),
        ("workload.rate=10", "a rate needs a unit"),
        ("prices.gpu_hour.h200=1 USD/GPU-h", "unknown price 'gpu_hour.h200'"),
        ("prices.electricity=0.1 EUR/kWh", "electricity"),
        ("model.mtp_layer=1", "did you mean 'mtp_layers'?"),
        ("cluster.node.gpu.hbm_capacity=141", "a size needs a unit"),
        ("traffic.tokens_per_rank=1", "no such key 'traffic'"),
    ],
)
def test_a_change_that_a_serving_scenario_does_not_take(refused: Refused, tmp_path: Path, set_: str, said: str) -> None:
    (tmp_path / "s.yaml").write_text(SERVING, encoding="utf-8")
    for command in ("plan", "explain"):
        assert said in refused(command, "s.yaml", "--set", set_, *OUTPUTS)
    assert said in refused("sweep", "s.yaml", "--over", set_, *OUTPUTS)
    assert said in refused("compare", "s.yaml", "--set", set_, *OUTPUTS)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("plan",), "Missing argument"),
        (("plan", "ep-anatomy"), "asks about one layer (it has traffic), serving is wanted"),
        (("simulate", "s.yaml"), "asks about serving (it has a workload), a layer is wanted"),
        (("sweep", "s.yaml"), "a sweep needs something to sweep: --over path=a,b,c"),
        (("sweep", "s.yaml", "--over", "seed"), "--over seed: wanted path=a,b,c"),
        (("sweep", "s.yaml", "--over", "seed="), "--over seed=: wanted path=a,b,c"),
        (("sweep", "s.yaml", "--over", "seed=1,,2"), "wanted path=a,b,c"),
        (("sweep", "s.yaml", "--over", "seed=1,1"), "1 is there twice: give each value once"),
        (("sweep", "s.yaml", "--over", "seed=1", "--over", "seed=2"), "--over seed is given twice"),
        (
            ("sweep", "s.yaml", "--over", "sed=1,2"),
            "none of 2 points can be answered; the first: no such key 'sed': did you mean",
        ),
        (
            (
                "sweep",
                "s.yaml",
                "--over",
                f"seed={','.join(map(str, range(101)))}",
                "--over",
                f"deployment.decode.batch={','.join(map(str, range(1, 101)))}",
            ),
            "10,100 points are more than the 10,000 of one sweep",
        ),
        (("compare",), "Missing argument"),
        (("compare", "s.yaml"), "nothing to be compared with: name a second, or give --set"),
        (("compare", "s.yaml", "ep-anatomy"), "different kinds of question"),
        (("compare", "s.yaml", "none.yaml"), "none.yaml: No such file or directory"),
        (("compare", "s.yaml", "s.yaml", "--set-a", "sed=1"), "--set-a sed=1: no such key 'sed'"),
        (("compare", "s.yaml", "s.yaml", "--set-b", "slo.tpot=1"), "--set-b slo.tpot=1: slo.tpot: a duration needs a unit"),
        (("explain", "none"), "unknown scenario 'none'"),
        (("explain", "s.yaml", "--step", "0"), "step must lie between 0 and 1"),
        (("explain", "s.yaml", "--step", "ten"), "Invalid value for '--step'"),
        (("explain", "s.yaml", "--csv", "no/folder.csv"), "no/folder.csv: cannot be written"),
        (("plan", "s.yaml", "--csv", "a", "--json", "a"), "two outputs have the same path"),
    ],
)
def test_the_new_commands_used_wrongly(refused: Refused, tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    (tmp_path / "s.yaml").write_text(SERVING, encoding="utf-8")
    assert said in refused(*arguments, *(() if "a" in arguments or "--csv" in arguments else ("--json", "a.json")))


def test_a_yaml_that_tries_to_run_code_does_nothing(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(TEXT + "seed: !!python/object/apply:os.system ['touch pwned']\n", encoding="utf-8")
    assert "s.yaml:8: tag" in refused("simulate", "s.yaml")
    assert not (tmp_path / "pwned").exists()


def test_files_that_are_not_there_or_not_text(refused: Refused, tmp_path: Path) -> None:
    assert refused("simulate", "none.yaml") == "none.yaml: No such file or directory"
    assert "unknown scenario 'ep-anatomi': did you mean 'ep-anatomy'?" in refused("simulate", "ep-anatomi")
    (tmp_path / "bin.yaml").write_bytes(b"name: \xff\xfe\n")
    assert "bin.yaml:1: not UTF-8 text" in refused("simulate", "bin.yaml")
    (tmp_path / "dir.yaml").mkdir()
    assert "dir.yaml: Is a directory" in refused("simulate", "dir.yaml")
    (tmp_path / "big.yaml").write_text("#" * (1 << 20) + "\n")
    assert "too large" in refused("simulate", "big.yaml")


@pytest.mark.parametrize("option", ["--json", "--html", "--trace"])
@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("no/such/folder.out", "no/such/folder.out: cannot be written: there is no folder no/such"),
        (".", ".: cannot be written: it is a folder"),
        ("/proc/epicycle.out", "/proc/epicycle.out: cannot be written: "),
    ],
)
def test_an_unwritable_output(refused: Refused, option: str, path: str, said: str) -> None:
    assert said in refused("simulate", "ep-anatomy", option, path)


def test_one_file_for_two_outputs(refused: Refused) -> None:
    assert "two outputs have the same path" in refused("simulate", "ep-anatomy", "--json", "a", "--html", "a")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["simulat", "ep-anatomy"], "No such command 'simulat'"),
        (["simulate"], "Missing argument"),
        (["simulate", "ep-anatomy", "--sed", "1"], "No such option"),
        (["simulate", "ep-anatomy", "--seed", "x"], "Invalid value for '--seed'"),
        (["catalog", "gpu"], "unknown kind 'gpu': did you mean 'gpus'?"),
        (["catalog", "gpus", "h100"], "unknown GPU 'h100': did you mean 'h100-sxm'?"),
        (["catalog", "scenarios", "ep-anatomi"], "did you mean 'ep-anatomy'?"),
        (["catalog", "models", "deepseek-v33"], "did you mean 'deepseek-v3'?"),
        (["validate"], "Missing argument"),
        (["validate", "none.csv"], "none.csv: No such file or directory"),
        (["validate", "none.csv", "--engine", "magic"], "'magic' is not one of 'closed', 'events'"),
        (["validate", "none.csv", "--csv", "no/folder.csv"], "no/folder.csv: cannot be written"),
    ],
)
def test_a_command_line_that_is_wrong(refused: Refused, arguments: list[str], said: str) -> None:
    assert said in refused(*arguments)


HEADER = (
    "system,nodes,gpus_per_node,library,protocol,op,payload_dtype,routing,"
    "tokens_per_rank,hidden,top_k,experts,comm_sms,latency_us"
)
ROW = "h100,1,8,deepep@1,deepep-normal,dispatch,fp8,uniform,4096,7168,8,256,24,1000"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1"),
        ("a,b\n1,2\n", "line 1"),
        (HEADER + "\n", "no rows"),
        (f"{HEADER}\n{ROW}\n{ROW},extra\n", "line 3"),
        (f"{HEADER}\n{ROW[:-5]}\n", "line 2"),
        (f"{HEADER}\n{ROW.replace('4096', 'many')}\n", "line 2: tokens_per_rank"),
        (f"{HEADER}\n{ROW.replace('4096', '-1')}\n", "line 2: tokens_per_rank"),
        (f"{HEADER}\n{ROW.replace('4096', 'inf')}\n", "line 2: tokens_per_rank"),
        (f"{HEADER}\n{ROW.replace('4096', 'nan')}\n", "line 2: tokens_per_rank"),
        (f"{HEADER}\n{ROW.replace(',1000', ',0')}\n", "line 2: latency_us"),
        (f"{HEADER}\n{ROW.replace(',1000', ',1 ms')}\n", "line 2: latency_us"),
        (f"{HEADER}\n{ROW.replace(',8,256', ',300,256')}\n", "line 2: top_k (300)"),
        (f'{HEADER}\n"{ROW}\n', "line 2"),
    ],
)
def test_a_malformed_table(refused: Refused, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    line = refused("validate", "t.csv", "--json", "a.json", "--csv", "a.csv", "--html", "a.html")
    assert "t.csv" in line
    assert said in line


def test_a_table_that_is_no_text(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe\x00\x01")
    assert "t.csv" in refused("validate", "t.csv", "--json", "a.json")


@pytest.mark.parametrize(
    "text",
    ["", "1,2\n3\n", "0,1\n2,999\n", "a,b\n", "0,0\n", "-1,2\n", "1.5,2\n", "\x00\x01", "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14\n"],
)
def test_a_malformed_routing_file(epicycle: Command, tmp_path: Path, text: str) -> None:
    (tmp_path / "drawn.csv").write_text(text, encoding="utf-8")
    sets = ("--set", "traffic.routing={kind: file, file: drawn.csv}")
    line = one_line(epicycle, tmp_path, "simulate", "ep-anatomy", *sets, "--json", "a.json")
    assert "drawn.csv" in line


def test_memory_that_does_not_fit_says_what_by_how_much_and_the_lever(epicycle: Command, tmp_path: Path) -> None:
    sets = ("--set", "deployment.max_tokens=65536", "--set", "traffic.tokens_per_rank=128")
    line = one_line(epicycle, tmp_path, "simulate", "deepseek-v3-decode-ep32", *sets, "--json", "a.json", "--html", "a.html")
    assert "GiB" in line
    assert "max_tokens" in line


def test_html_in_a_name_does_nothing(epicycle: Command, tmp_path: Path) -> None:
    name = "<script>alert(1)</script><img src=x onerror=alert(2)>[red]&amp;"
    sets = ("--set", f"name='{name}'", "--set", f"description='{name}'")
    done = epicycle("simulate", "ep-anatomy", *sets, "--json", "a.json", "--html", "a.html", "--trace", "a.trace")
    assert done.status == 0, done.err
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "<img src=x" not in page
