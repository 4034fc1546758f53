"""How a command hands its answer over: printed, and written in every form that was asked for."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar, cast

from rich.console import Console

from ..answer.evaluation import Comparison, Explanation, Plan, Sweep
from ..answer.exchange_choice import Exchanges
from ..api.told import Told
from ..say.forms import csv_text, print_record
from ..say.output import Outputs
from ..say.terminal import console as terminal

Step = Callable[[int, int], None] | None
Answer = TypeVar("Answer", Plan, Sweep, Comparison, Explanation, Exchanges)
Texts = list[str] | None
STDOUT = Path("-")


def answered(
    work: Callable[[Step], Told[Answer]],
    words: str,
    command: str,
    arguments: list[str],
    *,
    json: Path | None = None,
    csv: Path | None = None,
    html: Path | None = None,
    parquet: Path | None = None,
    **options: Texts,
) -> Answer:
    """What ``work`` finds, written in every form asked for and printed. ``options``: those that a page's command repeats."""
    if parquet is not None:
        from ..say.record_parquet import parquet_library, write_parquet

        parquet_library()
    with Outputs((json, csv, html, parquet)) as outputs:
        with terminal.progress(words) as step:
            told = work(step)
        found = told.record
        if html is not None:
            outputs.put(html, lambda path: told.page(path, again(command, arguments, html, **options)))
        outputs.put(csv, lambda path: write(path, csv_text(found)))
        outputs.put(json, lambda path: write(path, told.to_json()))
        if parquet is not None:
            outputs.put(parquet, lambda path: write_parquet(cast("Any", found), path))
    console = terminal.console(stderr=outputs.uses_stdout)
    print_record(found, console)
    say_written(console, report=html, table=csv, JSON=json, Parquet=parquet)
    return found


def again(command: str, arguments: list[str], html: Path, **options: Texts) -> str:
    """The command line that would make the same report again."""
    return f"{words(command, arguments, **options)} --html {shlex.quote(str(html))}"


def words(command: str, arguments: list[str], **options: Texts) -> str:
    """A command line as it would be typed."""
    given = [
        word for name, values in options.items() for value in values or () for word in (f"--{name.replace('_', '-')}", value)
    ]
    return shlex.join(["epicycle", command, *arguments, *given])


def write(path: Path, text: str | Iterable[str]) -> None:
    """Write ``text`` as it is, piece by piece."""
    with path.open("w", encoding="utf-8", newline="") as file:
        file.writelines([text] if isinstance(text, str) else text)


def say_written(console: Console, **paths: Path | None) -> None:
    """Say which files there are now."""
    for what, path in paths.items():
        if path is not None and path != STDOUT:
            console.print(f"{what} written to {path}", soft_wrap=True)


def beside(*outputs: Path | None) -> Any:
    """Where lines beside the answer go: stderr if one of ``outputs`` is stdout."""
    return sys.stderr if STDOUT in outputs else sys.stdout
