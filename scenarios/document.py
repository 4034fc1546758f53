"""A YAML document as plain data, with the line of every key.

Only what data needs is read: mappings, lists and plain values (YAML 1.2's core schema, so ``no`` is a word and not
``False``). Tags, anchors and repeated keys are errors, so that no document can build an object, run code or grow without bound.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from ..hwmodels.errors import BadInput

KeyPath = tuple[str | int, ...]
Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


class ScenarioError(BadInput):
    """A scenario that cannot be asked. Its text is one line: file, line and key, what was wanted, what was got, the lever."""


@dataclass(frozen=True, slots=True)
class Document:
    """``data`` as read, and ``places``: key path -> "file:line" (or the ``--set`` that put it there). ``source``: the file."""

    source: str
    data: Plain
    places: dict[KeyPath, str]

    def where(self, path: KeyPath) -> str:
        """The place of the deepest part of ``path`` that the document has."""
        return next((self.places[path[:end]] for end in range(len(path), -1, -1) if path[:end] in self.places), self.source)


def read_document(path: Path) -> Document:
    """The document in the file ``path``. Raises ScenarioError for anything that is not such a document, OSError otherwise."""
    raw = path.read_bytes()
    if len(raw) > MAX_BYTES:
        raise ScenarioError(f"{path}: {len(raw)} bytes is too large for a scenario file (at most {MAX_BYTES})")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ScenarioError(f"{path}:{line}: not UTF-8 text (byte {error.start} is 0x{raw[error.start]:02x})") from None
    return parse_document(text, str(path))


def parse_document(text: str, source: str) -> Document:
    """The one document in ``text``. Raises ScenarioError naming ``source`` and the line."""
    places: dict[KeyPath, str] = {}
    try:
        events = yaml.parse(text, Loader=yaml.SafeLoader)
        data = _Reader(source, places, events).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f"{source}:{mark.line + 1}" if mark else source
        context = f" {error.context}" if error.context else ""
        raise ScenarioError(f"{at}: malformed YAML: {error.problem}{context}") from None
    except yaml.YAMLError as error:
        raise ScenarioError(f"{source}: malformed YAML: {' '.join(str(error).split())}") from None
    return Document(source, data, places)


class _Reader:
    """Builds data from the parser's events; the resolver and the constructors of PyYAML are never reached."""

    def __init__(self, source: str, places: dict[KeyPath, str], events: Iterator[yaml.Event]) -> None:
        self.source, self.places, self.events = source, places, events

    def document(self) -> Plain:
        data: Plain = None
        documents = 0
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self.error(event, "a second document: keep one scenario a file")
                data = self.value(next(self.events), ())
        return data

    def value(self, event: yaml.Event, path: KeyPath) -> Plain:
        self.places.setdefault(path, self.place(event))
        if isinstance(event, yaml.AliasEvent):
            raise self.error(event, f"alias *{event.anchor}: write the value out")
        if getattr(event, "tag", None) is not None:
            raise self.error(event, f"tag {_short(event.tag)}: scenario files hold plain values only")  # type: ignore[attr-defined]
        if getattr(event, "anchor", None) is not None:
            raise self.error(event, f"anchor &{event.anchor}: write the value out where it is used")  # type: ignore[attr-defined]
        if len(path) > MAX_DEPTH:
            raise self.error(event, f"nested more than {MAX_DEPTH} deep")
        if isinstance(event, yaml.ScalarEvent):
            return event.value if event.style else plain_value(event.value)
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

    def error(self, event: yaml.Event, problem: str) -> ScenarioError:
        return ScenarioError(f"{self.place(event)}: {problem}")

    def place(self, event: yaml.Event) -> str:
        return f"{self.source}:{event.start_mark.line + 1}" if event.start_mark else self.source


def plain_value(word: str) -> Plain:
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
