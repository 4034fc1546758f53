"""Hardware of the user's own: a cluster, GPU, NIC, link or switch in a YAML file, the same records as the catalogue's.

A file names its parts by the catalogue's names, by files (relative to itself), or writes them out where they stand. What a
source says nothing of is the user's own number; an error names the file, the line and the key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from . import strict_yaml
from .errors import BadInput, one_line
from .specs import YOURS
from .strict_yaml import Document, KeyPath
from .units import FLOPS, HERTZ

#: Beyond so many, the errors of one file are counted.
MOST_ERRORS = 3


def is_file(ref: str) -> bool:
    """Whether ``ref`` is meant as a file and not as a name of the catalogue: it ends in .yaml or .yml, or holds a slash."""
    return "/" in ref or ref.endswith((".yaml", ".yml"))


@dataclass(frozen=True, slots=True)
class Sheet:
    """A record as it is written: plain data, and where each of its keys stands. ``parts``: key path -> the part's own sheet."""

    tree: dict[str, Any]
    where: str
    document: Document | None = None
    at: KeyPath = ()
    parts: Mapping[KeyPath, Sheet] | None = None

    def refusal(self, error: ValidationError) -> BadInput:
        """A pydantic error on the joined record in one line: file, line and key of each part that comes from a file."""
        said, details = [], error.errors(include_url=False)
        for detail in details[:MOST_ERRORS]:
            found = one_line(ValidationError.from_exception_data(error.title, [detail]))  # type: ignore[list-item]
            path = tuple(part for part in detail["loc"] if isinstance(part, str | int))
            said.append(f"{self.place(path)}{found}")
        more = len(details) - MOST_ERRORS
        return BadInput("; ".join(said) + (f" (and {more} more)" if more > 0 else ""))

    def place(self, path: KeyPath) -> str:
        """ "file:line: " of the deepest key of ``path`` that was written down, or "name." where no file was read."""
        for end in range(len(path), 0, -1):
            part = (self.parts or {}).get(path[:end])
            if part is not None and part.document is not None:
                return part.place(path[end:])
        if self.document is None:
            return f"{self.where}." if path else f"{self.where}: "
        return f"{self.document.where((*self.at, *path))}: "


def read_sheet(path: Path) -> Sheet:
    """The record in the file at ``path``. Raises BadInput for a file that is not there, is large, or holds no keys."""
    try:
        if not path.is_file():
            raise BadInput(f"{path}: {'not a file' if path.exists() else 'no such file'}")
        document = strict_yaml.parse_document(strict_yaml.read_text(path), str(path))
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from None
    if not isinstance(document.data, dict):
        raise BadInput(f"{path}: wanted the keys of a record, got {'nothing' if document.data is None else 'no keys'}")
    return owned(Sheet(document.data, str(path), document))


def owned(sheet: Sheet) -> Sheet:
    """``sheet`` with the file as the source of every number that names none. Raises BadInput for sources that are none."""
    sources = sheet.tree.get("sources", {})
    if not isinstance(sources, dict):
        raise BadInput(f"{sheet.place(('sources',))}sources: wanted the source of each key, or of '*', got {sources!r}")
    given = {"*": f"{YOURS} {sheet.where}", **sources}
    return Sheet({**sheet.tree, "sources": given}, sheet.where, sheet.document, sheet.at, sheet.parts)


def with_tensor_rate(tree: dict[str, Any]) -> dict[str, Any]:
    """A GPU whose ``tensor_rate`` (dtype -> dense "989 TFLOP/s") is written as flops per cycle and SM, as the record has them.

    Raises ValueError for a rate that is none; an unreadable clock or SM count is left for the record to say.
    """
    if "tensor_rate" not in tree:
        return tree
    if "tensor_flop_per_cycle_sm" in tree:
        raise ValueError("tensor_rate and tensor_flop_per_cycle_sm say the same: keep one of them")
    rates = tree["tensor_rate"]
    if not isinstance(rates, dict) or not all(isinstance(rate, str) for rate in rates.values()):
        raise ValueError("tensor_rate: wanted dense rates by dtype, such as {bf16: 989 TFLOP/s, fp8: 1979 TFLOP/s}")
    if missing := [key for key in ("sms", "clock") if key not in tree]:
        raise ValueError(f"tensor_rate needs sms and clock, the clock that it is quoted at: no {' and no '.join(missing)} here")
    cycles = _cycles_per_s(tree["sms"], tree["clock"])
    found = {key: value for key, value in tree.items() if key != "tensor_rate"}
    found["tensor_flop_per_cycle_sm"] = {dtype: FLOPS.parse(rate) / cycles for dtype, rate in rates.items()}
    sources = tree.get("sources")
    if isinstance(sources, dict) and "tensor_rate" in sources:
        moved = {("tensor_flop_per_cycle_sm" if key == "tensor_rate" else key): said for key, said in sources.items()}
        found["sources"] = moved
    return found


def _cycles_per_s(sms: object, clock: object) -> float:
    """SM cycles a second; 1 where the record will say what is wrong with either."""
    try:
        return sms * HERTZ.parse(clock) if isinstance(sms, int) and sms > 0 and isinstance(clock, str) else 1.0
    except ValueError:
        return 1.0
