"""CollectiveX's ``case-attempt`` documents (InferenceX, ``experimental/CollectiveX``): one measured case a document, as rows.

A file is one document, a list of them, or one a line. Only attempts that succeeded and rows that passed their correctness check
are read; a period counts only where it is the median of chained pairs of the two-chain generation (older ones are inflated by
10 to 30 us). What is left out is counted with its reason.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...hwmodels.errors import BadInput
from ...hwmodels.plain_file import read_text
from .regimes import CHAINED, FLOOR, FRESH, Regime

MOST_BYTES = 64 << 20
RECORD = "case-attempt"
_BY_MODE = ("normal", "low-latency")
_DEEPEP, _NCCL, _UCCL = (
    dict(zip(_BY_MODE, names, strict=True))
    for names in (("high-throughput", "low-latency"), ("nccl-ep", "nccl-ep-low-latency"), ("uccl", "uccl-low-latency"))
)
#: How documents call a backend (words joined by one hyphen) -> the protocol, by mode where it has two.
BACKENDS: Mapping[str, str | Mapping[str, str]] = {
    "deepep": _DEEPEP,
    "deepep-v1": _DEEPEP,
    "nccl": _NCCL,
    "nccl-ep": _NCCL,
    "uccl": _UCCL,
    "uccl-ep": _UCCL,
    **dict.fromkeys(("deepep-v2", "deepep-elastic"), "elastic"),
    **dict.fromkeys(("hybrid-ep", "deepep-hybrid", "deepep-hybrid-ep"), "hybrid-ep"),
    **dict.fromkeys(("flashinfer", "flashinfer-one-sided"), "flashinfer-one-sided"),
    **dict.fromkeys(("mori", "mori-ep", "mori-v1"), "mori-ep"),
    "mori-v2": "mori-ep-v2",
    **dict.fromkeys(("nixl", "nixl-ep"), "nixl-ep"),
    **dict.fromkeys(("pplx-garden", "pplx"), "pplx-garden"),
}


@dataclass(frozen=True, slots=True)
class Case:
    """What one document measured."""

    sku: str
    product: str
    backend: str
    protocol: str
    mode: str
    precision: str
    ranks: int
    gpus_per_node: int
    nodes: int
    experts: int
    hidden: int
    top_k: int
    transport: str

    @property
    def quantised(self) -> bool:
        """Whether the cast to fp8 is charged to dispatch."""
        return self.precision == "fp8" and self.mode == "normal"


@dataclass(frozen=True, slots=True)
class Timing:
    """One measured time: ``op`` is dispatch, combine or pair (both)."""

    line: int
    case: Case
    tokens: int
    op: str
    regime: Regime
    measured_us: float


def is_collectivex(path: Path) -> bool:
    """Whether the file's name says that it holds documents and not a table."""
    return path.suffix in (".json", ".jsonl", ".ndjson")


def read_cases(path: Path) -> tuple[list[Timing], dict[str, int]]:
    """All times of a file, and reason -> rows or documents left out. Raises BadInput for what is no such document."""
    skipped: Counter[str] = Counter()
    found: list[Timing] = []
    for number, document in enumerate(_documents(path), 1):
        where = f"{path}: document {number}"
        if _at(document, where, "record_type", str) != RECORD:
            raise BadInput(f"{where}: record_type: wanted {RECORD!r}, got {document['record_type']!r}")
        if _at(document, where, "version", int) != 1:
            raise BadInput(f"{where}: version: wanted 1, got {document['version']!r}")
        status = _at(_at(document, where, "outcome", dict), where, "status", str)
        if status != "success":
            skipped[f"attempt is {status}"] += 1
            continue
        case = _case(document, where)
        if not case.protocol:
            skipped[f"backend {case.backend} ({case.mode}): no protocol here describes it"] += 1
            continue
        for row in _at(_at(document, where, "measurement", dict), where, "rows", list):
            if not isinstance(row, dict):
                raise BadInput(f"{where}: measurement.rows: wanted objects, got {row!r}")
            if not row.get("correctness", {}).get("passed"):
                skipped["its correctness check did not pass"] += 1
                continue
            timings = list(_timings(number, case, row, where, skipped))
            if not timings:
                skipped["a row without any time"] += 1
            found += timings
    return found, dict(skipped)


def _documents(path: Path) -> Iterator[dict[str, Any]]:
    text = read_text(path, MOST_BYTES, "a JSON file")
    try:
        whole = json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.splitlines() if line.strip()]
    except json.JSONDecodeError as error:
        raise BadInput(f"{path}: line {error.lineno}: {error.msg}") from None
    for document in whole if isinstance(whole, list) else [whole]:
        if not isinstance(document, dict):
            raise BadInput(f"{path}: wanted CollectiveX documents (objects), got {type(document).__name__}")
        yield document


def _case(document: Mapping[str, Any], where: str) -> Case:
    factors = _at(_at(document, where, "identity", dict), where, "case_factors", dict)
    case = _at(factors, where, "case", dict)
    numbers = {name: _at(case, where, name, int) for name in ("ep", "experts", "gpus_per_node", "hidden", "nodes", "topk")}
    if wrong := [name for name, number in numbers.items() if number < 1]:
        raise BadInput(f"{where}: case.{wrong[0]}: wanted 1 or more, got {numbers[wrong[0]]}")
    backend, mode = _at(case, where, "backend", str), _at(case, where, "mode", str)
    named = BACKENDS.get("-".join(backend.lower().replace("_", "-").split()), "")
    topology = document.get("topology")
    product = topology.get("device_product") if isinstance(topology, dict) else None
    precision = _at(case, where, "precision", str)
    if precision not in ("bf16", "fp8"):
        raise BadInput(f"{where}: case.precision: wanted bf16 or fp8, got {precision!r}")
    return Case(
        sku=_at(factors, where, "sku", str),
        product=str(product or ""),
        backend=backend,
        protocol=named if isinstance(named, str) else named.get(mode, ""),
        mode=mode,
        precision=precision,
        ranks=numbers["ep"],
        gpus_per_node=numbers["gpus_per_node"],
        nodes=numbers["nodes"],
        experts=numbers["experts"],
        hidden=numbers["hidden"],
        top_k=numbers["topk"],
        transport=str(case.get("scale_out_transport") or ""),
    )


def _timings(number: int, case: Case, row: Mapping[str, Any], where: str, skipped: Counter[str]) -> Iterator[Timing]:
    tokens = _at(row, where, "tokens_per_rank", int)
    components = row.get("components") or {}
    for op in ("dispatch", "combine"):
        if (us := _median_us(components.get(op))) is not None:
            yield Timing(number, case, tokens, op, FRESH, us)
        if (us := _median_us((row.get("chain_floor_us") or {}).get(op))) is not None:
            yield Timing(number, case, tokens, op, FLOOR, us)
    period = components.get("pair_period")
    us = _median_us(period)
    if us is None or not isinstance(period, dict):
        return
    if period.get("origin") != "chained-median":
        skipped["a period that is no median of chained pairs"] += 1
    elif _median_us((row.get("chain_health") or {}).get("interpair_gap_us")) is None:
        skipped["a period of the older generation, inflated by 10 to 30 us"] += 1
    else:
        yield Timing(number, case, tokens, "pair", CHAINED, us)


def _median_us(leaf: object) -> float | None:
    """The median of a leaf: a number, or percentiles with their availability."""
    if isinstance(leaf, int | float) and not isinstance(leaf, bool):
        return float(leaf)
    if not isinstance(leaf, dict) or leaf.get("availability") == "unavailable":
        return None
    middle = (leaf.get("percentiles_us") or {}).get("p50")
    return float(middle) if isinstance(middle, int | float) and middle > 0 else None


def _at(data: Mapping[str, Any], where: str, key: str, kind: type) -> Any:
    """``data[key]``. Raises BadInput if it is missing or of another kind."""
    found = data.get(key)
    wrong = not isinstance(found, kind) or (kind is int and isinstance(found, bool))
    if wrong:
        raise BadInput(f"{where}: {key}: wanted {_WORDS[kind]}, got {'nothing' if found is None else repr(found)[:60]}")
    return found


_WORDS: Mapping[type, str] = {str: "a text", int: "a whole number", dict: "an object", list: "a list"}
