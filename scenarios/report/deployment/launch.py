"""How a plan's best deployment is started: its engines' own scripts, each behind a button that copies it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from ..shell.page import Html, more, safe, section
from ..shell.panels import copied, panels, switch

#: Engine, or dynamo around it -> what starts the deployment (file name -> text), or why it does not.
Launch = Mapping[str, Mapping[str, str] | str]


def launch(found: Launch, command: str) -> Html:
    """The scripts of every target, and the command line that writes them; empty without any."""
    if not found:
        return Html("")
    parts = [(f"launch-{target}", _files(target, files, command)) for target, files in found.items()]
    choice = switch("engine", [(f"launch-{target}", target) for target in found])
    lead = "Every flag names the key of the answer that it comes from, and is one of the engine's own, as its wheel has them."
    return section("launch", "Launch it", lead, f"{choice}{panels(parts)}")


def _files(target: str, files: Mapping[str, str] | str, command: str) -> Html:
    if isinstance(files, str):
        return Html(f"<p class='note warn'>{safe(files)}</p>")
    shown = "".join(
        f"<h3>{safe(name)}</h3>{copied(f'launch-{target}-{name}', text, f'copy {name}')}"
        for name, text in files.items()
        if name != "deployment.yaml"
    )
    written = shlex.join([*shlex.split(command.split(" --html ")[0]), "--emit", target, "launch"])
    words = copied(f"launch-{target}-command", written, "copy the command")
    back = more(
        "As a scenario's deployment, read back from these commands", copied(f"launch-{target}-back", files["deployment.yaml"])
    )
    return Html(f"<p class=note>Writes all of these into a folder:</p>{words}{shown}{back}")
