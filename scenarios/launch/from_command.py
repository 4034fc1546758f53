"""The deployment that engines' command lines describe: ``deployment: {from: "vllm serve …"}``."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ...hwmodels.errors import BadInput
from . import sglang, trtllm, vllm
from .command import _DYNAMO_TRTLLM
from .flag_list import FlagList, flag_list, given_flags
from .option import Given

#: How a command line begins -> its engine.
_PROGRAMS = {
    "vllm serve": "vllm",
    "-m vllm.entrypoints.openai.api_server": "vllm",
    "-m dynamo.vllm": "vllm",
    "-m sglang.launch_server": "sglang",
    "sglang serve": "sglang",
    "-m dynamo.sglang": "sglang",
    "trtllm-serve": "trtllm",
    "-m dynamo.trtllm": "trtllm",
}
_READERS = {"vllm": vllm.read, "sglang": sglang.read}
_SILENT = {"vllm": vllm.SILENT, "sglang": sglang.SILENT, "trtllm": trtllm.SILENT}


@dataclass(frozen=True, slots=True)
class Read:
    """``keys`` of a deployment as a scenario writes them, and one line for each flag that the answer does not use."""

    keys: dict[str, Any]
    unused: tuple[str, ...]


def deployment_from(written: object, experts: int = 0, folder: Path | None = None) -> Read:
    """The deployment of one command line, or of ``{prefill: …, decode: …}``. Raises BadInput for what cannot be read."""
    lines = {"": written} if isinstance(written, str) else written
    if not isinstance(lines, Mapping) or not lines or set(lines) - {"", "prefill", "decode"}:
        raise BadInput("from: wanted a command line, or prefill and decode with one each")
    keys: dict[str, Any] = {}
    unused: list[str] = []
    for role, line in lines.items():
        if not isinstance(line, str) or not line.strip():
            raise BadInput(f"from{f'.{role}' if role else ''}: wanted a command line, got {line!r}")
        engine, worker, whole, left = _read(line, experts, folder or Path())
        told = whole.pop("role", "")
        if told and role and told != role:
            raise BadInput(f"from.{role}: the command line is that of a {told} worker")
        if told and not role:
            raise BadInput(f"from: the command line is that of a {told} worker: give both, as from: {{prefill: …, decode: …}}")
        _agree(keys, {"backend": engine, **whole})
        keys["prefill" if role == "prefill" else "decode"] = worker
        unused += left
    if "prefill" in keys:
        if "decode" not in keys:
            raise BadInput("from: there is a prefill worker and no decode worker: add from.decode")
        keys["mode"] = "disaggregated"
    return Read(keys, tuple(dict.fromkeys(unused)))


def _agree(keys: dict[str, Any], more: Mapping[str, Any]) -> None:
    for key, value in more.items():
        if keys.setdefault(key, value) != value:
            raise BadInput(f"from: prefill has {key}={keys[key]} and decode {value}: one value for both is what is computed")


def _read(line: str, experts: int, folder: Path) -> tuple[str, dict[str, Any], dict[str, Any], list[str]]:
    try:
        words = shlex.split(line.replace("\\\n", " "), comments=True)
    except ValueError as error:
        raise BadInput(f"from: {error} in {line!r}") from None
    variables: dict[str, str | None] = {}
    while words and (found := re.fullmatch(r"([A-Z_][A-Z0-9_]*)=(.*)", words[0])):
        variables[found[1]] = found[2]
        words.pop(0)
    engine, program, rest = _program(words, line)
    known = flag_list(engine)
    silent = {name: value for name, value in variables.items() if name in known.flags}
    left = [
        f"{name}={value}: an environment variable that no answer stands on"
        for name, value in variables.items()
        if name not in silent
    ]
    while rest and not rest[0].startswith("-"):
        rest.pop(0)  # the checkpoint: the scenario says which model it is
    dynamo = "dynamo" in program
    flags = silent | _flags(rest, known, engine, dynamo, folder)
    given = Given(flags)
    worker, whole = trtllm.read(given, experts) if engine == "trtllm" else _READERS[engine](given)
    if dynamo and (role := given.word("--disaggregation-mode")) in ("prefill", "decode"):
        whole["role"] = role
    for name in _SILENT[engine]:
        given.left.pop(name, None)
    left += [
        f"{name}{f' {value}' if value is not None else ''}: a flag that no answer stands on"
        for name, value in given.left.items()
    ]
    return engine, worker, whole, left


def _program(words: list[str], line: str) -> tuple[str, str, list[str]]:
    plain = words[1:] if words and re.fullmatch(r"(.*/)?python[\d.]*", words[0]) else words
    plain = [plain[0].rsplit("/", 1)[-1], *plain[1:]] if plain else plain
    for start, engine in _PROGRAMS.items():
        parts = start.split()
        if plain[: len(parts)] == parts:
            return engine, start, plain[len(parts) :]
    raise BadInput(f"from: wanted a command line that begins with {', '.join(_PROGRAMS)}, got {line.split()[0]!r}")


def _flags(rest: list[str], known: FlagList, engine: str, dynamo: bool, folder: Path) -> dict[str, str | None]:
    if not dynamo:
        flags = given_flags(rest, known, "from")
        file = flags.get("--extra_llm_api_options")
    elif engine == "trtllm":
        written = given_flags(rest, flag_list("dynamo"), "from")
        file = written.pop("--extra-engine-args", None)
        engine_names = {flag: key for key, flag in _DYNAMO_TRTLLM.items()}
        flags = {engine_names.get(name, name): value for name, value in written.items()}
        if "--enable-attention-dp" in flags:
            del flags["--enable-attention-dp"]
            flags["enable_attention_dp"] = "true"
        flags.pop("--model", None)
    else:
        wrapper = flag_list("dynamo")
        both = FlagList(f"{engine} under dynamo", known.version, known.wheel, "", {**wrapper.flags, **known.flags}, True)
        flags, file = given_flags(rest, both, "from"), None
    if file is not None and engine == "trtllm":
        path = folder / file
        read = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(read, dict):
            raise BadInput(f"{path}: wanted keys and values, got {read!r}")
        flags |= trtllm.flat(read)
        for name, value in trtllm.flat(read).items():
            known.check(name, value)
    return flags
