"""Launch commands hold only recorded flags, name the key each comes from, and read back to the same deployment."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from epicycle.hwmodels.catalog import load_cluster
from epicycle.hwmodels.errors import BadInput
from epicycle.scenarios.ask.document import parse_document
from epicycle.scenarios.ask.scenario import read_scenario
from epicycle.scenarios.launch.command import commands, script
from epicycle.scenarios.launch.emit import launch_files
from epicycle.scenarios.launch.flag_list import flag_list
from epicycle.scenarios.launch.from_command import deployment_from
from epicycle.scenarios.launch.option import EngineLacks
from epicycle.scenarios.launch.read_flags import read_wheel
from epicycle.sim.inputs.model import load_model
from epicycle.sim.inputs.serving import Serving, Worker

MODEL, CLUSTER = load_model("deepseek-v3"), load_cluster("h200-cx7", 16)
WIDE = {"dp": 32, "ep": 32, "batch": 128, "redundant_experts": 32}
SHAPES = {
    "one node, tensor-parallel": {"decode": {"tp": 8, "ep": 8, "batch": 64, "chunk_tokens": 4096}},
    "tensor-parallel experts": {"decode": {"tp": 8}},
    "wide": {"decode": {**WIDE, "count": 2}, "mtp": 1, "kv": "fp8", "memory_share": 0.85},
    "two nodes of groups": {"decode": {"tp": 2, "dp": 8, "ep": 16, "protocol": "high-throughput", "overlap": True}},
    "placed by load": {"decode": {"dp": 16, "ep": 16, "placement": "balanced", "cuda_graphs": False}},
    "in order": {"decode": {"dp": 16, "ep": 16, "placement": "contiguous", "protocol": "all-gather"}},
    "elastic": {"decode": {"dp": 16, "ep": 16, "protocol": "elastic"}},
    "pipelined": {"decode": {"tp": 8, "pp": 2, "ep": 8}, "kv": "bf16"},
    "pools": {"mode": "disaggregated", "decode": WIDE, "prefill": {"dp": 8, "ep": 8, "protocol": "high-throughput"}},
}


def _all() -> list[tuple[str, str]]:
    return [(target, shape) for target in ("vllm", "sglang", "trtllm", "dynamo") for shape in SHAPES]


def _serving(target: str, shape: str) -> Serving:
    return Serving.model_validate({"backend": "vllm" if target == "dynamo" else target, **SHAPES[shape]})


@pytest.mark.parametrize(("target", "shape"), _all())
def test_commands_hold_recorded_flags_and_read_back(target: str, shape: str, tmp_path: Path) -> None:
    serving = _serving(target, shape)
    try:
        files = launch_files(serving, target, MODEL, CLUSTER)
    except EngineLacks as refused:  # what TensorRT-LLM lacks is refused by name, with the lever
        assert target == "trtllm", refused
        assert ":" in str(refused)
        return
    known = set(flag_list(serving.backend).flags) | (set(flag_list("dynamo").flags) if target == "dynamo" else set())
    written = [w for name, text in files.items() if name.endswith(".sh") for w in text.split("set -eu")[1].split()]
    flags = {word for word in written if word.startswith("--") and not word.endswith(")")}
    assert flags
    assert flags <= known
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    keys = yaml.safe_load(files["deployment.yaml"])["deployment"]
    read = deployment_from(keys.pop("from"), MODEL.experts, tmp_path)
    assert read.unused == ()
    for key, value in keys.items():
        read.keys[key] = {**read.keys[key], **value} if isinstance(value, dict) else value
    wanted = serving.model_dump()
    if target == "trtllm":  # experts in order and a bf16 cache are what it does untold
        wanted["decode"]["placement"] = None
        wanted["kv"] = None if serving.kv == "bf16" else serving.kv
    assert Serving.model_validate(read.keys).model_dump() == wanted


@pytest.mark.parametrize("target", ["vllm", "sglang", "dynamo"])
def test_every_flag_names_its_key(target: str) -> None:
    serving = _serving(target, "pools")
    for command in commands(serving, target, MODEL, CLUSTER):
        text = script(command, (flag_list(target),))
        for option in command.options:
            assert f"# {option.name} " in text
            assert option.key.startswith("deployment.") or option.value is not None


def test_sglang_counts_whole_stages_and_vllm_each_rank() -> None:
    """SGLang divides batch and chunk by the attention groups; vLLM is told them per rank."""
    wide = {"decode": {"tp": 2, "dp": 8, "ep": 16, "batch": 10, "chunk_tokens": 1000}}
    [sglang] = commands(Serving.model_validate({"backend": "sglang", **wide}), "sglang", MODEL, CLUSTER)
    [vllm] = commands(Serving.model_validate({"backend": "vllm", **wide}), "vllm", MODEL, CLUSTER)
    a, b = ({o.name: o.value for o in c.options} for c in (sglang, vllm))
    assert (a["--tp-size"], a["--max-running-requests"], a["--chunked-prefill-size"]) == ("16", "80", "8000")
    assert (b["--tensor-parallel-size"], b["--max-num-seqs"], b["--max-num-batched-tokens"]) == ("2", "10", "1000")


@pytest.mark.parametrize(
    ("target", "keys", "told"),
    [
        ("vllm", {"decode": {"dp": 16, "ep": 8}}, "vllm has no option for deployment.decode.ep=8"),
        ("vllm", {"decode": {"dp": 16, "ep": 16, "protocol": "padded-all-to-all"}}, "protocol=padded-all-to-all"),
        ("vllm", {"decode": {"dp": 16, "ep": 16, "comm_sms": 40}}, "comm_sms=40"),
        ("vllm", {"payload": "bf16"}, "payload=bf16"),
        ("sglang", {"decode": {"dp": 16, "ep": 16, "protocol": "one-sided"}}, "protocol=one-sided"),
        ("sglang", {"experts": "fp4"}, "--checkpoint"),
        ("trtllm", {"decode": {"tp": 2, "dp": 8, "ep": 16}}, "use tp=1 and dp=16"),
        ("trtllm", {"decode": {"dp": 16, "ep": 16, "overlap": True}}, "no two-batch overlap"),
    ],
)
def test_what_an_engine_lacks_is_refused(target: str, keys: dict[str, object], told: str) -> None:
    with pytest.raises(EngineLacks, match="has no option for") as refused:
        commands(Serving.model_validate({"backend": target, **keys}), target, MODEL, CLUSTER)
    assert told in str(refused.value)


def test_the_answer_s_engine_is_the_one_launched() -> None:
    with pytest.raises(BadInput, match="about sglang, not vllm"):
        commands(Serving(), "vllm", MODEL, CLUSTER)
    assert commands(Serving.model_validate({"experts": "fp4"}), "sglang", MODEL, CLUSTER, "nvidia/DeepSeek-R1-FP4")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("vllm serve m --tensor-paralel-size 8", "did you mean --tensor-parallel-size?"),
        ("vllm serve m --tensor-parallel-size eight", "is a number, got eight"),
        ("vllm serve m --all2all-backend pigeon", "one of naive, pplx"),
        ("vllm serve m --max-num-seqs 8 --max-num-seqs 9", "given twice"),
        ("vllm serve m --enable-expert-parallel=yes 3", "wanted a flag, got '3'"),
        ("sglang.serve m", "wanted a command line that begins with"),
        ("python -m sglang.launch_server --tp 8 --dp-size 2", "deployment.decode.count=2"),
        ("python -m sglang.launch_server --disaggregation-mode prefill", "give both"),
        ('vllm serve m --speculative-config \'{"method":"ngram"}\'', "knows the method mtp"),
        ("vllm serve 'm", "No closing quotation"),
    ],
)
def test_a_command_line_that_cannot_be_read(line: str, told: str) -> None:
    with pytest.raises(BadInput) as refused:
        deployment_from(line)
    assert told in str(refused.value)


def test_other_spellings_and_flags_that_no_answer_uses() -> None:
    read = deployment_from(
        "python3 -m sglang.launch_server --model x --tp 16 --dp-size 16 --enable-dp-attention --stream-interval 4"
    )
    assert (read.keys["decode"]["tp"], read.keys["decode"]["dp"]) == (1, 16)
    assert read.unused == ("--stream-interval 4: a flag that no answer stands on",)


#: Keys that are no flag of an engine: properties of requests, how many instances, and where they run.
NO_FLAG = {"acceptance", "count", "cluster", "mode", "prefill", "decode", "backend"}
#: A value that differs from what holds without it.
OTHER: dict[str, object] = {
    **{"tp": 2, "dp": 8, "pp": 2, "ep": 8, "dcp": 2, "protocol": "all-gather", "comm_sms": 40, "redundant_experts": 32},
    **{"placement": "contiguous", "overlap": True, "cuda_graphs": False, "batch": 7, "chunk_tokens": 4096, "balance": "wait"},
    **{"weights": "fp4", "experts": "fp4", "kv": "fp8", "payload": "bf16", "attention": "fp8", "mtp": 1, "memory_share": 0.7},
    **{"transport": "gin-gda", "poll_steps": 30, "wait_steps": 5, "wait_fill": 0.5},
}


@pytest.mark.parametrize("engine", ["vllm", "sglang", "trtllm"])
def test_every_key_of_a_deployment_becomes_a_flag_or_is_refused(engine: str) -> None:
    """What an answer stands on is in the commands, or the engine lacks it: nothing is dropped."""
    worker = {"tp": 1, "dp": 16, "ep": 16, "protocol": "high-throughput"}
    keys: dict[str, Any] = {"backend": engine, "decode": worker}
    before = launch_files(Serving.model_validate(keys), engine, MODEL, CLUSTER)
    assert set(Serving.model_fields) | set(Worker.model_fields) == NO_FLAG | set(OTHER)
    for key, value in OTHER.items():
        if key in Worker.model_fields:
            wide = {"tp": 2, "dp": 8} if key in ("dcp", "tp", "dp") else {}
            asked = {**keys, "decode": {**worker, **wide, key: value}}
        else:
            asked = {**keys, key: value, **({"wait_steps": 5} if key == "wait_fill" else {})}
        try:
            serving = Serving.model_validate(asked)
            after = launch_files(serving, engine, MODEL, CLUSTER)
        except ValueError as refused:  # EngineLacks among them
            assert key in str(refused) or "wait_steps" in str(refused), (key, refused)
            continue
        if (engine, key) == ("trtllm", "placement"):
            continue  # experts in their order is what it does untold
        assert after != before, f"{engine} is not told {key}={value}"
        read = deployment_from(yaml.safe_load(after["deployment.yaml"])["deployment"]["from"], MODEL.experts, _kept(after))
        assert read.unused == (), key
        if key in Worker.model_fields:
            assert read.keys["decode"].get(key, Worker.model_fields[key].default) == value, key
        else:
            assert read.keys.get(key) == value, key


def _kept(files: dict[str, str]) -> Path:
    folder = Path(tempfile.mkdtemp())
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def test_every_token_is_handed_out_as_it_is_answered() -> None:
    for engine in ("vllm", "sglang", "trtllm"):
        files = launch_files(Serving.model_validate({"backend": engine}), engine, MODEL, CLUSTER)
        text = files["aggregated.sh"] + files.get("aggregated.yaml", "")
        assert re.search(r"^ *(--stream-interval 1|stream_interval: 1)", text, re.MULTILINE), text


def test_a_script_finds_its_settings_wherever_it_is_called_from(tmp_path: Path) -> None:
    files = launch_files(Serving.model_validate({"backend": "trtllm", "decode": {"tp": 8}}), "trtllm", MODEL, CLUSTER)
    folder = tmp_path / "a folder"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    (tmp_path / "trtllm-serve").write_text('#!/bin/sh\nfor a in "$@"; do last=$a; done\ncat "$last"\n')
    (tmp_path / "trtllm-serve").chmod(0o755)
    done = subprocess.run(
        ["/bin/sh", str(folder / "aggregated.sh")],
        cwd="/",
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == files["aggregated.yaml"], done.stderr


@pytest.mark.parametrize("engine", ["vllm", "sglang", "trtllm", "dynamo"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_script_is_one_that_a_shell_reads(engine: str, shape: str) -> None:
    try:
        files = launch_files(_serving(engine, shape), engine, MODEL, CLUSTER)
    except EngineLacks:
        return
    for name, text in files.items():
        if name.endswith(".sh"):
            subprocess.run(["/bin/sh", "-n"], input=text, text=True, check=True)


def test_a_scenario_takes_its_deployment_from_a_command_line() -> None:
    text = """
name: mine
model: deepseek-v3
cluster: {name: h200-cx7, nodes: 2}
workload: {input_tokens: 1000, output_tokens: 100}
deployment:
  from: vllm serve deepseek-ai/DeepSeek-V3 -dp 16 --enable-expert-parallel --max-num-seqs 32 --seed 4
  decode: {chunk_tokens: 2048}
"""
    question = read_scenario(parse_document(text, "mine.yaml")).resolve()
    decode = question.serving.decode
    assert (question.serving.backend, decode.dp, decode.ep, decode.batch, decode.chunk_tokens) == ("vllm", 16, 16, 32, 2048)
    assert question.unused == ("not used: --seed 4: a flag that no answer stands on",)


def test_the_reader_of_wheels(tmp_path: Path) -> None:
    """A wheel made up of the three ways in which a flag is written."""
    made = tmp_path / "vllm-9.9.9-py3-none-any.whl"
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("vllm/config/parallel.py", "class C:\n    width: int = 1\n    how: Literal['a', 'b'] | None = None\n")
        archive.writestr(
            "vllm/engine/arg_utils.py",
            "kw = get_kwargs(C)\np.add_argument('--width', '-w', **kw['width'])\np.add_argument('--how', **kw['how'])\n"
            "p.add_argument('--on', action='store_true')\n",
        )
    record = read_wheel(made)
    assert record["version"] == "9.9.9"
    assert record["flags"] == {
        "--how": {"choices": ["a", "b"]},
        "--on": {"type": "bool"},
        "--width": {"type": "int", "aliases": ["-w"]},
    }
    with pytest.raises(ValueError, match="wanted a wheel of vllm"):
        read_wheel(tmp_path / "torch-1.0-x.whl")


def test_the_records_say_which_wheel_they_are_of() -> None:
    for engine in ("vllm", "sglang", "dynamo"):
        known = flag_list(engine)
        assert known.wheel.endswith(".whl")
        assert len(known.sha256) == 64
        assert len(known.flags) > 100
    assert not flag_list("trtllm").checked
    assert "unchecked" in flag_list("trtllm").words
