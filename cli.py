"""The Typer commands, and nothing else. What a command needs is imported inside it: ``--help`` stays quick."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, ModuleType
from typing import Annotated, Literal, cast

import typer

from . import __version__

app = typer.Typer(
    help="Cycle-level simulator and cost model for Mixture-of-Experts expert-parallel inference.",
    no_args_is_help=True,
    epilog="Begin with `epicycle init`, or a shipped scenario: epicycle plan plan-deepseek-v3-h200",
    pretty_exceptions_enable=False,
)
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
    from .scenarios.command.layer import simulate as command

    command(scenario, _changes(sets, cluster), seed, json, html, trace)


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
) -> int:
    """Find the cheapest deployments that meet a scenario's limits, as a Pareto front."""
    from .scenarios.command.deployment import plan as command

    return command(scenario, _changes(sets, cluster), emit, checkpoint, json, csv, html)


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
) -> int:
    """Play a deployment's requests one by one: tails, traces, caches, failures."""
    from .scenarios.command.deployment import serve as command
    from .scenarios.weigh.played_requests import changes_of

    changes = changes_of(sets or (), trace_in, requests, duration, warmup, seed)
    return command(scenario, changes, json, csv, parquet, html, trace, window)


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
) -> int:
    """Answer a scenario at many points: every combination of some values, or a design over ranges."""
    from .scenarios.command.study import how_of, layers
    from .scenarios.command.study import sweep as command

    sets, overs = _changes(sets, cluster), overs or []
    if engine == "closed":
        others: dict[str, object] = {"--json": json, "--html": html, "--samples": samples, "--refine": refine}
        others |= {"--workers": workers, "--scheduler": scheduler, "--store": store, "--design": design != "grid"}
        layers(scenario, overs, sets, csv, parquet, others)
        return 0
    how = how_of(design, samples, refine, seed, scenario, overs, sets)
    files = (json, csv, html, parquet)
    return command(scenario, overs, sets, how, files, workers=workers, scheduler=scheduler, store=store, keep=keep)


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
    from .scenarios.command.study import results as command

    command(study, store, prune, older, salvaged, (json, csv, html, parquet))


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
    from .scenarios.command.deployment import compare as command

    command(a, b, sets, sets_a, sets_b, json, csv, html)


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
    from .scenarios.command.deployment import explain as command

    command(scenario, _changes(sets, cluster), step_share, json, csv, html)


@app.command(
    epilog="Protocols that nobody timed are shown and do not win. Exit status: 0 answered, 2 bad input. "
    "Example: epicycle exchanges deepseek-v3-decode-ep32 --cluster h200-cx7 --set deployment.ep=16 --html which.html"
)
def exchanges(
    scenario: Scenario,
    sets: Sets = None,
    cluster: Hardware = None,
    tokens: Annotated[
        str | None,
        typer.Option("--tokens", metavar="N,N,...", help="Tokens a rank to look at.", show_default="1 to 8192, doubling"),
    ] = None,
    json: Json = None,
    csv: Csv = None,
    html: Html = None,
) -> None:
    """Say which exchange carries a layer fastest, by tokens a rank, and where the winner flips."""
    from .scenarios.command.exchanges import exchanges as command

    command(scenario, _changes(sets, cluster), tokens, json, csv, html)


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
    from .scenarios.command.beginning import gallery as command

    command(name, json, html)


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
    trace: Annotated[
        Path | None, typer.Option("--trace", metavar="FILE", help="A request trace: its mean lengths and rate.")
    ] = None,
) -> None:
    """Write a commented scenario to begin with; on a terminal it asks what no option says."""
    given = dict(locals())
    from .scenarios.command.beginning import init as command

    command(file, given, typer.prompt)


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
    from .scenarios.command.beginning import schema as command

    command(kind)


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
    from .scenarios.command.beginning import catalogue

    catalogue(kind, name, json)


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
    from .validate.handing.command import validate as command

    command(table, json, html, csv, engine, calibration)


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
    from .validate.handing.command import calibrate as command

    command(tables, system, cluster, relative, out)


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
    from .validate.handing.command import calibrate_here as command

    command(work, minutes, system)


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
) -> int:
    """Check the Triton kernels against their references, then time them on your hardware."""
    from .validate.handing.command import bench as command

    return command(json, mode, kernels, shapes, out, html, json, ranks, step_limit, system, resume, tiles, tune)


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


def _changes(sets: list[str] | None, cluster: str | None) -> list[str]:
    """``--set`` with ``--cluster`` before it: what is set of the hardware is set of that one."""
    return [*([f"cluster={cluster}"] if cluster is not None else []), *(sets or ())]
