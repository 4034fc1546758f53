"""What the answer rests on: every input with its source, and how to get the same bytes again."""

from __future__ import annotations

import re
import shlex
from itertools import groupby
from typing import Protocol

from ....sim.layer.result import Answer, InputRow
from .page import Html, safe, section

_LINK = re.compile(r"https?://[^\s<>\"'()]+")


class Answered(Protocol):
    """An answer of any kind: what it rests on, its seed and the version that gave it."""

    @property
    def inputs(self) -> tuple[InputRow, ...]: ...
    @property
    def seed(self) -> int: ...
    @property
    def version(self) -> str: ...


def inputs(answer: Answered, command: str) -> Html:
    """The inputs grouped by section, seed, version and ``command``."""
    rows = "".join(
        _group(name, [r for r in answer.inputs if r.section == name])
        for name in dict.fromkeys(r.section for r in answer.inputs)
    )
    head = "<thead><tr><th scope=col>input</th><th scope=col>value</th><th scope=col>source</th></tr></thead>"
    again = f"<h3>Reproduce</h3><pre>{safe(command)}</pre>"
    same = "The same version, scenario and seed give the same bytes."
    note = f"<p class=note>epicycle {safe(answer.version)}, seed {answer.seed}. {same}</p>"
    lead = "No constant without a source: a datasheet, or a fit with its residual."
    return section(
        "inputs", "Inputs and sources", lead, f"<div class=scroll><table>{head}<tbody>{rows}</tbody></table></div>{again}{note}"
    )


def default_command(answer: Answer) -> str:
    """The command that writes this report, if the scenario was taken as it stands."""
    return f"epicycle simulate {shlex.quote(answer.name)} --seed {answer.seed} --html report.html"


def _group(name: str, rows: list[InputRow]) -> str:
    lines = ""
    for source, same in groupby(rows, key=lambda r: r.source):  # one source of several rows is said once
        run = list(same)
        for place, r in enumerate(run):
            said = f"<td class=w rowspan={len(run)}>{linked(source)}</td>" if place == 0 else ""
            lines += f"<tr><td>{safe(r.name)}</td><td>{safe(r.value)}</td>{said}</tr>"
    return f"<tr><td class=group colspan=3>{safe(name)}</td></tr>{lines}"


def linked(source: str) -> Html:
    """``source`` with its web addresses made into links (followed on a click only)."""
    out, at = "", 0
    for match in _LINK.finditer(source):
        url = match.group().rstrip(".,;:")
        out += safe(source[at : match.start()]) + f'<a href="{safe(url)}" rel="noopener noreferrer">{safe(url)}</a>'
        at = match.start() + len(url)
    return Html(out + safe(source[at:]))
