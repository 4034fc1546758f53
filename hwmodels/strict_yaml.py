"""A YAML document as plain data, with the line of every key: how this project reads its catalogue and its users' files.

Only what data needs is read: mappings, lists and plain values (YAML 1.2's core schema, so ``no`` is a word and not
``False``). Tags, anchors and repeated keys are errors, so that no document can build an object, run code or grow without bound.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .errors import BadInput
from .plain_file import read_bytes

KeyPath = tuple[str | int, ...]
Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_QUICK = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where PyYAML was built with it: ten times as fast


@dataclass(frozen=True, slots=True)
class Document:
    """``data`` as read, and ``places``: key path -> "file:line" (or the ``--set`` that put it there). ``source``: the file."""

    source: str
    data: Plain
    places: dict[KeyPath, str]

    def where(self, path: KeyPath) -> str:
        """The place of the deepest part of ``path`` that the document has."""
        return next((self.places[path[:end]] for end in range(len(path), -1, -1) if path[:end] in self.places), self.source)


def load(text: str, where: str) -> dict[str, Any]:
    """The mapping that ``text`` holds. Raises BadInput naming ``where`` and the line."""
    data = parse_document(text, where).data
    if not isinstance(data, dict):
        raise BadInput(f"{where}: wanted keys and values, got {'nothing' if data is None else type(data).__name__}")
    return data


def read_text(path: Path, error: type[BadInput] = BadInput) -> str:
    """The text of a YAML file. Raises ``error`` if it is large or not UTF-8, OSError if it cannot be read."""
    raw = read_bytes(path, MAX_BYTES, "a YAML file", error)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as wrong:
        line = raw.count(b"\n", 0, wrong.start) + 1
        raise error(f"{path}:{line}: not UTF-8 text (byte {wrong.start} is 0x{raw[wrong.start]:02x})") from None


def parse_document(text: str, source: str, error: type[BadInput] = BadInput) -> Document:
    """The one document in ``text``. Raises ``error`` naming ``source`` and the line."""
    try:
        return _Reader(source, _QUICK, error).document(text)
    except (yaml.YAMLError, UnicodeError):
        pass  # said again by PyYAML itself, in the same words on every machine
    try:
        return _Reader(source, yaml.SafeLoader, error).document(text)
    except yaml.MarkedYAMLError as wrong:
        mark = wrong.problem_mark or wrong.context_mark
        at = f"{source}:{mark.line + 1}" if mark else source
        context = f" {wrong.context}" if wrong.context else ""
        raise error(f"{at}: malformed YAML: {wrong.problem}{context}") from None
    except yaml.YAMLError as wrong:
        raise error(f"{source}: malformed YAML: {' '.join(str(wrong).split())}") from None


class _Reader:
    """Builds data from the parser's events; the resolver and the constructors of PyYAML are never reached."""

    def __init__(self, source: str, loader: Any, error: type[BadInput]) -> None:
        self.source, self.loader, self.failure = source, loader, error
        self.places: dict[KeyPath, str] = {}
        self.events: Iterator[yaml.Event] = iter(())

    def document(self, text: str) -> Document:
        self.events = yaml.parse(text, Loader=self.loader)
        data: Plain = None
        documents = 0
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self.error(event, "a second document: keep one a file")
                data = self.value(next(self.events), ())
        return Document(self.source, data, self.places)

    def value(self, event: yaml.Event, path: KeyPath) -> Plain:
        self.places.setdefault(path, self.place(event))
        if isinstance(event, yaml.AliasEvent):
            raise self.error(event, f"alias *{event.anchor}: write the value out")
        if getattr(event, "tag", None) is not None:
            raise self.error(event, f"tag {_short(event.tag)}: only plain values are read")  # type: ignore[attr-defined]
        if getattr(event, "anchor", None) is not None:
            raise self.error(event, f"anchor &{event.anchor}: write the value out where it is used")  # type: ignore[attr-defined]
        if len(path) > MAX_DEPTH:
            raise self.error(event, f"nested more than {MAX_DEPTH} deep")
        if isinstance(event, yaml.ScalarEvent):
            return event.value if event.style else _plain_value(event.value)
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[Plain] = []
            while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
                items.append(self.value(event, (*path, len(items))))
            return items
        return self.mapping(path)

    def mapping(self, path: KeyPath) -> dict[str, Plain]:
        table: dict[str, Plain] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent) or event.tag is not None:
                raise self.error(event, "a key has to be a plain word")
            key = event.value
            if key in table:
                raise self.error(event, f"{_short(key)} is given twice, first at {self.places[(*path, key)]}")
            self.places[(*path, key)] = self.place(event)
            table[key] = self.value(next(self.events), (*path, key))
        return table

    def error(self, event: yaml.Event, problem: str) -> BadInput:
        return self.failure(f"{self.place(event)}: {problem}")

    def place(self, event: yaml.Event) -> str:
        return f"{self.source}:{event.start_mark.line + 1}" if event.start_mark else self.source


def _plain_value(word: str) -> Plain:
    """An unquoted scalar by YAML 1.2's core schema: null, true, false, a number, else the word itself."""
    if word in ("", "~", "null"):
        return None
    if word in ("true", "false"):
        return word == "true"
    if _INT.fullmatch(word) and len(word) <= 18:
        return int(word)
    if _FLOAT.fullmatch(word):
        return float(word)
    return word


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
