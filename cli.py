"""The Typer commands, and nothing else. What a command needs is imported inside it: ``--help`` stays quick."""

from __future__ import annotations

import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, cast

import typer

from . import __version__

if TYPE_CHECKING:
    from rich.console import Console

    from .scenarios.answer.evaluation import Comparison, Explanation, Plan, Sweep
    from .scenarios.api.told import Told

Step = Callable[[int, int], None] | None
Answer = TypeVar("Answer", "Plan", "Sweep", "Comparison", "Explanation")

app = typer.Typer(
    help="Cycle-level simulator and cost model for Mixture-of-Experts expert-parallel inference.",
    no_args_is_help=True,
    epilog="Begin with `epicycle init`, or a shipped scenario: epicycle plan plan-deepseek-v3-h200",
    pretty_exceptions_enable=False,
)
_STDOUT = Path("-")
_Misused = cast(type[Exception], typer.BadParameter.__base__)  # Typer's own class for a command line that is wrong

Json = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the whole result as JSON ('-': to stdout).")]
Html = Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write the report: one HTML file, opens offline.")]
Csv = Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write the table as CSV ('-': to stdout).")]
Parquet = Annotated[
    Path | None, typer.Option("--parquet", metavar="FILE", help="Write the table as Parquet, for pandas and polars.")
]
StoreFile = Annotated[
    Path | None, typer.Option("--store", metavar="FILE", help="Where studies are kept; default: the user's cache folder.")
]
#: What asks a process to stop, as Slurm, Kubernetes and a closed terminal do.
_STOPPING = ("SIGTERM", "SIGHUP")


def _begun(incomplete: str) -> list[str]:
    """Shipped scenarios whose name begins so, for a shell that completes it."""
    from .scenarios.ask.gallery import gallery_names

    return [name for name in gallery_names() if name.startswith(incomplete)]


_NAMED = typer.Argument(
    help="A name from the gallery, or a YAML file ('-': standard input).", show_default=False, autocompletion=_begun
)
Scenario = Annotated[str, _NAMED]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Change one key, e.g. cluster.nodes=16; repeat for more."),
]
Hardware = Annotated[
    str | None,
    typer.Option("--cluster", metavar="CLUSTER", help="The hardware: a name of the catalogue, or a YAML file of your own."),
]


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(f"epicycle {__version__}")
        raise typer.Exit


@app.command(
    epilog="Exit status: 0 answered, 2 bad input. "
    "Example: epicycle simulate deepseek-v3-decode-ep32 --set cluster.node.nic=connectx8-800g --html layer.html"
)
def simulate(
    scenario: Scenario,
    sets: Sets = None,
    cluster: Hardware = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything drawn; default: the scenario's.")] = None,
    json: Json = None,
    html: Html = None,
    trace: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a Chrome / Perfetto trace.")] = None,
) -> None:
    """Play one MoE layer event by event: dispatch, expert compute, combine."""
    from .scenarios.ask.scenario import load_layer
    from .scenarios.say.output import Outputs

    changes = [*_changes(sets, cluster), *([f"seed={seed}"] if seed is not None else ())]
    asked = load_layer(scenario, changes)
    asked.resolve()
    with Outputs((json, html, trace)) as outputs:
        from .scenarios.api import questions
        from .scenarios.say.terminal.layer import print_answer

        with _terminal().busy(f"simulating {asked.name}"):
            told = questions.simulate(asked)
        answer = told.record
        if html is not None:
            from .scenarios.report import write_report

            again = _again("simulate", [scenario], html, set=changes)
            outputs.put(html, lambda path: write_report(answer, path, again))
        if trace is not None:
            from .sim.layer.chrome_trace import write_trace

            outputs.put(trace, lambda path: write_trace(path, answer))
        outputs.put(json, lambda path: _write(path, told.to_json()))
    console = _terminal().console(stderr=outputs.uses_stdout)
    print_answer(answer, console)
    _say_written(console, report=html, trace=trace, JSON=json)


@app.command(
    epilog="Exit status: 0 answered, 2 bad input, 3 nothing meets the limits (the answer says by how much, and the lever). "
    "Example: epicycle plan plan-deepseek-v3-h200 --set slo.tpot='20 ms' --html plan.html"
)
def plan(
    scenario: Scenario,
    sets: Sets = None,
    cluster: Hardware = None,
    emit: Annotated[
        tuple[str, Path] | None,
        typer.Option(
            metavar="ENGINE DIR", help="Write the best's launch commands: vllm, sglang, trtllm or dynamo, and a folder."
        ),
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option(metavar="PATH", help="What the engine loads; default: the model's page, or $MODEL.")
    ] = None,
    json: Json = None,
    csv: Csv = None,
    html: Html = None,
) -> None:
    """Find the cheapest deployments that meet a scenario's limits, as a Pareto front."""
    from .scenarios.ask.scenario import load_serving

    sets = _changes(sets, cluster)
    asked = load_serving(scenario, sets)
    asked.resolve()
    if emit is not None:
        from .scenarios.plan.launch import check_target

        check_target(emit[0], asked.search)

    def found(step: Step) -> Told[Plan]:
        from .scenarios.api import questions

        return questions.plan(asked, progress=step)

    answer = _answered(found, f"planning {asked.name}", json, csv, html, "plan", [scenario], set=sets)
    if answer.best is None:
        raise typer.Exit(3)
    if emit is not None:
        from .scenarios.plan.launch import emit_best

        written = emit_best(answer, asked.resolve(), emit[0], emit[1], checkpoint)
        print("\n".join(f"launch: {path}" for path in written), file=sys.stderr if _STDOUT in (json, csv, html) else sys.stdout)


@app.command(
    epilog="Exit status: 0 answered, 2 bad input, 3 a limit is missed. "
    "Example: epicycle serve serve-deepseek-v3-h200 --set workload.rate='30 /s' --requests 20000 --html serve.html"
)
def serve(
    scenario: Scenario,
    sets: Sets = None,
    trace_in: Annotated[
        Path | None, typer.Option("--trace-in", metavar="FILE", help="A request trace: Azure, Mooncake, BurstGPT, CSV, JSONL.")
    ] = None,
    requests: Annotated[int | None, typer.Option(min=1, help="How many; default: the scenario's, else 10,000.")] = None,
    duration: Annotated[str | None, typer.Option(metavar="TIME", help="Those of this time instead, e.g. '10 min'.")] = None,
    warmup: Annotated[str | None, typer.Option(metavar="TIME", help="Requests that arrive before are not counted.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything drawn; default: the scenario's.")] = None,
    json: Json = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a line for every request ('-': to stdout).")] = None,
    parquet: Annotated[Path | None, typer.Option(metavar="FILE", help="The same as Parquet, with types.")] = None,
    html: Html = None,
    trace: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the steps as a Chrome / Perfetto trace.")] = None,
    window: Annotated[str, typer.Option("--trace-window", metavar="FROM,TO", help="Seconds that the trace shows.")] = "0,10",
) -> None:
    """Play a deployment's requests one by one: tails, traces, caches, failures."""
    from .scenarios.say.output import Outputs
    from .scenarios.weigh.played_requests import answer_requests, changes_of

    changes = changes_of(sets or (), trace_in, requests, duration, warmup, seed)
    with Outputs((json, csv, parquet, html, trace)) as outputs:
        with _terminal().progress(f"serving {scenario}") as step:
            run = answer_requests(scenario, changes, outputs.put, csv, trace, window, step, parquet)
        if html is not None:
            from .scenarios.report.requests.run_page import write_run_report

            again = _again("serve", [scenario], html, set=changes)
            outputs.put(html, lambda path: write_run_report(run, path, again))
        if json is not None:
            from .scenarios.say.record_json import record_json

            outputs.put(json, lambda path: _write(path, record_json(run)))
    from .scenarios.say.terminal.serve import print_run

    console = _terminal().console(stderr=outputs.uses_stdout)
    print_run(run, console)
    _say_written(console, report=html, requests=csv, Parquet=parquet, trace=trace, JSON=json)
    if any(not limit.met for limit in run.evaluation.limits):
        raise typer.Exit(3)


@app.command(
    epilog="A combination that cannot be asked is a row with the reason. Exit status: 0 answered, 2 bad input. "
    "Example: epicycle sweep deepseek-v3-decode-ep32 --over traffic.tokens_per_rank=32,64,128 --csv sweep.csv"
)
def sweep(
    scenario: Scenario,
    overs: Annotated[
        list[str] | None,
        typer.Option("--over", metavar="PATH=A,B,C", help="One key and its values; repeat for every combination of several."),
    ] = None,
    sets: Sets = None,
    cluster: Hardware = None,
    json: Json = None,
    csv: Csv = None,
    html: Html = None,
    parquet: Parquet = None,
    design: Annotated[
        Literal["grid", "one-at-a-time", "latin-hypercube"],
        typer.Option(help="Every combination; each value alone; or --samples points over ranges (path=low..high)."),
    ] = "grid",
    samples: Annotated[int, typer.Option(min=0, help="Points of a latin-hypercube.")] = 0,
    refine: Annotated[int, typer.Option(min=0, max=10_000, help="Points more, where the answer bends or flips.")] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of a latin-hypercube.")] = 0,
    engine: Annotated[
        Literal["events", "closed"], typer.Option(help="How layers are answered: played, or a table in closed form.")
    ] = "events",
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=1024, help="Processes that answer; default: all cores, if worth it."),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(metavar="tcp://HOST:PORT", help="Answer on this Dask cluster.", show_default=False),
    ] = None,
    store: StoreFile = None,
    keep: Annotated[bool, typer.Option("--keep/--no-keep", help="Keep finished points; go on from kept ones.")] = True,
) -> None:
    """Answer a scenario at many points: every combination of some values, or a design over ranges."""
    from .scenarios.study.sweep import How, Interrupted, kept_in, workers_for
    from .scenarios.study.sweep import sweep as swept

    sets = _changes(sets, cluster)
    if engine == "closed":
        others: dict[str, object] = {
            "--json": json,
            "--html": html,
            "--samples": samples,
            "--refine": refine,
            "--workers": workers,
        }
        others |= {"--scheduler": scheduler, "--store": store, "--design": design != "grid"}
        if unused := [name for name, value in others.items() if value]:
            raise _bad_input(f"--engine closed answers a grid as a table (--csv, --parquet): {', '.join(unused)} is not for it")
        _layer_table(scenario, overs or [], sets, csv, parquet)
        return
    again = _words("sweep", [scenario], over=overs, set=sets)
    how = How(design, samples, refine, seed, again)
    with kept_in(store, keep, _terminal().aside) as kept:

        def found(step: Step) -> Told[Sweep]:
            from .scenarios.api.questions import told

            who = workers_for(workers, scheduler)
            whole = json is not None or html is not None
            made = swept(scenario, overs or (), sets, step, workers=who, store=kept, how=how, whole=whole)
            return told(made, "sweep", scenario)

        try:
            _answered(found, f"sweeping {scenario}", json, csv, html, "sweep", [scenario], parquet, over=overs, set=sets)
        except Interrupted as stopped:
            if stopped.sweep is not None:
                from .scenarios.say.forms import print_record

                print_record(stopped.sweep, _terminal().console())
            if kept is not None:
                _terminal().aside(f"what is answered is kept in {kept.path}: the same command goes on from there")
            raise typer.Exit(130) from None


@app.command(
    epilog="Without a study's number all are listed. Exit status: 0 done, 2 bad input. "
    "Example: epicycle results 3 --parquet study.parquet"
)
def results(
    study: Annotated[int | None, typer.Argument(help="The study to show and export.", show_default=False)] = None,
    json: Json = None,
    csv: Csv = None,
    html: Html = None,
    parquet: Parquet = None,
    store: StoreFile = None,
    prune: Annotated[
        list[int] | None,
        typer.Option(metavar="STUDY", help="Forget a study and the points that no other has; repeat for more."),
    ] = None,
    older: Annotated[float | None, typer.Option("--prune-older", metavar="DAYS", help="Forget older studies.")] = None,
    salvaged: Annotated[
        Path | None, typer.Option("--salvage", metavar="FILE", help="Copy what a damaged store still holds.")
    ] = None,
) -> None:
    """List the studies that are kept, show or export one, or forget some."""
    from .scenarios.api.questions import told
    from .scenarios.say.terminal.studies import print_studies
    from .scenarios.study.results import kept_sweep
    from .scenarios.study.salvage import salvage
    from .scenarios.study.store import Store, default_store

    path = store or default_store()
    console = _terminal().console()
    if salvaged is not None:
        sound, lost = salvage(path, salvaged)
        console.print(f"{sound} points are as they were written and lie in {salvaged}, {lost} are lost", soft_wrap=True)
        return
    if store is not None and not store.exists():
        raise _bad_input(f"{store}: there is no such store")
    with Store(path) as kept:
        if prune or older is not None:
            for number in prune or ():
                kept.study(number)
            console.print(f"{kept.prune(prune or (), older)} points are gone from {path}", soft_wrap=True)
        elif study is None:
            print_studies(kept.studies(), path, console)
        else:
            shown = told(kept_sweep(kept, study), "results", str(study))
            _answered(lambda step: shown, "reading", json, csv, html, "results", [str(study)], parquet)


@app.command(
    epilog="With one scenario, --set makes the second; with two, it changes both. Exit status: 0 answered, 2 bad input. "
    "Example: epicycle compare deepseek-v3-decode-ep32 --set cluster.node.nic=connectx8-800g"
)
def compare(
    a: Annotated[str, typer.Argument(help="A name from the gallery, or a YAML file.", show_default=False)],
    b: Annotated[str | None, typer.Argument(help="The second; without it, the first with --set.", show_default=False)] = None,
    sets: Sets = None,
    sets_a: Annotated[
        list[str] | None, typer.Option("--set-a", metavar="PATH=VALUE", help="Change one key of the first scenario only.")
    ] = None,
    sets_b: Annotated[
        list[str] | None, typer.Option("--set-b", metavar="PATH=VALUE", help="Change one key of the second scenario only.")
    ] = None,
    json: Json = None,
    csv: Csv = None,
    html: Html = None,
) -> None:
    """Set two scenarios side by side: what differs, and which mechanism makes the difference."""

    def found(step: Step) -> Told[Comparison]:
        from .scenarios.api import questions

        return questions.compare(a, b, sets=sets or (), sets_a=sets_a or (), sets_b=sets_b or (), progress=step)

    names = [a, *([b] if b else [])]
    _answered(
        found, f"comparing {' and '.join(names)}", json, csv, html, "compare", names, set=sets, set_a=sets_a, set_b=sets_b
    )


@app.command(
    epilog="A scenario without a deployment is explained at the best one found, or at the closest if none will do. "
    "Exit status: 0 answered, 2 bad input. "
    "Example: epicycle explain deepseek-v3-decode-ep32 --set cluster.node.nic=connectx8-800g --html why.html"
)
def explain(
    scenario: Scenario,
    sets: Sets = None,
    cluster: Hardware = None,
    step_share: Annotated[
        float, typer.Option("--step", metavar="SHARE", help="How much more and less of each number is tried.")
    ] = 0.1,
    json: Json = None,
    csv: Csv = None,
    html: Html = None,
) -> None:
    """Say what an answer is made of, and how much every hardware number would move it."""

    sets = _changes(sets, cluster)

    def found(step: Step) -> Told[Explanation]:
        from .scenarios.api import questions

        return questions.explain(scenario, sets=sets, step=step_share, progress=step)

    steps = [f"{step_share:g}"]
    _answered(found, f"explaining {scenario}", json, csv, html, "explain", [scenario], set=sets, step=steps)


@app.command(
    epilog="A figure that misses its tolerance is shown as missed. Exit status: 0 answered, 2 bad input. "
    "Example: epicycle gallery isca25-exchange-bound --html gallery.html"
)
def gallery(
    name: Annotated[
        str | None, typer.Argument(help="One published system, or a YAML file with expect; default: all.", show_default=False)
    ] = None,
    json: Json = None,
    html: Html = None,
) -> None:
    """Reproduce published systems: what was published against what is simulated, with error and verdict."""
    from .scenarios.say.output import Outputs

    with Outputs((json, html)) as outputs:
        from .scenarios.published.gallery import gallery as reproduced
        from .scenarios.say.gallery_json import gallery_json

        with _terminal().progress("reproducing published systems") as step:
            found = reproduced(name, step)
        if html is not None:
            from .scenarios.report.gallery.gallery_report import write_gallery_report

            again = _again("gallery", [name] if name else [], html)
            outputs.put(html, lambda path: write_gallery_report(found, path, again))
        outputs.put(json, lambda path: _write(path, gallery_json(found)))
    from .scenarios.say.terminal.gallery import print_gallery

    console = _terminal().console(stderr=outputs.uses_stdout)
    print_gallery(found, console)
    _say_written(console, report=html, JSON=json)


@app.command(
    epilog="Example: epicycle init --model qwen3-235b-a22b --cluster b200-cx7 --nodes 4 --rate '20 /s' my-plan.yaml; "
    "epicycle plan my-plan.yaml"
)
def init(
    file: Annotated[Path, typer.Argument(metavar="FILE.yaml", help="The file to write ('-': stdout).")] = Path("my-plan.yaml"),
    model: Annotated[str | None, typer.Option(help="A preset, or the path of a config.json.")] = None,
    cluster: Annotated[str | None, typer.Option(help="A cluster of the catalogue, or a file.")] = None,
    nodes: Annotated[int | None, typer.Option(min=1, max=4096, help="Nodes there are.")] = None,
    input_tokens: Annotated[int | None, typer.Option("--in", min=1, help="Tokens of a prompt.")] = None,
    output_tokens: Annotated[int | None, typer.Option("--out", min=1, help="Tokens of an answer.")] = None,
    rate: Annotated[str | None, typer.Option(help="Requests that arrive, e.g. '10 /s'.")] = None,
    ttft: Annotated[str | None, typer.Option(help="Time to first token, e.g. '2 s'.")] = None,
    tpot: Annotated[str | None, typer.Option(help="Time per output token, e.g. '50 ms'.")] = None,
    backend: Annotated[str | None, typer.Option(help="sglang, vllm or trtllm.")] = None,
) -> None:
    """Write a commented scenario to begin with; on a terminal it asks what no option says."""
    from dataclasses import fields, replace

    from .scenarios.ask.document import parse_document
    from .scenarios.ask.scenario import ServingScenario, read_scenario
    from .scenarios.ask.starter import Starter, starter_text
    from .scenarios.say.output import Outputs

    given = locals()
    chosen = {f.name: given[f.name] for f in fields(Starter) if given.get(f.name) is not None}
    asked = Starter(**chosen)
    if file != _STDOUT:
        asked = replace(asked, name=file.stem)
    if file.exists() and file.is_file():
        raise _bad_input(f"{file}: is there already: name another file, or remove it")
    if not chosen and sys.stdin.isatty() and sys.stdout.isatty():
        for f in fields(Starter):
            if f.name != "name":
                answer = typer.prompt(f.name.replace("_", " "), default=getattr(asked, f.name))
                asked = replace(asked, **{f.name: answer})
    text = starter_text(asked)
    checked = read_scenario(parse_document(text, str(file)))
    assert isinstance(checked, ServingScenario), "a starter asks about serving"
    checked.resolve()
    with Outputs((file,)) as outputs:
        outputs.put(file, lambda path: _write(path, text))
    if file != _STDOUT:
        print(f"{file}: edit it, then epicycle plan {shlex.quote(str(file))}")


@app.command(
    epilog="Everything stays on this machine: the page is bound to 127.0.0.1 and asks no other. "
    "Example: epicycle explore serve-deepseek-v3-h200 --set workload.output_tokens=500"
)
def explore(
    scenario: Scenario,
    sets: Sets = None,
    cluster: Hardware = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0: one that is free.")] = 0,
) -> None:
    """Play with a scenario in the browser: sliders and menus, answered at once in closed form."""
    from .scenarios.explore.dash_page import ADDRESS, serve
    from .scenarios.explore.dash_page import explore as made

    page, at = made(scenario, _changes(sets, cluster), port)
    print(f"http://{ADDRESS}:{at}/ (Ctrl-C ends it)", flush=True)
    serve(page, at)


@app.command(epilog="Example: epicycle schema scenario > scenario.schema.json")
def schema(
    kind: Annotated[
        str | None,
        typer.Argument(help="scenario, or the command whose JSON it is: simulate, plan, sweep, …", show_default=False),
    ] = None,
) -> None:
    """Print the JSON schema of scenario files, or of what a command writes."""
    from json import dumps

    from .scenarios.say.schemas import KINDS
    from .scenarios.say.schemas import schema as schema_of

    print("\n".join(KINDS) if kind is None else dumps(schema_of(kind), indent=1))


@app.command(name="catalog", epilog="Example: epicycle catalog gpus h200-sxm; epicycle catalog clusters --json clusters.json")
def list_catalogue(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="gpus, nics, switches, links, clusters, models, backends, prices or scenarios.", show_default=False
        ),
    ] = None,
    name: Annotated[str | None, typer.Argument(help="One entry, with the source of every number.", show_default=False)] = None,
    json: Json = None,
) -> None:
    """List the hardware, models and scenarios that have a name."""
    from .scenarios.say.json_text import json_text
    from .scenarios.say.listing import catalogue_dict, print_catalogue
    from .scenarios.say.output import Outputs

    with Outputs((json,)) as outputs:
        if json is not None:
            listed = json_text(catalogue_dict(kind, name))
            outputs.put(json, lambda path: _write(path, listed))
    print_catalogue(kind, name, _terminal().console(stderr=outputs.uses_stdout))


@app.command(epilog="Example: epicycle validate mine.csv --html errors.html --csv rows.csv")
def validate(
    table: Annotated[Path, typer.Argument(metavar="FILE.csv", help="A measurement table.", show_default=False)],
    json: Json = None,
    html: Html = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write every row with its predicted_us.")] = None,
    engine: Annotated[
        Literal["closed", "events"], typer.Option(help="The closed form (quick) or the event engine (slow).")
    ] = "closed",
    calibration: Annotated[
        Path | None, typer.Option(metavar="FILE.yaml", help="A calibration of yours, before that of the system it names.")
    ] = None,
) -> None:
    """Predict every row of a measurement table and report the error of each group."""
    from .hwmodels.calibration import standing_in
    from .scenarios.say.output import Outputs

    with Outputs((json, html, csv)) as outputs, standing_in(str(calibration)) if calibration else nullcontext():
        from .validate.predict.handover import group_records, print_validation, rows_csv, validation_json
        from .validate.tables.shipped_rows import shipped_or_own
        from .validate.validate import validate_table

        table = shipped_or_own(table)
        with _terminal().progress(f"predicting {table.name}") as step:
            outcome = validate_table(table, engine=engine, progress=step)
        if html is not None:
            from .validate.pages.report import write_validation_report

            named = ["--calibration", str(calibration)] if calibration else []
            again = shlex.join(["epicycle", "validate", str(table), "--engine", engine, *named, "--html", str(html)])
            groups = group_records(outcome)
            facts = {"source": table.name, "version": __version__, "command": again, "notes": outcome.notes}
            outputs.put(html, lambda path: write_validation_report(groups, outcome.rows, outcome.skipped, path, **facts))
        outputs.put(csv, lambda path: _write(path, rows_csv(outcome)))
        outputs.put(json, lambda path: _write(path, validation_json(outcome)))
    console = _terminal().console(stderr=outputs.uses_stdout)
    print_validation(outcome, console)
    _say_written(console, report=html, rows=csv, JSON=json)


@app.command(epilog="Example: epicycle calibrate mine.csv --system my-cluster --cluster h200-cx7 --out my-cluster.yaml")
def calibrate(
    tables: Annotated[
        list[Path], typer.Argument(metavar="FILE.csv...", help="Measurement tables of any kind.", show_default=False)
    ],
    system: Annotated[str, typer.Option(metavar="NAME", help="The system of the table to fit.", show_default=False)],
    cluster: Annotated[
        str | None,
        typer.Option(metavar="CLUSTER", help="The catalogue cluster it ran on; default: that of the calibration of this name."),
    ] = None,
    relative: Annotated[
        str | None,
        typer.Option(metavar="SYSTEM", help="Whose constants fill in for kernels without rows; default: the cluster's own."),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE.yaml", help="Write the calibration ('-': to stdout).")] = None,
) -> None:
    """Fit a system's constants to tables of every kind, with their uncertainty and what the rows cannot tell.

    Of other libraries' exchanges at most 24 rows of each kernel are used; this project's own kernels are fitted together.
    """
    from .hwmodels.calibration import load_shipped
    from .hwmodels.catalog import load_cluster
    from .scenarios.say.output import Outputs

    with Outputs((out,)) as outputs:
        from .validate.fit.calibrate import to_yaml
        from .validate.fit.summary import print_together
        from .validate.fit.tables import calibrate_all
        from .validate.tables.shipped_rows import shipped_or_own

        where = cluster or load_shipped(system).cluster
        relative = load_shipped(relative or load_cluster(where).calibration).system
        with _terminal().progress(f"fitting {system}") as step:
            found = calibrate_all([shipped_or_own(table) for table in tables], system, where, relative=relative, progress=step)
        outputs.put(out, lambda path: _write(path, to_yaml(found.calibration)))
    console = _terminal().console(stderr=outputs.uses_stdout)
    print_together(found, console)
    _say_written(console, calibration=out)


@app.command(name="calibrate-here")
def calibrate_here(
    work: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Rows, calibration and report; a later run goes on with its rows.")
    ] = Path("out"),
    minutes: Annotated[float, typer.Option(min=0.5, help="Time for measuring; a later run does the rest.")] = 8.0,
    system: Annotated[
        str | None, typer.Option(metavar="NAME", help="The catalogue's name of this machine; default: by the GPU's own name.")
    ] = None,
) -> None:
    """Measure this machine's GPU (under torchrun: its node), fit its constants, and judge them on rows kept aside."""
    try:
        from .validate.here.run import calibrate_here as run

        run(work, minutes, system)
    except ModuleNotFoundError as error:
        raise _bad_input(f"this needs {error.name}: pip install 'epicycle[kernels]' (a build of torch for your GPU)") from None


@app.command(epilog="Example: epicycle bench --mode virtual --kernels 'gemm_*' --out mine.csv")
def bench(
    mode: Annotated[
        Literal["interpret", "virtual", "node", "cluster"],
        typer.Option(help="CPU checks; one GPU as several ranks; one node or several under torchrun."),
    ] = "virtual",
    kernels: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Cases by name, e.g. 'gemm_*'; repeat for more.")
    ] = None,
    shapes: Annotated[
        list[str] | None, typer.Option(metavar="TxHxIxExK", help="tokens x hidden x inter x experts x top-k; repeat for more.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE.csv", help="Write the measurements, row by row.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the rows that --out holds.")] = False,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the comparison with plain torch as it grows.")
    ] = None,
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all rows as JSON at the end ('-': to stdout).")
    ] = None,
    system: Annotated[
        str | None, typer.Option(metavar="NAME", help="The catalogue's name of this machine; default: by the GPU's own name.")
    ] = None,
    tiles: Annotated[Path | None, typer.Option(metavar="FILE.csv", help="Tiles that go before the shipped table.")] = None,
    tune: Annotated[
        Path | None, typer.Option(metavar="FILE.csv", help="Find the fastest tile of each shape first, write and use them.")
    ] = None,
    ranks: Annotated[int | None, typer.Option(min=1, max=64, help="Virtual ranks on the one GPU; default 8.")] = None,
    step_limit: Annotated[float, typer.Option(metavar="SECONDS", help="How long a rank may stay silent.")] = 120.0,
) -> None:
    """Check the Triton kernels against their references, then time them on your hardware."""
    from .scenarios.say.envelope import envelope_json
    from .scenarios.say.output import Outputs

    try:
        from .validate.bench.run import Asked, BenchFailed, run_bench

        asked = Asked(mode, kernels, shapes, out, html, json, ranks, step_limit, system, resume, tiles, tune)
        asked.check()
        with Outputs((json,)) as outputs:
            rows = run_bench(asked, partial(print, file=sys.stderr) if outputs.uses_stdout else print)
            outputs.put(json, lambda path: _write(path, envelope_json("bench", {"rows": rows})))
    except ModuleNotFoundError as error:
        raise _bad_input(f"bench needs {error.name}: pip install 'epicycle[kernels]' (a build of torch for your GPU)") from None
    except BenchFailed as failed:
        print(f"error: {failed}", file=sys.stderr)
        raise typer.Exit(1) from None


def main() -> None:
    """Entry point of ``epicycle``: whatever happens is one line on stderr and a status (`scenarios.ask.ending`)."""
    try:
        with stopping_cleanly():
            status = app(standalone_mode=False)
    except _Misused as error:
        _ending().refuse(f"{error.format_message().rstrip('.')}: see `epicycle --help`")  # type: ignore[attr-defined]
    except typer.Abort:
        _ending().end(KeyboardInterrupt())
    except (Exception, KeyboardInterrupt) as error:
        _ending().end(error)
    else:
        sys.exit(status if isinstance(status, int) else 0)


@contextmanager
def stopping_cleanly() -> Iterator[None]:
    """Signals that stop a process raise SystemExit inside, so that what was begun is cleaned up; ignored ones stay so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    numbers = [getattr(signal, name) for name in _STOPPING if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        for number, handler in before.items():
            if handler is signal.SIG_DFL:
                signal.signal(number, stop)
        yield
    finally:
        for number, handler in before.items():
            if handler is signal.SIG_DFL:
                signal.signal(number, handler)


def _ending() -> ModuleType:
    """How a command ends that does not answer; imported only where one does."""
    from .scenarios.ask import ending

    return ending


def _answered(
    work: Callable[[Step], Told[Answer]],
    words: str,
    json: Path | None,
    csv: Path | None,
    html: Path | None,
    command: str,
    arguments: list[str],
    parquet: Path | None = None,
    **options: list[str] | None,
) -> Answer:
    """What ``work`` finds, written in every form asked for and printed. ``options``: those that a page's command repeats."""
    from .scenarios.say.output import Outputs

    if parquet is not None:
        from .scenarios.say.record_parquet import parquet_library, write_parquet

        parquet_library()
    with Outputs((json, csv, html, parquet)) as outputs:
        from .scenarios.say.forms import csv_text, page_writer, print_record

        with _terminal().progress(words) as step:
            told = work(step)
        found = told.record
        if html is not None:
            outputs.put(html, page_writer(found, _again(command, arguments, html, **options)))
        outputs.put(csv, lambda path: _write(path, csv_text(found)))
        outputs.put(json, lambda path: _write(path, told.to_json()))
        if parquet is not None:
            outputs.put(parquet, lambda path: write_parquet(cast("Any", found), path))
    console = _terminal().console(stderr=outputs.uses_stdout)
    print_record(found, console)
    _say_written(console, report=html, table=csv, JSON=json, Parquet=parquet)
    return found


def _layer_table(scenario: str, overs: list[str], sets: list[str], csv: Path | None, parquet: Path | None) -> None:
    from .scenarios.say.layer_table_files import print_layer_table, write_table
    from .scenarios.say.output import Outputs
    from .scenarios.study.layer_table import layer_table

    with Outputs((csv, parquet)) as outputs, _terminal().progress(f"sweeping {scenario}") as step:
        table = layer_table(scenario, overs, sets, step)
        outputs.put_all((csv, parquet), lambda paths: write_table(table, *paths))
    console = _terminal().console(stderr=outputs.uses_stdout)
    print_layer_table(table, console)
    _say_written(console, table=csv, Parquet=parquet)


def _changes(sets: list[str] | None, cluster: str | None) -> list[str]:
    """``--set`` with ``--cluster`` before it: what is set of the hardware is set of that one."""
    return [*([f"cluster={cluster}"] if cluster is not None else []), *(sets or ())]


def _again(command: str, arguments: list[str], html: Path, **options: list[str] | None) -> str:
    """The command line that would make the same report again."""
    return f"{_words(command, arguments, **options)} --html {shlex.quote(str(html))}"


def _words(command: str, arguments: list[str], **options: list[str] | None) -> str:
    """A command line as it would be typed."""
    given = [
        word for name, values in options.items() for value in values or () for word in (f"--{name.replace('_', '-')}", value)
    ]
    return shlex.join(["epicycle", command, *arguments, *given])


def _write(path: Path, text: str | Iterable[str]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        file.writelines([text] if isinstance(text, str) else text)


def _terminal() -> ModuleType:
    """What is printed on, and shows that something is under way; imported only once it is needed."""
    from .scenarios.say.terminal import console

    return console


def _say_written(console: Console, **paths: Path | None) -> None:
    for what, path in paths.items():
        if path is not None and str(path) != "-":
            console.print(f"{what} written to {path}", soft_wrap=True)


def _bad_input(text: str) -> Exception:
    """A refusal; its class is loaded by who refuses."""
    from .hwmodels.errors import BadInput

    return BadInput(text)
