"""What `epicycle serve` does between its command line and its answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...hwmodels.errors import BadInput
from ...sim.inputs.feasible import Unanswerable
from ...sim.inputs.serving_question import ServingQuestion
from ..answer.request_run import RequestRun
from ..ask.scenario import ServingScenario, Source, load_serving
from ..plan.tails import with_room
from ..serve.chrome_trace import write_steps
from ..serve.request_csv import RequestCsv
from ..serve.request_parquet import RequestParquet
from ..serve.run import serve
from ..serve.setup import Setup
from .evaluation_of import with_deployment

#: What a trace takes the place of.
_LOAD = ("rate", "concurrency", "arrivals", "burstiness")
_TRACE = "requests.trace.file="
#: Lets a writer make the file at a path, and puts it in place when the command has succeeded.
Put = Callable[[Path | None, Callable[[Path], None]], None]


def changes_of(
    sets: Sequence[str], trace_in: Path | None, requests: int | None, duration: str | None, warmup: str | None, seed: int | None
) -> list[str]:
    """The command line's own options as changes of the scenario's keys."""
    changes = list(sets)
    if trace_in is not None:
        changes.append(f"requests.trace.file={trace_in}")
    given = {"requests.count": requests, "requests.duration": duration, "requests.warmup": warmup, "seed": seed}
    return changes + [f"{key}={value}" for key, value in given.items() if value is not None]


def settled(source: Source, changes: Sequence[str]) -> tuple[ServingScenario, tuple[str, ...]]:
    """The scenario with a deployment, its own or the best found with room for bursts, and what is to be said of its load.

    A trace brings its own arrivals: a rate (or requests in flight) of the scenario is what a deployment is looked for with, and
    gives way to the trace. Raises BadInput.
    """
    traced = any(change.startswith(_TRACE) for change in changes)
    asked = load_serving(source, [c for c in changes if not (traced and c.startswith("requests."))])
    given = [key for key in _LOAD if getattr(asked.workload, key) is not None] if traced else []
    whole = load_serving(source, [*changes, *(f"workload.{key}=null" for key in given)])
    said = [f"workload.{key} ({getattr(asked.workload, key):g})" for key in given if key in ("rate", "concurrency")]
    notes = [f"the trace has its own arrivals, in place of {' and '.join(said)}"] if said else []
    if whole.deployment is None:
        best = with_deployment(asked)
        assert isinstance(best, ServingScenario) and best.deployment is not None
        room = with_room(best.deployment, asked.workload)
        found = best.model_copy(update={"workload": whole.workload, "requests": whole.requests, "deployment": room})
        found.read_from(whole.document)
        whole = found
        if said:
            notes.append("the deployment is the best that the scenario's search finds for the load that it says")
    return whole, tuple(notes)


def noticed(run: RequestRun, notes: tuple[str, ...]) -> RequestRun:
    """``run`` with ``notes`` before its own."""
    return replace(run, evaluation=replace(run.evaluation, notes=(*notes, *run.evaluation.notes))) if notes else run


def answer_requests(
    name: str,
    changes: Sequence[str],
    put: Put,
    csv: Path | None,
    trace: Path | None,
    window: str,
    progress: Callable[[int, int], None] | None,
    parquet: Path | None = None,
) -> RequestRun:
    """The run of the scenario called ``name``; the files that are written while it is played, handed to ``put``."""
    scenario, notes = settled(name, changes)
    question = scenario.resolve()
    assert isinstance(question, ServingQuestion)
    noted: list[tuple[Any, Setup]] = []
    options: dict[str, Any] = {"progress": progress}
    if trace is not None:
        options |= {"window": _window(window), "spans": lambda spans, setup: noted.append((spans.copy(), setup))}
    run: list[RequestRun] = []

    def play(lines: Path | None, rows: Path | None) -> None:
        with ExitStack() as open_files:
            sinks: list[Callable[[Any], None]] = []
            if lines is not None:
                sinks.append(RequestCsv(open_files.enter_context(lines.open("w", encoding="utf-8", newline=""))))
            if rows is not None:
                sinks.append(open_files.enter_context(RequestParquet(rows)))
            run.append(serve(question, sink=_each(sinks), **options))

    def with_lines(rows: Path | None) -> None:
        if csv is None:
            play(None, rows)
        else:
            put(csv, lambda lines: play(lines, rows))

    try:
        if parquet is None:
            with_lines(None)
        else:
            put(parquet, with_lines)
    except Unanswerable as error:
        raise scenario.error_at(error.key, error) from None
    if trace is not None:
        put(trace, lambda path: write_steps(path, *noted[0]))
    return noticed(run[0], notes)


def _each(sinks: Sequence[Callable[[Any], None]]) -> Callable[[Any], None] | None:
    """One sink that hands records on to all."""
    if not sinks:
        return None

    def take(records: Any) -> None:
        for sink in sinks:
            sink(records)

    return take


def _window(text: str) -> tuple[float, float]:
    try:
        start, end = (float(part) for part in text.split(","))
    except ValueError:
        raise BadInput(f'--trace-window: wanted two times in seconds, "FROM,TO", got "{text}"') from None
    if not 0.0 <= start < end:
        raise BadInput(f"--trace-window: wanted 0 or more and a later end, got {text}")
    return start, end
