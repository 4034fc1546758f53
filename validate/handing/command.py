"""The commands `validate`, `calibrate`, `calibrate-here` and `bench` between their command line and their answer."""

from __future__ import annotations

import shlex
import sys
from functools import partial
from pathlib import Path
from typing import Literal

from ...hwmodels.errors import BadInput
from ...scenarios.command.handing import say_written, write
from ...scenarios.say.output import Outputs
from ...scenarios.say.terminal import console as terminal
from .api import calibrate as calibrated
from .api import validate as validated

FAILED = 1  # the exit status where a check of a kernel fails


def validate(
    table: Path,
    json: Path | None,
    html: Path | None,
    csv: Path | None,
    engine: Literal["closed", "events"],
    calibration: Path | None,
) -> None:
    """Predict a table's rows, print the errors, write what was asked for. Raises BadInput."""
    from ..predict.handover import print_validation

    named = ["--calibration", str(calibration)] if calibration else []
    again = shlex.join(["epicycle", "validate", str(table), "--engine", engine, *named, "--html", str(html)])
    with Outputs((json, html, csv)) as outputs:
        with terminal.progress(f"predicting {table.name}") as step:
            told = validated(table, engine=engine, calibration=calibration, progress=step)
        outputs.put(html, lambda path: told.page(path, again))
        outputs.put(csv, lambda path: write(path, told.to_csv()))
        outputs.put(json, lambda path: write(path, told.to_json()))
    console = terminal.console(stderr=outputs.uses_stdout)
    print_validation(told.record, console)
    say_written(console, report=html, rows=csv, JSON=json)


def calibrate(tables: list[Path], system: str, cluster: str | None, relative: str | None, out: Path | None) -> None:
    """Fit a system's constants and print them. Raises BadInput."""
    from ..fit.calibrate import to_yaml
    from ..fit.summary import print_together

    with Outputs((out,)) as outputs:
        with terminal.progress(f"fitting {system}") as step:
            found = calibrated(tables, system, cluster=cluster, relative=relative, progress=step)
        outputs.put(out, lambda path: write(path, to_yaml(found.calibration)))
    console = terminal.console(stderr=outputs.uses_stdout)
    print_together(found, console)
    say_written(console, calibration=out)


def calibrate_here(work: Path, minutes: float, system: str | None) -> None:
    """Measure this machine, fit, judge. Raises BadInput where torch is missing."""
    try:
        from ..here.run import calibrate_here as run

        run(work, minutes, system)
    except ModuleNotFoundError as error:
        raise _without(error, "this") from None


def bench(json: Path | None, *asked_for: object) -> int:
    """Check and time the kernels; the exit status. ``asked_for``: the fields of `bench.run.Asked`. Raises BadInput."""
    from ...scenarios.say.envelope import envelope_json

    try:
        from ..bench import Asked, BenchFailed, run_bench

        asked = Asked(*asked_for)  # type: ignore[arg-type]
        asked.check()
        with Outputs((json,)) as outputs:
            rows = run_bench(asked, partial(print, file=sys.stderr) if outputs.uses_stdout else print)
            outputs.put(json, lambda path: write(path, envelope_json("bench", {"rows": rows})))
    except ModuleNotFoundError as error:
        raise _without(error, "bench") from None
    except BenchFailed as failed:
        print(f"error: {failed}", file=sys.stderr)
        return FAILED
    return 0


def _without(error: ModuleNotFoundError, what: str) -> BadInput:
    """The refusal where an optional library is missing."""
    return BadInput(f"{what} needs {error.name}: pip install 'epicycle[kernels]' (a build of torch for your GPU)")
