"""A scenario file as plain data, with the line of every key (`hwmodels.strict_yaml` reads it, and says what it refuses)."""

from __future__ import annotations

from pathlib import Path

from ...hwmodels import strict_yaml
from ...hwmodels.errors import BadInput
from ...hwmodels.strict_yaml import Document, KeyPath, Plain


class ScenarioError(BadInput):
    """A scenario that cannot be asked. Its text is one line: file, line and key, what was wanted, what was got, the lever."""


def read_document(path: Path) -> Document:
    """The document in the file ``path``. Raises ScenarioError for anything that is not such a document, OSError otherwise."""
    return parse_document(strict_yaml.read_text(path, ScenarioError), str(path))


def parse_document(text: str, source: str) -> Document:
    """The one document in ``text``. Raises ScenarioError naming ``source`` and the line."""
    return strict_yaml.parse_document(text, source, ScenarioError)


__all__ = ["Document", "KeyPath", "Plain", "ScenarioError", "parse_document", "read_document"]
