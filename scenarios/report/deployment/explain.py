"""The page of an explanation: where the time goes, what bounds it, what the answer hangs on, and how sure it is."""

from __future__ import annotations

from pathlib import Path

from plotly.offline import get_plotlyjs

from ...answer.evaluation import Explanation
from ...weigh.headline import explanation_headline
from ..shell import page
from ..shell.inputs import inputs
from ..shell.memory import pools_memory
from ..shell.opening import opening
from .bill import bill
from .limits import limits_section
from .metrics import fact, metric_facts, sureness
from .tornado import tornado
from .waterfall import bounds, steps

CONTENTS = (
    ("answer", "Answer"),
    ("step", "Step"),
    ("bounds", "Bounds"),
    ("sensitivity", "Sensitivity"),
    ("limits", "Limits"),
    ("memory", "Memory"),
    ("cost", "Cost"),
    ("sure", "Intervals"),
    ("inputs", "Inputs"),
)


def render_explanation(explanation: Explanation, command: str) -> str:
    """The page of ``explanation`` as HTML. ``command`` is what reproduces it."""
    e = explanation.evaluation
    workers = "; ".join(p.arrangement for p in e.pools)
    facts = metric_facts(e, [fact("GPUs", f"{e.gpus:,}", f"{e.cluster}: {workers}")])
    parts = {
        "answer": opening(e.name, e.description, explanation_headline(explanation), facts, (explanation.sentence, *e.notes)),
        "step": steps(e),
        "bounds": bounds(e),
        "sensitivity": tornado(explanation.sensitivities, e),
        "limits": limits_section(e.limits),
        "memory": pools_memory(e),
        "cost": bill(e),
        "sure": sureness(e),
        "inputs": inputs(e, command),
    }
    contents = [(name, words) for name, words in CONTENTS if parts[name]]
    return page.document(f"{e.name} · explained · epicycle", contents, "\n".join(parts[n] for n, _ in contents), get_plotlyjs())


def write_explanation_report(explanation: Explanation, path: Path, command: str) -> None:
    """Write the page of ``explanation`` to ``path``. Raises OSError if it cannot be written."""
    page.write(render_explanation(explanation, command), path)
