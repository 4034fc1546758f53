"""The report of one simulation: one HTML file that opens offline, the answer first."""

from __future__ import annotations

from pathlib import Path

from plotly.offline import get_plotlyjs

from ....sim.layer.result import Answer
from ..shell import page
from ..shell.inputs import default_command, inputs
from ..shell.memory import memory
from .count_exchange import exchange
from .critical import critical
from .headline import headline
from .links import links
from .load import load
from .protocols_beside import comparison
from .timeline import timeline
from .traffic import traffic

CONTENTS = (
    ("answer", "Answer"),
    ("timeline", "Timeline"),
    ("critical", "Bounds"),
    ("comparison", "Side by side"),
    ("traffic", "Traffic"),
    ("exchange", "Count exchange"),
    ("links", "Links"),
    ("load", "Load"),
    ("memory", "Memory"),
    ("inputs", "Inputs"),
)


def render(answer: Answer, command: str | None = None) -> str:
    """The report of ``answer`` as HTML. ``command`` is what reproduces it (default: from the answer's name and seed)."""
    if not answer.layers:
        raise ValueError(f"{answer.name!r} has no layers: a report needs at least the scenario's own protocol")
    parts = {
        "answer": headline(answer),
        "critical": critical(answer),
        "timeline": timeline(answer),
        "comparison": comparison(answer),
        "traffic": traffic(answer),
        "exchange": exchange(answer),
        "links": links(answer),
        "load": load(answer),
        "memory": memory(answer),
        "inputs": inputs(answer, command or default_command(answer)),
    }
    contents = [(name, words) for name, words in CONTENTS if parts[name]]
    body = "\n".join(parts[name] for name, _ in contents)
    return page.document(f"{answer.name} · epicycle", contents, body, get_plotlyjs())


def write_report(answer: Answer, path: Path, command: str | None = None) -> None:
    """Write the report of ``answer`` to ``path``. Raises OSError if it cannot be written."""
    page.write(render(answer, command), path)
