"""A folder that starts a deployment: a script for each kind of worker, and the scenario keys that read it back."""

from __future__ import annotations

from pathlib import Path

import yaml

from ...hwmodels.errors import BadInput
from ...hwmodels.specs import Cluster
from ...sim.inputs.model import MoeModel
from ...sim.inputs.serving import Serving
from .command import Command, commands, script
from .flag_list import flag_list
from .trtllm import nested


def emit(
    serving: Serving, target: str, folder: Path, model: MoeModel, cluster: Cluster, checkpoint: str | None = None
) -> list[Path]:
    """Write the commands of ``serving`` for ``target`` into ``folder``, and say which files these are.

    Raises BadInput for an option that the engine lacks, or if ``folder`` is no folder; nothing is written then.
    """
    texts = launch_files(serving, target, model, cluster, checkpoint)
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{folder}: cannot be written: it is a file, name a folder")
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in texts.items():
        path = folder / name
        path.write_text(text, encoding="utf-8")
        if name.endswith(".sh"):
            path.chmod(0o755)
        written.append(path)
    return written


def launch_files(
    serving: Serving,
    target: str,
    model: MoeModel,
    cluster: Cluster,
    checkpoint: str | None = None,
    prefill_cluster: Cluster | None = None,
) -> dict[str, str]:
    """What `emit` writes: name -> text; ``prefill_cluster``: other hardware that prompts are computed on.

    Raises BadInput for an option that the engine lacks.
    """
    made = commands(serving, target, model, cluster, checkpoint, prefill_cluster)
    lists = (flag_list("dynamo"), flag_list(serving.backend)) if target == "dynamo" else (flag_list(target),)
    texts = {}
    for command in made:
        texts[f"{command.role}.sh"] = script(command, lists)
        if command.settings:
            texts[command.settings_file] = _settings(command)
    if target == "dynamo":
        texts["frontend.sh"] = (
            "#!/bin/sh\n# The front door: it finds the workers by itself.\nset -eu\n"
            "exec python3 -m dynamo.frontend --http-port 8000\n"
        )
    texts["deployment.yaml"] = _read_back(made, serving)
    return texts


def _settings(command: Command) -> str:
    notes = [f"# {option.name}: {option.key}" for option in command.settings]
    return "\n".join([*notes, yaml.safe_dump(nested({o.name: o.value or "" for o in command.settings}), sort_keys=False)])


def _read_back(made: tuple[Command, ...], serving: Serving) -> str:
    """The key of a scenario that asks about these commands; what no command line says stands beside them."""
    lines = {command.role: command.line for command in made}
    key: dict[str, object] = {"from": lines.get("aggregated", lines)}
    counts = {("prefill" if c.role == "prefill" else "decode"): {"count": c.count} for c in made if c.count > 1}
    beside: dict[str, object] = {**counts}
    if serving.mtp:
        chances = serving.acceptance
        beside["acceptance"] = list(chances) if isinstance(chances, tuple) else chances
    text = yaml.safe_dump({"deployment": {**key, **beside}}, sort_keys=False, width=120)
    return f"# In a scenario, in place of its own `deployment`: epicycle reads these command lines.\n{text}"
