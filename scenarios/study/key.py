"""What tells one point of a study from every other: its question, the files that it names, this package's code and data."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

from ...hwmodels.errors import BadInput
from ...hwmodels.strict_yaml import Document, Plain, parse_document, read_text

#: Beside a model's config these say more of it.
_BESIDE = ("hf_quant_config.json", "model.safetensors.index.json", "generation_config.json", "params.json")
_SUFFIXES = (".py", ".yaml", ".csv", ".md", ".css", ".js")


@cache
def code_digest() -> str:
    """A digest of every source and data file of the package: another version of either gives another."""
    root = Path(str(files("epicycle")))
    rooms = ("cli.py", "hwmodels", "scenarios", "sim", "validate")
    found = (p for room in rooms for p in ([root / room] if room.endswith(".py") else (root / room).rglob("*")))
    whole = sha256()
    for path in sorted(p for p in found if p.suffix in _SUFFIXES and "__pycache__" not in p.parts):
        whole.update(path.relative_to(root).as_posix().encode() + b"\0" + sha256(path.read_bytes()).digest())
    return whole.hexdigest()


class Files:
    """Digests of the files that questions name; each is read once for a study."""

    def __init__(self) -> None:
        self._known: dict[Path, Mapping[str, str]] = {}

    def of(self, data: Plain) -> dict[str, str]:
        """Path -> digest of every file that the values of a scenario name, of the files that those name, and of what lies
        beside a model's config."""
        found: dict[str, str] = {}
        for text in _texts(data):
            if "/" in text or text.endswith((".yaml", ".yml", ".json", ".csv")):
                found |= self._below(Path(text))
        return found

    def _below(self, path: Path) -> Mapping[str, str]:
        if path not in self._known:
            self._known[path] = {}  # a file that names itself ends here
            self._known[path] = self._read(path)
        return self._known[path]

    def _read(self, path: Path) -> dict[str, str]:
        if path.is_dir():  # a model's folder
            return {str(p): sha256(p.read_bytes()).hexdigest() for p in sorted(path.glob("*.json"))}
        if not path.is_file():
            return {}
        found = {str(path): sha256(path.read_bytes()).hexdigest()}
        if path.suffix == ".json":
            beside = (path.with_name(name) for name in _BESIDE)
            return found | {str(p): sha256(p.read_bytes()).hexdigest() for p in beside if p.is_file()}
        if path.suffix in (".yaml", ".yml"):
            try:
                inner = parse_document(read_text(path, BadInput), str(path), BadInput).data
            except BadInput:
                return found  # whoever uses it says what is wrong with it
            for text in _texts(inner):
                if text.endswith((".yaml", ".yml")):
                    found |= self._below(path.parent / text)
        return found


def point_key(document: Document, named: Mapping[str, str]) -> str:
    """The key of the question in ``document``, whose files have the digests ``named``."""
    # A refusal names the scenario's file, so that it is part of the question.
    whole = {"code": code_digest(), "of": document.source, "question": document.data, "files": sorted(named.items())}
    return sha256(json.dumps(whole, sort_keys=True, default=str).encode()).hexdigest()


def _texts(data: Plain) -> Iterator[str]:
    if isinstance(data, dict):
        for value in data.values():
            yield from _texts(value)
    elif isinstance(data, list):
        for value in data:
            yield from _texts(value)
    elif isinstance(data, str):
        yield data
