"""A sweep's table as Parquet, for pandas and polars: typed columns, written some thousand rows at a time."""

from __future__ import annotations

from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

from ...hwmodels.errors import BadInput
from ..answer.evaluation import Sweep
from .record_csv import SHAPE, sweep_columns, sweep_rows

_ROWS = 5_000


def parquet_library() -> Any:
    """pyarrow. Raises BadInput where it is not installed."""
    try:
        import_module("pyarrow.parquet")
        return import_module("pyarrow")
    except ModuleNotFoundError:
        raise BadInput("--parquet needs pyarrow: pip install 'epicycle[parquet]'") from None


def write_parquet(sweep: Sweep, path: Path) -> None:
    """The table that `sweep_csv` writes: swept values as text, metrics as numbers, yes and no as booleans."""
    arrow = parquet_library()
    kinds = {"gpus": arrow.int64(), "meets": arrow.bool_(), "on_front": arrow.bool_(), "refusal": arrow.string()}
    columns = sweep_columns(sweep)
    texts = ("backend", "mode", "protocol", "prefill_protocol", "kv", "weights", "experts")
    others = {"overlap": arrow.bool_(), "prefill_overlap": arrow.bool_(), "memory_share": arrow.float64()}
    kinds |= {name: others.get(name, arrow.string() if name in texts else arrow.int64()) for name in SHAPE}
    kinds |= dict.fromkeys(sweep.axes, arrow.string()) | dict.fromkeys(sweep.keys, arrow.float64())
    schema = arrow.schema([(name, kinds[name]) for name in columns])
    rows = sweep_rows(sweep)
    with arrow.parquet.ParquetWriter(path, schema) as file:
        while some := list(islice(rows, _ROWS)):
            file.write_table(arrow.table([list(column) for column in zip(*some, strict=True)], schema=schema))
