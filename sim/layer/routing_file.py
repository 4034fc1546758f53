"""A routing read from a file: top-k expert ids a token, or a histogram of how often each expert is chosen."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...hwmodels.errors import BadInput

HISTOGRAM_HEADER = ["expert", "count"]


@dataclass(frozen=True, slots=True)
class Recorded:
    """``choices``: [token, k] or None for a histogram; ``weight``: [expert] how often each is chosen."""

    path: Path
    choices: NDArray[np.int64] | None
    weight: NDArray[np.float64]

    def enough(self, tokens: int) -> NDArray[np.int64] | None:
        """The choices if they cover ``tokens`` tokens (None for a histogram). Raises BadInput if they do not."""
        if self.choices is not None and len(self.choices) < tokens:
            raise BadInput(
                f"{self.path}: holds {len(self.choices)} tokens, the traffic has {tokens}: lower tokens_per_rank or record more"
            )
        return self.choices


def read_histogram_or_choices(path: Path, experts: int, top_k: int) -> Recorded:
    """Read ``path``: CSV with the header ``expert,count``, or without a header ``top_k`` expert ids a line.

    Raises BadInput naming file and line; OSError if it cannot be read.
    """
    return _read(path, path.stat().st_mtime_ns, experts, top_k)


@lru_cache(maxsize=4)
def _read(path: Path, _changed: int, experts: int, top_k: int) -> Recorded:
    try:
        lines = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
    except (UnicodeDecodeError, csv.Error):
        raise BadInput(f"{path}: not a text file") from None
    histogram = bool(lines) and [c.strip().lower() for c in lines[0]] == HISTOGRAM_HEADER
    body = [(i + 1, row) for i, row in enumerate(lines) if row and not (histogram and i == 0)]
    if not body:
        raise BadInput(
            f"{path}: wanted {top_k} expert ids a line, or the header expert,count and a line an expert; it is empty"
        )
    columns = 2 if histogram else top_k
    numbers = np.array([_whole(path, line, row, columns) for line, row in body], np.int64)
    ids = numbers[:, :1] if histogram else numbers
    outside = np.argwhere((ids < 0) | (ids >= experts))
    if len(outside):
        i, k = outside[0]
        raise BadInput(f"{path}: line {body[i][0]}: expert {ids[i, k]} is not one of 0..{experts - 1}")
    if histogram:
        weight = np.zeros(experts)
        np.add.at(weight, numbers[:, 0], numbers[:, 1].astype(float))
        if (numbers[:, 1] < 0).any() or np.count_nonzero(weight) < top_k:
            raise BadInput(f"{path}: a histogram needs counts of zero or more and at least top_k ({top_k}) experts with some")
        return Recorded(path, None, weight)
    ordered = np.sort(numbers, axis=1)
    twice = np.flatnonzero((ordered[:, 1:] == ordered[:, :-1]).any(axis=1))
    if len(twice):
        raise BadInput(f"{path}: line {body[twice[0]][0]}: an expert is named twice for one token")
    return Recorded(path, numbers, np.bincount(numbers.ravel(), minlength=experts).astype(float))


def _whole(path: Path, line: int, row: list[str], columns: int) -> list[int]:
    try:
        values = [int(cell) for cell in row]
    except ValueError:
        raise BadInput(f"{path}: line {line}: wanted {columns} whole numbers, got {','.join(row)[:60]!r}") from None
    if max(map(abs, values)) >= 1 << 53:  # beyond it a count would lose its last digit
        raise BadInput(f"{path}: line {line}: a number is absurdly large: {','.join(row)[:60]!r}")
    if len(values) != columns:
        raise BadInput(f"{path}: line {line}: wanted {columns} whole numbers, got {len(values)}")
    return values
