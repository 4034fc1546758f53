"""The launch commands of a plan's best deployment."""

from __future__ import annotations

from pathlib import Path

from ...hwmodels.errors import BadInput
from ...hwmodels.specs import Cluster
from ...sim.inputs.model import MoeModel
from ...sim.inputs.serving import Serving
from ...sim.inputs.serving_question import ServingQuestion
from ..answer.evaluation import Plan
from ..ask.search import Search
from ..launch.command import TARGETS
from ..launch.emit import emit, launch_files
from .table import on_cluster


def check_target(target: str, search: Search | None) -> None:
    """Raises BadInput, before anything is searched, if ``target`` is none or no engine that is considered."""
    if target not in TARGETS:
        raise BadInput(f"--emit {target}: wanted one of {', '.join(TARGETS)}")
    engines = (search or Search()).backends
    if target != "dynamo" and target not in engines:
        raise BadInput(f"--emit {target}: the search considers {', '.join(engines)}: add --set search.backends=[{target}]")


def emit_best(plan: Plan, question: ServingQuestion, target: str, folder: Path, checkpoint: str | None = None) -> list[Path]:
    """Write what starts the plan's best deployment into ``folder``. Raises BadInput if it cannot."""
    serving, model, cluster = _best(plan, question)
    return emit(serving, target, folder, model, cluster, checkpoint)


def best_files(plan: Plan, question: ServingQuestion, target: str, checkpoint: str | None = None) -> dict[str, str]:
    """The same files as text: name -> what it holds."""
    serving, model, cluster = _best(plan, question)
    return launch_files(serving, target, model, cluster, checkpoint)


def launched(plan: Plan, question: ServingQuestion) -> dict[str, dict[str, str] | str]:
    """What starts the best deployment with its engine, and with Dynamo around that: files, or why there are none."""
    if plan.best is None or plan.best.serving is None:
        return {}
    found: dict[str, dict[str, str] | str] = {}
    for target in (plan.best.serving.backend, "dynamo"):
        try:
            found[target] = best_files(plan, question, target)
        except BadInput as refused:
            found[target] = str(refused)
    return found


def _best(plan: Plan, question: ServingQuestion) -> tuple[Serving, MoeModel, Cluster]:
    if plan.best is None or plan.best.serving is None:
        raise BadInput("nothing to launch: no deployment meets the limits")
    chosen = next((c for c in plan.candidates if c.serving == plan.best.serving), None)
    if chosen is not None and chosen.hardware:
        question = on_cluster(question, chosen.hardware)
    return plan.best.serving, question.model, question.cluster
