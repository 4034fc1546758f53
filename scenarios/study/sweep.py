"""The same question at many points: ``--over path=a,b,c``, on all cores or a cluster, each point kept when it is answered.

What is kept is not asked again: the same study goes on where it was stopped, whatever stopped it, and its result is the same.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ... import __version__
from ...hwmodels.errors import BadInput
from ..answer.evaluation import Sweep, SweepPoint
from ..ask.document import Document, Plain
from ..ask.scenario import Source, scenario_document
from ..ask.scenario import changed as with_sets
from .design import Axis, Design, Values, axis, bends, grid, latin_hypercube, one_at_a_time
from .key import Files, code_digest, point_key
from .point import Task, changed_to, read, refusal_of, written
from .results import KeptPoints
from .store import Store, default_store
from .summary import Summary
from .workers import Workers, by_itself, dask, here, processes

#: Points that are held in memory at once; with a store, more are read from it as they are needed.
MOST_HELD = 2_000
MAX_POINTS = 10_000
MAX_KEPT_POINTS = 1_000_000
_AT_ONCE = 8  # points that refining adds before it looks again

Progress = Callable[[int, int], None]


class Interrupted(KeyboardInterrupt):
    """A study stopped by who asked; ``sweep``: what of it is answered (None: nothing)."""

    def __init__(self, sweep: Sweep | None) -> None:
        super().__init__()
        self.sweep = sweep


@dataclass(frozen=True, slots=True)
class How:
    """How a study goes about its points."""

    design: Design = "grid"
    samples: int = 0
    refine: int = 0
    seed: int = 0
    command: str = ""


_HOW = How()


def sweep(
    name_or_path: Source,
    overs: Iterable[str],
    sets: Sequence[str] = (),
    progress: Progress | None = None,
    *,
    workers: Workers = here,
    store: Store | None = None,
    how: How = _HOW,
    whole: bool = False,
) -> Sweep:
    """The scenario with ``sets`` applied, answered at the points of ``how.design`` over ``overs`` ("path=a,b,c", "path=1..9").

    A point that cannot be asked has the reason. ``workers`` answer what ``store`` does not have yet. Raises BadInput for an
    ``--over`` that cannot be read, and if no point at all can be asked; Interrupted with what is answered on Ctrl-C.
    ``whole``: a page or JSON is wanted, which hold every point at once.
    """
    axes = [axis(text) for text in overs]
    _check(axes)
    document = with_sets(scenario_document(name_or_path), sets)  # before the points: a swept value may lie inside what was set
    study = _Study(document, tuple(a.path for a in axes), workers, store, how, _named(document, name_or_path))
    try:
        study.answer(_points(axes, how, MAX_KEPT_POINTS if store is not None and not whole else MAX_POINTS), progress)
        while (left := how.refine + len(study.first) - len(study.members)) > 0:
            more = bends(study.paths, study.points(), min(_AT_ONCE, left))
            if not more:
                break
            study.answer(more, progress)
    except KeyboardInterrupt:
        raise Interrupted(study.result(partly=True)) from None
    found = study.result()
    assert found is not None
    return found


class _Study:
    """The points of a study, answered as far as they are; ``members``: (key, values) in the order they were asked."""

    def __init__(
        self, document: Document, paths: tuple[str, ...], workers: Workers, store: Store | None, how: How, name: str
    ) -> None:
        self.document, self.paths, self.workers, self.store, self.how, self.name = document, paths, workers, store, how, name
        self.members: list[tuple[str, Values]] = []
        self.first: list[Values] = []  # what the design asked for, before any refining
        self._files = Files()
        self._held: dict[str, SweepPoint] = {}  # without a store
        self._answered: set[str] = set()

    def answer(self, asked: Iterable[Values], progress: Progress | None) -> None:
        """Answer the points ``asked``, but for those that are kept."""
        new = [(self._key(values), values) for values in asked]
        self.members += new
        self.first = self.first or [values for _, values in new]
        if self.store is not None:
            self.store.begin(self.name, self.how.command, self.paths, __version__, self.members)
            self._answered |= {key for key, _ in new if self.store.get(key) is not None}
        missing = [(key, values) for key, values in new if key not in self._answered]
        done = len(self.members) - len(missing)
        if progress is not None:
            progress(done, len(self.members))
        with closing(self.workers(self._tasks(missing))) as finished:
            for task, texts in finished:
                self._keep(task.key, task.values, texts)
                done += 1
                if progress is not None:
                    progress(done, len(self.members))

    def points(self) -> Sequence[SweepPoint]:
        """Every point that has its answer, in order."""
        if self.store is not None:
            found = KeptPoints(self.store, [key for key, _ in self.members if key in self._answered])
            return found if len(found) > MOST_HELD else tuple(found)
        return tuple(self._held[key] for key, _ in self.members if key in self._held)

    def result(self, partly: bool = False) -> Sweep | None:
        """The study's answer. Raises BadInput if no point has one (``partly``: None)."""
        points = self.points()
        summary = Summary.of(self.paths, points)
        if summary.first is None:
            if partly:
                return None
            raise BadInput(f"{self.name}: none of {len(points)} points can be answered; the first: {points[0].refusal}")
        return summary.sweep(points, f"Stopped: {len(points)} of {len(self.members)} points are answered. " if partly else "")

    def _tasks(self, missing: Sequence[tuple[str, Values]]) -> Iterator[Task]:
        code = code_digest()
        for key, values in missing:
            changes = self._changes(values)
            try:
                document = changed_to(self.document, changes)
            except BadInput as error:
                self._keep(key, values, written(SweepPoint(values, None, refusal_of(error, changes))))
                continue
            yield Task(key, document, changes, values, code, self._files.of(document.data))

    def _keep(self, key: str, values: Values, texts: tuple[bytes, bytes]) -> None:
        if self.store is not None:
            self.store.put(key, *texts)
        else:
            self._held[key] = read(*texts)
        self._answered.add(key)

    def _changes(self, values: Values) -> tuple[str, ...]:
        return tuple(f"{path}={value}" for path, value in zip(self.paths, values, strict=True))

    def _key(self, values: Values) -> str:
        changes = self._changes(values)
        try:
            document = changed_to(self.document, changes)
        except BadInput:
            document = Document(self.document.source, {"refused": list(changes), "in": self.document.data}, {})
        # The values as typed are part of a point: its row shows them.
        asked: dict[str, Plain] = {"values": list(values), "asked": document.data}
        return point_key(Document(document.source, asked, {}), self._files.of(document.data))


def _points(axes: Sequence[Axis], how: How, most: int) -> list[Values]:
    """The points of a design. Raises BadInput if there are more than a study may have."""
    if how.design == "latin-hypercube":
        if not 1 <= how.samples <= most:
            raise BadInput(f"--design latin-hypercube needs --samples, 1 to {most:,} points")
        return list(latin_hypercube(axes, how.samples, how.seed))
    if how.samples:
        raise BadInput("--samples goes with --design latin-hypercube: the others take the values listed")
    sizes = [len(a.values) for a in axes]
    count = math.prod(sizes) if how.design == "grid" else 1 + sum(sizes) - len(sizes)
    if count > most:
        why = " with a page, JSON or --no-keep (kept tables take more)" if most == MAX_POINTS else ""
        raise BadInput(f"{count:,} points are more than the {most:,} of one sweep{why}: give fewer values")
    return list(grid(axes) if how.design == "grid" else one_at_a_time(axes))


def _check(axes: Sequence[Axis]) -> None:
    if not axes:
        raise BadInput("a sweep needs something to sweep: --over path=a,b,c, for example --over deployment.decode.batch=64,128")
    paths = [a.path for a in axes]
    for path in paths:
        if paths.count(path) > 1:
            raise BadInput(f"--over {path} is given twice: list all its values in one")


def _named(document: Document, name_or_path: Source) -> str:
    data = document.data
    return str(data["name"]) if isinstance(data, dict) and isinstance(data.get("name"), str) else str(name_or_path)


def workers_for(count: int | None, scheduler: str | None) -> Workers:
    """Who answers: a Dask cluster, so many processes, or this process and then all cores. Raises BadInput for both."""
    if scheduler is not None:
        if count is not None:
            raise BadInput("--workers are processes of this machine, --scheduler is a cluster with its own: give one of them")
        return dask(scheduler)
    if count is None:
        return by_itself(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    return here if count == 1 else processes(count)


@contextmanager
def kept_in(path: Path | None, keep: bool, say: Callable[[str], None]) -> Iterator[Store | None]:
    """The store at ``path`` or, if None, the user's own; none where nothing is to be kept, or the user's own cannot be written,
    which is said."""
    if not keep:
        if path is not None:
            raise BadInput("--store with --no-keep: a store keeps")
        yield None
        return
    try:
        store = Store(path or default_store())
    except (OSError, RuntimeError) as error:
        if path is not None:
            raise
        say(f"nothing is kept: {error} (--store names another file)")
        yield None
        return
    with store:
        yield store
