"""Where points are answered: in this process, in several of this machine, or on a Dask cluster. Each yields as they finish.

At most a few points a worker are under way at a time, so that memory does not grow with a study.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from importlib import import_module
from itertools import islice
from typing import Any

from ...hwmodels.errors import BadInput
from .point import Elsewhere, Task, answer

#: A point that brought down this many workers is given up: it needs more memory than there is, or kills what answers it.
MOST_DEATHS = 3
_WORTHWHILE_S = 2.0
_WAITING = 3  # points a worker has before it, so that it never waits for this process

Answer = tuple[Task, tuple[bytes, bytes]]
Workers = Callable[[Iterable[Task]], Generator[Answer, None, None]]


class WorkersDied(RuntimeError):  # noqa: N818 - what a command says, not a fault of the program
    """A point that no worker survives."""


def here(tasks: Iterable[Task]) -> Generator[Answer, None, None]:
    """Answer one after another in this process."""
    for task in tasks:
        yield task, answer(task)


def by_itself(count: int) -> Workers:
    """Answer in this process for two seconds; what is left then is worth ``count`` processes and their start."""

    def run(tasks: Iterable[Task]) -> Generator[Answer, None, None]:
        left, begun = iter(tasks), time.monotonic()
        for task in left:
            yield task, answer(task)
            if count > 1 and time.monotonic() - begun > _WORTHWHILE_S:
                yield from processes(count)(left)

    return run


def processes(count: int) -> Workers:
    """Answer in ``count`` processes of this machine. A process that dies is replaced, and what it had is asked again."""

    def run(tasks: Iterable[Task]) -> Generator[Answer, None, None]:
        left, deaths = iter(tasks), dict[str, int]()
        again: list[Task] = []
        while True:
            pool = ProcessPoolExecutor(count, _context(), _begin, (os.getpid(),))
            under_way: dict[Future[tuple[bytes, bytes]], Task] = {}
            try:
                while True:
                    wanted = count * _WAITING - len(under_way)
                    asked = [again.pop() for _ in range(min(wanted, len(again)))]
                    asked += islice(left, wanted - len(asked))
                    for task in asked:
                        under_way[pool.submit(answer, task)] = task
                    if not under_way:
                        return
                    for done in wait(under_way, return_when=FIRST_COMPLETED).done:
                        found = done.result()
                        yield under_way.pop(done), found
            except BrokenProcessPool:
                for task in under_way.values():
                    deaths[task.key] = deaths.get(task.key, 0) + 1
                    if deaths[task.key] >= MOST_DEATHS * count:
                        raise WorkersDied(
                            f"{' '.join(task.changes)}: the processes that answer it are killed (out of memory?): "
                            "fewer --workers leave each of them more"
                        ) from None
                again += under_way.values()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    return run


def dask(address: str) -> Workers:
    """Answer on the Dask cluster whose scheduler is at ``address``. What a worker that dies had is asked again elsewhere.

    Raises BadInput where Dask is not installed, nothing answers at ``address``, or a worker has other code or files.
    """

    def run(tasks: Iterable[Task]) -> Generator[Answer, None, None]:
        try:
            distributed: Any = import_module("distributed")  # untyped, and an extra
        except ModuleNotFoundError:
            raise BadInput("--scheduler needs Dask: pip install 'epicycle[cluster]'") from None
        try:
            client = distributed.Client(address, timeout="10s", set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise BadInput(f"--scheduler {address}: no Dask scheduler answers there ({error})") from None
        with client:
            most = max(1, sum(client.nthreads().values())) * _WAITING
            left = iter(tasks)
            under_way: dict[str, Task] = {}

            def ask(count: int) -> list[Any]:
                asked = list(islice(left, count))
                under_way.update((task.key, task) for task in asked)
                return [
                    client.submit(answer, task, key=f"epicycle-{task.key}", pure=False, retries=MOST_DEATHS) for task in asked
                ]

            finished = distributed.as_completed(ask(most), loop=client.loop)
            for future in finished:
                try:
                    found = future.result()
                except Elsewhere as error:
                    raise BadInput(f"--scheduler {address}: a worker cannot answer for this process: {error}") from None
                yield under_way.pop(future.key.removeprefix("epicycle-")), found
                future.release()
                for more in ask(1):
                    finished.add(more)

    return run


def _context() -> multiprocessing.context.BaseContext:
    """Processes that begin clean: a fork would take along the threads of a progress bar, and not their locks' owners."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["epicycle.scenarios.study.point"])
    return context


def _begin(parent: int) -> None:
    """A worker leaves Ctrl-C to who asked, and ends when that one is gone, however it went."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while True:
            time.sleep(1.0)
            try:
                os.kill(parent, 0)
            except OSError:
                os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
