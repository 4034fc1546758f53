"""The page of a plan: the cheapest deployment that meets the limits and what else there is, or why there is none."""

from __future__ import annotations

from pathlib import Path

from plotly.offline import get_plotlyjs

from ...answer.evaluation import Plan
from ...plan.headline import headline, pool_lines
from ..shell import page
from ..shell.inputs import inputs
from ..shell.memory import pools_memory
from ..shell.opening import opening
from ..shell.page import Html, safe, section, table
from .bill import bill
from .front import front
from .launch import Launch, launch
from .limits import limits_section, unmet
from .metrics import fact, facts, metric_facts, sureness
from .waterfall import steps

CONTENTS = (
    ("answer", "Answer"),
    ("limits", "Limits"),
    ("front", "Front"),
    ("ruled-out", "Ruled out"),
    ("step", "Step"),
    ("memory", "Memory"),
    ("cost", "Cost"),
    ("launch", "Launch"),
    ("sure", "Intervals"),
    ("inputs", "Inputs"),
)


def render_plan(plan: Plan, command: str, launched: Launch | None = None) -> str:
    """The page of ``plan`` as HTML. ``command`` is what reproduces it; ``launched``: what starts its best deployment."""
    best = plan.best
    parts = {
        "answer": opening(plan.name, plan.description, headline(plan), _facts(plan), _told(plan)),
        "limits": unmet(plan.limits, command) or limits_section(plan.limits),
        "front": front(plan, command),
        "ruled-out": ruled_out(plan),
        "step": steps(best, "Where the best deployment's time goes") if best else Html(""),
        "memory": pools_memory(best) if best else Html(""),
        "cost": bill(best) if best else Html(""),
        "launch": launch(launched or {}, command),
        "sure": sureness(best) if best else Html(""),
        "inputs": inputs(plan, command),
    }
    contents = [(name, words) for name, words in CONTENTS if parts[name]]
    return page.document(f"{plan.name} · plan · epicycle", contents, "\n".join(parts[n] for n, _ in contents), get_plotlyjs())


def write_plan_report(plan: Plan, path: Path, command: str, launched: Launch | None = None) -> None:
    """Write the page of ``plan`` to ``path``. Raises OSError if it cannot be written."""
    page.write(render_plan(plan, command, launched), path)


def _told(plan: Plan) -> tuple[str, ...]:
    """What stands below the headline: its pools, the whole sentence, the notes."""
    lines = (" ".join(line.split()) for line in pool_lines(plan))
    return (*lines, plan.sentence, *plan.notes) if plan.best is not None else plan.notes


def ruled_out(plan: Plan) -> Html:
    """Why deployments were dropped, and how many by each reason."""
    counted = sorted(((r, n) for r, n in plan.ruled_out.items() if n), key=lambda kv: -kv[1])
    if not counted:
        return Html("")
    rows = [(reason, f"{n:,}", f"{100 * n / plan.considered:.1f} %" if plan.considered else "–") for reason, n in counted]
    lead = f"Of {plan.considered:,} deployments, {plan.fitting:,} fit into memory and {plan.meeting:,} meet every limit."
    return section("ruled-out", "What was ruled out, and why", lead, table(("reason", "deployments", "of all"), rows))


def _facts(plan: Plan) -> Html:
    counted = f"{plan.fitting:,} fit, {plan.meeting:,} meet every limit"
    considered = fact("considered", f"{plan.considered:,}", counted)
    if plan.best is None:
        return facts(
            [considered, *(fact(x.words, "met" if x.met else Html("<span class=warn>not met</span>")) for x in plan.limits)]
        )
    best = plan.best
    arrangement = fact("GPUs", f"{best.gpus:,}", safe(best.cluster))
    return metric_facts(best, [arrangement, considered])
