"""`plan`, `simulate`, `sweep`, `compare`, `explain` and `exchanges` as functions.

A scenario is a name, a file, its keys, or the record.

``sets``: changes as ``--set`` has them, either "path=value" texts or a mapping of paths to values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from ...sim.inputs.feasible import Unanswerable
from ...sim.layer.result import Answer
from ..answer.evaluation import Comparison, Evaluation, Explanation, Plan, Sweep
from ..answer.exchange_choice import Exchanges
from ..answer.request_run import RequestRun
from ..ask.scenario import CalculatorScenario, Scenario, Source, load_layer, load_scenario, load_serving
from ..calculate.answer import calculator_of
from ..say.answer_json import answer_dict
from ..say.forms import Launched, csv_text, page_writer
from ..say.record_csv import answer_csv
from ..say.record_json import record_dict
from .told import Told

Sets = Iterable[str] | Mapping[str, Any]
Progress = Callable[[int, int], None]
R = TypeVar("R", Plan, Sweep, Comparison, Explanation, Exchanges)


def scenario(source: Source, *, sets: Sets = ()) -> Scenario:
    """The scenario as a record, checked. Raises BadInput (a ValueError) with one line that says what to change."""
    found = load_scenario(source, changes(sets))
    if isinstance(found, CalculatorScenario):
        calculator_of(found)
    else:
        found.resolve()
    return found


def simulate(source: Source, *, sets: Sets = (), seed: int | None = None) -> Told[Answer]:
    """One MoE layer played event by event. Raises BadInput."""
    from ...sim.layer.layer import simulate as played

    asked = load_layer(source, [*changes(sets), *([f"seed={seed}"] if seed is not None else ())]).resolve()
    answer = played(asked)

    def page(path: Path, command: str) -> None:
        from ..report import write_report

        write_report(answer, path, command or _command("simulate", source))

    return Told(answer, answer.sentence, partial(answer_dict, answer), partial(answer_csv, answer), page)


def evaluate(source: Source, *, sets: Sets = ()) -> Told[Evaluation]:
    """The scenario's own deployment (or the best that its search finds) in closed form. Raises BadInput."""
    from ..say.record_csv import evaluation_csv
    from ..weigh.evaluation_of import evaluation_of

    found = evaluation_of(load_scenario(source, changes(sets)))
    return Told(found, found.sentence, partial(record_dict, found), partial(evaluation_csv, found))


def plan(source: Source, *, sets: Sets = (), progress: Progress | None = None) -> Told[Plan]:
    """The cheapest deployments within the scenario's limits; ``best`` is None where none will do. Raises BadInput."""
    from ..plan.launch import launched
    from ..weigh.evaluation_of import plan_of

    asked = load_serving(source, changes(sets))
    question = asked.resolve()
    found = plan_of(asked, progress)
    return told(found, "plan", source, partial(launched, found, question))


def emit(source: Source, target: str, *, sets: Sets = (), checkpoint: str | None = None) -> dict[str, str]:
    """What starts the scenario's deployment, or the best that its search finds: file name -> text. Raises BadInput."""
    from ..launch.emit import launch_files
    from ..plan.launch import check_target
    from ..weigh.evaluation_of import with_deployment

    asked = load_serving(source, changes(sets))
    if asked.deployment is None:
        check_target(target, asked.search)
    question = with_deployment(asked).resolve()
    serving = getattr(question, "serving", None)
    assert serving is not None
    elsewhere = getattr(question, "prefill_cluster", None)
    return launch_files(serving, target, question.model, question.cluster, checkpoint, elsewhere)


def serve(
    source: Source,
    *,
    sets: Sets = (),
    trace: str | Path | None = None,
    requests: int | None = None,
    seed: int | None = None,
    csv: str | Path | None = None,
    progress: Progress | None = None,
) -> Told[RequestRun]:
    """The scenario's requests played one by one on its deployment, or on the best found. ``trace``: a file of requests.

    ``csv``: where a line for every request goes as it ends, what ``--csv`` writes (`to_csv` has the distributions: requests are
    not kept). Raises BadInput, OSError.
    """
    from ...sim.inputs.serving_question import ServingQuestion
    from ..say.record_csv import run_csv
    from ..serve.request_csv import RequestCsv
    from ..serve.run import serve as played
    from ..weigh.played_requests import changes_of, noticed, settled

    asked = changes_of(changes(sets), None if trace is None else Path(trace), requests, None, None, seed)
    found, notes = settled(source, asked)
    question = found.resolve()
    assert isinstance(question, ServingQuestion)
    try:
        if csv is None:
            run = played(question, progress=progress)
        else:
            with Path(csv).open("w", encoding="utf-8", newline="") as file:
                run = played(question, progress=progress, sink=RequestCsv(file))
    except Unanswerable as error:
        raise found.error_at(error.key, error) from None
    run = noticed(run, notes)

    def page(path: Path, command: str) -> None:
        from ..report.requests.run_page import write_run_report

        write_run_report(run, path, command or _command("serve", source))

    return Told(run, run.sentence, partial(record_dict, run), partial(run_csv, run), page)


def sweep(
    source: Source, over: Mapping[str, Iterable[object]] | Iterable[str], *, sets: Sets = (), progress: Progress | None = None
) -> Told[Sweep]:
    """The scenario at every combination of values; ``over`` is {path: values} or texts "path=a,b". Raises BadInput."""
    from ..study.sweep import sweep as swept

    listed = [f"{path}={','.join(map(text, values))}" for path, values in over.items()] if isinstance(over, Mapping) else over
    return told(swept(source, list(listed), changes(sets), progress, whole=True), "sweep", source)


def compare(
    a: Source,
    b: Source | None = None,
    *,
    sets: Sets = (),
    sets_a: Sets = (),
    sets_b: Sets = (),
    progress: Progress | None = None,
) -> Told[Comparison]:
    """Two scenarios side by side; without ``b``, ``sets`` make the second. Raises BadInput."""
    from ..weigh.compare import compare as side_by_side

    return told(side_by_side(a, b, changes(sets), changes(sets_a), changes(sets_b), progress), "compare", a)


def explain(source: Source, *, sets: Sets = (), step: float = 0.1, progress: Progress | None = None) -> Told[Explanation]:
    """What the answer is made of, and what ``step`` more and less of each hardware number would do. Raises BadInput."""
    from ..weigh.explain import explain as explained

    return told(explained(source, changes(sets), step, progress), "explain", source)


def exchanges(
    source: Source, *, sets: Sets = (), tokens: Iterable[int] | None = None, progress: Progress | None = None
) -> Told[Exchanges]:
    """One layer under every exchange that can carry it, by ``tokens`` a rank, and where the winner flips. Raises BadInput."""
    from ..weigh.exchanges import TOKENS
    from ..weigh.exchanges import exchanges as weighed

    asked = TOKENS if tokens is None else tuple(tokens)
    return told(weighed(source, changes(sets), asked, progress), "exchanges", source)


def told(record: R, command: str, source: Source, launched: Launched | None = None) -> Told[R]:
    """``record`` with its forms; ``command`` and ``source`` made it. ``launched``: what starts a plan's best deployment."""

    def page(path: Path, again: str) -> None:
        page_writer(record, again or _command(command, source), launched)(path)

    return Told(record, record.sentence, partial(record_dict, record), lambda: "".join(csv_text(record)), page)


def _command(command: str, source: Source) -> str:
    return f"epicycle {command} {source}" if isinstance(source, str | Path) else f"epicycle.{command}(…)"


def changes(sets: Sets) -> list[str]:
    """``sets`` as texts "path=value"."""
    if isinstance(sets, Mapping):
        return [f"{path}={text(value)}" for path, value in sets.items()]
    return [sets] if isinstance(sets, str) else list(sets)


def text(value: object) -> str:
    """A Python value as YAML writes it on one line."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(text, value))}]"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {text(item)}' for key, item in value.items())}}}"
    return str(value)
