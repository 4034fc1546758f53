"""Published rows that a shipped calibration takes beside its table's own, by line: what that table never varied.

The EP table's rows of Blackwell stop at 24 SMs and at one row format a kernel, on one node. A few rows of DeepEP's own sweep
(``published_ep_2.csv``) tell copying from waiting and the links from both: bf16 dispatch and 48 SMs on B200, 32 SMs and 24
ranks on GB200. All its other rows are predicted and judged.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ...hwmodels.plain_file import read_csv
from ..tables.ep_rows import Row
from ..tables.published import LAWS_TABLE, case_of
from .bounds import LONE_CHUNK, Bound

#: (system, op of the normal kernels) -> lines of `LAWS_TABLE`.
LINES: Mapping[tuple[str, str], tuple[int, ...]] = {
    ("b200_sxm", "dispatch"): (42,),
    ("b200_sxm", "combine"): (43,),
    ("gb200", "dispatch"): (87, 95),
    ("gb200", "combine"): (97,),
}
_DTYPES = {"bf16": "bfloat16", "fp8": "fp8"}


def rows_beside(tables: Path, system: str) -> dict[str, tuple[Row, ...]]:
    """Op -> the rows that its fit takes besides, of the table in the folder ``tables``. Raises OSError, BadInput."""
    wanted = {line: op for (of, op), lines in LINES.items() if of == system for line in lines}
    if not wanted:
        return {}
    found: dict[str, list[Row]] = {}
    reader = read_csv(tables / LAWS_TABLE)
    for record in reader:
        if reader.line_num in wanted:
            found.setdefault(wanted[reader.line_num], []).append(_row(reader.line_num, record, system))
    return {op: tuple(rows) for op, rows in found.items()}


def _row(line: int, record: dict[str, str], system: str) -> Row:
    case = case_of(record)
    count = {name: int(record[name]) for name in ("ep", "tokens_per_rank", "hidden", "topk", "experts", "num_sms")}
    return Row(
        line, {"library": f"deepep@{record['commit']}"}, system, 1, count["ep"], "deepep-normal", record["op"],
        _DTYPES[record["dtype"]], record["routing"], count["tokens_per_rank"], count["hidden"], count["topk"],
        count["experts"], count["num_sms"], case.measured_us,
    )  # fmt: skip


def bounds_beside(rows: tuple[Row, ...], op: str) -> dict[str, Bound]:
    """Constants that these rows can tell and a table of a node's ranks cannot."""
    return LONE_CHUNK if op == "combine" and any(row.gpus_per_node > 8 for row in rows) else {}
