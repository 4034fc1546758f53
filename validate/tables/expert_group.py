"""Rows of a grouped-GEMM table that one set of constants predicts, with what the timed rank computed in each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...hwmodels.errors import BadInput
from ...hwmodels.plain_file import read_csv
from ...sim.ep.compute.experts import TILE, Counts, ExpertConstants, ExpertShape, Kind, block, block_seconds, triton_tile
from ...sim.ep.stage import Machine
from ...sim.precision import ELEMENT_BYTES, Dtype
from .expert_deal import DRAWS, deal, exponent
from .row_choice import varied_rows

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]
Records = list[tuple[int, dict[str, str]]]

COLUMNS = ("system", "kernel", "dtype", "routing", "tokens", "hidden", "inter", "top_k", "experts", "ep", "latency_us")
_NUMBERS = ("tokens", "hidden", "inter", "top_k", "experts", "ep")
#: What an interval asks to lie within the table: tokens of the group, an expert's sizes, experts of a rank, bytes of a weight.
POINT = ("tokens", "hidden", "inter", "experts", "weight_bytes")
KINDS: Mapping[str, Kind] = {
    "deepgemm-contiguous": "contiguous",
    "deepgemm-masked": "masked",
    "triton-fused-moe": "triton",
}
DTYPES: Mapping[str, Dtype] = {"bfloat16": "bf16", "fp8_block": "fp8"}
#: (hidden, inter) of experts without a gate. Three projections of all 512 experts would be read at 4.6 TB/s (H100: 3.35).
WITHOUT_GATE = ((2048.0, 5120.0),)
_LARGEST = 1 << 24


@dataclass(frozen=True, slots=True)
class ExpertGroup:
    """Rows of one kernel and precision on one system. ``columns``: name -> [row]; ``dealt``: [row, draw] tiles, other ranks'
    tiles, experts with rows, and rows of the timed rank."""

    system: str
    kind: Kind
    dtype: Dtype
    records: Records
    columns: dict[str, Floats]
    measured_s: Floats
    dealt: tuple[Floats, Floats, Floats, Floats]

    @property
    def op(self) -> str:
        return f"triton.{self.dtype}" if self.kind == "triton" else self.kind

    def seconds(self, machine: Machine, k: ExpertConstants, rows: Ints | None = None) -> Floats:
        """[row] seconds, the mean over the draws of a row."""
        chosen = slice(None) if rows is None else rows
        tiles, others, busy, mine = (x[chosen] for x in self.dealt)
        c = {n: x[chosen][:, None] for n, x in self.columns.items()}
        # The timed rank was handed every token of the group, whether or not it holds one of its experts.
        pairs = c["tokens"] * c["top_k"]
        counts = Counts(lambda _: tiles, lambda _: others, busy, mine, c["tokens"], pairs, walked=c["tokens"])
        shape = ExpertShape(c["hidden"], c["inter"], self.dtype, self.dtype, c["projections"])
        found = block(self.kind, counts, shape, machine, k, float(machine.sms))
        return np.asarray(np.mean(block_seconds(found, k, graphs=False), axis=1))

    def least_seconds(self, machine: Machine) -> Floats:
        """[row] seconds in which HBM at its full rate reads the weights of the experts that have rows."""
        c = self.columns
        shape = ExpertShape(c["hidden"], c["inter"], self.dtype, self.dtype, c["projections"])
        return np.asarray(self.dealt[2].min(axis=1) * shape.weight_bytes / machine.hbm_bytes_per_s)

    def points(self) -> list[dict[str, float]]:
        """[row] where the row lies, by the names of `POINT`."""
        c = self.columns
        per_rank, size = c["experts"] / c["ep"], np.full(len(self.measured_s), ELEMENT_BYTES[self.dtype])
        columns = zip(
            c["tokens"].tolist(), c["hidden"].tolist(), c["inter"].tolist(), per_rank.tolist(), size.tolist(), strict=True
        )
        return [dict(zip(POINT, row, strict=True)) for row in columns]

    def used(self, among: Ints | None = None) -> Ints:
        """Rows that a fit uses (of ``among``, default all), spread over what varies, the routing's exponent among it."""
        weights = {"tokens": 2.0, "hidden": 1.0, "inter": 1.0, "top_k": 0.7, "experts": 0.7, "ep": 1.5, "skew": 1.0}
        chosen = np.arange(len(self.measured_s)) if among is None else among
        return chosen[varied_rows([self.columns[n][chosen] for n in weights], tuple(weights.values()))]


def expert_groups(path: Path) -> tuple[list[ExpertGroup], dict[str, int]]:
    """The rows of a table by system, kernel and precision, in order of their op, and reason -> rows that nothing describes.

    Raises BadInput naming line and column of a bad number.
    """
    split: dict[tuple[str, Kind, Dtype], Records] = {}
    skipped: dict[str, int] = {}
    reader = read_csv(path)
    for record in reader:
        reason = _undescribed(record)
        if reason:
            skipped[reason] = skipped.get(reason, 0) + 1
        else:
            key = (record["system"], KINDS[record["kernel"]], DTYPES[record["dtype"]])
            split.setdefault(key, []).append((reader.line_num, record))
    if not split and not skipped:
        raise BadInput(f"{path}: the table has a header and no rows")
    groups = [_group(path, *key, records) for key, records in split.items()]
    return sorted(groups, key=lambda g: (g.system, g.op)), skipped


def _undescribed(record: dict[str, str]) -> str:
    if record["kernel"] not in KINDS:
        return f"{record['kernel']}: no description of this kernel"
    if record["dtype"] not in DTYPES:
        return f"{record['dtype']}: no description of {record['kernel']} in this precision"
    if exponent(record["routing"]) is None:
        return f"routing {record['routing']!r}: wanted uniform, balanced or power_law_<exponent>"
    return ""


def _group(path: Path, system: str, kind: Kind, dtype: Dtype, records: Records) -> ExpertGroup:
    columns = {n: np.array([_number(path, line, r, n) for line, r in records]) for n in _NUMBERS}
    measured = np.array([_number(path, line, r, "latency_us") for line, r in records]) * 1e-6
    gateless = [pair in WITHOUT_GATE for pair in zip(columns["hidden"], columns["inter"], strict=True)]
    columns["projections"] = np.where(gateless, 2.0, 3.0)
    columns["skew"] = np.array([2.0 ** (exponent(r["routing"]) or 0.0) for _, r in records])
    heights = np.asarray(triton_tile(columns["tokens"], dtype)[0]) if kind == "triton" else np.full(len(records), float(TILE))
    dealt = np.array([_dealt(path, line, r, h, kind) for (line, r), h in zip(records, heights.tolist(), strict=True)])
    tiles, others, busy, mine = (dealt[:, i] for i in range(4))
    return ExpertGroup(system, kind, dtype, records, columns, measured, (tiles, others, busy, mine))


def _dealt(path: Path, line: int, record: dict[str, str], height: float, kind: Kind) -> Floats:
    """[4, draw] tiles, other ranks' tiles, busy experts and rows of one row of the table."""
    tokens, top_k, experts, ep = (int(float(record[n])) for n in ("tokens", "top_k", "experts", "ep"))
    if experts % ep or top_k > experts:
        wanted = "experts that divide over ep and at least top_k of them"
        raise BadInput(f"{path}: line {line}: wanted {wanted}, got experts {experts}, ep {ep}, top_k {top_k}")
    rows = deal(kind, record["routing"], tokens, top_k, experts, ep)
    tiles = np.ceil(rows / height).sum(axis=1)
    everywhere = tiles
    if kind == "triton" and ep > 1:
        everywhere = np.ceil(deal(kind, record["routing"], tokens, top_k, experts, 1) / height).sum(axis=1)
    found = np.stack([tiles, np.maximum(everywhere - tiles, 0.0), (rows > 0).sum(axis=1), rows.sum(axis=1)])
    return np.broadcast_to(found, (4, DRAWS))


def _number(path: Path, line: int, record: dict[str, str], column: str) -> float:
    try:
        value = float(record[column])
    except (TypeError, ValueError):
        raise BadInput(f"{path}: line {line}: {column}: wanted a number, got {record[column]!r}") from None
    if not 0.0 < value <= _LARGEST or (column != "latency_us" and value % 1.0):
        kind = "number" if column == "latency_us" else "whole number"
        raise BadInput(f"{path}: line {line}: {column}: wanted a {kind} from above 0 to {_LARGEST}, got {record[column]!r}")
    return value
