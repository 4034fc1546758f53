"""One point of a study: asked, answered, and as text that can travel and be kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass as checked_dataclass

from ...hwmodels.errors import BadInput
from ...sim.layer.result import InputRow
from ..answer.evaluation import Evaluation, SweepPoint
from ..ask.document import Document
from ..ask.scenario import changed, read_scenario
from ..weigh.evaluation_of import evaluation_of
from .key import code_digest

OPTION = "--over"


class Elsewhere(RuntimeError):  # noqa: N818 - where it runs is at fault, not the question
    """A worker whose code or files are not those of the process that was asked."""


@dataclass(frozen=True, slots=True)
class Task:
    """One point to answer: its ``document`` with all changes applied, and what a worker elsewhere has to have the same."""

    key: str
    document: Document
    changes: tuple[str, ...]
    values: tuple[str, ...]
    code: str
    named: Mapping[str, str]


@checked_dataclass(config=ConfigDict(ser_json_inf_nan="constants"))
class _Kept:
    point: SweepPoint
    inputs: tuple[InputRow, ...]


def point_of(document: Document, changes: tuple[str, ...], values: tuple[str, ...]) -> SweepPoint:
    """The answer to ``document``, or the one line that says why there is none; the point's own row says what was set."""
    try:
        return SweepPoint(values, evaluation_of(read_scenario(document)))
    except BadInput as error:
        return SweepPoint(values, None, refusal_of(error, changes))


def refusal_of(error: BadInput, changes: tuple[str, ...]) -> str:
    """What ``error`` says, without the change that its row shows."""
    text = str(error)
    for change in changes:
        text = text.removeprefix(f"{OPTION} {change}: ")
    return text


def answer(task: Task) -> tuple[bytes, bytes]:
    """The record of ``task``, wherever this runs. Raises Elsewhere if code or files differ here from where it was asked."""
    if task.code != code_digest():
        raise Elsewhere("its epicycle is another: install the same version and files on every worker")
    for path, digest in task.named.items():
        here = _digest(path)
        if here != digest:
            raise Elsewhere(
                f"{path} is {'not there' if here is None else 'another file'}: workers need the files of the question"
            )
    return written(point_of(task.document, task.changes, task.values))


def written(point: SweepPoint) -> tuple[bytes, bytes]:
    """``point`` as text: what is its own, and the inputs that it shares with the points beside it."""
    inputs: tuple[InputRow, ...] = ()
    if point.evaluation is not None:
        inputs = point.evaluation.inputs
        point = replace(point, evaluation=replace(point.evaluation, inputs=()))
    form = _form()
    return form.dump_json(_Kept(point, ())), form.dump_json(_Kept(SweepPoint((), None), inputs))


def read(record: bytes, shared: bytes) -> SweepPoint:
    """The point that was `written`. Raises ValueError if the texts are no such point."""
    form = _form()
    point: SweepPoint = form.validate_json(record).point
    if point.evaluation is None:
        return point
    whole: Evaluation = replace(point.evaluation, inputs=form.validate_json(shared).inputs)
    return replace(point, evaluation=whole)


def changed_to(document: Document, changes: tuple[str, ...]) -> Document:
    """``document`` with a point's ``changes``. Raises ScenarioError."""
    return changed(document, changes, OPTION)


@cache
def _form() -> TypeAdapter[Any]:
    return TypeAdapter(_Kept)


def _digest(path: str) -> str | None:
    """The digest of a file as it is now, or None."""
    try:
        found = Path(path).stat()
        return _digest_of(path, found.st_mtime_ns, found.st_size)
    except OSError:
        return None


@cache
def _digest_of(path: str, changed_ns: int, size: int) -> str:
    """Read once, as long as the file keeps its time and size."""
    return sha256(Path(path).read_bytes()).hexdigest()
