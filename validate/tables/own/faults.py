"""What a file of our own kernels' rows may not be, each said in one line with file and line: raised before any row is used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ....hwmodels.errors import BadInput
from ....hwmodels.known.names import UnknownHardware, system_called
from ..vocabulary import MODE_SCOPES, SCOPES, identity

#: Two rows of one measurement that differ by more than this contradict each other; the clock alone moves them by a tenth.
SAME_WITHIN = 0.1
#: What a row's payload or operands can be; other words would be read as bf16.
_ELEMENTS = ("bfloat16", "fp8", "fp8_block", "int4_block", "float32")
_SIZES = ("tokens", "tokens_per_rank", "hidden", "inter", "top_k", "experts", "ep", "virtual_ranks", "nodes", "gpus_per_node")

Record = Mapping[str, str]


def refuse_torn(path: Path, text: str, records: Sequence[tuple[int, Mapping[Any, Any]]]) -> None:
    """Lines with too few or too many columns, and a last one without its end. ``records``: (line, row). Raises BadInput."""
    if not records:
        raise BadInput(f"{path}: the table has a header and no rows")
    last = records[-1][0]
    half = f"{path}: line {last}: its last line is only half written: leave it out (epicycle bench --resume does)"
    for line, record in records:
        if None in record or None in record.values():
            raise BadInput(half if line == last else f"{path}: line {line}: too few or too many columns")
    if not text.endswith("\n"):
        raise BadInput(half)


def refuse_mixtures(rows: Sequence[tuple[str, Record]]) -> None:
    """Rows of several GPUs or commits. ``rows``: (file, row), of one file or of several. Raises BadInput."""
    for name in ("gpu", "commit"):
        where: dict[str, set[str]] = {}
        for file, row in rows:
            if row[name]:
                where.setdefault(row[name], set()).add(file)
        if len(where) > 1:
            files = sorted(set().union(*where.values()))
            found = ", ".join(
                value if len(files) == 1 else f"{value} in {', '.join(sorted(of))}" for value, of in sorted(where.items())
            )
            rule = "one file" if len(files) == 1 else "one calibration"
            said = f"{files[0]}: " if len(files) == 1 else ""
            raise BadInput(f"{said}rows of several {name}s ({found}): {rule}, one machine, one commit")


def refuse_contradictions(path: Path, rows: Sequence[tuple[int, Record, float]]) -> None:
    """Two times of the same measurement. ``rows``: (line, row, microseconds). Raises BadInput."""
    seen: dict[object, tuple[int, float]] = {}
    for line, row, latency_us in rows:
        first, other_us = seen.setdefault(identity(row), (line, latency_us))
        if abs(latency_us / other_us - 1.0) > SAME_WITHIN:
            what = row.get("op") or row.get("kernel") or row.get("case")
            tokens = row.get("tokens_per_rank") or row.get("tokens")
            raise BadInput(
                f"{path}: line {line} contradicts line {first}: {latency_us:g} us and {other_us:g} us of the same {what}"
                f"{f', {tokens} tokens' if tokens else ''}: leave one out"
            )


def check_words(row: Record, system: str) -> None:
    """A mode, scope or element that there is not, or a GPU that is another system's. Raises ValueError in one line."""
    for name, known in (("mode", MODE_SCOPES), ("scope", SCOPES), ("payload_dtype", _ELEMENTS), ("dtype", _ELEMENTS)):
        value = row.get(name)
        if value and value not in known:
            raise ValueError(f"{name}: wanted one of {', '.join(known)}, got {value!r}")
    try:
        called = system_called(row["gpu"])
    except UnknownHardware:
        return  # bench asked for a system when it could not name this GPU
    if called != system:
        raise ValueError(f"its system is {system}, and its GPU, {row['gpu']}, is {called}: one of them is wrong")


def sizes_of(row: Record) -> dict[str, int]:
    """The sizes that ``row`` states, by column; absent ones are 0. Raises ValueError in one line for one that cannot be."""
    sizes = {}
    for name in _SIZES:
        text = row.get(name) or ""
        try:
            sizes[name] = int(text) if text else 0
        except ValueError:
            raise ValueError(f"{name}: wanted a whole number, got {text!r}") from None
        if text and sizes[name] < 1:
            raise ValueError(f"{name}: wanted 1 or more, got {text}")
    ranks = sizes["virtual_ranks"] or sizes["ep"] or sizes["nodes"] * sizes["gpus_per_node"] or 1
    if sizes["experts"] % ranks:
        raise ValueError(f"experts ({sizes['experts']}) do not divide over {ranks} ranks")
    if sizes["top_k"] > sizes["experts"]:
        raise ValueError(f"top_k ({sizes['top_k']}) is more than there are experts ({sizes['experts']})")
    return {**sizes, "ranks": ranks}
