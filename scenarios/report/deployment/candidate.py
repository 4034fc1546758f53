"""One deployment of a plan, unfolded: its arrangement, its numbers, and the lines that bring it back."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from itertools import pairwise

import yaml

from ....sim.inputs.serving import Serving
from ...answer.evaluation import Candidate, Metric
from ..shell.page import Html, safe
from ..shell.panels import copied
from ..shell.quantity import relative, said
from .metrics import FIRST, fact, facts, key_words, value_table


def candidate_panel(candidate: Candidate, name: str, command: str, known: Mapping[str, Metric]) -> Html:
    """The panel ``name`` of ``candidate``; ``command`` is the plan's own, whose scenario and changes the new one keeps."""
    items = [fact("GPUs", f"{candidate.gpus:,}", candidate.cluster)]
    for key in [k for k in FIRST if k in candidate.values][:7]:
        words, unit = (known[key].words, known[key].unit) if key in known else key_words(key)
        items.append(fact(words, said(candidate.values[key], unit, key)))
    verdict = "Meets every limit" if candidate.meets else "Does not meet every limit"
    front = "on the front" if candidate.on_front else "not on the front of cost and time per token"
    look = "note" if candidate.meets else "note warn"
    rest = value_table(candidate.values, known)
    return Html(
        f"<article><h3>{safe(candidate.arrangement)}</h3>"
        f'<p class="{look}">{verdict}; {front}.{safe(_played(candidate))}</p>'
        f"{facts(items)}<p class=note>Where its time goes, part by part:</p>"
        f"{copied(f'{name}-command', explain_command(candidate, command))}"
        f"<p class=note>As a scenario file's deployment:</p>{copied(f'{name}-yaml', deployment_yaml(candidate.serving))}"
        f"<details><summary>All its numbers</summary>{rest}</details></article>"
    )


def deployment_yaml(serving: Serving) -> str:
    """``serving`` as the ``deployment`` of a scenario file; what is as by default is left out, but for the mode."""
    data = {"mode": serving.mode} | serving.model_dump(mode="json", exclude_defaults=True)
    return yaml.safe_dump({"deployment": data}, sort_keys=False, default_flow_style=False, allow_unicode=True)


def explain_command(candidate: Candidate, command: str) -> str:
    """The ``epicycle explain`` of this deployment, for the scenario and the ``--set`` changes of the plan's ``command``."""
    scenario, sets = _asked(command)
    data = {"mode": candidate.serving.mode} | candidate.serving.model_dump(mode="json", exclude_defaults=True)
    flow = yaml.safe_dump(data, sort_keys=False, default_flow_style=True, width=1 << 20, allow_unicode=True).strip()
    sets = [s for s in sets if not s.startswith(("deployment=", "deployment."))]
    if candidate.hardware:
        sets = [f"cluster={candidate.hardware}", *(s for s in sets if not s.startswith("cluster."))]
    words = ["epicycle", "explain", scenario]
    for text in [*sets, f"deployment={flow}"]:
        words += ["--set", text]
    return shlex.join(words)


def _asked(command: str) -> tuple[str, list[str]]:
    """(scenario, changes) of a plan's command line."""
    words = shlex.split(command)
    after = words[words.index("plan") + 1 :] if "plan" in words else words[-1:]
    sets = [value for option, value in pairwise(after) if option == "--set"]
    scenario = next((w for w in after[:1] if not w.startswith("-")), "SCENARIO")
    return scenario, sets


def _played(candidate: Candidate) -> str:
    """What playing its exchange event by event changed; empty if it was not played."""
    formula = candidate.values.get("tpot")
    if candidate.events_tpot_s is None:
        return ""
    off = f", {relative(candidate.events_tpot_s / formula - 1)} from the closed form" if formula else ""
    return f" Played event by event, a token takes {said(candidate.events_tpot_s, 's')}{off}."
