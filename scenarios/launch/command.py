"""The command that starts one kind of worker, in its engine's words: `commands` makes them, `script` writes one down."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ...hwmodels.errors import BadInput
from ...hwmodels.specs import Cluster
from ...sim.inputs.model import MoeModel
from ...sim.inputs.serving import Serving, Worker
from . import sglang, trtllm, vllm
from .flag_list import FlagList, flag_list
from .option import EngineLacks, Option, Site

TARGETS = ("vllm", "sglang", "trtllm", "dynamo")
_FILE_OPTION = {"trtllm": "--extra_llm_api_options", "dynamo": "--extra-engine-args"}
#: Dynamo's TensorRT-LLM wrapper has flags of its own for some keys of the file.
_DYNAMO_TRTLLM = {
    "tensor_parallel_size": "--tensor-parallel-size",
    "pipeline_parallel_size": "--pipeline-parallel-size",
    "moe_expert_parallel_size": "--expert-parallel-size",
    "max_batch_size": "--max-batch-size",
    "max_num_tokens": "--max-num-tokens",
    "kv_cache_config.free_gpu_memory_fraction": "--free-gpu-memory-fraction",
}


@dataclass(frozen=True, slots=True)
class Command:
    """How one instance of a kind of worker is started. ``settings``: keys of a file it reads (TensorRT-LLM), with dots."""

    role: str  # "aggregated", "prefill", "decode"
    target: str
    program: tuple[str, ...]
    checkpoint: str
    options: tuple[Option, ...]
    settings: tuple[Option, ...]
    environment: tuple[Option, ...]
    count: int
    gpus: int
    nodes: int

    @property
    def settings_file(self) -> str:
        """The name of the file of its settings."""
        return f"{self.role}.yaml"

    @property
    def line(self) -> str:
        """The whole command in one line."""
        return " ".join(
            [*(f"{o.name}={o.value}" for o in self.environment), *self.program, self.model, *map(_word, self.shown)]
        )

    @property
    def model(self) -> str:
        """The checkpoint as the program wants it."""
        flag = {"sglang": "--model-path", "dynamo": "--model-path" if "sglang" in self.program[-1] else "--model"}.get(
            self.target, ""
        )
        return f"{flag} {_quoted(self.checkpoint)}".strip()

    @property
    def shown(self) -> tuple[Option, ...]:
        """The options, that for the file of settings among them."""
        if not self.settings:
            return self.options
        return (Option(_FILE_OPTION[self.target], self.settings_file, ""), *self.options)


def commands(
    serving: Serving,
    target: str,
    model: MoeModel,
    cluster: Cluster,
    checkpoint: str | None = None,
    prefill_cluster: Cluster | None = None,
) -> tuple[Command, ...]:
    """The command of each kind of worker of ``serving`` for ``target``: an engine, or dynamo around the deployment's engine.

    ``checkpoint``: what the engine loads; default: the model's page on Hugging Face, or ``$MODEL``. ``prefill_cluster``: where
    prompts are computed, if on other hardware. Raises BadInput if the target is not the engine that the answer was computed
    for, or lacks an option.
    """
    if target not in TARGETS:
        raise BadInput(f"emit {target}: wanted one of {', '.join(TARGETS)}")
    if target not in ("dynamo", serving.backend):
        raise BadInput(
            f"the answer is about {serving.backend}, not {target}: ask with deployment.backend={target} "
            f"(search.backends=[{target}] for a plan), or emit {serving.backend}"
        )
    stored = (model.weight_dtype, model.expert_dtype)
    return tuple(
        _command(role, worker, serving, target, model, checkpoint, Site(key, place.node.gpus, stored, checkpoint is not None))
        for role, key, worker in _workers(serving)
        for place in [prefill_cluster if key == "prefill" and prefill_cluster is not None else cluster]
    )


def _workers(serving: Serving) -> Iterator[tuple[str, str, Worker]]:
    if serving.prefill is not None:
        yield "prefill", "prefill", serving.prefill
    yield ("decode" if serving.prefill is not None else "aggregated"), "decode", serving.decode


def _command(
    role: str, worker: Worker, serving: Serving, target: str, model: MoeModel, checkpoint: str | None, site: Site
) -> Command:
    made: list[Option]
    engine = serving.backend
    if serving.attention is not None:
        lever = "its kernels multiply as the KV cache is stored: leave it out, and say kv"
        raise EngineLacks(engine, "deployment.attention", serving.attention, lever)
    if worker.transport is not None:
        lever = "its communication library chooses as it is built: leave it out"
        raise EngineLacks(engine, f"deployment.{site.role}.transport", worker.transport, lever)
    if engine == "vllm":
        made = list(vllm.options(worker, serving, site))
    elif engine == "sglang":
        made = list(sglang.options(worker, serving, site))
    else:
        made = list(trtllm.options(worker, serving, site, model.experts))
    known = flag_list(engine)
    for option in made:
        known.check(option.name, option.value)
    environment = [option for option in made if option.name.isupper()]
    settings = [option for option in made if engine == "trtllm" and option not in environment]
    options = [option for option in made if option not in environment and option not in settings]
    if target == "dynamo":
        settings, options = _under_dynamo(engine, role, settings, options)
    program = {"vllm": vllm.PROGRAM, "sglang": sglang.PROGRAM, "trtllm": trtllm.PROGRAM}[engine]
    return Command(
        role,
        target,
        ("python3", "-m", f"dynamo.{engine}") if target == "dynamo" else program,
        checkpoint or published(model) or "$MODEL",
        tuple(options),
        tuple(settings),
        tuple(environment),
        worker.count,
        worker.gpus,
        site.nodes(worker),
    )


def _under_dynamo(engine: str, role: str, settings: list[Option], options: list[Option]) -> tuple[list[Option], list[Option]]:
    """The same for Dynamo's wrapper, which takes the engine's own flags and adds the pool's."""
    dynamo = flag_list("dynamo")
    own = [Option(_DYNAMO_TRTLLM[o.name], o.value, o.key) for o in settings if o.name in _DYNAMO_TRTLLM]
    own += [
        Option("--enable-attention-dp", None, o.key) for o in settings if o.name == "enable_attention_dp" and o.value == "true"
    ]
    rest = [o for o in settings if o.name not in _DYNAMO_TRTLLM and o.name != "enable_attention_dp"]
    if role != "aggregated" and engine != "sglang":
        own.append(Option("--disaggregation-mode", role, "deployment.mode"))
    for option in own:
        dynamo.check(option.name, option.value)
    return rest, [*options, *own]


def published(model: MoeModel) -> str | None:
    """The checkpoint that the model's sources name on Hugging Face."""
    for source in model.sources.values():
        if found := re.search(r"huggingface\.co/([\w.-]+/[\w.-]+)", source):
            return found[1]
    return None


def script(command: Command, lists: tuple[FlagList, ...]) -> str:
    """A shell script that starts one instance, with the key of the answer that every flag comes from."""
    many = f"{command.count} instances" if command.count > 1 else "one instance"
    size = f"{command.gpus} GPU{'s' if command.gpus > 1 else ''} on {command.nodes} node{'s' if command.nodes > 1 else ''}"
    head = ["#!/bin/sh", f"# {command.role}: {many} of {size} each. Flags of {'; '.join(each.words for each in lists)}."]
    program = command.program
    if command.nodes > 1 and command.target == "trtllm":
        program = ("trtllm-llmapi-launch", *program)
        head.append(
            f"# Run it once a GPU: srun --mpi=pmix -N {command.nodes} -n {command.gpus} {command.role}.sh, or with mpirun."
        )
    elif command.nodes > 1:
        last = command.nodes - 1
        head.append(f"# Run it on every node of an instance, with NODE_RANK=0 to {last} and HEAD=the address of node 0.")
    told = [*command.environment, *command.options]
    width = max((len(o.name) for o in told), default=0)
    head += ["#", *(f"# {o.name:<{width}}  {o.key or 'where the processes meet'}" for o in told)]
    if command.settings:
        head.append(f"# {command.settings_file} holds the rest, each with its key.")
    exports = [f"export {o.name}={_quoted(o.value or '')}" for o in command.environment]
    beside = [replace(o, value=f'$(dirname "$0")/{o.value}') if o.value == command.settings_file else o for o in command.shown]
    words = [" ".join([*program, command.model]), *map(_word, beside)]
    if command.nodes > 1 and any(o.name == "--data-parallel-start-rank" for o in command.options):
        words.append('$([ "$NODE_RANK" = 0 ] || echo --headless)')
    return "\n".join([*head, "set -eu", *exports, "exec " + " \\\n  ".join(words), ""])


def _word(option: Option) -> str:
    return option.name if option.value is None else f"{option.name} {_quoted(option.value)}"


def _quoted(value: str) -> str:
    """For a shell, whose variables are left to it."""
    return f'"{value}"' if "$" in value else shlex.quote(value)
