"""Every request as a row of Parquet, written as they end, some ten thousand at a time: the columns of the CSV."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from ...hwmodels.errors import BadInput
from ...sim.serving.requests.loop import layout as at
from .request_csv import COLUMNS, STATUS

#: Column -> the record's field, of times in picoseconds and of whole numbers.
_TIMES = {
    "arrival_s": "arrival", "end_s": "end", "queue_s": "waited", "prefill_s": "prefilled", "transfer_s": "moved",
    "lost_s": "lost",
}  # fmt: skip
_COUNTS = {
    "id": "id", "input_tokens": "input", "output_tokens": "output", "cached_tokens": "hit", "loaded_tokens": "loaded",
    "preempted": "preempted", "tries": "tries", "wasted_tokens": "wasted", "worker": "worker", "turn": "turn",
    "priority": "priority",
}  # fmt: skip


class RequestParquet:
    """Takes `layout.FINISHED` records and writes them to ``path`` in the order they ended; close it, or use it in a ``with``.

    Raises BadInput where pyarrow is not installed.
    """

    def __init__(self, path: Path) -> None:
        try:
            import_module("pyarrow.parquet")
            self._arrow = import_module("pyarrow")
        except ModuleNotFoundError:
            raise BadInput("--parquet needs pyarrow: pip install 'epicycle[parquet]'") from None
        arrow = self._arrow
        kinds = {"status": arrow.string()} | {name: arrow.int64() for name in (*_COUNTS, "session")}
        self._schema = arrow.schema([(name, kinds.get(name, arrow.float64())) for name in COLUMNS])
        self._file = arrow.parquet.ParquetWriter(path, self._schema)

    def __call__(self, records: Any) -> None:
        begun, served = records["first"] >= 0, records["status"] == at.SERVED
        several = served & (records["output"] > 1)
        columns: dict[str, Any] = {name: records[field] * 1e-12 for name, field in _TIMES.items()}
        columns |= {name: records[field] for name, field in _COUNTS.items()}
        first = records["first"] * 1e-12
        tpot = (columns["end_s"] - first) / np.maximum(records["output"] - 1, 1)
        holes = {
            "first_token_s": (first, begun),
            "ttft_s": (first - columns["arrival_s"], begun),
            "tpot_s": (tpot, several),
            "session": (records["session"], records["session"] >= 0),
        }
        arrays = {name: self._arrow.array(values) for name, values in columns.items()}
        arrays |= {name: self._arrow.array(values, mask=~known) for name, (values, known) in holes.items()}
        arrays["status"] = self._arrow.array([STATUS[int(status)] for status in records["status"]])
        self._file.write_table(self._arrow.table([arrays[name] for name in COLUMNS], schema=self._schema))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()
