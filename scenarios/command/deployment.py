"""`epicycle plan`, `serve`, `compare` and `explain`: a deployment found, played, set beside another, taken apart."""

from __future__ import annotations

from pathlib import Path

from ..answer.evaluation import Comparison, Explanation, Plan
from ..api import questions
from ..api.told import Told
from ..ask.scenario import load_serving
from ..say.output import Outputs
from ..say.terminal import console as terminal
from .handing import Step, Texts, again, answered, beside, say_written, write

UNMET = 3  # the exit status where a limit is missed


def plan(
    scenario: str,
    sets: list[str],
    emit: tuple[str, Path] | None,
    checkpoint: str | None,
    json: Path | None,
    csv: Path | None,
    html: Path | None,
) -> int:
    """Print the plan, write it and its best's launch commands; the exit status. Raises BadInput."""
    asked = load_serving(scenario, sets)
    asked.resolve()
    if emit is not None:
        from ..plan.launch import check_target

        check_target(emit[0], asked.search)

    def found(step: Step) -> Told[Plan]:
        return questions.plan(asked, progress=step)

    answer = answered(found, f"planning {asked.name}", "plan", [scenario], json=json, csv=csv, html=html, set=sets)
    if answer.best is None:
        return UNMET
    if emit is not None:
        from ..plan.launch import emit_best

        written = emit_best(answer, asked.resolve(), emit[0], emit[1], checkpoint)
        print("\n".join(f"launch: {path}" for path in written), file=beside(json, csv, html))
    return 0


def serve(
    scenario: str,
    changes: list[str],
    json: Path | None,
    csv: Path | None,
    parquet: Path | None,
    html: Path | None,
    trace: Path | None,
    window: str,
) -> int:
    """Play the requests, print the run and write what was asked for; the exit status. Raises BadInput."""
    from ..say.terminal.serve import print_run
    from ..weigh.played_requests import answer_requests

    with Outputs((json, csv, parquet, html, trace)) as outputs:
        with terminal.progress(f"serving {scenario}") as step:
            run = answer_requests(scenario, changes, outputs.put, csv, trace, window, step, parquet)
        if html is not None:
            from ..report.requests.run_page import write_run_report

            outputs.put(html, lambda path: write_run_report(run, path, again("serve", [scenario], html, set=changes)))
        if json is not None:
            from ..say.record_json import record_json

            outputs.put(json, lambda path: write(path, record_json(run)))
    console = terminal.console(stderr=outputs.uses_stdout)
    print_run(run, console)
    say_written(console, report=html, requests=csv, Parquet=parquet, trace=trace, JSON=json)
    return UNMET if any(not limit.met for limit in run.evaluation.limits) else 0


def compare(
    a: str,
    b: str | None,
    sets: Texts,
    sets_a: Texts,
    sets_b: Texts,
    json: Path | None,
    csv: Path | None,
    html: Path | None,
) -> None:
    """Print two scenarios side by side. Raises BadInput."""

    def found(step: Step) -> Told[Comparison]:
        return questions.compare(a, b, sets=sets or (), sets_a=sets_a or (), sets_b=sets_b or (), progress=step)

    names = [a, *([b] if b else [])]
    words = f"comparing {' and '.join(names)}"
    answered(found, words, "compare", names, json=json, csv=csv, html=html, set=sets, set_a=sets_a, set_b=sets_b)


def explain(scenario: str, sets: list[str], step_share: float, json: Path | None, csv: Path | None, html: Path | None) -> None:
    """Print what the answer is made of. Raises BadInput."""

    def found(step: Step) -> Told[Explanation]:
        return questions.explain(scenario, sets=sets, step=step_share, progress=step)

    steps = [f"{step_share:g}"]
    answered(found, f"explaining {scenario}", "explain", [scenario], json=json, csv=csv, html=html, set=sets, step=steps)
