"""The terminal a command speaks to: what it prints on, and what shows that something is under way."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from .text_table import wrapped

Step = Callable[[int, int], None]


def console(stderr: bool = False) -> Console:
    """Where answers are printed, as they are: text from files is never markup.

    As wide as the terminal, or as COLUMNS says. Where neither says anything (a pipe, a file), tables have 160 columns, and
    sentences are one line each, for whoever reads them next.
    """
    found = Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    if is_piped(found):
        found.width = 160
    return found


def is_piped(found: Console) -> bool:
    """Whether nobody says how wide the output is."""
    return not found.is_terminal and not os.environ.get("COLUMNS", "").isdigit()


def say(words: str, found: Console, style: str = "") -> None:
    """Print a sentence: broken between words where there is a width, one line where there is none. Never markup."""
    for paragraph in words.split("\n"):
        for line in [paragraph] if is_piped(found) else wrapped(paragraph, found.width) or [""]:
            found.print(Text(line, style=style), soft_wrap=True)


def aside(text: str) -> None:
    """One line on stderr, beside the answer."""
    Console(stderr=True, markup=False, highlight=False, emoji=False).print(text, soft_wrap=True)


def busy(words: str) -> AbstractContextManager[object]:
    """A spinner on stderr while something runs, if anyone can see it."""
    found = Console(stderr=True, markup=False)
    return found.status(words) if found.is_terminal else nullcontext()


def progress(words: str) -> AbstractContextManager[Step | None]:
    """A context whose value is ``step(done, total)``, shown as a bar on stderr if anyone can see it, else None."""
    found = Console(stderr=True, markup=False)
    return _bar(words, found) if found.is_terminal else nullcontext(None)


class Rate(ProgressColumn):
    """How many are done a second, as soon as there is anything to tell it from."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if not speed else f"{speed:,.0f}/s" if speed >= 10 else f"{speed:.1f}/s")


@contextmanager
def _bar(words: str, seen: Console) -> Iterator[Step]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    with Progress(*columns, console=seen, transient=True) as bar:
        task = bar.add_task(words, total=None)

        def step(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield step
