"""Further replications of a run, each with the next seed: in processes of their own, or here; the same either way."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

from ...hwmodels.backends import Backend
from ...sim.inputs.serving_question import ServingQuestion
from .outcome import Outcome, played_once
from .setup import set_up


def others(question: ServingQuestion, engine: Backend | None, processes: int | None = None) -> Iterator[Outcome]:
    """All replications but the first, in the order of their seeds. ``processes``: 1 plays them here; default: as many as there
    are cores, unless this is one of several processes already."""
    count = question.requests.replications if question.requests else 1
    asked = [replace(question, seed=question.seed + i) for i in range(1, count)]
    width = min(len(asked), _cores() if processes is None else processes)
    if width <= 1:
        for one in asked:
            yield _play(one, engine)
        return
    with ProcessPoolExecutor(width, _context()) as pool:
        yield from pool.map(_play, asked, [engine] * len(asked))


def _play(question: ServingQuestion, engine: Backend | None) -> Outcome:
    return played_once(question, set_up(question, engine))


def _cores() -> int:
    if multiprocessing.parent_process() is not None:
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _context() -> multiprocessing.context.BaseContext:
    """Processes that begin clean, as those of a study."""
    return multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
