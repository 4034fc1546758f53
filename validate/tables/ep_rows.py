"""Tables of measured expert-parallel communication, read and checked, as shapes the closed form can predict.

The format is that of the project's measurement tables: one row a timing, columns as in ``COLUMNS``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...hwmodels.calibration import Scope, calibrated_systems
from ...hwmodels.errors import BadInput
from ...hwmodels.known.names import why_unknown
from ...hwmodels.plain_file import read_csv
from ...sim.ep.protocol import Context, all_protocols, find_protocol
from ...sim.ep.shape import Shape

COLUMNS = (
    "system", "nodes", "gpus_per_node", "library", "protocol", "op", "payload_dtype", "routing",
    "tokens_per_rank", "hidden", "top_k", "experts", "comm_sms", "latency_us",
)  # fmt: skip
COUNTS = ("nodes", "gpus_per_node", "tokens_per_rank", "hidden", "top_k", "experts")

#: The tables' protocol names -> ours.
PROTOCOL_NAMES = {table: name for name, record in all_protocols().items() for table in record.tables}
#: Bytes per element of a dispatched row, scales included, by library family and dtype. DeepEP: one fp32 scale per 128
#: fp8 values. TensorRT-LLM: one fp8 scale per 16 fp4 values; its fp8 is scaled per tensor.
BYTES_PER_ELEMENT = {
    ("deepep", "fp8"): 1.0 + 4.0 / 128.0,
    ("deepep", "bfloat16"): 2.0,
    ("trtllm", "bfloat16"): 2.0,
    ("trtllm", "fp8"): 1.0,
    ("trtllm", "nvfp4"): 0.5 + 1.0 / 16.0,
}


#: Node groups that DeepEP's inter-node benchmark keeps for a token: the best min(nodes, 4).
NODE_GROUPS_KEPT = 4.0


@dataclass(frozen=True, slots=True)
class Row:
    """One measured timing. ``line``: its line in the file."""

    line: int
    values: dict[str, str]
    system: str
    nodes: int
    gpus_per_node: int
    protocol: str
    op: str
    dtype: str
    routing: str
    tokens: int
    hidden: int
    top_k: int
    experts: int
    comm_sms: int
    latency_us: float

    @property
    def family(self) -> str:
        return self.values["library"].split("@")[0].split("-")[0]

    @property
    def scope(self) -> Scope:
        if self.family == "trtllm":
            return "nvlink-domain"
        return "one-node" if self.nodes == 1 else "multi-node"


def read_table(path: Path) -> list[Row]:
    """All rows of a table. Raises BadInput with one line: file, line, column, what was wanted and what came."""
    reader = read_csv(path)
    header = reader.fieldnames
    if missing := [c for c in COLUMNS if c not in header]:
        raise BadInput(f"{path}: line 1: no column {', '.join(missing)}: a measurement table has {', '.join(COLUMNS)}")
    rows = [_row(path, reader.line_num, record) for record in reader]
    if not rows:
        raise BadInput(f"{path}: the table has a header and no rows")
    return rows


def _row(path: Path, line: int, record: dict[str, str]) -> Row:
    if None in record or None in record.values():
        raise BadInput(f"{path}: line {line}: wanted {len(COLUMNS)} or more columns as the header names them")
    numbers = {}
    for column in (*COUNTS, "comm_sms"):
        text = record[column].strip()
        if column == "comm_sms" and not text:
            text = "0"
        try:
            number = float(text)
        except ValueError:
            raise BadInput(f"{path}: line {line}: {column}: wanted a whole number, got {text!r}") from None
        if not math.isfinite(number) or number != int(number) or number < (0 if column == "comm_sms" else 1):
            raise BadInput(f"{path}: line {line}: {column}: wanted a positive whole number, got {text!r}")
        numbers[column] = int(number)
    try:
        latency = float(record["latency_us"])
    except ValueError:
        raise BadInput(f"{path}: line {line}: latency_us: wanted microseconds, got {record['latency_us']!r}") from None
    if not 0.0 < latency < 1e9:
        raise BadInput(f"{path}: line {line}: latency_us: wanted a time above zero, got {record['latency_us']!r}")
    if numbers["top_k"] > numbers["experts"]:
        raise BadInput(f"{path}: line {line}: top_k ({numbers['top_k']}) exceeds experts ({numbers['experts']})")
    return Row(
        line, record, record["system"], numbers["nodes"], numbers["gpus_per_node"], record["protocol"], record["op"],
        record["payload_dtype"], record["routing"], numbers["tokens_per_rank"], numbers["hidden"], numbers["top_k"],
        numbers["experts"], numbers["comm_sms"], latency,
    )  # fmt: skip


def unpredictable(row: Row) -> str | None:
    """Why a row cannot be predicted, or None. The reason is what `epicycle validate` counts as a skip."""
    if row.system not in calibrated_systems():
        return why_unknown(row.system)
    return unfittable(row)


def unfittable(row: Row) -> str | None:
    """Why no description covers a row, whatever its system, or None."""
    if row.protocol not in PROTOCOL_NAMES:
        return f"unknown protocol {row.protocol}"
    if row.op not in find_protocol(PROTOCOL_NAMES[row.protocol]).ops:
        return f"unknown op {row.op} of {row.protocol}"
    if row.routing not in ("uniform", "group-limited"):
        return f"unknown routing {row.routing}"
    if (row.family, row.dtype) not in BYTES_PER_ELEMENT:
        return f"unknown payload {row.dtype} of {row.family}"
    if row.nodes * row.gpus_per_node < 2:
        return "a single rank exchanges nothing"
    if row.protocol == "deepep-normal" and row.comm_sms < 2:
        return "comm_sms is not stated"
    return None


#: Quantities of an operating point whose range a calibration keeps.
POINT = ("tokens", "hidden", "top_k", "experts", "ranks")


def point_of(row: Row) -> dict[str, float]:
    """``POINT`` of a row."""
    values = (row.tokens, row.hidden, row.top_k, row.experts, row.nodes * row.gpus_per_node)
    return dict(zip(POINT, map(float, values), strict=True))


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that one description predicts together: same system, protocol, op, scope and routing family."""

    system: str
    protocol: str
    op: str
    scope: Scope
    rows: tuple[Row, ...]

    @property
    def measured_s(self) -> NDArray[np.float64]:
        return np.array([r.latency_us for r in self.rows]) * 1e-6

    def shape(self) -> Shape:
        """The rows as one `Shape` of arrays."""
        column = {name: np.array([float(getattr(r, name)) for r in self.rows]) for name in ("nodes", "gpus_per_node", "tokens")}
        ranks = column["nodes"] * column["gpus_per_node"]
        hidden = np.array([float(r.hidden) for r in self.rows])
        density = np.array([BYTES_PER_ELEMENT[r.family, r.dtype] for r in self.rows])
        balanced = self.scope == "nvlink-domain"
        routing = "balanced" if balanced else self.rows[0].routing
        return Shape(
            tokens=column["tokens"],
            hidden=hidden,
            top_k=np.array([float(r.top_k) for r in self.rows]),
            experts=np.array([float(r.experts) for r in self.rows]),
            ranks=ranks,
            domain=ranks if balanced else column["gpus_per_node"],
            payload_bytes=hidden * density,
            comm_sms=np.array([float(r.comm_sms) for r in self.rows]),
            routing=routing,
            groups=column["nodes"],
            groups_kept=np.minimum(column["nodes"], NODE_GROUPS_KEPT),
        )

    def context(self) -> Context:
        return Context(
            gpus_per_node=np.array([float(r.gpus_per_node) for r in self.rows]),
            fields=np.array([2.0 if r.dtype == "nvfp4" else 1.0 for r in self.rows]),
        )


def grouped(rows: list[Row]) -> Iterator[Group]:
    """Rows split into groups, in order of first appearance."""
    split: dict[tuple[str, str, str, Scope, str], list[Row]] = {}
    for row in rows:
        split.setdefault((row.system, row.protocol, row.op, row.scope, row.routing), []).append(row)
    for (system, protocol, op, scope, _), members in split.items():
        yield Group(system, protocol, op, scope, tuple(members))
