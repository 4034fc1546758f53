"""What a scenario file is told when a value in it will not do: where, which key, wanted, got, nearest name."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from ...hwmodels.errors import nearest
from .document import Document, KeyPath, ScenarioError


def refusal(error: ValidationError, document: Document, record: type[BaseModel]) -> ScenarioError:
    """The first thing wrong, as one line; the number of others beside it. A mistyped key goes before what it left missing."""
    details = error.errors(include_url=False)
    details.sort(key=lambda d: (d["type"] != "extra_forbidden", d["type"] == "missing", -len(_known_part(d["loc"], document))))
    first = details[0]
    keys = {_known_part(d["loc"], document) for d in details} - {_known_part(first["loc"], document)}
    others = len([d for d in keys if d])
    more = f" (and {others} more)" if others else ""
    return ScenarioError(_sentence(first, document, record) + more)


def _sentence(detail: Any, document: Document, record: type[BaseModel]) -> str:
    path: KeyPath = detail["loc"]
    kind = detail["type"]
    if kind in ("missing", "extra_forbidden"):
        owner, key = path[:-1], str(path[-1])
        inside = f"{_dotted(owner)}." if owner else ""
        if kind == "missing":
            return f"{document.where(owner)}: {inside}{key} is missing"
        known = _fields(record, owner)
        close = nearest(key, known)
        hint = f"did you mean {close!r}?" if close else f"there are {', '.join(known)}"
        return f"{document.where(path)}: no such key {inside}{key}: {hint}"
    path = _known_part(path, document)
    message = detail["msg"].removeprefix("Value error, ").replace("Input should be", "wanted")
    got = "" if kind == "value_error" else f", got {_shown(detail['input'])}"
    close = None
    if kind == "literal_error" and isinstance(detail["input"], str):
        close = nearest(detail["input"], [w.strip("' ") for w in detail["ctx"]["expected"].replace(" or ", ",").split(",")])
    hint = f": did you mean {close!r}?" if close else ""
    if kind in ("model_type", "dict_type"):
        message = "wanted keys and values"
    place = document.where(path)
    if kind == "value_error":  # of a whole record: it names the keys that do not go together, say where one of those is
        named = [p for p in document.places if p[:-1] == path and p[-1:] and str(p[-1]) in message]
        # What was changed on the command line is likelier to be what broke it.
        changed = [p for p in named if document.places[p].startswith("--")]
        place = document.where(max(changed or named, key=lambda p: len(str(p[-1])))) if named else place
    return f"{place}: {f'{_dotted(path)}: ' if path else ''}{message}{got}{hint}"


def _known_part(path: KeyPath, document: Document) -> KeyPath:
    """``path`` without what the validator adds to it (the branches of a union)."""
    data: Any = document.data
    known: list[str | int] = []
    for key in path:
        if isinstance(data, dict) and key in data:
            data = data[str(key)]
        elif isinstance(data, list) and isinstance(key, int) and key < len(data):
            data = data[key]
        else:
            continue
        known.append(key)
    return tuple(known)


def _fields(record: type[BaseModel], owner: KeyPath) -> list[str]:
    for key in owner:
        field = record.model_fields.get(str(key))
        kinds = (field.annotation, *get_args(field.annotation)) if field else ()  # of an optional record, too
        inner = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        if inner is None:
            return []
        record = inner
    return list(record.model_fields)


def _dotted(path: KeyPath) -> str:
    return ".".join(str(key) for key in path)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
