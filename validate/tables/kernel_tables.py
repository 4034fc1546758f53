"""Tables of single kernels, dense GEMM and NCCL collectives, as arrays that a law of `hwmodels.laws` can predict."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...hwmodels.errors import BadInput
from ...hwmodels.laws.attention import Mla, decode_seconds, prefill_seconds
from ...hwmodels.laws.kernels import Collective, Gemm, collective_seconds, gemm_seconds
from ...hwmodels.plain_file import read_csv
from ...hwmodels.specs import Gpu
from .row_choice import varied_rows

Floats = NDArray[np.float64]
Records = list[tuple[int, dict[str, str]]]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of table: its columns, which of them are numbers, and what tells its kernels apart."""

    protocol: str
    columns: tuple[str, ...]
    numbers: tuple[str, ...]
    law: type
    op_of: Callable[[dict[str, str]], str]
    seconds: Callable[[str, dict[str, Floats], Gpu, Any], Floats]
    weights: tuple[float, ...]


def _gemm(op: str, c: dict[str, Floats], gpu: Gpu, k: Any) -> Floats:
    return gemm_seconds(c["m"], c["n"], c["k"], op, gpu, k)


def _collective(op: str, c: dict[str, Floats], gpu: Gpu, k: Any) -> Floats:
    return collective_seconds(op, c["gpus"], c["message_bytes"], gpu, k)


def _mla(op: str, c: dict[str, Floats], gpu: Gpu, k: Any) -> Floats:
    seconds = decode_seconds if op.startswith("mla_decode") else prefill_seconds
    return seconds(c["heads"], c["batch"], c["context_len"], gpu, k)


KINDS = (
    Kind(
        "gemm", ("system", "kernel", "dtype", "m", "n", "k", "latency_us"), ("m", "n", "k"), Gemm,
        lambda r: "fp8" if r["dtype"].startswith("fp8") else "bf16", _gemm, (2.0, 1.0, 1.5),
    ),
    Kind(
        "nccl", ("system", "library", "op", "gpus", "message_bytes", "latency_us"), ("gpus", "message_bytes"), Collective,
        lambda r: r["op"], _collective, (0.6, 2.0),
    ),
    Kind(
        "mla", ("system", "op", "kernel", "kv_dtype", "heads", "batch", "context_len", "latency_us"),
        ("heads", "batch", "context_len"), Mla, lambda r: f"{r['op']}.{r['kernel']}", _mla, (1.0, 2.0, 2.0),
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class KernelGroup:
    """Rows of one kernel on one system: ``columns`` name -> [row], ``measured_s`` [row]."""

    kind: Kind
    system: str
    op: str
    rows: Records
    columns: dict[str, Floats]
    measured_s: Floats

    def seconds(self, gpu: Gpu, constants: Any, rows: NDArray[np.intp] | None = None) -> Floats:
        chosen = self.columns if rows is None else {n: c[rows] for n, c in self.columns.items()}
        return self.kind.seconds(self.op, chosen, gpu, constants)

    def used(self) -> NDArray[np.intp]:
        """Rows that a fit uses."""
        return varied_rows([self.columns[n] for n in self.kind.numbers], self.kind.weights)


def kind_of(header: set[str]) -> Kind | None:
    """The kind of table that ``header`` announces, or None."""
    return next((kind for kind in KINDS if set(kind.columns) <= header), None)


def read_groups(path: Path, kind: Kind) -> Iterator[KernelGroup]:
    """The rows of a table by system and kernel. Raises BadInput naming line and column of a bad number."""
    split: dict[tuple[str, str], Records] = {}
    reader = read_csv(path)
    for record in reader:
        split.setdefault((record["system"], kind.op_of(record)), []).append((reader.line_num, record))
    if not split:
        raise BadInput(f"{path}: the table has a header and no rows")
    for (system, op), rows in split.items():
        columns = {n: np.array([_number(path, line, r, n) for line, r in rows]) for n in kind.numbers}
        measured = np.array([_number(path, line, r, "latency_us") for line, r in rows]) * 1e-6
        yield KernelGroup(kind, system, op, rows, columns, measured)


def _number(path: Path, line: int, record: dict[str, str], column: str) -> float:
    try:
        value = float(record[column])
    except (TypeError, ValueError):
        raise BadInput(f"{path}: line {line}: {column}: wanted a number, got {record[column]!r}") from None
    if not 0.0 < value < 1e15:
        raise BadInput(f"{path}: line {line}: {column}: wanted a number above zero, got {record[column]!r}")
    return value
