"""`epicycle init`, `catalog`, `schema` and `gallery`: what a user begins with, and what has a name."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from json import dumps
from pathlib import Path
from typing import Any

from ...hwmodels.errors import BadInput
from ..ask.document import parse_document
from ..ask.scenario import ServingScenario, read_scenario
from ..ask.starter import Starter, of_trace, starter_text
from ..say.output import Outputs
from ..say.terminal import console as terminal
from .handing import STDOUT, again, say_written, write


def init(file: Path, given: Mapping[str, Any], ask: Callable[..., Any]) -> None:
    """Write a commented scenario. ``given``: what the options say; on a terminal ``ask`` asks for the rest. Raises BadInput."""
    chosen = {f.name: given[f.name] for f in fields(Starter) if given.get(f.name) is not None}
    asked = Starter(**chosen)
    if given.get("trace") is not None:
        asked = of_trace(asked, given["trace"], chosen)
        chosen["said"] = asked.said
    if file != STDOUT:
        asked = replace(asked, name=file.stem)
    if file.exists() and file.is_file():
        raise BadInput(f"{file}: is there already: name another file, or remove it")
    if not chosen and sys.stdin.isatty() and sys.stdout.isatty():
        for f in fields(Starter):
            if f.name not in ("name", "said"):
                answer = ask(f.name.replace("_", " "), default=getattr(asked, f.name))
                asked = replace(asked, **{f.name: answer})
    text = starter_text(asked)
    checked = read_scenario(parse_document(text, str(file)))
    assert isinstance(checked, ServingScenario), "a starter asks about serving"
    checked.resolve()
    with Outputs((file,)) as outputs:
        outputs.put(file, lambda path: write(path, text))
    if file != STDOUT:
        print(f"{file}: edit it, then epicycle plan {shlex.quote(str(file))}")
        if given.get("trace") is not None:
            trace = shlex.quote(str(given["trace"]))
            print(f"and the best of it under the trace itself: epicycle serve {shlex.quote(str(file))} --trace-in {trace}")


def catalogue(kind: str | None, name: str | None, json: Path | None) -> None:
    """List what has a name. Raises BadInput."""
    from ..say.json_text import json_text
    from ..say.listing import catalogue_dict, print_catalogue

    with Outputs((json,)) as outputs:
        if json is not None:
            listed = json_text(catalogue_dict(kind, name))
            outputs.put(json, lambda path: write(path, listed))
    print_catalogue(kind, name, terminal.console(stderr=outputs.uses_stdout))


def schema(kind: str | None) -> None:
    """Print a schema, or the names of all. Raises BadInput."""
    from ..say.schemas import KINDS
    from ..say.schemas import schema as schema_of

    print("\n".join(KINDS) if kind is None else dumps(schema_of(kind), indent=1))


def gallery(name: str | None, json: Path | None, html: Path | None) -> None:
    """Reproduce published systems. Raises BadInput."""
    from ..say.terminal.gallery import print_gallery

    with Outputs((json, html)) as outputs:
        from ..published.gallery import gallery as reproduced
        from ..say.gallery_json import gallery_json

        with terminal.progress("reproducing published systems") as step:
            found = reproduced(name, step)
        if html is not None:
            from ..report.gallery.gallery_report import write_gallery_report

            command = again("gallery", [name] if name else [], html)
            outputs.put(html, lambda path: write_gallery_report(found, path, command))
        outputs.put(json, lambda path: write(path, gallery_json(found)))
    console = terminal.console(stderr=outputs.uses_stdout)
    print_gallery(found, console)
    say_written(console, report=html, JSON=json)
