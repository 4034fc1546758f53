"""`epicycle sweep` and `results`: one question at many points, and the studies that are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from ...hwmodels.errors import BadInput
from ..answer.evaluation import Sweep
from ..api.questions import told
from ..api.told import Told
from ..say.forms import print_record
from ..say.output import Outputs
from ..say.terminal import console as terminal
from ..study.sweep import How, Interrupted, kept_in, workers_for
from ..study.sweep import sweep as swept
from .handing import Step, answered, say_written, words

Design = Literal["grid", "one-at-a-time", "latin-hypercube"]
#: Where JSON, CSV, the page and Parquet go.
Files = tuple[Path | None, Path | None, Path | None, Path | None]
INTERRUPTED = 130  # the exit status of what Ctrl-C ends


def sweep(
    scenario: str,
    overs: list[str],
    sets: list[str],
    how: How,
    files: Files,
    *,
    workers: int | None,
    scheduler: str | None,
    store: Path | None,
    keep: bool,
) -> int:
    """Answer at every point, print and write; the exit status. Raises BadInput."""
    json, csv, html, parquet = files
    whole = json is not None or html is not None
    with kept_in(store, keep, terminal.aside) as kept:

        def found(step: Step) -> Told[Sweep]:
            who = workers_for(workers, scheduler)
            return told(swept(scenario, overs, sets, step, workers=who, store=kept, how=how, whole=whole), "sweep", scenario)

        said = f"sweeping {scenario}"
        try:
            answered(found, said, "sweep", [scenario], json=json, csv=csv, html=html, parquet=parquet, over=overs, set=sets)
        except Interrupted as stopped:
            if stopped.sweep is not None:
                print_record(stopped.sweep, terminal.console())
            if kept is not None:
                terminal.aside(f"what is answered is kept in {kept.path}: the same command goes on from there")
            return INTERRUPTED
    return 0


def how_of(design: Design, samples: int, refine: int, seed: int, scenario: str, overs: list[str], sets: list[str]) -> How:
    """The design of a study, and the command line that asks for it again."""
    return How(design, samples, refine, seed, words("sweep", [scenario], over=overs, set=sets))


def layers(
    scenario: str, overs: list[str], sets: list[str], csv: Path | None, parquet: Path | None, others: dict[str, object]
) -> None:
    """Layers in closed form as a table. Raises BadInput for ``others``, options that are not for it."""
    from ..say.layer_table_files import print_layer_table, write_table
    from ..study.layer_table import layer_table

    if unused := [name for name, value in others.items() if value]:
        raise BadInput(f"--engine closed answers a grid as a table (--csv, --parquet): {', '.join(unused)} is not for it")
    with Outputs((csv, parquet)) as outputs, terminal.progress(f"sweeping {scenario}") as step:
        table = layer_table(scenario, overs, sets, step)
        outputs.put_all((csv, parquet), lambda paths: write_table(table, *paths))
    console = terminal.console(stderr=outputs.uses_stdout)
    print_layer_table(table, console)
    say_written(console, table=csv, Parquet=parquet)


def results(
    study: int | None,
    store: Path | None,
    prune: list[int] | None,
    older: float | None,
    salvaged: Path | None,
    files: Files,
) -> None:
    """List the kept studies, show or export one, or forget some. Raises BadInput."""
    from ..say.terminal.studies import print_studies
    from ..study.results import kept_sweep
    from ..study.salvage import salvage
    from ..study.store import Store, default_store

    path = store or default_store()
    console = terminal.console()
    if salvaged is not None:
        sound, lost = salvage(path, salvaged)
        console.print(f"{sound} points are as they were written and lie in {salvaged}, {lost} are lost", soft_wrap=True)
        return
    if store is not None and not store.exists():
        raise BadInput(f"{store}: there is no such store")
    with Store(path) as kept:
        if prune or older is not None:
            for number in prune or ():
                kept.study(number)
            console.print(f"{kept.prune(prune or (), older)} points are gone from {path}", soft_wrap=True)
        elif study is None:
            print_studies(kept.studies(), path, console)
        else:
            shown = told(kept_sweep(kept, study), "results", str(study))
            json, csv, html, parquet = files
            answered(lambda step: shown, "reading", "results", [str(study)], json=json, csv=csv, html=html, parquet=parquet)
