"""A routing read from a file: top-k expert ids a token, or a histogram of how often each expert is chosen, layer by layer."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...hwmodels.errors import BadInput
from ...hwmodels.plain_file import MOST_TABLE_BYTES, read_text
from ..ep.compute.expert_share import Counted

HISTOGRAM_HEADER = ["expert", "count"]
#: Layers that a file may count.
MOST_LAYERS = 4096
LAYERS_HEADER = ["layer", *HISTOGRAM_HEADER]


@dataclass(frozen=True, slots=True)
class Recorded:
    """``choices``: [token, k] or None for a histogram; ``weight``: [expert] how often each is chosen, over all layers;
    ``layers``: [layer, expert] the same by layer where the file has layers, else None.
    """

    path: Path
    choices: NDArray[np.int64] | None
    weight: NDArray[np.float64]
    layers: NDArray[np.float64] | None = None

    def enough(self, tokens: int) -> NDArray[np.int64] | None:
        """The choices if they cover ``tokens`` tokens (None for a histogram). Raises BadInput if they do not."""
        if self.choices is not None and len(self.choices) < tokens:
            raise BadInput(
                f"{self.path}: holds {len(self.choices)} tokens, the traffic has {tokens}: lower tokens_per_rank or record more"
            )
        return self.choices

    def of_layer(self, layer: int | None) -> NDArray[np.float64]:
        """[expert] counts of one layer: ``layer``, or the only one. Raises BadInput if the file has others, or none."""
        if self.layers is None:
            if layer is not None:
                raise BadInput(
                    f"{self.path}: has no layers (a header layer,expert,count), got routing.layer={layer}: remove it"
                )
            return self.weight
        if layer is None:
            raise BadInput(f"{self.path}: holds {len(self.layers)} layers, one is asked for: use routing.layer=0")
        if layer >= len(self.layers):
            raise BadInput(f"{self.path}: holds layers 0 to {len(self.layers) - 1}, got routing.layer={layer}")
        return np.asarray(self.layers[layer])

    def by_layer(self, layer: int | None) -> NDArray[np.float64]:
        """[layer, expert] counts: of every layer, or of ``layer`` alone. Raises BadInput as `of_layer`."""
        return self.layers if layer is None and self.layers is not None else self.of_layer(layer)[None]


def read_histogram_or_choices(path: Path, experts: int, top_k: int) -> Recorded:
    """Read ``path``: CSV with the header ``expert,count`` or ``layer,expert,count``, or without one ``top_k`` ids a line.

    Raises BadInput naming file and line; OSError if it cannot be read.
    """
    return _read(path, path.stat().st_mtime_ns, experts, top_k)


@lru_cache(maxsize=4)
def _read(path: Path, _changed: int, experts: int, top_k: int) -> Recorded:
    text = read_text(path, MOST_TABLE_BYTES, "a routing file")
    try:
        lines = list(csv.reader(text.splitlines()))
    except csv.Error as wrong:
        raise BadInput(f"{path}: not a table of numbers: {wrong}") from None
    header = [c.strip().lower() for c in lines[0]] if lines else []
    histogram, layered = header in (HISTOGRAM_HEADER, LAYERS_HEADER), header == LAYERS_HEADER
    body = [(i + 1, row) for i, row in enumerate(lines) if row and not (histogram and i == 0)]
    if not body:
        raise BadInput(
            f"{path}: wanted {top_k} expert ids a line, or the header expert,count and a line an expert; it is empty"
        )
    columns = len(header) if histogram else top_k
    numbers = np.array([_whole(path, line, row, columns) for line, row in body], np.int64)
    ids = numbers[:, -2:-1] if histogram else numbers
    outside = np.argwhere((ids < 0) | (ids >= experts))
    if len(outside):
        i, k = outside[0]
        raise BadInput(f"{path}: line {body[i][0]}: expert {ids[i, k]} is not one of 0..{experts - 1}")
    if histogram:
        layer = numbers[:, 0] if layered else np.zeros(len(numbers), np.int64)
        if layer.min() < 0 or layer.max() >= MOST_LAYERS:
            at = int(np.argmax((layer < 0) | (layer >= MOST_LAYERS)))
            raise BadInput(f"{path}: line {body[at][0]}: layer {layer[at]} is not one of 0..{MOST_LAYERS - 1}")
        counts = np.zeros((int(layer.max()) + 1, experts))
        np.add.at(counts, (layer, numbers[:, -2]), numbers[:, -1].astype(float))
        few = np.flatnonzero(np.count_nonzero(counts, axis=1) < top_k)
        if (numbers[:, -1] < 0).any() or len(few):
            where = f" in every layer, layer {few[0]} has not" if layered and len(few) else ""
            raise BadInput(
                f"{path}: a histogram needs counts of zero or more and at least top_k ({top_k}) experts with some{where}"
            )
        return Recorded(path, None, counts.sum(axis=0), counts if layered else None)
    ordered = np.sort(numbers, axis=1)
    twice = np.flatnonzero((ordered[:, 1:] == ordered[:, :-1]).any(axis=1))
    if len(twice):
        raise BadInput(f"{path}: line {body[twice[0]][0]}: an expert is named twice for one token")
    return Recorded(path, numbers, np.bincount(numbers.ravel(), minlength=experts).astype(float))


@lru_cache(maxsize=4)
def counted(path: Path, changed: int, experts: int, top_k: int, layer: int | None) -> Counted:
    """What the file counts, as `Skew` wants it; the same object for the same file. ``changed``: its time of change."""
    return Counted(_read(path, changed, experts, top_k).by_layer(layer))


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
