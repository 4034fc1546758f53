"""Rows that `epicycle bench` writes of this project's own kernels, read as the launches each consists of.

A row names its kernel (or op, or whole layer), its shape and its scope. It is predicted as the sum of its launches
(`launches`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ....hwmodels.calibration import calibrated_systems, load_calibration
from ....hwmodels.catalog import load_cluster
from ....hwmodels.errors import BadInput
from ....hwmodels.known.names import UnknownHardware, system_called
from ....hwmodels.plain_file import MOST_TABLE_BYTES, Reader, read_text
from ....hwmodels.specs import Gpu
from ....sim.ep.compute.own_kernels import OwnMove, OwnProduct
from ....sim.ep.protocols.epicycle import HT, KERNELS, LL, TWO_HOP
from ..vocabulary import scope_of
from .faults import check_words, refuse_contradictions, refuse_mixtures, refuse_torn, sizes_of
from .launches import PROGRAM_PER_TILE_UNTIL, Key, Part, Sizes, exchange_parts, launch_seconds, single_parts

LIBRARY = "epicycle-triton"
#: torch's own product, which bench times for a ceiling: the dense law predicts it.
DENSE = "torch.mm"
#: What a torchrun of bench times, as sums of launches (`node`).
NODE_OPS = {HT: ("notify", "dispatch", "combine"), TWO_HOP: ("notify", "dispatch", "combine"), LL: ("dispatch", "combine")}


@dataclass(frozen=True, slots=True)
class OwnRow:
    """One measured timing of our own kernels and what it consists of; ``parts`` empty: ``reason`` says why."""

    line: int
    values: dict[str, str]
    system: str
    protocol: str
    op: str
    scope: str
    tokens: int
    latency_us: float
    parts: tuple[Part, ...]
    reason: str = ""

    @property
    def measured_s(self) -> float:
        return self.latency_us * 1e-6


def is_own(header: set[str]) -> bool:
    """Whether a file of these columns is one that bench wrote (other tables have no case of a mode)."""
    return {"mode", "case", "latency_us", "gpu", "commit"} <= header


def read_own(path: Path, gpu_of: dict[str, Gpu]) -> list[OwnRow]:
    """All rows of a bench file. ``gpu_of``: system -> its GPU, filled as systems are met.

    Raises BadInput, one line with file and line, for a half-written line, a word or number that is none, a GPU that the
    catalogue lacks, rows of several systems, GPUs or commits, or two that contradict each other.
    """
    text = read_text(path, MOST_TABLE_BYTES, "a table")
    reader = Reader(path, text)
    records = [(reader.line_num, record) for record in reader]
    refuse_torn(path, text, records)
    refuse_mixtures([(str(path), record) for _, record in records])
    rows = [_row(path, line, record, gpu_of) for line, record in records]
    systems = sorted({row.system for row in rows})
    if len(systems) > 1:
        raise BadInput(f"{path}: rows of several systems ({', '.join(systems)}): one file, one machine, one commit")
    refuse_contradictions(path, [(row.line, row.values, row.latency_us) for row in rows])
    return rows


def _row(path: Path, line: int, record: dict[str, str], gpu_of: dict[str, Gpu]) -> OwnRow:
    try:
        latency = float(record["latency_us"])
    except ValueError:
        latency = -1.0
    if not 0.0 < latency < 1e9:
        raise BadInput(f"{path}: line {line}: latency_us: wanted a time above zero, got {record['latency_us']!r}")
    try:
        system = (
            record["system"] if record["system"] in calibrated_systems() else system_called(record["system"] or record["gpu"])
        )
        check_words(record, system)
        size = sizes_of(record)
    except (UnknownHardware, ValueError) as error:
        raise BadInput(f"{path}: line {line}: {error}") from None
    if system not in gpu_of:
        gpu_of[system] = load_cluster(load_calibration(system).cluster).node.gpu
    protocol, op, scope = record.get("protocol") or KERNELS, record.get("op") or record.get("kernel") or "", scope_of(record)
    tokens = size["tokens_per_rank"] or size["tokens"] // max(size["ep"], 1)
    shape = Sizes(
        tokens, size["ranks"], size["hidden"], size["inter"] or 2048, size["top_k"], size["experts"],
        "fp8" in (record.get("payload_dtype") or record["dtype"]), gpu_of[system].l2_capacity or 0.0,
        record["date"] <= PROGRAM_PER_TILE_UNTIL,
    )  # fmt: skip
    parts, reason = _parts(protocol, op, scope, record, shape)
    return OwnRow(line, record, system, protocol, op, scope, tokens, latency, parts, reason)


def _parts(protocol: str, op: str, scope: str, record: dict[str, str], s: Sizes) -> tuple[tuple[Part, ...], str]:
    if protocol in (HT, LL) and scope == "kernel":
        return exchange_parts(protocol, op, s)
    if protocol in NODE_OPS and scope != "kernel" and op in NODE_OPS[protocol]:
        return (), ""
    if record.get("library") == LIBRARY and protocol == KERNELS:
        return single_parts(op, record["dtype"], s)
    if record.get("case") == "ceiling_copy":
        return (), "a ceiling of the device: what shares are taken of"
    if op == DENSE:
        return (), ""
    return (), f"no description of {op or 'this kernel'} of {protocol} ({scope})"


def predicted_s(rows: list[OwnRow], gpu: Gpu, constants: dict[Key, OwnMove | OwnProduct]) -> NDArray[np.float64]:
    """Seconds of every row: the sum of its launches."""
    launches: dict[Key, tuple[list[int], list[Part]]] = {}
    for i, row in enumerate(rows):
        for part in row.parts:
            at, parts = launches.setdefault(part.key, ([], []))
            at.append(i)
            parts.append(part)
    total = np.zeros(len(rows))
    for key, (at, parts) in launches.items():
        np.add.at(total, at, launch_seconds(parts, gpu, constants[key]))
    return total


def keys_of(rows: list[OwnRow]) -> list[Key]:
    """The constants that rows need, in order of first use."""
    return list(dict.fromkeys(part.key for row in rows for part in row.parts))
