"""Ranks as forked processes on one machine, ended within a time limit that names the rank at fault."""

from __future__ import annotations

import multiprocessing
import time
import traceback
from collections.abc import Callable
from typing import Any


class RankFailedError(RuntimeError):
    """A rank died, raised or did not finish in time; ``rank`` is which, and the message says how."""

    def __init__(self, rank: int, message: str) -> None:
        super().__init__(message)
        self.rank = rank


def run_forked(ranks: int, work: Callable[[int], Any], timeout_s: float) -> list[Any]:
    """``work(rank)`` in one forked process per rank; returns [rank] its results (picklable).

    The first rank to raise or die ends all; ranks still running at ``timeout_s`` are ended and the lowest of them is named
    in the RankFailedError.
    """
    context = multiprocessing.get_context("fork")
    pipes = [context.Pipe(duplex=False) for _ in range(ranks)]
    processes = [context.Process(target=_child, args=(work, r, pipes[r][1]), daemon=True) for r in range(ranks)]
    for process in processes:
        process.start()
    for _, sender in pipes:
        sender.close()
    results: list[Any] = [None] * ranks
    waiting = set(range(ranks))
    deadline = time.monotonic() + timeout_s
    try:
        while waiting:
            for r in sorted(waiting):
                if pipes[r][0].poll():
                    results[r] = _receive(r, pipes[r][0], processes[r])
                    waiting.discard(r)
            if waiting and time.monotonic() > deadline:
                late = min(waiting)
                raise RankFailedError(
                    late, f"rank {late} did not finish within {timeout_s:g} s (also waiting: {sorted(waiting)})"
                )
            time.sleep(0.002)
    finally:
        for process in processes:
            if process.is_alive() and waiting:
                process.kill()
            process.join()
    return results


def _receive(rank: int, receiver: Any, process: Any) -> Any:
    try:
        ok, value = receiver.recv()
    except EOFError:
        process.join()
        raise RankFailedError(rank, f"rank {rank} died with exit code {process.exitcode}") from None
    if not ok:
        raise RankFailedError(rank, f"rank {rank} failed: {value}")
    return value


def _child(work: Callable[[int], Any], rank: int, sender: Any) -> None:
    import torch

    # Each rank is one of many on this machine; a thread pool inherited through fork would also hang.
    torch.set_num_threads(1)
    try:
        sender.send((True, work(rank)))
    except BaseException:
        sender.send((False, traceback.format_exc(limit=6)))
    finally:
        sender.close()
